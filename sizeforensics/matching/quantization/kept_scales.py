"""The numbers stored for quantised tensors, as far as snapshots keep them.

Where two grids meet, that of a tensor and that of its scales, the places of the one have their numbers
in the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.excerpts import grid_places
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.quantization.spreads import Spread, axes_that_fit
from sizeforensics.matching.quantization.stored_scales import is_scale

Shape = tuple[int, ...]


class Places(NamedTuple):
    """The places of a grid of codes of which the numbers are kept, and where these are.

    ``codes`` and ``numbers`` have indices for each axis of the two grids.
    """

    words: str
    codes: tuple[list[int], ...]
    numbers: tuple[list[int], ...]
    axes: Shape

    def of_numbers(self, grid: Array) -> Array:
        """The numbers, with an axis for each one of the codes."""
        found = grid[np.ix_(*self.numbers)].transpose(np.argsort(self.axes))
        sizes = [1] * len(self.codes)
        for axis, size in zip(sorted(self.axes), found.shape, strict=True):
            sizes[axis] = size
        return found.reshape(sizes)

    def whole(self, grid: Shape) -> bool:
        """Whether every place of a grid of this shape has its number."""
        return tuple(map(len, self.codes)) == grid

    def of_codes(self, grid: Array) -> Array:
        """The codes, or the values at their places."""
        found: Array = grid[np.ix_(*self.codes)]
        return found


def kept_spreads(
    inventory: Inventory, link: Quantization, shape: Shape
) -> Iterator[tuple[Spread, Places | None]]:
    """The ways in which the stored numbers can be shared among the elements of a grid."""
    if link.step is not None:
        yield Spread("per tensor", np.array(link.step), np.array(float(link.zero))), None
    if link.scale is None or link.groups is not None:
        return
    scale = kept_numbers(inventory, link.scale)
    zero = np.array(float(link.zero)) if link.zero_point is None else kept_numbers(inventory, link.zero_point)
    factor = np.array(1.0) if link.factor is None else kept_numbers(inventory, link.factor)
    if scale is None or zero is None or factor is None or factor.size != 1 or not is_scale(scale):
        return
    scale, tensor = scale * factor.reshape(()), inventory.tensors[link.scale]
    roundoff = ROUNDOFF.get(tensor.dtype.name, 0.0)
    if tensor.elements == 1 and zero.size == 1:
        numbers = scale.reshape(()), zero.reshape(())
        yield Spread("per tensor", *numbers, roundoff=roundoff), None
    if not scale.size or (zero.shape != scale.shape and zero.size != 1):
        return
    zero = np.full(scale.shape, zero.reshape(-1)[0]) if zero.size == 1 else zero
    for axes in [link.axes] if link.axes is not None else axes_that_fit(shape, tensor.shape):
        if len(set(axes)) == len(tensor.shape) and max(axes, default=0) < len(shape):
            places = places_of(shape, axes, tensor.shape, link.block)
            numbers = places.of_numbers(scale), places.of_numbers(zero)
            yield Spread(places.words, *numbers, roundoff=roundoff), places


def places_of(shape: Shape, axes: Shape, numbers: Shape, block: int | None) -> Places:
    """Where two grids meet: codes of a shape, and numbers along some of its axes."""
    codes = [list(range(len(kept))) for kept in grid_places(shape)]
    kept_numbers = grid_places(numbers)
    found: list[list[int]] = [[0] for _ in numbers]
    words = []
    for at, axis in enumerate(axes):
        length, size = shape[axis], numbers[at]
        if size == 1:
            continue
        step = 1 if size == length else block or -(-length // size)
        where = {place: number for number, place in enumerate(kept_numbers[at])}
        wanted = [place // step for place in grid_places(shape)[axis]]
        codes[axis] = [number for number, place in enumerate(wanted) if place in where]
        found[at] = [where[place] for place in wanted if place in where]
        words.append(f"per channel of axis {axis}" if step == 1 else f"in blocks of {step} along axis {axis}")
    return Places(", ".join(words), tuple(codes), tuple(found), axes)


def kept_numbers(inventory: Inventory, index: int) -> Array | None:
    """The kept elements of a tensor as numbers; None where none are kept."""
    grid = None if inventory.excerpts is None else inventory.excerpts[index].grid
    return None if grid is None else grid.astype(np.float64)
