"""Codes as snapshots keep them: at the places of the grid that a weight of their shape has.

Of integers that hold several codes each the grid is one of words; where a word is kept that holds the
code of a place, the code is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.excerpts import flat_places, grid_places, grid_shape
from sizeforensics.matching.arrays import Doubles
from sizeforensics.matching.quantization.packings import PER_WORD, Packing, packings
from sizeforensics.matching.quantization.scale_bounds import Sharing
from sizeforensics.matching.units import Unit

Shape = tuple[int, ...]
Integers = npt.NDArray[np.int64]


class KeptCodes(NamedTuple):
    """Codes at the places of the grid of their shape, NaN where none is kept."""

    shape: Shape
    type_name: str
    grid: Doubles
    words: str = ""
    """How integers hold several of them; empty where each holds one."""


def plain_codes(unit: Unit) -> KeptCodes | None:
    """The codes of a tensor that holds one in each element; None where no grid is kept."""
    if unit.sample is None:
        return None
    shape = unit.tensor.shape
    grid = unit.sample.astype(np.float64).reshape(grid_shape(shape))
    return KeptCodes(shape, unit.tensor.dtype.name, grid)


def packed_codes(unit: Unit) -> Iterator[KeptCodes]:
    """The codes of a matrix in every way in which its elements may hold several."""
    tensor = unit.tensor
    for packing in packings(tensor.dtype.name) if len(tensor.shape) == 2 else ():
        shape = packing.shape(tensor.shape)
        rows, columns = map(np.array, grid_places(shape))
        found = _in_words(unit, packing, rows[:, None], columns[None, :])
        yield KeptCodes(shape, packing.type_name, found, packing.words)


def groups_of(sharing: Sharing, shape: Shape) -> tuple[Integers, int]:
    """Which of its scales each place of the grid has, shape that of the grid, and how many there are."""
    found, count = np.zeros(grid_shape(shape), dtype=np.int64), 1
    for axis in sharing.order:
        length = -(-shape[axis] // sharing.blocks[axis])
        sizes = [-1 if at == axis else 1 for at in range(len(shape))]
        block = np.array(grid_places(shape)[axis], dtype=np.int64) // sharing.blocks[axis]
        found, count = found * length + block.reshape(sizes), count * length
    return found, count


def numbers_at(unit: Unit, wanted: Integers) -> Iterator[Doubles]:
    """Elements of a tensor by their number in C order, NaN where none is kept; of a matrix also in the
    order of its transpose."""
    if unit.sample is None:
        return
    values, kept = unit.sample.astype(np.float64), flat_places(unit.tensor.shape)
    for numbers in _orders(unit.tensor.shape, wanted):
        at = np.minimum(np.searchsorted(kept, numbers), len(kept) - 1)
        yield np.where(kept[at] == numbers, values[at], np.nan)


def zero_points_at(unit: Unit, wanted: Integers, count: int) -> Iterator[Doubles]:
    """The same of a tensor that holds so many zero points, one or several to an element; libraries
    pack them less by one."""
    if unit.tensor.elements == count:
        yield from numbers_at(unit, wanted)
    for packing in packings(unit.tensor.dtype.name) if len(unit.tensor.shape) == 2 else ():
        shape = packing.shape(unit.tensor.shape)
        if shape[0] * shape[1] == count:
            for numbers in _orders(shape, wanted):
                found = _in_words(unit, packing, *np.divmod(numbers, shape[1]))
                yield found
                yield found + 1


def sizes_of_zero_points(count: int) -> list[int]:
    """Elements of the tensors that may hold so many."""
    return sorted({count, *(count // each for each in PER_WORD if count % each == 0)})


def _orders(shape: Shape, wanted: Integers) -> Iterator[Integers]:
    yield wanted
    sizes = [size for size in shape if size != 1]
    if len(sizes) == 2:
        column, row = np.divmod(wanted, sizes[0])
        yield row * sizes[1] + column


def _in_words(unit: Unit, packing: Packing, rows: Integers, columns: Integers) -> Doubles:
    """The codes at some rows and columns, NaN where the word that holds one is not kept."""
    if unit.sample is None:
        return np.full(np.broadcast_shapes(rows.shape, columns.shape), np.nan)
    each = len(packing.places)
    words = unit.sample.view(f"u{unit.sample.dtype.itemsize}").astype(np.int64)
    inside = np.array(packing.places)[(rows if packing.axis == 0 else columns) % each] * packing.bits
    rows, columns = (rows // each, columns) if packing.axis == 0 else (rows, columns // each)
    kept, numbers = flat_places(unit.tensor.shape), rows * unit.tensor.shape[1] + columns
    at = np.minimum(np.searchsorted(kept, numbers), len(kept) - 1)
    codes = words[at] >> inside & (1 << packing.bits) - 1
    return np.where(kept[at] == numbers, codes, np.nan)
