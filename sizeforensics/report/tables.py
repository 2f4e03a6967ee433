"""Reports as flat tables, the same for CSV and Parquet: ledger rows, tensors or spans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sizeforensics.errors import InputError
from sizeforensics.escape import cut, visible
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Place
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport, shape_text
from sizeforensics.spans import ROLES

Cell = str | int | None
Report = DiffReport | InspectReport | Inventory
TABLES = ("rows", "tensors")
"""Of a diff; one artifact has tensors, a map has spans."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the start of a formula, the full-width forms included."""
_PLACE = (
    ("name", str), ("file", int), ("offset", int), ("stored_bytes", int), ("dtype", str), ("shape", str),
)  # fmt: skip
_PLACES = tuple((f"{side}_{name}", kind) for side in ("before", "after") for name, kind in _PLACE)


class Table(NamedTuple):
    """Columns with their types, and rows of cells that are safe to open in a spreadsheet."""

    columns: tuple[tuple[str, type], ...]
    rows: Iterable[Sequence[Cell]]


def of(report: Report, name: str = "") -> Table:
    """The table ``name`` of a diff (its ledger unless said otherwise), the tensors of an artifact
    or the spans of a map. Raises InputError when the report has no such table."""
    if isinstance(report, DiffReport):
        if name and name not in TABLES:
            raise InputError(f"table: expected one of {', '.join(TABLES)}, got {name!r}")
        return _pairs(report) if name == "tensors" else _ledger(report)
    known = "tensors" if isinstance(report, InspectReport) else "spans"
    if name not in ("", known):
        raise InputError(f"table: one artifact has {known} only, got {name!r}")
    return _tensors(report) if isinstance(report, InspectReport) else _spans(report)


def _ledger(report: DiffReport) -> Table:
    """One line per row; ``before_bytes`` and ``after_bytes`` sum to the artifacts."""
    columns = (
        ("cause", str), ("label", str), ("subject", str), ("before_bytes", int), ("after_bytes", int),
        ("delta_bytes", int), ("evidence", str), ("how", str), ("count", int), ("elements", int),
        *_PLACES,
    )  # fmt: skip
    rows = (
        [row.cause, row.label, row.subject, row.before_bytes, row.after_bytes, row.delta_bytes,
         row.evidence, row.how, row.members, row.elements, *_place(row.before), *_place(row.after)]
        for row in report.rows
    )  # fmt: skip
    return Table(columns, _defused(rows))


def _pairs(report: DiffReport) -> Table:
    """One line per tensor and its counterpart, over all causes."""
    columns = (
        ("name", str), ("dtype", str), ("shape", str), ("before_bytes", int), ("after_bytes", int),
        ("delta_bytes", int), ("causes", str), ("evidence", str), ("how", str), *_PLACES,
    )  # fmt: skip
    rows = (
        [pair.name, pair.dtype, pair.shape, pair.before_bytes, pair.after_bytes, pair.delta_bytes,
         " ".join(pair.causes), pair.evidence, pair.how, *_place(pair.before), *_place(pair.after)]
        for pair in report.tensors
    )  # fmt: skip
    return Table(columns, _defused(rows))


def _tensors(report: InspectReport) -> Table:
    columns = (
        ("name", str), ("dtype", str), ("shape", str), ("bytes", int), ("file", str), ("offset", int),
        ("storage", int), ("digest", str), ("use", str), ("scope", str), ("stored_bytes", int),
    )  # fmt: skip
    files = report.side.files
    rows = (
        [row.name, row.dtype, row.shape_text, row.bytes,
         None if row.file is None else files[row.file].path, row.offset, row.storage, row.digest,
         row.use, row.scope, row.stored_bytes]
        for row in report.tensors
    )  # fmt: skip
    return Table(columns, _defused(rows))


def _spans(inventory: Inventory) -> Table:
    """The spans tile every file."""
    columns = (
        ("path", str), ("start", int), ("end", int), ("bytes", int), ("role", str), ("owner", str),
    )  # fmt: skip
    names = [defused(cut(name)) for name in inventory.owners.names]
    rows = (
        [path, start, end, end - start, ROLES[role], names[owner]]
        for file, path in [(file, defused(file.path)) for file in inventory.files]
        for start, end, role, owner in zip(
            file.spans.starts.tolist(), file.spans.ends.tolist(), file.spans.roles.tolist(),
            file.spans.owners.tolist(), strict=True,
        )
    )  # fmt: skip
    return Table(columns, rows)


def _place(place: Place | None) -> list[Cell]:
    if place is None:
        return [None] * len(_PLACE)
    return [
        place.name, place.file, place.offset, place.bytes, place.dtype, shape_text(place.shape),
    ]  # fmt: skip


def _defused(rows: Iterable[Sequence[Cell]]) -> Iterable[Sequence[Cell]]:
    return ([defused(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def defused(text: str) -> str:
    """Text that a spreadsheet shows instead of running; numbers are cells of their own.

    Parquet has types, but the next program writes it out as a sheet.
    """
    return f"'{visible(text)}" if text.startswith(_FORMULA) else visible(text)
