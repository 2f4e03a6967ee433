"""Tier 6: integers that stand for the other side's floats within half a step of a scale.

Where the file says which scale and zero point belong to a tensor, they have to put every element
within half a step (``spreads``); nothing else is tried.

Where it does not say the scale, it is asked whether any scale allows every element
(``scale_bounds``). It is proved when such a scale is stored beside the tensor; without one it is
inferred.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, Array, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import CANDIDATES, Likeness, axes_of
from sizeforensics.matching.quantization.scale_bounds import Fit, fit
from sizeforensics.matching.quantization.spreads import (
    SLACK,
    code_limits,
    difference,
    holds_codes,
    in_words,
    spreads,
)
from sizeforensics.matching.quantization.stored_scales import Stored, codes_of, stored_scales
from sizeforensics.matching.units import Unit


def match_quantized(pairing: Pairing) -> None:
    """Match free integer tensors with free float tensors of the other side that they quantise."""
    for side in (0, 1):
        _Side(pairing, side).match()


class _Side:
    """The quantised tensors of one side, and the floats of the other that they may stand for."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self.pairing = pairing
        self.inventory = pairing.inventories[side]
        self.units = list(pairing.free[side].values())
        coverage = pairing.coverages[side]
        self.stored = stored_scales(self.inventory, coverage)
        self.floats: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                self.floats[axes_of(unit.tensor.shape)].append(unit)
        self.scales: dict[int, list[Unit]] = defaultdict(list)
        for unit in self.units:
            if unit.digest is not None and unit.tensor.dtype.name in ROUNDOFF:
                self.scales[unit.tensor.elements].append(unit)
        self._likeness: dict[tuple[int, ...], Likeness] = {}

    def match(self) -> None:
        """Match all of them."""
        for unit in self.units:
            stored = self.stored.get(unit.index)
            if stored is not None and stored.scale is not None:
                if unit.digest is not None and holds_codes(unit.tensor.dtype.name):
                    self._under_stored(unit, stored)
            elif may_be_codes(unit):
                self._under_any(unit, None if stored is None else stored.zero_point)

    def _like(self, shape: tuple[int, ...]) -> Likeness | None:
        rivals = self.floats.get(axes_of(shape), [])
        if rivals and shape not in self._likeness:
            self._likeness[shape] = Likeness(self.pairing, rivals, shape)
        return self._likeness.get(shape)

    def _under_stored(self, codes: Unit, stored: Stored) -> None:
        """Match one tensor with the floats it stands for under the numbers stored for it."""
        name, shape = codes.tensor.dtype.name, codes.tensor.shape
        if stored.width is not None and shape and stored.width <= shape[-1]:
            shape = (*shape[:-1], stored.width)
        likeness = self._like(shape)
        own = None if likeness is None else codes_of(self.inventory, codes, shape)
        if likeness is None or own is None:
            return
        for spread in spreads(shape, stored):
            for candidate in likeness.fitting(own, spread, name):
                found = difference(own, likeness.turned(candidate), spread, name)
                if found is not None:
                    how = in_words(spread, stored)
                    filled = own.size if shape != codes.tensor.shape else None
                    self.pairing.pair(candidate.unit, codes, "proved", how, found, elements=filled)
                    return

    def _under_any(self, codes: Unit, zero: Array | None) -> None:
        """Match one tensor whose scale nobody names, and the scale if one is near by."""
        likeness = self._like(codes.tensor.shape)
        own = None if likeness is None else codes_of(self.inventory, codes, codes.tensor.shape)
        if likeness is None or own is None:
            return
        limits = code_limits(codes.tensor.dtype.name)
        for candidate in likeness.alike(own[likeness.places]):
            found = fit(own, likeness.turned(candidate), limits, zero)
            if found is None:
                continue
            how, worst, bounds = found
            scale = self._scale_for(codes, bounds)
            unit = candidate.unit
            if scale is None:
                self.pairing.pair(unit, codes, "inferred", f"{how}, but none is stored", worst)
            else:
                self.pairing.pair(unit, codes, "proved", f"{how}, as {scale.tensor.name} does", worst)
                self.pairing.scale(scale, codes, "a scale that every element allows, of")
            return

    def _scale_for(self, codes: Unit, bounds: Fit) -> Unit | None:
        """The scale among free floats near by: one number a group, which every element allows."""
        if not np.isfinite(bounds.high).any():
            return None
        rivals = self.scales.get(len(bounds.low), [])
        at = bisect_left(rivals, codes.index, key=lambda unit: unit.index)
        nearest = rivals[max(at - CANDIDATES, 0) : at + CANDIDATES]
        for unit in sorted(nearest, key=lambda unit: abs(unit.index - codes.index)):
            values = array_of(self.inventory, unit) if self.pairing.is_free(unit) else None
            if values is None:
                continue
            scale = values.reshape(-1).astype(np.float64)
            if np.all((scale >= bounds.low * (1 - SLACK)) & (scale <= bounds.high * (1 + SLACK))):
                return unit
        return None

def may_be_codes(unit: Unit) -> bool:
    """Whether a tensor may be quantised where no scale is named: small integers in rows."""
    return (
        unit.distinctive
        and unit.tensor.dtype.kind in ("int", "uint")
        and unit.tensor.dtype.bits <= 16
        and len(unit.tensor.shape) > 1
    )
