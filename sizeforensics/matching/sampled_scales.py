"""Quantised tensors of two snapshots: the elements that both keep agree under the stored scale.

What ``quantized`` proves of all elements is inferred here from those of a grid: each has to lie
within half a step of the scale that the file says belongs to the tensor, one for all or one for each
channel of an axis. Where the file names none, one has to be stored near by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from sizeforensics.excerpts import along_vector, grid_shape
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.arrays import nearest
from sizeforensics.matching.batch_norms import ROUNDOFF, Array, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantized import may_be_codes
from sizeforensics.matching.spreads import Spread, code_limits, difference, holds_codes
from sizeforensics.matching.stored_scales import is_scale
from sizeforensics.matching.units import Unit

LEAST = 8
"""Elements below which agreement may be chance."""

CANDIDATES = 16
"""Floats of one shape that are compared with one integer tensor."""


def match_sampled(pairing: Pairing) -> None:
    """Match free tensors that are quantised with free floats of the other side.

    Where the file does not say with which scale, one that all kept elements allow has to be stored
    near by.
    """
    for side in (0, 1):
        rivals: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                rivals[unit.tensor.shape].append(unit)
        scales: dict[int, list[Unit]] = defaultdict(list)
        for unit in pairing.free[side].values():
            if unit.tensor.dtype.name in ROUNDOFF:
                scales[unit.tensor.elements].append(unit)
        links = {link.tensor: link for link in pairing.inventories[side].quantizations}
        for codes in list(pairing.free[side].values()):
            shape = codes.tensor.shape
            alike = [*rivals[shape], *(rivals[shape[::-1]] if len(shape) == 2 else ())]
            if not alike or codes.sample is None or codes.sample.size < LEAST:
                continue
            own = codes.sample.reshape(grid_shape(shape))
            tries = _tries(pairing, own, alike)
            link = links.get(codes.index)
            if link is None and may_be_codes(codes):
                _match_unnamed(pairing, codes, own, tries, scales)
            elif link is not None and holds_codes(codes.tensor.dtype.name):
                _match_one(pairing, link, codes, own, tries)


def _tries(pairing: Pairing, own: Array, rivals: list[Unit]) -> Iterator[tuple[Unit, Array]]:
    """Free floats and their kept elements in the shape of those of the codes."""
    for unit in [unit for unit in rivals if pairing.is_free(unit)][:CANDIDATES]:
        values = array_of(pairing.inventories[unit.side], unit)
        for turned in () if values is None else (values, values.T):
            if turned.shape == own.shape:
                yield unit, turned


def _match_one(
    pairing: Pairing, link: Quantization, codes: Unit, own: Array, tries: Iterable[tuple[Unit, Array]]
) -> None:
    spreads = list(_spreads(pairing.inventories[codes.side], link, codes.tensor.shape))
    for unit, values in tries:
        for spread in spreads:
            found = difference(own, values, spread, codes.tensor.dtype.name)
            if found is not None:
                how = f"quantised {spread.words}: what is kept is within half a step"
                pairing.pair(unit, codes, "inferred", how, found)
                return


def _match_unnamed(
    pairing: Pairing, codes: Unit, own: Array, tries: Iterable[tuple[Unit, Array]],
    scales: dict[int, list[Unit]],
) -> None:  # fmt: skip
    """Match codes whose scale nobody names, and the scale, among the floats stored nearest."""
    name = codes.tensor.dtype.name
    for unit, values in tries:
        for scale, spread in _unnamed_spreads(pairing, codes, own, values, scales):
            found = difference(own, values, spread, name)
            if found is not None:
                how = f"quantised {spread.words}: what is kept is within half a step of {scale.tensor.name}"
                pairing.pair(unit, codes, "inferred", how, found)
                pairing.scale(scale, codes, "a scale that every kept element allows, of")
                return


def _unnamed_spreads(
    pairing: Pairing, codes: Unit, own: Array, values: Array, scales: dict[int, list[Unit]]
) -> Iterator[tuple[Unit, Spread]]:
    """Floats that can be the scale, one for all or one a channel, with the zero point that fits."""
    shape, limits = codes.tensor.shape, code_limits(codes.tensor.dtype.name)
    capped = (own == limits[0]) | (own == limits[1])
    shared: list[tuple[str, int, int | None]] = [("per tensor", 1, None)]
    shared += [(f"per channel of axis {axis}", size, axis) for axis, size in enumerate(shape) if size > 1]
    for words, count, axis in shared:
        others = tuple(at for at in range(own.ndim) if at != axis)
        for unit in nearest(codes, scales.get(count, []), CANDIDATES):
            size, line = _line(pairing.inventories[unit.side], unit.index, 1.0)
            if line is None or not pairing.is_free(unit) or not np.all(line > 0):
                continue
            kept = line if size == 1 else line[along_vector(size, sum(length != 1 for length in shape))]
            scale = kept.reshape([-1 if at == axis else 1 for at in range(own.ndim)])
            zero = np.where(capped, np.nan, own - values / scale)
            if np.isfinite(zero).any(axis=others).all():
                ends = np.nanmin(zero, axis=others, keepdims=True), np.nanmax(zero, axis=others, keepdims=True)
                yield unit, Spread(words, scale, np.rint((ends[0] + ends[1]) / 2))


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
