"""Reports as CSV (RFC 4180): ledger rows, tensors or spans, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from sizeforensics.escape import visible
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Place
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport, shape_text
from sizeforensics.spans import ROLES

Cell = str | int | None
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the start of a formula, the full-width forms included."""
_PIECE = 4096
"""Rows per piece of output."""
_PLACE = ("name", "file", "offset", "stored_bytes", "dtype", "shape")


def diff(report: DiffReport) -> Iterator[str]:
    """The ledger: one line per row; ``before_bytes`` and ``after_bytes`` sum to the artifacts."""
    header = [
        "cause", "label", "subject", "before_bytes", "after_bytes", "delta_bytes", "evidence",
        "how", "count", "elements",
        *(f"before_{name}" for name in _PLACE), *(f"after_{name}" for name in _PLACE),
    ]  # fmt: skip
    rows = (
        [row.cause, row.label, row.subject, row.before_bytes, row.after_bytes, row.delta_bytes,
         row.evidence, row.how, row.members, row.elements, *_place(row.before), *_place(row.after)]
        for row in report.rows
    )  # fmt: skip
    return _lines(header, rows)


def inspect(report: InspectReport) -> Iterator[str]:
    """The tensors: one line each."""
    header = [
        "name", "dtype", "shape", "bytes", "file", "offset", "storage", "digest", "use", "scope",
    ]  # fmt: skip
    files = report.side.files
    rows = (
        [row.name, row.dtype, row.shape_text, row.bytes,
         None if row.file is None else files[row.file].path, row.offset, row.storage, row.digest,
         row.use, row.scope]
        for row in report.tensors
    )  # fmt: skip
    return _lines(header, rows)


def render_map(inventory: Inventory) -> Iterator[str]:
    """The spans: one line each, tiling every file."""
    names = [_safe(name) for name in inventory.owners.names]
    rows = (
        [file.path, start, end, end - start, ROLES[role], names[owner]]
        for file in inventory.files
        for start, end, role, owner in zip(
            file.spans.starts.tolist(), file.spans.ends.tolist(), file.spans.roles.tolist(),
            file.spans.owners.tolist(), strict=True,
        )
    )  # fmt: skip
    return _lines(["path", "start", "end", "bytes", "role", "owner"], rows)


def _place(place: Place | None) -> list[Cell]:
    if place is None:
        return [None] * len(_PLACE)
    return [
        place.name, place.file, place.offset, place.bytes, place.dtype, shape_text(place.shape),
    ]  # fmt: skip


def _lines(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(header)
    for number, row in enumerate(rows, start=1):
        writer.writerow([_safe(cell) if isinstance(cell, str) else cell for cell in row])
        if number % _PIECE == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _safe(text: str) -> str:
    """Text that a spreadsheet shows instead of running; numbers are cells of their own.

    Twice is once: a cell that is quoted already begins with the quote.
    """
    return f"'{visible(text)}" if text.startswith(_FORMULA) else visible(text)
