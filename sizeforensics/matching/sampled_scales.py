"""Quantised tensors of two snapshots: the elements that both keep agree under the stored scale.

What ``quantized`` proves of all elements is inferred here from those of a grid: each has to lie
within half a step of the scale that the file says belongs to the tensor, one for all or one for each
channel of an axis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from sizeforensics.excerpts import along_vector, grid_shape
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.batch_norms import ROUNDOFF, Array, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.spreads import Spread, difference, holds_codes
from sizeforensics.matching.stored_scales import is_scale
from sizeforensics.matching.units import Unit

LEAST = 8
"""Elements below which agreement may be chance."""

CANDIDATES = 16
"""Floats of one shape that are compared with one integer tensor."""


def match_sampled(pairing: Pairing) -> None:
    """Match free tensors that the file says are quantised with free floats of the other side."""
    for side in (0, 1):
        rivals: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        links = pairing.inventories[side].quantizations
        for unit in pairing.free[1 - side].values() if links else ():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                rivals[unit.tensor.shape].append(unit)
        for link in links:
            codes = pairing.free[side].get(link.tensor)
            if codes is not None and codes.sample is not None and holds_codes(codes.tensor.dtype.name):
                shape = codes.tensor.shape
                alike = [*rivals[shape], *(rivals[shape[::-1]] if len(shape) == 2 else ())]
                _match_one(pairing, link, codes, alike)


def _match_one(pairing: Pairing, link: Quantization, codes: Unit, rivals: list[Unit]) -> None:
    spreads = list(_spreads(pairing.inventories[codes.side], link, codes.tensor.shape))
    if codes.sample is None or codes.sample.size < LEAST:
        return
    own = codes.sample.reshape(grid_shape(codes.tensor.shape))
    for unit in [unit for unit in rivals if pairing.is_free(unit)][:CANDIDATES]:
        values = array_of(pairing.inventories[unit.side], unit)
        for turned in () if values is None else (values, values.T):
            for spread in spreads:
                if turned.shape != own.shape:
                    continue
                found = difference(own, turned, spread, codes.tensor.dtype.name)
                if found is not None:
                    how = f"quantised {spread.words}: what is kept is within half a step"
                    pairing.pair(unit, codes, "inferred", how, found)
                    return


def _spreads(
    inventory: Inventory, link: Quantization, shape: tuple[int, ...]
) -> Iterator[Spread]:
    """The ways in which the stored numbers can be shared among the elements of a grid."""
    if link.step is not None:
        yield Spread("per tensor", np.array(link.step), np.array(float(link.zero)))
        return
    size, scale = _line(inventory, link.scale, 1.0)
    zero = _line(inventory, link.zero_point, float(link.zero))[1]
    factor = _line(inventory, link.factor, 1.0)[1]
    if link.scale is None or scale is None or zero is None or factor is None or factor.size != 1:
        return
    roundoff = ROUNDOFF.get(inventory.tensors[link.scale].dtype.name, 0.0)
    scale = scale * factor
    zero = np.broadcast_to(zero, scale.shape) if zero.size == 1 else zero
    if zero.shape != scale.shape or not is_scale(scale):
        return
    if size == 1:
        yield Spread("per tensor", scale.reshape(()), zero.reshape(()), roundoff=roundoff)
    counted = sum(length != 1 for length in shape)
    for axis, length in enumerate(shape):
        if length == size > 1 and link.axes in {None, (axis,)}:
            along = [-1 if at == axis else 1 for at in range(len(shape))]
            kept = along_vector(size, counted)
            numbers = scale[kept].reshape(along), zero[kept].reshape(along)
            yield Spread(f"per channel of axis {axis}", *numbers, roundoff=roundoff)


def _line(
    inventory: Inventory, index: int | None, missing: float
) -> tuple[int, Array | None]:
    """Elements of a scalar or vector, and those that its excerpt keeps; ``missing`` where none is."""
    if index is None:
        return 1, np.array([missing])
    grid = None if inventory.excerpts is None else inventory.excerpts[index].grid
    tensor = inventory.tensors[index]
    line = sum(size != 1 for size in tensor.shape) <= 1
    return tensor.elements, None if grid is None or not line else grid.reshape(-1).astype(np.float64)
