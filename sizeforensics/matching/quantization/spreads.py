"""Integers under a scale and a zero point, however these are shared among the elements.

``q`` stands for ``s (q - z)``, with one ``s`` and ``z`` per tensor, per channel of an axis, or per
block of an axis, the last of which may be short (ONNX QuantizeLinear, opset 21). Rounding to nearest
means ``|w - s (q - z)| <= |s| / 2`` for every element that is not clamped; for 8-bit floats, which are
not evenly spaced, half the distance to the next float of that size takes the place of ``s / 2``. Where
the scale is stored in half precision, the scale, the quotient and the sum with the zero point were
each rounded to that precision, in one order or another, and the bounds are as much wider.

Where the file does not say along which axis it counts, the shape of the scale has to: an axis that the
length of the scale does not fit is not tried, and where two fit each is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sizeforensics.dtypes import DTYPES
from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.quantization.stored_scales import Index, Stored

SLACK = 1e-5
"""Relative widening of the bounds: the division and the rounding happened in float32."""

TELLING = 0.5
"""Share of the elements that have to be neither clamped nor at the zero point, of those that codes
spread evenly would have there: any small values are zeros under a scale that is large enough, and any
large ones are clamped under a small one."""

MOST_BLOCK_SIZES = 64
"""Sizes of blocks that are tried where the last one is short and several sizes fit."""

CHUNK = 1 << 20
"""Elements compared at once."""

class Spread(NamedTuple):
    """Scale and zero point as arrays that broadcast against the tensor, and how they are shared.

    Along ``axis``, if there is one, element ``i`` has the number ``numbers[i]``.
    """

    words: str
    scale: Array
    zero_point: Array
    axis: int | None = None
    numbers: Index | None = None
    roundoff: float = 0.0

    def rows(self, first: int, last: int) -> tuple[Array, Array]:
        """Scale and zero point of some rows of the first axis."""
        return self._rows(self.scale, first, last), self._rows(self.zero_point, first, last)

    def _rows(self, values: Array, first: int, last: int) -> Array:
        if self.numbers is not None and self.axis == 0:
            return values.take(self.numbers[first:last], axis=0)
        rows = values[first:last] if values.ndim and len(values) > 1 else values
        return rows if self.numbers is None else rows.take(self.numbers, axis=self.axis)

    def at(self, places: Sequence[Index]) -> tuple[Array, Array]:
        """Scale and zero point of the elements at these places, given axis by axis."""
        if self.scale.ndim == 0:
            return self.scale, self.zero_point
        found = [
            self.numbers[place] if self.numbers is not None and axis == self.axis
            else place if size > 1 else np.zeros_like(place)
            for axis, (place, size) in enumerate(zip(places, self.scale.shape, strict=True))
        ]  # fmt: skip
        return self.scale[tuple(found)], self.zero_point[tuple(found)]


def spreads(shape: tuple[int, ...], stored: Stored) -> Iterator[Spread]:
    """The ways in which stored numbers can be shared among the elements of a tensor of this shape."""
    if stored.scale is None:
        return
    if stored.scale.size == 1 and stored.zero_point.size == 1:
        numbers = stored.scale.reshape(()), stored.zero_point.reshape(())
        yield Spread("per tensor", *numbers, roundoff=stored.roundoff)
        return
    tried = axes_that_fit(shape, stored.scale.shape) if stored.axes is None else [stored.axes]
    for axes in tried:
        scale = _placed(stored.scale, axes, shape)
        zero = None if scale is None else _as_many(stored.zero_point, scale, axes, shape)
        if scale is not None and zero is not None:
            yield from _shared(shape, scale, zero, stored)


def axes_that_fit(
    shape: tuple[int, ...], numbers: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """The axes of a tensor that numbers of another shape may be along: one of them, or all."""
    along: list[tuple[int, ...]] = []
    if max(numbers, default=1) == prod(numbers):
        along = [(axis,) for axis, size in enumerate(shape) if size == prod(numbers) > 1]
    yield from along
    every = tuple(range(len(shape)))
    if len(numbers) == len(shape) and every not in along:
        yield every


def _placed(numbers: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Array | None:
    """The numbers with an axis for each one of the tensor; None where that cannot be."""
    if not axes or not shape:
        return None
    if numbers.ndim != len(axes):
        # Flat, or one for each element of the first of these axes.
        if numbers.size == shape[axes[0]] or len(axes) == 1:
            numbers, axes = numbers.reshape(-1), axes[:1]
        elif numbers.ndim == 1 and len(axes) == 2 and numbers.size % max(shape[axes[0]], 1) == 0:
            numbers = numbers.reshape(shape[axes[0]], -1)
        else:
            return None
    sizes = [1] * len(shape)
    for axis, size in zip(axes, numbers.shape, strict=True):
        sizes[axis] = size
    return numbers.reshape(sizes)


def _as_many(
    zero: Array, scale: Array, axes: tuple[int, ...], shape: tuple[int, ...]
) -> Array | None:
    """Zero points placed as the scales are: one for all, as many, or with rows filled up to bytes."""
    if zero.size == 1:
        return np.full(scale.shape, zero.reshape(-1)[0])
    if zero.size == scale.size:
        return zero.reshape(scale.shape)
    placed = _placed(zero, axes, shape)
    if placed is None or placed.shape[:-1] != scale.shape[:-1] or placed.shape[-1] < scale.shape[-1]:
        return None
    return placed[..., : scale.shape[-1]]


def _shared(
    shape: tuple[int, ...], scale: Array, zero: Array, stored: Stored
) -> Iterator[Spread]:
    """Numbers placed along the axes of the tensor: one a channel, or one a block of one axis."""
    pairs = list(zip(shape, scale.shape, strict=True))
    channels = [axis for axis, (size, own) in enumerate(pairs) if own == size > 1]
    shorter = [axis for axis, (size, own) in enumerate(pairs) if own not in {1, size}]
    if stored.groups is not None and len(shape) == 2:
        shorter = [1]
    if not shorter and channels:
        names = " and ".join(map(str, channels))
        words = f"per channel of {'axis' if len(channels) == 1 else 'axes'} {names}"
        yield Spread(words, scale, zero, roundoff=stored.roundoff)
    if len(shorter) != 1:
        return
    (axis,) = shorter
    size, own = pairs[axis]
    for words, index in _indices(size, own, stored):
        yield Spread(f"{words} along axis {axis}", scale, zero, axis, index, stored.roundoff)


def _indices(size: int, own: int, stored: Stored) -> Iterator[tuple[str, Index]]:
    """In words and for each element of an axis, which of ``own`` numbers it has."""
    if stored.groups is not None:
        index = stored.groups[:size]
        if len(index) == size and np.all((index >= 0) & (index < own)):
            yield "in groups", index
        return
    for block in _block_sizes(size, own) if stored.block is None else [stored.block]:
        if -(-size // block) == own:
            yield f"in blocks of {block}", np.arange(size) // block


def _block_sizes(length: int, blocks: int) -> list[int]:
    """Sizes of which ``blocks`` cover ``length``, none of them empty; the likeliest first."""
    if not 0 < blocks <= length:
        return []
    least = -(-length // blocks)
    most = length if blocks == 1 else -(-length // (blocks - 1)) - 1
    sizes = range(least, min(most, least + MOST_BLOCK_SIZES) + 1)
    powers = [1 << bits for bits in range(30) if least <= 1 << bits <= most]
    return list(dict.fromkeys([*powers, *sizes]))


def in_words(spread: Spread, stored: Stored) -> str:
    """What is said of codes that the numbers stored for them explain."""
    zero = ", with zero points" if spread.zero_point.any() else ""
    return f"quantised {spread.words}{zero}: within half a step of the stored {stored.name}"


def difference(codes: Array, values: Array, spread: Spread, type_name: str) -> float | None:
    """The largest ``|w - s (q - z)|``; None where an element is further off than rounding puts it,
    or where too few of them say anything.

    ``codes`` and ``values`` have one shape. The smallest and the largest code are what values
    beyond the range are clamped to.
    """
    span = span_of(codes, type_name)
    worst, telling = 0.0, 0
    step = max(CHUNK // max(codes[:1].size, 1), 1)
    for first in range(0, len(codes), step):
        scale, zero = spread.rows(first, first + step)
        code, value = (side[first : first + step].astype(np.float64) for side in (codes, values))
        low, high = allowed(code, scale, zero, span, spread.roundoff)
        around = SLACK * np.abs(value)
        if not np.all((value >= low - around) & (value <= high + around)):
            return None
        error = np.abs(value - scale * (code - zero))
        worst = max(worst, float(error.max(initial=0.0)))
        telling += tell(code, zero, span)
    return worst if enough(telling, codes.size, type_name) else None


def tell(code: Array, zero: Array, span: Span) -> int:
    """How many codes are neither clamped nor at the zero point."""
    return int(np.count_nonzero((code > span.least) & (code < span.most) & (code != zero)))


def enough(telling: int, codes: int, type_name: str) -> bool:
    """Whether so many of them say something."""
    return telling > TELLING * _spread_evenly(type_name) * codes


def allowed(
    code: Array, scale: Array, zero: Array, span: Span, roundoff: float
) -> tuple[Array, Array]:
    """Bounds of the values that these codes stand for."""
    type_name, least, most = span
    middle = scale * (code - zero)
    rounded = roundoff * (2 * np.abs(code - zero) + np.abs(code))
    half = np.abs(scale) * (_half_steps(code, type_name) * (1 + SLACK) + rounded)
    # Under a negative scale the smallest code stands for the largest values.
    below, above = np.where(scale < 0, most, least), np.where(scale < 0, least, most)
    return (
        np.where((code == below) & (scale != 0), -np.inf, middle - half),
        np.where((code == above) & (scale != 0), np.inf, middle + half),
    )


def _spread_evenly(type_name: str) -> float:
    """Share of the codes of a type that are neither its limits nor the zero point."""
    dtype = DTYPES[type_name]
    return 1.0 if dtype.kind == "float" else 1 - 3 / (1 << dtype.bits)


class Span(NamedTuple):
    """A type of codes, and the smallest and the largest that its quantiser writes."""

    type_name: str
    least: float
    most: float


def span_of(codes: Array, type_name: str) -> Span:
    """Symmetric quantisers leave out the smallest signed integer, and clamp to the one above it."""
    least, most = code_limits(type_name)
    narrow = least == -most - 1 and most > 1 and codes.size > 0 and codes.min() > least
    return Span(type_name, -most if narrow else least, most)


def code_limits(type_name: str) -> tuple[float, float]:
    """The smallest and the largest number of a type."""
    dtype = DTYPES[type_name]
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    most = float(_finfo(type_name).max)
    return -most, most


def _half_steps(code: Array, type_name: str) -> Array | float:
    """Half the distance to the next code: a half of integers, relative for small floats."""
    if DTYPES[type_name].kind in ("int", "uint"):
        return 0.5
    info = _finfo(type_name)
    _, exponents = np.frexp(code)
    steps: Array = np.ldexp(0.5, np.maximum(exponents - 1, info.minexp) - info.nmant)
    return steps


def _finfo(type_name: str) -> Any:
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    return finfo(type_name)


def holds_codes(name: str) -> bool:
    """Whether tensors of this type can be quantised ones: integers or 8-bit floats."""
    dtype = DTYPES.get(name)
    if dtype is None or name in ROUNDOFF:
        return False
    narrow_float = dtype.kind == "float" and dtype.bits == 8 and not name.startswith("float8_e8m0")
    return narrow_float or (dtype.kind in ("int", "uint") and 2 <= dtype.bits <= 32)
