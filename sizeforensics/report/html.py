"""Reports as one HTML file that works offline, without scripts, and under a strict policy.

What must be readable anywhere is written here: the answer, the waterfall, the causes, the fixes.
The script beside the templates draws the treemap and the table from the data it finds in the page.
Every text passes jinja2's autoescape, and before it the escaper of control characters.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2
from markupsafe import Markup

from sizeforensics import __version__
from sizeforensics.causes import CAUSES
from sizeforensics.escape import one_line
from sizeforensics.limits import Limits
from sizeforensics.report import checksums, html_data, waterfall
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.figure_scene import HEIGHT, WIDTH, Scene
from sizeforensics.report.history import History
from sizeforensics.report.rows import DiffReport, Side
from sizeforensics.units import signed_bytes

SCRIPTS = ("data", "boxes", "treemap", "table", "page")
TOP_TENSORS = 10
"""Tensors in the page for readers without scripts; the script replaces them with all."""
TEXT_LIMIT, LABEL_LIMIT = 600, 80
"""Characters of any one text from a file, and of one that only says which of many."""


def render(report: DiffReport | InspectReport) -> Iterator[str]:
    """The page, in pieces. Reads the files of the report once more for their SHA-256."""
    if isinstance(report, DiffReport):
        template, data = "diff.html.j2", html_data.of_diff(report)
        chart, sides = waterfall.of_diff(report), [report.before, report.after]
    else:
        template, data = "inspect.html.j2", html_data.of_inspect(report)
        chart, sides = waterfall.of_inspect(report), [report.side]
    return _environment().get_template(template).generate(
        report=report,
        chart=chart,
        files=[row for side in sides for row in _files(side)],
        warnings=[_without_folders(text, sides) for text in report.warnings],
        data=Markup(html_data.packed(data)),  # noqa: S704  base64
        script=Markup(_script()),  # noqa: S704  our own
        style=Markup(_asset("report.css")),  # noqa: S704  our own
        policy=_policy(),
        limits=[_listed(limits) for limits in dict.fromkeys(side.limits for side in sides)],
    )


def history(found: History, chart: Scene) -> str:
    """The page of a history: the answer, its chart, and the table of its versions; no script."""
    style = _asset("report.css")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template("history.html.j2").render(
        found=found, chart=chart, size=(WIDTH, HEIGHT), policy=policy,
        style=Markup(style),  # noqa: S704  our own
    )  # fmt: skip


def notebook(report: DiffReport | InspectReport, rows: int) -> str:
    """The answer, its chart and at most ``rows`` rows a table; no script, style or link."""
    kind = "diff" if isinstance(report, DiffReport) else "inspect"
    chart = waterfall.of_diff(report) if isinstance(report, DiffReport) else waterfall.of_inspect(report)
    template = _environment().get_template("notebook.html.j2")
    return template.render(report=report, kind=kind, chart=chart, limit=rows)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sizeforensics.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(
        grouped=lambda count: f"{count:,}",
        signed=signed_bytes,
        change=lambda count: f"{count:+,}" if count else "0",
        brief=lambda text: one_line(text, LABEL_LIMIT),
        percent_of_axis=lambda fraction: f"{100 * fraction:.2f}%",
    )
    environment.globals.update(
        catalogue=CAUSES, name_limit=html_data.NAME_LIMIT, version=__version__,
        steps=waterfall.steps, top=TOP_TENSORS,
    )  # fmt: skip
    return environment


def _shown(value: Any) -> Any:
    """What a template prints: no text leaves without its controls written as escapes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        # A browser would break a line inside "->" and before the sign of a percentage.
        return one_line(value, TEXT_LIMIT).replace(" -> ", " → ").replace(" %", "\u00a0%")
    return value


@cache
def _asset(name: str) -> str:
    return (resources.files("sizeforensics.report") / "assets" / name).read_text(encoding="utf-8")


def _script() -> str:
    """The parts of our script, in the order in which they need each other."""
    return "\n".join(_asset(f"{name}.js") for name in SCRIPTS)


def _policy() -> str:
    """Nothing but the very script and style of this page, and no text may become markup."""
    script, style = _hash(_script()), _hash(_asset("report.css"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _listed(limits: Limits) -> list[tuple[str, int]]:
    return [(field.name.replace("_", " "), getattr(limits, field.name)) for field in fields(limits)]


def _files(side: Side) -> list[dict[str, Any]]:
    folder = PurePath(side.path).parent
    return [
        {
            "name": side.name if number == 0 else _inside(file.path, folder),
            "format": side.format if number == 0 else "external data",
            "bytes": file.bytes,
            "sha256": digest,
        }
        for number, (file, digest) in enumerate(zip(side.files, checksums.sha256(side.files), strict=True))
    ]


def _inside(path: str, folder: PurePath) -> str:
    try:
        return PurePath(path).relative_to(folder).as_posix()
    except ValueError:
        return PurePath(path).name


def _without_folders(text: str, sides: list[Side]) -> str:
    """A warning without the folder of the file it names: a report does not tell where it lay."""
    for side in sides:
        folder = str(PurePath(side.path).parent)
        if folder != ".":
            text = text.replace(one_line(f"{folder}/"), "")
    return text
