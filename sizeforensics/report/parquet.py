"""Reports as Parquet, for pandas, polars and DuckDB; needs pyarrow, which is an extra."""

from __future__ import annotations

import io
from importlib.util import find_spec
from itertools import islice

from sizeforensics.errors import InputError
from sizeforensics.report.tables import Table

_GROUP = 1 << 16
"""Rows per row group: what is in memory a second time while it is written."""


def require() -> None:
    """Raise InputError where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise InputError("a .parquet file needs pyarrow: pip install 'sizeforensics[parquet]'")


def render(table: Table) -> bytes:
    """The table as a Parquet file: text and 64-bit integers, the same bytes from run to run."""
    require()
    import pyarrow as pa
    from pyarrow import parquet

    types = {str: pa.string(), int: pa.int64()}
    schema = pa.schema([(name, types[kind]) for name, kind in table.columns])
    buffer = io.BytesIO()
    rows = iter(table.rows)
    with parquet.ParquetWriter(buffer, schema, compression="zstd") as writer:
        while group := list(islice(rows, _GROUP)):
            try:
                columns = [
                    pa.array(column, type=field.type)
                    for column, field in zip(zip(*group, strict=True), schema, strict=True)
                ]
            except (OverflowError, pa.ArrowInvalid) as error:
                raise InputError(f"a number is too large for a .parquet file, not for .csv: {error}") from None
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return buffer.getvalue()
