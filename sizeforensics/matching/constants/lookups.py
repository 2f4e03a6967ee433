"""Tables that the other side stores as rows gathered by an index, each row as often as it is used.

Transformers for images keep one bias for each distance of two places and look it up for every pair of
places (Liu et al. 2021, section 3.2); an exporter computes the lookup beforehand and stores what it
gives, permuted and cast. Every row of the table has to occur, and nothing else: which row is where is
found by content, so that the index itself need not be stored. Where it is, it was absorbed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.content import decoded
from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Inventory
from sizeforensics.matching.arrays import MOST_ELEMENTS, nearest
from sizeforensics.matching.casts import cast_sample, castable, equal_after_cast
from sizeforensics.matching.constants.computable import recipe
from sizeforensics.matching.constants.recipes import Array, bits
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit, cast_words

LEAST_ROWS = 8
"""Rows below which a tensor made of them may be chance, unless they are long."""

LONG = 4
"""Elements of a row from which on two rows are enough. Of integers rows are at least that long: every
index is made of the numbers of a range."""

MOST_TABLE = 1 << 20
"""Elements of a table; the largest known ones have some ten thousand."""

CANDIDATES = 16
"""Tensors of the same least and greatest element that are compared with a table, the nearest first."""


class _Lookup(NamedTuple):
    """A tensor seen as rows of ``width`` elements along ``axis``, -1 where each element is a row."""

    unit: Unit
    axis: int
    width: int


def match_looked_up(pairing: Pairing) -> None:
    """Match free tables with free tensors that hold nothing but their rows, all of them."""
    for side in (0, 1):
        tables = [table for unit in pairing.free[side].values() for table in tables_of(unit)]
        smallest: dict[tuple[str, int], int] = {}
        for table in tables:
            kind, count = (table.unit.tensor.dtype.kind, table.width), table.unit.tensor.elements
            smallest[kind] = min(smallest.get(kind, count), count)
        gathered = _by_extremes(pairing, 1 - side, smallest)
        names = {name for _, name, _ in gathered}
        for table in tables if gathered else ():
            if not pairing.is_free(table.unit):
                continue
            values = _array(pairing.inventories[side], table.unit)
            rivals: dict[int, list[_Lookup]] = defaultdict(list)
            for name in sorted(names):
                if DTYPES[name].kind != table.unit.tensor.dtype.kind:
                    continue
                key = table.width, name, _extremes(values, table.unit, name)
                for lookup in gathered.get(key, ()):
                    rivals[lookup.unit.index].append(lookup)
            units = [rivals[index][0].unit for index in sorted(rivals)]
            for unit in nearest(table.unit, units, CANDIDATES):
                # Of two axes of one length either may be that of the rows.
                if pairing.is_free(unit) and any(
                    _match(pairing, table, values, lookup) for lookup in rivals[unit.index]
                ):
                    break


def _fits(unit: Unit) -> bool:
    dtype = unit.tensor.dtype
    return unit.distinctive and castable(dtype.name) and dtype.kind in ("float", "int", "uint")


def tables_of(unit: Unit) -> Iterator[_Lookup]:
    """A vector of numbers, or a matrix whose rows, or columns, are looked up."""
    shape = unit.tensor.shape
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    if not _fits(unit) or not 1 <= len(axes) <= 2 or unit.tensor.elements > MOST_TABLE:
        return
    for axis in reversed(axes) if len(axes) == 2 else (-1,):
        width = shape[axis] if axis >= 0 else 1
        rows = unit.tensor.elements // width
        many = rows >= LEAST_ROWS and unit.tensor.dtype.kind == "float"
        if many or (rows > 1 and width >= LONG):
            yield _Lookup(unit, axis, width)


def _by_extremes(
    pairing: Pairing, side: int, smallest: dict[tuple[str, int], int]
) -> dict[tuple[int, str, bytes], list[_Lookup]]:
    """What may have been gathered, by width, type, and least and greatest element.

    ``smallest`` maps the kind and the width of a row to the elements of the smallest table of such rows.
    """
    found: dict[tuple[int, str, bytes], list[_Lookup]] = defaultdict(list)
    for unit in pairing.free[side].values() if smallest else ():
        shape, count, kind = unit.tensor.shape, unit.tensor.elements, unit.tensor.dtype.kind
        if not _fits(unit) or count > MOST_ELEMENTS:
            continue
        lookups = [
            _Lookup(unit, axis, size)
            for axis, size in enumerate(shape)
            if size > 1 and smallest.get((kind, size), count) < count
        ]
        if smallest.get((kind, 1), count) < count:
            lookups.append(_Lookup(unit, -1, 1))
        if lookups:
            name = unit.tensor.dtype.name
            key = _extremes(_array(pairing.inventories[side], unit), unit, name)
            for lookup in lookups:
                found[lookup.width, name, key].append(lookup)
    return found


def _extremes(array: Array, unit: Unit, name: str) -> bytes:
    """Least and greatest element, cast: rounding keeps the order, so gathering and casting keep them."""
    own = unit.tensor.dtype.name
    ends = np.array([array.min(), array.max()], dtype=array.dtype)
    return (ends if own == name else cast_sample(ends, own, name)).tobytes()


def _rows(array: Array, lookup: _Lookup) -> Array:
    if lookup.axis < 0:
        return array.reshape(-1, 1)
    return np.ascontiguousarray(np.moveaxis(array, lookup.axis, -1)).reshape(-1, lookup.width)


def _match(pairing: Pairing, table: _Lookup, values: Array, lookup: _Lookup) -> bool:
    """Pair the two if every row of one is a row of the table, and every row of the table is used."""
    names = table.unit.tensor.dtype.name, lookup.unit.tensor.dtype.name
    rows = _rows(values, table)
    gathered = _rows(_array(pairing.inventories[lookup.unit.side], lookup.unit), lookup)
    if len(gathered) <= len(rows):
        return False
    cast = rows if names[0] == names[1] else cast_sample(rows, *names)
    index = _index(np.ascontiguousarray(cast), gathered)
    if index is None or len(np.unique(index)) < len(rows):
        return False
    taken = rows[index].reshape(-1)
    if not equal_after_cast(taken, names[0], gathered.reshape(-1), names[1]).all():
        return False
    places = tuple(
        size for axis, size in enumerate(lookup.unit.tensor.shape) if axis != lookup.axis and size != 1
    )
    words = f"{len(rows):,} rows gathered to {len(index):,}{_index_words(index.reshape(places))}"
    if lookup.axis >= 0 and lookup.axis != len(lookup.unit.tensor.shape) - 1:
        words += f", rows along axis {lookup.axis}"
    pairing.pair(table.unit, lookup.unit, "proved", words + cast_words(table.unit, lookup.unit))
    stored = _stored_index(pairing, table.unit, index)
    if stored is not None:
        pairing.fold(stored, lookup.unit, "index of the rows gathered in")
    return True


def _index(rows: Array, gathered: Array) -> Array | None:
    """Which row each gathered one is; None unless the table has each row once and holds them all."""
    codes, wanted = (
        np.ascontiguousarray(bits(part)).view(f"V{part.shape[1] * part.dtype.itemsize}").reshape(-1)
        for part in (rows, gathered)
    )
    known = {code.tobytes(): at for at, code in enumerate(codes)}
    if len(known) < len(codes):
        return None
    distinct, inverse = np.unique(wanted, return_inverse=True)
    if len(distinct) != len(codes):
        return None
    places = [known.get(code.tobytes(), -1) for code in distinct]
    return None if -1 in places else np.array(places, dtype=np.int64)[inverse.reshape(-1)]


def _index_words(index: Array) -> str:
    found = recipe(index)
    return "" if found is None else f" by an index that {found.nbytes:,} bytes regenerate ({found.words})"


def _stored_index(pairing: Pairing, table: Unit, index: Array) -> Unit | None:
    """The free integers on the side of the table that say which row goes where."""
    rivals = [
        unit
        for unit in pairing.free[table.side].values()
        if unit.tensor.elements == len(index) and unit.tensor.dtype.kind in ("int", "uint")
        and unit.digest is not None and castable(unit.tensor.dtype.name)
    ]
    for unit in nearest(table, rivals, CANDIDATES):
        if np.array_equal(_array(pairing.inventories[unit.side], unit).reshape(-1), index):
            return unit
    return None


def _array(inventory: Inventory, unit: Unit) -> Array:
    flat = decoded(inventory, unit.tensor)
    if flat is None:
        raise ValueError(f"type {unit.tensor.dtype.name} has no numpy equivalent")
    return flat.reshape(unit.tensor.shape)
