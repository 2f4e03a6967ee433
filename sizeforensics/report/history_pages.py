"""A history in every form: a table for people, JSON, CSV, Markdown, a page, and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sizeforensics.escape import one_line
from sizeforensics.report import csv, json
from sizeforensics.report.history import History, Version
from sizeforensics.report.marked import code, prose, table
from sizeforensics.report.tables import Table, defused
from sizeforensics.units import format_bytes, signed_bytes

SCHEMA = "sizeforensics.history/1"


def chunks(found: History, kind: str) -> Iterator[bytes]:
    """The history as a file of this kind."""
    if kind == "png":
        from sizeforensics.report import figure_history, figures

        yield figures.png(figure_history.history(found))
    else:
        yield text(found, kind).encode("utf-8")


def text(found: History, kind: str) -> str:
    """The history as text of this kind."""
    if kind == "json":
        return "".join(json.render(to_dict(found)))
    if kind == "csv":
        return "".join(csv.render(by_role(found)))
    if kind == "md":
        return markdown(found)
    from sizeforensics.report import figure_history

    scene = figure_history.history(found)
    if kind == "svg":
        from sizeforensics.report import figures

        return figures.svg(scene)
    from sizeforensics.report import html

    return html.history(found, scene)


def console(found: History) -> str:
    """One line per version: its bytes, the change, and what most of the change is."""
    rows = [("version", "bytes", "change", "why")]
    rows += [
        (one_line(version.name, 60), format_bytes(version.bytes), _change(version), _why(version))
        for version in found.versions
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"  {name:<{widths[0]}}  {size:>{widths[1]}}  {change:>{widths[2]}}  {why}".rstrip()
        for name, size, change, why in rows
    ]
    return "\n".join([one_line(found.headline, 1000), "", *lines, ""])


def markdown(found: History) -> str:
    """The same for a pull request or a release note."""
    rows = [
        [code(version.name), format_bytes(version.bytes), _change(version), prose(_why(version))]
        for version in found.versions
    ]
    names = [version.name for version in found.versions]
    return f"{prose(found.headline, names)}\n\n{table(('version', 'bytes', 'change', 'why'), 'lrrl', rows)}\n"


def to_dict(found: History) -> dict[str, Any]:
    """What ``history --format json`` prints, as plain values."""
    return {
        "schema": SCHEMA,
        "headline": found.headline,
        "versions": [
            {
                "name": version.name, "bytes": version.bytes, "delta_bytes": version.delta_bytes,
                "roles": [
                    {"role": role, "bytes": version.roles.get(role, 0)} for role in found.roles
                ],
                "causes": [{"cause": cause, "delta_bytes": delta} for cause, delta in version.causes],
            }
            for version in found.versions
        ],
        "warnings": list(found.warnings),
    }  # fmt: skip


def by_role(found: History) -> Table:
    """One row per version, one column per role; the roles sum to the bytes."""
    columns = (("version", str), ("bytes", int), ("delta_bytes", int), *((role, int) for role in found.roles))
    return Table(columns, _cells(found))


def _cells(found: History) -> Iterator[tuple[str | int | None, ...]]:
    for version in found.versions:
        sizes = (version.roles.get(role, 0) for role in found.roles)
        yield (defused(version.name), version.bytes, version.delta_bytes, *sizes)


def _change(version: Version) -> str:
    return "" if version.delta_bytes is None else signed_bytes(version.delta_bytes)


def _why(version: Version) -> str:
    return "; ".join(f"{title} {signed_bytes(delta)}" for title, delta in version.shown)
