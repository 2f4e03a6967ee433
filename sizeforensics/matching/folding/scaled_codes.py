"""Weights that stand for another one times one factor per channel, quantised or rounded afterwards.

What exporters fold a batch-norm into and quantise afterwards keeps, of each element, an interval of
values (``spreads``), and a float the interval that rounds to it. Divided by the elements of a weight
these are intervals of one factor per channel; where they have a number in common in every channel, the
weight may have been scaled so, and another tensor has to say by what. Under its factors all elements are
compared again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterator
from itertools import chain, islice, pairwise
from typing import NamedTuple

import numpy as np

from sizeforensics.excerpts import MOST_AXES, along_vector, grid_shape
from sizeforensics.matching.arrays import ROUNDOFF, SMALLEST_NORMAL, Array, Vector, array_of
from sizeforensics.matching.folding.batch_norms import Vectors
from sizeforensics.matching.folding.scaling import (
    BLOCK_ELEMENTS,
    PLAIN_ROUNDINGS,
    Scaled,
    scalable,
)
from sizeforensics.matching.quantization.likeness import (
    CANDIDATES,
    Candidate,
    Likeness,
    axes_of,
)
from sizeforensics.matching.quantization.spreads import (
    SLACK,
    Span,
    Spread,
    allowed,
    difference,
    holds_codes,
    span_of,
)
from sizeforensics.matching.units import Unit


class _Codes(NamedTuple):
    """A quantised tensor, and one way in which the numbers stored for it may be shared."""

    unit: Unit
    array: Array
    spread: Spread
    span: Span
    words: str


    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """What values some rows can stand for."""
        codes = self.array[first:last].astype(np.float64)
        return allowed(codes, *self.spread.rows(first, last), self.span, self.spread.roundoff)

    def likely(self, likeness: Likeness) -> Iterator[Candidate]:
        return likeness.fitting(self.array, self.spread, self.span)

    def difference(self, values: Array) -> float | None:
        """The largest one, if all elements are within half a step."""
        return difference(self.array, values, self.spread, self.span.type_name)


class _Floats(NamedTuple):
    """A float tensor, whose elements may have been rounded as products are."""

    unit: Unit
    array: Array

    @property
    def words(self) -> str:
        return f"to one product in {self.unit.tensor.dtype.name}"

    def bounds(self, first: int, last: int) -> tuple[Array, Array]:
        """What values some rows can stand for."""
        return self._around(self.array[first:last].astype(np.float64))

    def likely(self, likeness: Likeness) -> Iterator[Candidate]:
        low, high = self._around(self.array[likeness.places].astype(np.float64))
        return islice(likeness.between(low, high), CANDIDATES)

    def difference(self, values: Array) -> float | None:
        """The largest one, if it is one of roundings."""
        wide = self.array.astype(np.float64)
        low, high = self._around(wide)
        fits = np.all((values >= low) & (values <= high))
        return float(np.abs(values - wide).max(initial=0.0)) if fits else None

    def _around(self, values: Array) -> tuple[Array, Array]:
        name = self.unit.tensor.dtype.name
        around = PLAIN_ROUNDINGS * ROUNDOFF[name] * (np.abs(values) + SMALLEST_NORMAL[name])
        return values - around, values + around


class ScaledCodes(NamedTuple):
    """What is stored, and the values that it may stand for once each channel of an axis has its factor."""

    scaled: Scaled
    stored: _Codes | _Floats
    values: Array
    axis: int
    """Of what is stored, along which the factors count."""

    def under(self, factors: Vector) -> Scaled | None:
        """The same with the factors known; None unless every element is what they make of it."""
        sizes = [-1 if at == self.axis else 1 for at in range(self.values.ndim)]
        found = self.stored.difference(self.values * factors.reshape(sizes))
        return None if found is None else self.scaled._replace(error=found, how=f", {self.stored.words}")


def scaled_codes(
    vectors: Vectors, side: int, widths: Collection[int], settled: Container[tuple[int, int]],
    *, floats: bool = False,
) -> Iterator[ScaledCodes]:
    """Free quantised tensors of the other side that may be a free weight of ``side`` scaled.

    Further candidates follow until the caller has ``settled`` the target, as in ``scaled_weights``;
    only axes of ``widths`` are tried, of which there is something that may have scaled them. With
    ``floats`` those that were not quantised too.
    """
    weights: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
    for unit in vectors.pairing.free[side].values() if widths else ():
        if scalable(unit):
            weights[axes_of(unit.tensor.shape)].append(unit)
    sampled = vectors.pairing.sampled
    likeness: dict[tuple[tuple[int, ...], int], Likeness] = {}
    found_there: list[Iterator[_Codes | _Floats]] = [_all_codes(vectors, 1 - side, weights)]
    if floats:
        found_there.append(_all_floats(vectors, 1 - side, weights))
    for stored in chain.from_iterable(found_there):
        shape = stored.unit.tensor.shape
        for axis in [axis for axis in (0, 1) if shape[axis] in widths and shape[axis] > 1]:
            if (shape, axis) not in likeness:
                rivals = weights[axes_of(shape)]
                held = grid_shape(shape) if sampled else shape
                likeness[shape, axis] = Likeness(vectors.pairing, rivals, held, axis)
            alike = likeness[shape, axis]
            for candidate in stored.likely(alike):
                pair = candidate.unit, stored.unit
                if not any((unit.side, unit.index) in settled for unit in pair):
                    values = alike.turned(candidate)
                    found = _factors(stored, values, axis)
                    if found is not None:
                        scaled = Scaled(
                            *pair, _axis_of(candidate, shape, axis), *found, plain=False, error=0.0,
                            channels=shape[axis], roundoff=ROUNDOFF["float32"],
                            kept=along_vector(shape[axis], len(axes_of(shape))) if sampled else None,
                        )
                        yield ScaledCodes(scaled, stored, values, axis)


def _all_floats(
    vectors: Vectors, side: int, shapes: Container[tuple[int, ...]]
) -> Iterator[_Floats]:
    """The free float tensors of one side that have the axes of a weight."""
    for unit in list(vectors.pairing.free[side].values()):
        if scalable(unit) and axes_of(unit.tensor.shape) in shapes:
            array = array_of(vectors.pairing.inventories[side], unit)
            if array is not None:
                yield _Floats(unit, array)


def _all_codes(
    vectors: Vectors, side: int, shapes: Container[tuple[int, ...]]
) -> Iterator[_Codes]:
    """The free quantised tensors of one side that have the axes of a weight."""
    for unit in list(vectors.pairing.free[side].values()):
        shape = unit.tensor.shape
        if unit.digest is None or len(shape) < 2 or axes_of(shape) not in shapes:
            continue
        if unit.excerpt is not None and len(axes_of(shape)) > MOST_AXES:
            continue  # of the last axes one place is kept
        if holds_codes(unit.tensor.dtype.name):
            for codes, spread, words in vectors.quantised[side].of(unit):
                yield _Codes(unit, codes, spread, span_of(codes, unit.tensor.dtype.name), words)


def _axis_of(candidate: Candidate, shape: tuple[int, ...], axis: int) -> int:
    """The axis of a weight that became one of the codes."""
    squeezed = candidate.order[sum(size != 1 for size in shape[:axis])]
    own = candidate.unit.tensor.shape
    return [at for at, size in enumerate(own) if size != 1][squeezed]


def _factors(
    stored: _Codes | _Floats, values: Array, axis: int
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
        low, high = stored.bounds(first, last)
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
