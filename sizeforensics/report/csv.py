"""Reports as CSV (RFC 4180), piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from sizeforensics.report.tables import Table

_PIECE = 4096
"""Rows per piece of output."""


def render(table: Table) -> Iterator[str]:
    """A header and one line per row."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(name for name, _ in table.columns)
    for number, row in enumerate(table.rows, start=1):
        writer.writerow(row)
        if number % _PIECE == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()
