"""Which floats a quantised tensor can stand for: told by a few elements, before all are compared.

All free floats that have the axes of a quantised tensor are read once, and elements at the same places
are kept of each, in every order of the axes that makes its shape. What lies between the bounds of all
these elements is found among them by sorting, so that neither the order of the file nor the number of
tensors of one shape matters.

Where each channel may have been multiplied by a factor before, elements of a few channels are kept, and
of each its share of the squares of those kept of its channel, which no factor changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice, permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.matching.arrays import Array, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.spreads import SLACK, Span, Spread, allowed
from sizeforensics.matching.quantization.stored_scales import Index
from sizeforensics.matching.relations import MAX_PERMUTED_RANK
from sizeforensics.matching.units import Unit

SAMPLE = 64
"""Elements that are kept of each tensor."""

CHANNELS = 8
"""Channels of which elements are kept where each may have a factor of its own."""

COLUMNS = 16
"""Of these, the ones among which tensors are looked up."""

ROUNDING = 1e-6
"""Relative widening of the bounds of shares, for the products that were rounded to float32."""

MOST_ALIKE = 16
"""Tensors most alike that are compared in full where no scale is known."""

CANDIDATES = 16
"""Tensors that agree in all elements sampled that are compared in full."""

MOST_RANKED = 4096
"""Tensors of one shape that are ranked by likeness; comparing each with each is quadratic."""

Order = tuple[int, ...]


class Candidate(NamedTuple):
    """A float tensor, and the order of its axes longer than 1 that makes the shape asked for."""

    unit: Unit
    order: Order


class SortedRows:
    """Rows of numbers, looked up by bounds of each column without looking at all of them."""

    def __init__(self, rows: Array) -> None:
        self._rows = rows
        self._columns = range(0, rows.shape[1], max(rows.shape[1] // COLUMNS, 1))
        self._orders = np.argsort(rows, axis=0, kind="stable")
        self._sorted = np.take_along_axis(rows, self._orders, axis=0)

    def between(self, low: Array, high: Array) -> Index:
        """The rows within all of these bounds, in order."""
        found = np.arange(len(self._rows))
        for column in self._columns:
            first = np.searchsorted(self._sorted[:, column], low[column])
            last = np.searchsorted(self._sorted[:, column], high[column], side="right")
            if last - first < len(found):
                found = self._orders[first:last, column]
        rows = self._rows[found]
        return np.sort(found[np.all((rows >= low) & (rows <= high), axis=1)])


class Likeness:
    """Elements of all free floats that can be turned into one shape, whatever the factors of the
    channels of an axis, if there is one."""

    def __init__(
        self, pairing: Pairing, rivals: Sequence[Unit], shape: tuple[int, ...], axis: int | None = None
    ) -> None:
        self._pairing = pairing
        self._shape = shape
        self._channels = 1 if axis is None else min(CHANNELS, shape[axis])
        self._scaled = axis is not None
        self.places: tuple[Index, ...] = _places(shape, axis, self._channels)
        """Where the elements are that are kept, axis by axis."""
        self._candidates: list[Candidate] = []
        rows = [row for unit in rivals for row in self._rows(unit)]
        taken = len(self.places[0]) if shape else 1
        self._samples = np.array(rows, dtype=np.float64).reshape(len(rows), taken)
        if self._scaled:
            squares = self._samples.reshape(len(rows), self._channels, taken // self._channels) ** 2
            self._samples = shares(squares).reshape(len(rows), taken)
        self._sorted = SortedRows(self._samples)

    def _rows(self, unit: Unit) -> Iterator[Array]:
        values = array_of(self._pairing.inventories[unit.side], unit)
        if values is None:
            return
        squeezed = _squeezed(values)
        wanted = tuple(size for size in self._shape if size != 1)
        places = tuple(
            place for place, size in zip(self.places, self._shape, strict=True) if size != 1
        )
        for order in _orders(squeezed.shape, wanted):
            self._candidates.append(Candidate(unit, order))
            yield squeezed.transpose(order)[places]

    def fitting(self, codes: Array, spread: Spread, span: Span) -> Iterator[Candidate]:
        """A few free tensors whose elements are what these codes, of all elements, stand for."""
        scale, zero = spread.at(self.places)
        sampled = codes[self.places].astype(np.float64)
        low, high = allowed(sampled, scale, zero, span, spread.roundoff)
        # A little wider than in the full comparison.
        fitting = self.between(low - 2 * SLACK * np.abs(low), high + 2 * SLACK * np.abs(high))
        return islice(fitting, CANDIDATES)

    def between(self, low: Array, high: Array) -> Iterator[Candidate]:
        """The free tensors whose elements are within all of these bounds, in the order of the file."""
        if self._scaled:
            low, high = self._bounds_of_shares(low, high)
        return self._free(self._sorted.between(low, high))

    def _bounds_of_shares(self, low: Array, high: Array) -> tuple[Array, Array]:
        """How small and how large the shares of squares of elements within these bounds are."""
        low, high = (bound.reshape(self._channels, -1) for bound in (low, high))
        least = np.where(low * high < 0, 0.0, np.minimum(np.abs(low), np.abs(high))) ** 2
        most = np.maximum(np.abs(low), np.abs(high)) ** 2
        lowest, highest = _shares(least, _others(most)), _shares(most, _others(least))
        return lowest.reshape(-1) * (1 - ROUNDING), highest.reshape(-1) * (1 + ROUNDING)

    def alike(self, codes: Array) -> Iterator[Candidate]:
        """The free tensors whose elements correlate most with these, the most alike first."""
        likeness = (self._ranked @ _standard(codes.astype(np.float64)[None]).T)[:, 0]
        return self._free(np.argsort(-likeness, kind="stable")[:MOST_ALIKE])

    @cached_property
    def _ranked(self) -> Array:
        return _standard(self._samples[:MOST_RANKED])

    def _free(self, rows: npt.NDArray[np.int64]) -> Iterator[Candidate]:
        for row in rows.tolist():
            if self._pairing.is_free(self._candidates[row].unit):
                yield self._candidates[row]

    def turned(self, candidate: Candidate) -> Array:
        """All elements of a tensor in the shape asked for."""
        values = array_of(self._pairing.inventories[candidate.unit.side], candidate.unit)
        if values is None:
            raise ValueError(f"tensor {candidate.unit.tensor.name!r} cannot be read")
        turned = _squeezed(values).transpose(candidate.order)
        return np.ascontiguousarray(turned).reshape(self._shape)


def axes_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of the axes longer than 1 in whatever order: what a permutation leaves alone."""
    return tuple(sorted(size for size in shape if size != 1))


def _places(shape: tuple[int, ...], axis: int | None, channels: int) -> tuple[Index, ...]:
    """Places spread evenly over a shape, or over some channels of an axis, channel after channel."""
    if not shape:
        return ()
    if axis is None:
        return np.unravel_index(evenly(int(np.prod(shape)), SAMPLE), shape)
    rest = (*shape[:axis], *shape[axis + 1 :])
    inside = np.unravel_index(evenly(int(np.prod(rest)), SAMPLE // channels), rest) if rest else ()
    along = evenly(shape[axis], channels)
    count = len(inside[0]) if rest else 1
    places = [np.tile(index, channels) for index in inside]
    return (*places[:axis], np.repeat(along, count), *places[axis:])


def evenly(count: int, most: int) -> Index:
    """At most so many of the places below a count, the first and the last among them."""
    taken = min(most, count)
    return np.arange(taken) * (count - 1) // max(taken - 1, 1)


def shares(squares: Array) -> Array:
    """Of each number its share of the sum along the last axis."""
    return _shares(squares, _others(squares))


def _others(squares: Array) -> Array:
    """The sum of all the others along the last axis, which may be infinite."""
    alone = np.eye(squares.shape[-1], dtype=bool)
    others: Array = np.where(alone, 0.0, squares[..., None, :]).sum(axis=-1)
    return others


def _shares(squares: Array, others: Array) -> Array:
    """Of a sum; of nothing and of infinities the whole."""
    with np.errstate(all="ignore"):
        shares: Array = np.nan_to_num(squares / (squares + others), nan=1.0)
    return shares


def _squeezed(values: Array) -> Array:
    return values.reshape([size for size in values.shape if size != 1])


def _orders(shape: Order, wanted: Order) -> Iterator[Order]:
    if len(shape) > MAX_PERMUTED_RANK:
        if shape == wanted:
            yield tuple(range(len(shape)))
        return
    for order in permutations(range(len(shape))):
        if tuple(shape[axis] for axis in order) == wanted:
            yield order


def _standard(rows: Array) -> Array:
    """Each row without its mean and with length 1; NaN and infinities count as nothing."""
    rows = np.nan_to_num(rows - rows.mean(axis=1, keepdims=True), posinf=0.0, neginf=0.0)
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    standard: Array = rows / np.where(length > 0, length, 1.0)
    return standard
