"""Quantised tensors of two snapshots: the elements that both keep agree under the stored scale.

What ``quantized`` proves of all elements is inferred here from those of a grid: each has to lie
within half a step of the scale that the file says belongs to the tensor, one for all, for each channel
or for each block, as far as the scale of a place is kept too. Where the file names none, one has to be
stored near by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.excerpts import grid_places, grid_shape
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.arrays import ROUNDOFF, Array, nearest
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import Likeness, axes_of
from sizeforensics.matching.quantization.quantized import may_be_codes
from sizeforensics.matching.quantization.spreads import (
    Spread,
    axes_that_fit,
    code_limits,
    difference,
    holds_codes,
)
from sizeforensics.matching.quantization.stored_scales import is_scale
from sizeforensics.matching.units import Unit

LEAST = 8
"""Elements below which agreement may be chance."""

CANDIDATES = 16
"""Scales stored nearest that are tried."""

Shape = tuple[int, ...]


class _Places(NamedTuple):
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

    def of_codes(self, grid: Array) -> Array:
        """The codes, or the values at their places."""
        found: Array = grid[np.ix_(*self.codes)]
        return found


def match_sampled(pairing: Pairing) -> None:
    """Match free tensors that are quantised with free floats of the other side."""
    for side in (0, 1):
        _Side(pairing, side).match()


class _Side:
    """The quantised tensors of one side, and the floats of the other that they may stand for."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._pairing = pairing
        self._inventory = pairing.inventories[side]
        self._units = list(pairing.free[side].values())
        self._floats: dict[Shape, list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                self._floats[axes_of(unit.tensor.shape)].append(unit)
        self._scales: dict[int, list[Unit]] = defaultdict(list)
        for unit in self._units:
            if unit.tensor.dtype.name in ROUNDOFF:
                self._scales[unit.tensor.elements].append(unit)
        self._likeness: dict[tuple[Shape, Shape], Likeness] = {}

    def match(self) -> None:
        links = {link.tensor: link for link in self._inventory.quantizations}
        for codes in self._units:
            if codes.sample is None or codes.sample.size < LEAST:
                continue
            link = links.get(codes.index)
            if link is None or (link.scale is None and link.step is None):
                if may_be_codes(codes) and codes.tensor.dtype.kind != "float":
                    self._match_unnamed(codes)
            elif holds_codes(codes.tensor.dtype.name):
                self._match_stored(codes, link)

    def _alike(self, codes: Unit) -> Iterator[tuple[Unit, Array, Array]]:
        """Floats most like the codes: the unit, the codes and its values, at the same places."""
        shape = codes.tensor.shape
        rivals = self._floats.get(axes_of(shape), [])
        if codes.sample is None or not rivals:
            return
        key = axes_of(shape), grid_shape(shape)
        if key not in self._likeness:
            self._likeness[key] = Likeness(self._pairing, rivals, grid_shape(shape))
        likeness = self._likeness[key]
        own = codes.sample.astype(np.float64).reshape(grid_shape(shape))
        for candidate in likeness.alike(own[likeness.places]):
            yield candidate.unit, own, likeness.turned(candidate)

    def _match_stored(self, codes: Unit, link: Quantization) -> None:
        spreads = list(_spreads(self._inventory, link, codes.tensor.shape))
        for unit, own, values in self._alike(codes) if spreads else ():
            for spread, places in spreads:
                ours, theirs = (own, values) if places is None else map(places.of_codes, (own, values))
                found = None
                if ours.size >= LEAST:
                    found = difference(ours, theirs, spread, codes.tensor.dtype.name)
                if found is not None:
                    how = f"quantised {spread.words}: what is kept is within half a step"
                    self._pairing.pair(unit, codes, "inferred", how, found)
                    return

    def _match_unnamed(self, codes: Unit) -> None:
        """Match codes whose scale nobody names, and the scale, among the floats stored nearest."""
        for unit, own, values in self._alike(codes):
            for scale, spread in self._unnamed(codes, own, values):
                found = difference(own, values, spread, codes.tensor.dtype.name)
                if found is not None:
                    words = f"quantised {spread.words}: what is kept is within half a step of"
                    self._pairing.pair(unit, codes, "inferred", f"{words} {scale.tensor.name}", found)
                    self._pairing.scale(scale, codes, "a scale that every kept element allows, of")
                    return

    def _unnamed(self, codes: Unit, own: Array, values: Array) -> Iterator[tuple[Unit, Spread]]:
        """Floats that can be the scale, one for all or one a channel, with the zero point that fits."""
        limits = code_limits(codes.tensor.dtype.name)
        capped = (own == limits[0]) | (own == limits[1])
        shape = codes.tensor.shape
        channels = [(axis, size) for axis, size in enumerate(shape) if size > 1]
        for axis, count in [(None, 1), *channels]:
            others = tuple(at for at in range(own.ndim) if at != axis)
            for unit in nearest(codes, self._scales.get(count, []), CANDIDATES):
                grid = _kept(self._inventory, unit.index) if self._pairing.is_free(unit) else None
                if grid is None or not is_scale(grid) or len(axes_of(unit.tensor.shape)) > 1:
                    continue
                words, scale = "per tensor", grid.reshape(-1)[0]
                if axis is not None:
                    places = _places(shape, (axis,), (count,), None)
                    words, scale = places.words, places.of_numbers(grid.reshape(-1))
                with np.errstate(all="ignore"):  # what is not finite fits nothing
                    zero = np.where(capped, np.nan, own - values / scale)
                    if np.isfinite(zero).any(axis=others).all():
                        least, most = (
                            end(zero, axis=others, keepdims=True) for end in (np.nanmin, np.nanmax)
                        )
                        yield unit, Spread(words, np.asarray(scale), np.rint((least + most) / 2))


def _spreads(
    inventory: Inventory, link: Quantization, shape: Shape
) -> Iterator[tuple[Spread, _Places | None]]:
    """The ways in which the stored numbers can be shared among the elements of a grid."""
    if link.step is not None:
        yield Spread("per tensor", np.array(link.step), np.array(float(link.zero))), None
    if link.scale is None or link.groups is not None:
        return
    scale = _kept(inventory, link.scale)
    zero = np.array(float(link.zero)) if link.zero_point is None else _kept(inventory, link.zero_point)
    factor = np.array(1.0) if link.factor is None else _kept(inventory, link.factor)
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
            places = _places(shape, axes, tensor.shape, link.block)
            numbers = places.of_numbers(scale), places.of_numbers(zero)
            yield Spread(places.words, *numbers, roundoff=roundoff), places


def _places(shape: Shape, axes: Shape, numbers: Shape, block: int | None) -> _Places:
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
    return _Places(", ".join(words), tuple(codes), tuple(found), axes)


def _kept(inventory: Inventory, index: int) -> Array | None:
    """The kept elements of a tensor as numbers; None where none are kept."""
    grid = None if inventory.excerpts is None else inventory.excerpts[index].grid
    return None if grid is None else grid.astype(np.float64)
