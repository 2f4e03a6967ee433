"""The reference pages, written from the code: by ``python -m tests.golden``, and before each build."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import click
from sphinx.pycode import ModuleAnalyzer

import sizeforensics
from sizeforensics import units
from sizeforensics.budget import config
from sizeforensics.budget.rules import COMPARED, LIMITABLE, Budget, Waiver
from sizeforensics.causes import CAUSES
from sizeforensics.cli import cli
from sizeforensics.limits import Limits

MADE_BY_USERS = ("Budget", "Limits", "Waiver")
"""Classes whose constructor is part of the interface; the others are results."""
BEHIND = ("inventory", "report", "waste")
"""Fields of a result that the interface is made from, and that are none of it."""


def pages() -> dict[str, str]:
    """Name and text of every page."""
    return {
        "api": api(), "causes": causes(), "cli": commands(), "configuration": configuration(),
        "limits": limits(), "schemas": schemas(),
    }  # fmt: skip


def write(folder: Path) -> None:
    """Write every page, and touch none that has not changed."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


# -- causes, limits, schemas, commands ---------------------------------------------------------


def causes() -> str:
    """The catalogue of causes."""
    sections = (
        f"## {cause.id}\n\n{cause.title}: {cause.counts}\n\n* Proved by: {cause.proof}\n"
        f"* What to do: {cause.remedy}\n* What it costs: {cause.cost}\n"
        + (f"* What a fix saves: {cause.saves}\n" if cause.saves else "")
        for cause in CAUSES.values()
    )
    return "# Causes\n\n" + "\n".join(sections)


def limits() -> str:
    """The limits, what they bound and their defaults."""
    rows = (
        f"| `{field.name}` | {field.default:,} | {' '.join(_described(Limits, field.name))} |\n"
        for field in dataclasses.fields(Limits)
    )
    return (
        "# Limits\n\nWhat a reader does at most before it refuses a file. `--limits NAME=N` on the command "
        "line and `limits=sf.Limits(NAME=N)` in Python move a bound; an error names the one that was met.\n\n"
        "| limit | default | what it bounds |\n|---|---:|---|\n" + "".join(rows)
    )


def schemas() -> str:
    """Every key of the documents for other programs, with its description."""
    sections = []
    for file in sorted(resources.files("sizeforensics").joinpath("schemas").iterdir(), key=str):
        schema = json.loads(file.read_text("utf-8"))
        rows = "".join(f"| `{key}` | {kind} | {text} |\n" for key, kind, text in keys(schema))
        sections.append(
            f"## {schema['title']}\n\n{schema['description']} The schema is `sizeforensics/schemas/{file.name}`."
            f"\n\n| key | type | meaning |\n|---|---|---|\n{rows}"
        )
    return "# JSON schemas\n\n" + "\n".join(sections)


def keys(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Every value below a schema: its path, as ``budgets[].path`` or ``files[][0]``, type and meaning."""
    below = [(f"{path}.{name}".lstrip("."), value) for name, value in schema.get("properties", {}).items()]
    below += [(f"{path}[{number}]", value) for number, value in enumerate(schema.get("prefixItems", []))]
    for place, value in below:
        text = value["description"].replace("|", "\\|")
        if "enum" in value:
            text += f" One of {', '.join(f'`{json.dumps(choice)}`' for choice in value['enum'])}."
        yield place, _kind(value), text
        yield from keys(value, place)
    for part in schema.get("anyOf", []):
        yield from keys(part, path)
    if isinstance(schema.get("items"), dict):
        yield from keys(schema["items"], f"{path}[]")


def _kind(value: dict[str, Any]) -> str:
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    kinds = value.get("type") or [part["type"] for part in value.get("anyOf", [])] or "string"
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def commands() -> str:
    """What ``--help`` prints, of the program and of every verb."""
    above = click.Context(cli, info_name="sizeforensics", terminal_width=80, **cli.context_settings)
    text = f"# Command line\n\n```text\n{cli.get_help(above)}\n```\n"
    for name, command in cli.commands.items():
        context = click.Context(command, parent=above, info_name=name, terminal_width=80)
        text += f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    return text


# -- configuration -----------------------------------------------------------------------------


def configuration() -> str:
    """Every key that the parser of the configuration knows.

    The parser's tables are read, and the descriptions of the fields that the values end up in: a
    key without a description or an example stops the build.
    """
    fields = {key: (Budget, field) for key, field in {**config._LIMITS, "waivers": "waivers"}.items()}
    fields |= {key: (config.Entry, key) for key in config._FILE_KEYS}
    about_budgets = "".join(_key(key, *fields[key]) for key in config._KEYS)
    about_waivers = "".join(_key(key, Waiver, key) for key in config._WAIVER_KEYS)
    sizes = "".join(
        f"| `1 {unit}` | {units.parse_bytes(f'1 {unit}'):,} |\n" for unit in units._FACTORS
    )
    roles = ", ".join(f"`{name}`" for name in LIMITABLE if name not in CAUSES)
    compared = ", ".join(f"`{name}`" for name in LIMITABLE if name in COMPARED)
    return f"""\
# Configuration

Budgets stand in `{config.OWN_FILE}` as tables `[budgets.NAME]`, or in `{config.SHARED_FILE}` as
`[tool.sizeforensics.budgets.NAME]`; not in both. Paths are relative to the folder of the file. A key
that is not listed here is an error that says which one was probably meant.

## Values

A **size** is a number of bytes: `15_000_000`, or a text with a unit, whose case does not matter.

| text | bytes |
|---|---:|
{sizes}
A **share** is a text such as `"0.5 %"`: of the artifact, and for `max_growth` of the baseline.

A **limit** is a size or a share. The value itself is allowed; one byte more fails. A table
`{{ warn = …, fail = … }}` with either or both warns first; a warning leaves the exit code at 0.

## Keys of a budget
{about_budgets}
## Keys of a waiver
{about_waivers}
## Names that `causes` and `forbid` take

Every [cause](causes.md), and those roles that are no cause: {roles}. Only a comparison knows
{compared}: a limit on one of these needs a baseline.
"""


def _key(key: str, owner: type, field: str) -> str:
    """One key: what it means, its default, an example."""
    lines = " ".join(_described(owner, field))
    found = re.search(rf"``({re.escape(key)} = .+?)``\.?$", lines)
    if found is None:
        raise ValueError(f"{owner.__name__}.{field}: expected a description that ends in ``{key} = …``")
    meaning = lines[: found.start()].rstrip().removesuffix(":").rstrip(".") + "."
    default = next(known for known in dataclasses.fields(owner) if known.name == field)
    return (
        f"\n### {key}\n\n{meaning.replace('``', '`')} {_default(default)}\n\n```toml\n{found[1]}\n```\n"
    )


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING or field.default in (None, ()):
        return "Default: none."
    if field.default is dataclasses.MISSING:
        return "Required."
    return f"Default: `{json.dumps(field.default)}`."


def _described(owner: type, field: str) -> list[str]:
    """The lines of the text below a field of a class."""
    texts = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
    return [line for line in texts.get((owner.__qualname__, field), []) if line]


# -- Python API --------------------------------------------------------------------------------


def api() -> str:
    """Everything that the package exports, and the classes that results are made of."""
    exported = [getattr(sizeforensics, name) for name in sizeforensics.__all__ if name != "__version__"]
    functions = [value for value in exported if inspect.isfunction(value)]
    classes = [value for value in exported if inspect.isclass(value) and not issubclass(value, Exception)]
    made = [kind for kind in classes if kind.__name__ in MADE_BY_USERS]
    results = [kind for kind in classes if kind not in made]
    parts = [kind for kind in _made_of(classes) if kind not in classes]
    return "\n".join([
        "# Python API\n",
        "`import sizeforensics as sf` loads nothing else; the first use of a name does. All sizes are",
        "integers in bytes. Results are immutable. Sphinx puts the signatures and descriptions of the code",
        "in the place of the directives below.\n",
        "## Functions\n", *(_directive("autofunction", function.__name__) for function in functions),
        "## Results\n", *(_directive("autoclass", kind.__name__) for kind in results),
        "## What a budget is made of\n", *(_directive("autoclass", kind.__name__) for kind in made),
        "## Errors\n", _directive("automodule", "errors"),
        "## What results are made of\n",
        *(_directive("autoclass", f"{kind.__module__.removeprefix('sizeforensics.')}.{kind.__name__}") for kind in parts),
    ])  # fmt: skip


def _directive(name: str, of: str) -> str:
    left_out = f"   :exclude-members: {', '.join(BEHIND)}\n" if name == "autoclass" else ""
    return f"```{{eval-rst}}\n.. {name}:: sizeforensics.{of}\n{left_out}```\n"


def _made_of(classes: Iterable[type]) -> list[type]:
    """The classes of this package that fields and properties of the given ones lead to."""
    found, queue = [], list(classes)
    while queue:
        kind = queue.pop(0)
        if kind in found:
            continue
        found.append(kind)
        known = vars(sys.modules[kind.__module__])
        for annotation in _annotations(kind):
            values = [known.get(word) for word in re.findall(r"\w+", annotation)]
            queue += [
                value for value in values
                if inspect.isclass(value) and value.__module__.startswith("sizeforensics")
            ]  # fmt: skip
    return found


def _annotations(kind: type) -> Iterator[str]:
    for name, annotation in vars(kind).get("__annotations__", {}).items():
        if name not in BEHIND:
            # A named tuple keeps them as references.
            yield getattr(annotation, "__forward_arg__", annotation)
    for value in vars(kind).values():
        if isinstance(value, property):
            yield value.fget.__annotations__["return"]


def without_constructor(
    _app: object, what: str, name: str, _object: object, _options: object, signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:  # fmt: skip
    """Results are made by functions: nobody calls their constructors."""
    if what == "class" and name.rpartition(".")[2] not in MADE_BY_USERS:
        return "", None
    return signature, returns


def without_alias(
    _app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """A named tuple documents each field as an alias for its number, which says nothing."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
