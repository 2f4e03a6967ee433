"""Which scales put every one of some integers within half a step of some floats.

Each element bounds the scale from both sides (``|w - s (q - z)| <= s / 2`` unless it was clamped), so
whether any scale satisfies all of them is a question with an exact answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES
from sizeforensics.matching.arrays import Array, Vector
from sizeforensics.matching.quantization.spreads import CHUNK, SLACK, Span, allowed, tell

BLOCKS = (256, 128, 64, 32, 16)
"""Elements that share a scale in blocked quantisation; what fits large blocks fits their parts."""

SQUARES = (256, 128, 64, 32)
"""Sides of blocks of matrices. DeepSeek-V3 has 128, the last of a row or column shorter
(``weight_dequant`` in its ``inference/kernel.py``)."""

MOST_FILLED = 4
"""How many times as many elements the squares may have as the matrix: one row alone has none."""

LEAST = 16
"""Elements per scale below which a scale that fits is no evidence."""


FEW_GROUPS, FEW = 4, 4096
"""Groups, and elements of each, that are looked at before all are."""

FEWER = 32
"""Elements of the first group of which each is compared with each, before bounds are computed."""


class Sharing(NamedTuple):
    """Which elements share a scale: blocks of so many along each axis."""

    words: str
    blocks: tuple[int, ...]
    order: tuple[int, ...]
    """The axes along which the scales are counted, the last one fastest."""
    rows: Callable[[Array], Array]
    """A view of shape (scales, elements of each)."""


class Grouped(NamedTuple):
    """Codes and values as one row for each scale that they share, shape ``(groups, elements)``."""

    words: str
    codes: Array
    values: Array


class Fit(NamedTuple):
    """Bounds of the scale of each group, and its zero point, shape ``(groups,)``."""

    low: Vector
    high: Vector
    zero: Vector

    @property
    def exists(self) -> npt.NDArray[np.bool_]:
        """Whether some scale satisfies every element of the group."""
        possible: npt.NDArray[np.bool_] = (self.low <= self.high * (1 + SLACK)) & (self.high > 0)
        return possible

    @property
    def middle(self) -> Vector:
        """A scale of each group that satisfies every element."""
        return (self.low + np.where(np.isfinite(self.high), self.high, self.low)) / 2


def groupings(codes: Array, values: Array) -> Iterator[Grouped]:
    """The ways in which elements may share scales, the fewest scales first."""
    for sharing in sharings(codes.shape):
        yield Grouped(sharing.words, sharing.rows(codes), sharing.rows(values))


def sharings(shape: tuple[int, ...]) -> Iterator[Sharing]:
    """The same as blocks of a tensor of this shape."""
    for sharing in _sharings(shape):
        if prod(sharing.blocks) >= LEAST:
            yield sharing


def fit(grouped: Grouped, span: Span, zero: Array | None = None, roundoff: float = 0.0) -> Fit | None:
    """The bounds of the scales under which every element is within half a step; None where there
    are none.

    ``zero`` are the zero points, one or one for each group; None where they have to be found.
    """
    _, q, w = grouped
    if zero is not None and zero.size not in {1, len(q)}:
        return None
    if not _in_order(q[0, :FEWER].astype(np.float64), w[0, :FEWER], span, roundoff):
        return None
    if zero is None and DTYPES[span.type_name].kind == "float":
        zero = np.zeros(1)
    known = None if zero is None else np.broadcast_to(zero.reshape(-1), len(q))
    # A few elements of a few groups refuse nearly every wrong candidate.
    for groups, part in ((slice(FEW_GROUPS), slice(FEW)), (slice(None), slice(None))):
        own = None if known is None else known[groups]
        found = _scales(Grouped("", q[groups, part], w[groups, part]), span, own, roundoff)
        if not found.exists.all():
            return None
    return found


def _in_order(codes: Array, values: Array, span: Span, roundoff: float) -> bool:
    """Whether codes and values rise together, as they do under every scale and zero point."""
    low, high = allowed(codes, np.ones(1), np.zeros(1), span, 0.0)
    # What rounding adds to a bound, wherever between the codes the zero point is.
    around = 3 * roundoff * (np.abs(codes).max() + np.ptp(codes) + 1) + SLACK * np.abs(codes).max()
    below = high[:, None] + around < low - around
    return not np.any(below & (values[:, None] > values))


def difference_under(grouped: Grouped, scale: Vector, zero: Vector, span: Span) -> tuple[float, int]:
    """The largest ``|w - s (q - z)|``, and how many codes are neither clamped nor at zero."""
    _, q, w = grouped
    worst, telling = 0.0, 0
    step = max(CHUNK // max(len(q), 1), 1)
    for at in range(0, q.shape[1], step):
        code = q[:, at : at + step].astype(np.float64)
        error = np.abs(w[:, at : at + step] - scale[:, None] * (code - zero[:, None]))
        worst = max(worst, float(error.max()))
        telling += tell(code, zero[:, None], span)
    return worst, telling


def _sharings(shape: tuple[int, ...]) -> Iterator[Sharing]:
    axes = tuple(range(len(shape)))
    yield Sharing("per tensor", shape, axes, lambda array: array.reshape(1, -1))
    for axis in axes[:2]:
        if shape[axis] > 1:
            blocks = (*shape[:axis], 1, *shape[axis + 1 :])
            yield Sharing(f"per channel of axis {axis}", blocks, axes, partial(_channels, axis=axis))
    for side in SQUARES if len(shape) == 2 else ():
        filled = prod(size + -size % side for size in shape)
        if max(shape) > side and filled <= MOST_FILLED * prod(shape):
            yield Sharing(
                f"in blocks of {side} x {side}", (side, side), axes, partial(_squares, block=side)
            )
    for block in BLOCKS:
        for axis in axes[:2]:
            if shape[axis] % block == 0 and shape[axis] > block:
                yield Sharing(
                    f"in blocks of {block} along axis {axis}",
                    tuple(block if at == axis else 1 for at in axes),
                    (*axes[:axis], *axes[axis + 1 :], axis),
                    partial(_blocks, axis=axis, block=block),
                )


def _channels(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _blocks(array: Array, axis: int, block: int) -> Array:
    return np.moveaxis(array, axis, -1).reshape(-1, block)


def _squares(array: Array, block: int) -> Array:
    """Rows of the elements of each square; zeros fill up the last ones, which any scale allows."""
    filled = np.pad(array, [(0, -size % block) for size in array.shape])
    rows, columns = (size // block for size in filled.shape)
    return filled.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows * columns, -1)


def _scales(grouped: Grouped, span: Span, zero: Array | None, roundoff: float) -> Fit:
    """The scale interval of each group, for its zero point or else the one that allows a scale."""
    if zero is not None:
        return _bounds(grouped, span, zero.astype(np.float64), roundoff)
    _, q, w = grouped
    nearest = np.abs(w).argmin(axis=1)[:, None]
    # What stands for the value closest to zero is the zero point, give or take one.
    guess = np.take_along_axis(q, nearest, axis=1)[:, 0].astype(np.float64)
    best = _bounds(grouped, span, np.zeros(len(q)), roundoff)
    for offset in (0, -1, 1):
        if best.exists.all():
            break
        other = _bounds(grouped, span, guess + offset, roundoff)
        better = other.exists & ~best.exists
        best = Fit(*(np.where(better, new, old) for new, old in zip(other, best, strict=True)))
    return best


def _bounds(grouped: Grouped, span: Span, zero: Vector, roundoff: float) -> Fit:
    """``s low <= w <= s high``, where ``low`` and ``high`` bound what a code stands for under a scale
    of 1, solved for ``s``."""
    _, q, w = grouped
    low, high = np.zeros(len(q)), np.full(len(q), np.inf)
    step = max(CHUNK // max(len(q), 1), 1)
    for first in range(0, q.shape[1], step):
        part = slice(first, first + step)
        codes, values = q[:, part].astype(np.float64), w[:, part].astype(np.float64)
        least, most = allowed(codes, np.ones(1), zero[:, None], span, roundoff)
        # Dividing by a negative edge turns the inequality, so each edge bounds both ways.
        with np.errstate(all="ignore"):
            by_least, by_most = values / least, values / most
        uppers = np.minimum(np.where(least > 0, by_least, np.inf), np.where(most < 0, by_most, np.inf))
        lowers = np.maximum(np.where(least < 0, by_least, 0.0), np.where(most > 0, by_most, 0.0))
        high = np.minimum(high, uppers.min(axis=1))
        low = np.maximum(low, lowers.max(axis=1))
    return Fit(low, high, zero)
