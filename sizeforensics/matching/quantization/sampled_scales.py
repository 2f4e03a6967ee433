"""Quantised tensors of two snapshots: the elements that both keep agree under the stored scale.

What ``quantized`` proves of all elements is inferred here from those of a grid: each has to lie
within half a step of the scale that the file says belongs to the tensor, one for all, for each channel
or for each block, as far as the scale of a place is kept too. Where the file names none, one has to be
stored near by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from sizeforensics.excerpts import grid_shape
from sizeforensics.inventory import Quantization
from sizeforensics.matching.arrays import ROUNDOFF, Array, nearest
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.kept_scales import kept_numbers, kept_spreads, places_of
from sizeforensics.matching.quantization.likeness import Likeness, axes_of
from sizeforensics.matching.quantization.quantized import may_be_codes
from sizeforensics.matching.quantization.spreads import (
    Spread,
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
        spreads = list(kept_spreads(self._inventory, link, codes.tensor.shape))
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
                grid = kept_numbers(self._inventory, unit.index) if self._pairing.is_free(unit) else None
                if grid is None or not is_scale(grid) or len(axes_of(unit.tensor.shape)) > 1:
                    continue
                words, scale = "per tensor", grid.reshape(-1)[0]
                if axis is not None:
                    places = places_of(shape, (axis,), (count,), None)
                    words, scale = places.words, places.of_numbers(grid.reshape(-1))
                with np.errstate(all="ignore"):  # what is not finite fits nothing
                    zero = np.where(capped, np.nan, own - values / scale)
                    if np.isfinite(zero).any(axis=others).all():
                        least, most = (
                            end(zero, axis=others, keepdims=True) for end in (np.nanmin, np.nanmax)
                        )
                        yield unit, Spread(words, np.asarray(scale), np.rint((least + most) / 2))
