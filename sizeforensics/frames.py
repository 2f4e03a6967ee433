"""Rows as pandas tables, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sizeforensics.errors import InputError
from sizeforensics.ledger import Row
from sizeforensics.report.contents import Part
from sizeforensics.report.rows import CauseRow, TensorPair

if TYPE_CHECKING:
    import pandas as pd


def frame(
    kind: str, tables: dict[str, Callable[[], Iterable[Any]]], columns: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """The table of this kind, whose ``columns`` it has also when it is empty.

    Raises InputError for a kind there is none of.
    """
    import pandas as pd

    if kind not in tables:
        raise InputError(f"expected one of {', '.join(tables)}, got {kind!r}")
    rows = list(tables[kind]())
    names = list(columns[kind]) if kind in columns else None
    try:
        return pd.DataFrame(rows, columns=names)
    except UnicodeEncodeError:
        # Arrow strings, which pandas prefers where it finds pyarrow, cannot hold a lone surrogate:
        # the columns that have one stay Python objects.
        table = pd.DataFrame(rows, columns=names, dtype=object)
        for name in table:
            with suppress(UnicodeEncodeError):
                table[name] = pd.Series(table[name].tolist())
        return table


PART = tuple(field.name for field in fields(Part))


def flat_part(kind: str, part: Part) -> dict[str, Any]:
    """A part of an artifact, its name also under the word for what it is: ``role``, ``dtype``, ``op``."""
    return {kind: part.name} | {name: getattr(part, name) for name in PART}


def flat_row(row: Row) -> dict[str, Any]:
    """A row of the ledger."""
    values = row._asdict()
    values.update(before=row.before and row.before.name, after=row.after and row.after.name)
    return {**values, "count": row.members, "delta_bytes": row.delta_bytes}


def flat_cause(entry: CauseRow) -> dict[str, Any]:
    """All rows of one cause."""
    return {
        "cause": entry.cause, "label": entry.title, "before_bytes": entry.before_bytes,
        "after_bytes": entry.after_bytes, "delta_bytes": entry.delta_bytes, "share": entry.share,
        "count": entry.count, "elements": entry.elements,
        **{f"{kind}_bytes": size for kind, size in entry.evidence._asdict().items()},
    }  # fmt: skip


def flat_pair(pair: TensorPair) -> dict[str, Any]:
    """A tensor of each side."""
    return {
        "name": pair.name, "before": pair.before and pair.before.name,
        "after": pair.after and pair.after.name, "dtype": pair.dtype, "shape": pair.shape,
        "before_bytes": pair.before_bytes, "after_bytes": pair.after_bytes,
        "delta_bytes": pair.delta_bytes, "causes": ", ".join(pair.causes),
        "evidence": pair.evidence, "how": pair.how,
    }  # fmt: skip
