"""Floats that agree but for a few roundings: one computation, done twice in another order.

Two exporters that fold a batch-norm, or one that folds it in single and one in double precision,
write weights that differ in their last bits. That is no proof of anything, for a training step of
a small rate may change a weight as little; it tells far more than a name or a shape does.

Tolerance: ``ROUNDINGS`` units of roundoff of the element's size, and of the largest element's where
a sum cancels, as in the bias of a fold. Half-precision types are left out: sixteen of their units
are a percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import numpy as np

from sizeforensics.content import blocks
from sizeforensics.dtypes import elements
from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

ROUNDINGS = 16

RIVALS = 16
"""Pairs of one fingerprint that are compared; more agree by chance or not at all."""

_TYPES = ("float32", "float64")


def match_rounded(pairing: Pairing) -> None:
    """Pair free units of one type and size whose elements differ by roundings, the closest first."""
    found: tuple[dict[Hashable, list[Unit]], dict[Hashable, list[Unit]]] = (
        defaultdict(list), defaultdict(list))
    for side in (0, 1):
        for unit in pairing.free[side].values():
            tensor = unit.tensor
            if unit.distinctive and tensor.contiguous and tensor.dtype.name in _TYPES:
                found[side][_peaks(unit)].append(unit)
    for key, ours in found[0].items():
        theirs = found[1].get(key, [])
        if len(ours) * len(theirs) > RIVALS:
            continue
        close = [
            (difference, one, other)
            for one in ours
            for other in theirs
            if (difference := _difference(pairing, one, other)) is not None
        ]
        for difference, one, other in sorted(close, key=lambda pair: pair[0]):
            if pairing.is_free(one) and pairing.is_free(other):
                pairing.pair(one, other, "inferred", "equal but for roundings", difference)


def _peaks(unit: Unit) -> Hashable:
    """Type, sizes, and where in the sample the largest elements are: no rounding moves them."""
    sample = _sample(unit)
    places = np.argsort(np.abs(sample), kind="stable")[-3:].tolist()
    return unit.tensor.dtype.name, unit.tensor.elements, sample.size, *places


def _difference(pairing: Pairing, one: Unit, other: Unit) -> float | None:
    """The largest difference between two tensors; None when it is more than roundings.

    Of excerpts it is that of the elements kept.
    """
    samples = _sample(one), _sample(other)
    if one.excerpt is not None and np.all(samples[0] == samples[0][0]):
        return None  # a weight that is nearly all zeros: those that are kept say nothing
    unit = ROUNDINGS * ROUNDOFF[one.tensor.dtype.name]
    peak = float(np.max(np.abs(samples)))
    worst = _worst(*samples, unit, peak)
    if worst is None or one.excerpt is not None:
        return worst
    sides = [blocks(pairing.inventories[found.side], found.tensor) for found in (one, other)]
    for pair in zip(*sides, strict=True):
        ours, theirs = (
            elements(one.tensor.dtype, block, len(block) * 8 // one.tensor.dtype.bits)
            for block in pair
        )
        found = None if ours is None or theirs is None else _worst(ours, theirs, unit, peak)
        if found is None:
            return None
        worst = max(worst, found)
    return worst


def _sample(unit: Unit) -> Array:
    if unit.sample is None:
        raise ValueError(f"tensor {unit.tensor.name!r} has no sample")
    return unit.sample


def _worst(ours: Array, theirs: Array, unit: float, peak: float) -> float | None:
    error = np.abs(ours - theirs)
    close = bool(np.all(error <= unit * (np.abs(ours) + peak)))
    return float(np.max(error, initial=0.0)) if close else None
