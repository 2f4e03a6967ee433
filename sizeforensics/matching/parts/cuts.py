"""Matrices of snapshots that are rows of a larger one, from wherever they were cut.

What ``slices`` proves of all rows is inferred from a few that a snapshot keeps a mark of: those with
the smallest marks, wherever they are. So a part has the marks of the whole that are its own rows', and
none between them; which rows they are need not be known (min-wise hashing, Broder 1997). A mark is
taken of the signs of a row's first elements and of their differences: roundings leave both alone, and
so would training at a small rate, so its last byte is one of the elements themselves.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sizeforensics.bags import GOLDEN
from sizeforensics.excerpts import MARK_BYTES, MARKS
from sizeforensics.matching.arrays import Array
from sizeforensics.matching.casts import as_float
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.parts.slices import may_be_sliced
from sizeforensics.matching.units import Unit, cast_between

LOOKED_AT = 33
"""Elements of each row that make its mark: 32 signs and 32 differences."""

LEAST_WIDTH = 8
"""Elements of a row below which its mark may be chance."""

_VALUE_BITS = 8
"""The last bits of a mark: they are of the elements, which are others once they are cast."""


def marks_of(matrix: Array, name: str) -> tuple[int, ...]:
    """The smallest marks of a matrix's rows, ascending; none where many rows have the same mark."""
    if matrix.shape[1] < LEAST_WIDTH or len(matrix) < MARKS:
        return ()
    start = as_float(np.ascontiguousarray(matrix[:, :LOOKED_AT]).reshape(-1), name, "float32")
    rows = start.reshape(len(matrix), -1)
    before, after = rows[:, :-1], rows[:, 1:]
    signs = np.zeros((len(rows), 2, LOOKED_AT - 1), dtype=bool)
    signs[:, 0, : before.shape[1]] = before < 0
    signs[:, 1, : before.shape[1]] = after < before
    keys = np.packbits(signs.reshape(len(rows), -1), axis=1).view(np.uint64)[:, 0]
    # All of one sign, and of one order or one size: too many rows are.
    telling = np.any(signs != signs[:, :, :1], axis=(1, 2))
    places = np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64) * GOLDEN
    values = (rows[telling].view(np.uint32) * places).sum(axis=1) >> np.uint64(64 - _VALUE_BITS)
    keys = keys[telling] * GOLDEN
    keys = (keys ^ keys >> np.uint64(29)) * GOLDEN >> np.uint64(64 - 8 * MARK_BYTES + _VALUE_BITS)
    marks = np.unique(keys << np.uint64(_VALUE_BITS) | values)
    return tuple(marks[:MARKS].tolist()) if len(marks) >= max(MARKS, len(rows) // 2) else ()


def match_cuts(pairing: Pairing) -> None:
    """Match free matrices with larger free ones of which they hold, by their marks, some rows."""
    wholes: dict[tuple[int, int, int], list[Unit]] = defaultdict(list)
    eligible = [
        unit for free in pairing.free for unit in free.values() if may_be_sliced(unit) and _marks(unit)
    ]
    for unit in eligible:
        for key in _keys(unit):
            wholes[unit.side, _width(unit), key].append(unit)
    found: dict[tuple[int, int], list[Unit]] = defaultdict(list)
    known = {(unit.side, unit.index): unit for unit in eligible}
    for part in eligible:
        rivals = {
            whole.index: whole
            for key in _keys(part)
            for whole in wholes.get((1 - part.side, _width(part), key), ())
            if _holds(whole, part)
        }
        for whole in sorted(rivals.values(), key=lambda unit: (unit.tensor.elements, unit.index))[:1]:
            found[whole.side, whole.index].append(part)
    for place, parts in found.items():
        # Several that do not make the whole may be what is left of more, of which one was changed.
        whole, part = known[place], parts[0]
        if len(parts) == 1 and pairing.is_free(whole) and pairing.is_free(part):
            words = f"{part.tensor.elements // _width(part):,} rows are among those of the other"
            words += cast_between(whole, part)
            pairing.slices([(whole, part, part.tensor.elements, words)], "inferred")


def _marks(unit: Unit) -> tuple[int, ...]:
    return () if unit.excerpt is None else unit.excerpt.marks


def _keys(unit: Unit) -> set[int]:
    """What marks are that no rounding changes."""
    return {mark >> _VALUE_BITS for mark in _marks(unit)}


def _width(unit: Unit) -> int:
    return next(size for size in reversed(unit.tensor.shape) if size != 1)


def _holds(whole: Unit, part: Unit) -> bool:
    """Whether the marks of a part that the whole would have kept are all among its own."""
    if whole.tensor.elements <= part.tensor.elements:
        return False
    if whole.tensor.dtype.kind != part.tensor.dtype.kind:
        return False
    if whole.tensor.dtype.name == part.tensor.dtype.name:
        kept = {mark for mark in _marks(part) if mark <= max(_marks(whole))}
        return bool(kept) and kept <= set(_marks(whole))
    # Where one was rounded, two elements of a row may have become one.
    ours = _keys(whole)
    kept = {key for key in _keys(part) if key <= max(ours)}
    return 2 * len(kept & ours) > len(kept)
