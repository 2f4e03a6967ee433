"""The reference pages, written from the code when the documentation is built."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import mkdocs_gen_files

from sizeforensics.causes import CAUSES
from sizeforensics.limits import Limits


def causes() -> str:
    """The catalogue of causes."""
    sections = (
        f"## {cause.id}\n\n{cause.title}: {cause.counts}\n\n* Proved by: {cause.proof}\n"
        f"* What to do: {cause.remedy}\n* What it costs: {cause.cost}\n"
        for cause in CAUSES.values()
    )
    return "# Causes\n\n" + "\n".join(sections)


def limits() -> str:
    """The limits and their defaults."""
    rows = (f"| `{field.name}` | {field.default:,} |\n" for field in dataclasses.fields(Limits))
    return "# Limits\n\n| limit | default |\n|---|---:|\n" + "".join(rows)


def schemas() -> str:
    """Every key of the documents for other programs, with its description."""
    sections = []
    for file in sorted(resources.files("sizeforensics").joinpath("schemas").iterdir(), key=str):
        schema = json.loads(file.read_text("utf-8"))
        rows = "".join(f"| `{key}` | {text} |\n" for key, text in keys(schema))
        sections.append(f"## {schema['title']}\n\n{schema['description']}\n\n| key | meaning |\n|---|---|\n{rows}")
    return "# JSON schemas\n\n" + "\n".join(sections)


def keys(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of an object and of the objects in its arrays, with what they mean."""
    for name, value in schema.get("properties", {}).items():
        yield f"{prefix}{name}", value.get("description", "").replace("|", "\\|")
        yield from keys(value, f"{prefix}{name}.")
        if isinstance(value.get("items"), dict):
            yield from keys(value["items"], f"{prefix}{name}[].")


CLI = "# Command line\n\n::: mkdocs-click\n    :module: sizeforensics.cli\n    :command: cli\n    :prog_name: sizeforensics\n    :depth: 1\n"

for name, text in {"causes": causes(), "limits": limits(), "schemas": schemas(), "cli": CLI}.items():
    with mkdocs_gen_files.open(f"reference/{name}.md", "w") as page:
        page.write(text)
