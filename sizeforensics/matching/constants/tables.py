"""Tables of snapshots that the other side stores as rows gathered by an index.

What ``lookups`` proves of all elements is inferred here. Of a tensor whose rows repeat a snapshot keeps
the bag of the distinct ones (``sizeforensics.bags``): where they are the rows of a table, that is the
table's own bag, of which nothing more need be kept; where they are an index, it is that of a range.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from math import prod

import numpy as np

from sizeforensics.bags import Numbers, bag_of
from sizeforensics.matching.arrays import nearest
from sizeforensics.matching.casts import castable
from sizeforensics.matching.constants.lookups import LEAST_ROWS, tables_of
from sizeforensics.matching.constants.recipes import Array, bits
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit, cast_words

MOST_ELEMENTS = 1 << 24
"""Elements of what may have been gathered; 32 tables looked up for all pairs of 700 places."""

BLOCK_ELEMENTS = 1 << 17
"""Elements of rows that are looked at at once."""

PROBES = 512
"""Rows that are looked at before all are: of a table of ten thousand, some are among them twice."""

PROBE_WIDTH = 4
"""Elements of each of these rows."""

_SPREAD = 0x9E3779B1
"""A prime: its multiples, modulo the number of rows, are spread over them without a pattern."""


def match_tables(pairing: Pairing) -> None:
    """Match free tables with free tensors whose distinct rows hold the elements of the table."""
    gathered: dict[tuple[int, int, int], list[Unit]] = defaultdict(list)
    for free in pairing.free:
        for unit in free.values():
            distinct = None if unit.excerpt is None else unit.excerpt.distinct
            if distinct is not None and unit.tensor.dtype.kind == "float":
                gathered[(unit.side, *distinct)].append(unit)
    for free in pairing.free if gathered else ():
        floats = [unit for unit in free.values() if unit.tensor.dtype.kind == "float"]
        for table in [unit for unit in floats if any(tables_of(unit))]:
            own = table.tensor.dtype.name
            bags = {} if table.excerpt is None else table.excerpt.bags
            rivals = [
                unit
                for name, bag in bags.items()
                for unit in gathered.get((1 - table.side, table.tensor.elements, bag), ())
                if name in (own, unit.tensor.dtype.name) and pairing.is_free(unit)
            ]
            for unit in nearest(table, sorted(rivals, key=lambda unit: unit.index), 1):
                _place(pairing, table, unit)


def _place(pairing: Pairing, table: Unit, unit: Unit) -> None:
    words = f"{table.tensor.elements:,} elements gathered to {unit.tensor.elements:,}"
    words += cast_words(table, unit)
    pairing.pair(table, unit, "inferred", words)
    for lookup in tables_of(table):
        rows = table.tensor.elements // lookup.width
        indices = [
            index
            for index in pairing.free[table.side].values()
            if index.tensor.elements * lookup.width == unit.tensor.elements
            and index.tensor.dtype.kind in ("int", "uint")
            and index.excerpt is not None and index.excerpt.distinct == (rows, _bag_of_range(rows))
        ]  # fmt: skip
        for index in nearest(table, indices, 1):
            pairing.fold(index, unit, "index of the rows gathered in", "inferred")


@lru_cache(maxsize=256)
def _bag_of_range(count: int) -> int:
    return bag_of(np.arange(count, dtype=np.int64), "int64")


# What a snapshot keeps


def distinct_rows(whole: Array | None, unit: Unit, *, narrow: bool) -> tuple[int, int] | None:
    """The elements of a tensor's distinct rows, along the axis that has the fewest, and their bag.

    None where no row occurs twice, as far as a few tell. ``narrow`` says that a type of fewer bits
    holds all elements: then single floats recur by chance.
    """
    dtype = unit.tensor.dtype
    if not unit.distinctive or not castable(dtype.name) or unit.tensor.elements > MOST_ELEMENTS:
        return None
    if whole is None:
        return None
    array = bits(whole)
    alone = dtype.bits >= 32 and not (narrow and dtype.kind == "float")
    best: Array | None = None
    for rows in _ways(array, alone=alone):
        if _recur(rows):
            found = _distinct(rows)
            if LEAST_ROWS <= len(found) <= prod(rows.shape[:-1]) // 2 and (
                best is None or found.size < best.size
            ):
                best = found
    if best is None:
        return None
    return best.size, bag_of(best.reshape(-1).view(whole.dtype), dtype.name)


def _ways(array: Array, *, alone: bool) -> Iterator[Array]:
    """A tensor with each of its axes put last, and with each element as a row."""
    for axis, size in enumerate(array.shape):
        if size > 1 and array.size >= 2 * LEAST_ROWS * size:
            yield np.moveaxis(array, axis, -1)
    if alone:
        yield array.reshape(*array.shape, 1)


def _recur(rows: Array) -> bool:
    """Whether some rows are there twice among a few; those of one value, such as zeros, do not count."""
    count = prod(rows.shape[:-1])
    chosen = np.arange(min(PROBES, count)) * _SPREAD % count
    probes = rows[..., :PROBE_WIDTH][np.unravel_index(chosen, rows.shape[:-1])]
    varied = (probes != probes[:, :1]).any(axis=1) if probes.shape[1] > 1 else probes[:, 0] != 0
    keys = _keys(probes[varied])
    return len(np.unique(keys)) < len(keys)


def _distinct(rows: Array) -> Array:
    """Each different row once, shape ``(rows, width)``."""
    flat = rows.reshape(-1, rows.shape[-1])
    step = max(BLOCK_ELEMENTS // rows.shape[-1], 1)
    keys = [_keys(flat[first : first + step]) for first in range(0, len(flat), step)]
    _, firsts = np.unique(np.concatenate(keys), return_index=True)
    return flat[firsts]


def _keys(rows: Array) -> Numbers:
    """A number for each row, equal for equal rows."""
    factors = np.random.default_rng(0).integers(1 << 63, size=rows.shape[-1], dtype=np.uint64)
    keys: Numbers = (rows.astype(np.uint64) * (2 * factors + np.uint64(1))).sum(axis=1)
    return keys
