"""Quantised weights that stand for a float weight times one factor per channel, by the stored scale.

What exporters fold a batch-norm into and quantise afterwards keeps, of each element, an interval of
values (``spreads``). Divided by the elements of a weight these are intervals of one factor per channel;
where they have a number in common in every channel, the weight may have been scaled so, and a batch-norm
has to say by what. Under its scale all elements are compared again, as quantised ones are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, Array, Vector
from sizeforensics.matching.folding.batch_norms import Vectors
from sizeforensics.matching.folding.scaling import BLOCK_ELEMENTS, Scaled, scalable
from sizeforensics.matching.quantization.likeness import Candidate, Likeness, axes_of
from sizeforensics.matching.quantization.spreads import (
    SLACK,
    Span,
    Spread,
    allowed,
    difference,
    holds_codes,
    in_words,
    span_of,
    spreads,
)
from sizeforensics.matching.quantization.stored_scales import codes_of
from sizeforensics.matching.units import Unit


class _Codes(NamedTuple):
    """A quantised tensor, and one way in which the numbers stored for it may be shared."""

    unit: Unit
    array: Array
    spread: Spread
    span: Span
    words: str


class ScaledCodes(NamedTuple):
    """Codes, and the values that they may stand for once each channel of an axis has its factor."""

    scaled: Scaled
    codes: _Codes
    values: Array
    axis: int
    """Of the codes, along which the factors count."""

    def under(self, factors: Vector) -> Scaled | None:
        """The same with the factors known; None unless they put every element within half a step."""
        codes = self.codes
        sizes = [-1 if at == self.axis else 1 for at in range(self.values.ndim)]
        values = self.values * factors.reshape(sizes)
        found = difference(codes.array, values, codes.spread, codes.span.type_name)
        return None if found is None else self.scaled._replace(error=found, how=f", {codes.words}")


def scaled_codes(
    vectors: Vectors, side: int, widths: Collection[int], settled: Container[tuple[int, int]]
) -> Iterator[ScaledCodes]:
    """Free quantised tensors of the other side that may be a free weight of ``side`` scaled.

    Further candidates follow until the caller has ``settled`` the target, as in ``scaled_weights``;
    only axes of ``widths`` are tried, of which there is a batch-norm.
    """
    weights: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
    for unit in vectors.pairing.free[side].values() if widths else ():
        if scalable(unit):
            weights[axes_of(unit.tensor.shape)].append(unit)
    likeness: dict[tuple[tuple[int, ...], int], Likeness] = {}
    for codes in _all_codes(vectors, 1 - side, weights):
        shape = codes.unit.tensor.shape
        for axis in [axis for axis in (0, 1) if shape[axis] in widths and shape[axis] > 1]:
            if (shape, axis) not in likeness:
                rivals = weights[axes_of(shape)]
                likeness[shape, axis] = Likeness(vectors.pairing, rivals, shape, axis)
            alike = likeness[shape, axis]
            for candidate in alike.fitting(codes.array, codes.spread, codes.span):
                pair = candidate.unit, codes.unit
                if not any((unit.side, unit.index) in settled for unit in pair):
                    values = alike.turned(candidate)
                    found = _factors(codes, values, axis)
                    if found is not None:
                        scaled = Scaled(
                            *pair, _axis_of(candidate, shape, axis), *found, plain=False, error=0.0,
                            channels=shape[axis], roundoff=ROUNDOFF["float32"],
                        )
                        yield ScaledCodes(scaled, codes, values, axis)


def _all_codes(
    vectors: Vectors, side: int, shapes: Container[tuple[int, ...]]
) -> Iterator[_Codes]:
    """The free quantised tensors of one side that have the axes of a weight."""
    free, inventory = vectors.pairing.free[side], vectors.pairing.inventories[side]
    for index, stored in vectors.stored[side].items():
        unit = free.get(index)
        if unit is None or unit.digest is None or len(unit.tensor.shape) < 2:
            continue
        if axes_of(unit.tensor.shape) in shapes and holds_codes(unit.tensor.dtype.name):
            array = codes_of(inventory, unit, unit.tensor.shape)
            if array is not None:
                span = span_of(array, unit.tensor.dtype.name)
                for spread in spreads(unit.tensor.shape, stored):
                    yield _Codes(unit, array, spread, span, in_words(spread, stored))


def _axis_of(candidate: Candidate, shape: tuple[int, ...], axis: int) -> int:
    """The axis of a weight that became one of the codes."""
    squeezed = candidate.order[sum(size != 1 for size in shape[:axis])]
    own = candidate.unit.tensor.shape
    return [at for at, size in enumerate(own) if size != 1][squeezed]


def _factors(
    codes: _Codes, values: Array, axis: int
) -> tuple[Vector, Vector] | None:
    """The factor of each channel and how far it may be off; None where one has none.

    A channel of zeros leaves its factor alone, and so does one whose elements are all clamped.
    """
    rows = max(BLOCK_ELEMENTS // max(values[:1].size, 1), 1)
    lows: list[Vector] = []
    highs: list[Vector] = []
    others = tuple(at for at in range(values.ndim) if at != axis)
    # The first rows alone refuse nearly every wrong candidate.
    for first, last in pairwise([0, *range(1, len(values), rows), len(values)]):
        part = codes.array[first:last].astype(np.float64)
        numbers = codes.spread.rows(first, last)
        low, high = allowed(part, *numbers, codes.span, codes.spread.roundoff)
        value = values[first:last].astype(np.float64)
        with np.errstate(all="ignore"):
            ends = low / value, high / value
        blank = value == 0
        if not np.all((low <= 0) & (high >= 0) | ~blank):
            return None
        least = np.where(blank, -np.inf, np.minimum(*ends)).max(axis=others)
        most = np.where(blank, np.inf, np.maximum(*ends)).min(axis=others)
        if axis != 0 and lows:
            least, most = np.maximum(least, lows.pop()), np.minimum(most, highs.pop())
        if not np.all(least - SLACK * np.abs(least) <= most + SLACK * np.abs(most)):
            return None
        lows.append(least)
        highs.append(most)
    low, high = np.concatenate(lows), np.concatenate(highs)
    known = np.isfinite(low) & np.isfinite(high)
    middle = np.where(known, (low + high) / 2, 0.0)
    slack = np.where(known, np.abs(high - low) / 2 + SLACK * np.abs(middle), np.inf)
    return middle, slack
