"""Which scales put every one of some integers within half a step of some floats.

Each element bounds the scale from both sides (``|w - s (q - z)| <= s / 2`` unless it was clamped), so
whether any scale satisfies all of them is a question with an exact answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.matching.arrays import Array, Vector
from sizeforensics.matching.quantization.spreads import CHUNK, SLACK

BLOCKS = (16, 32, 64, 128, 256)
"""Elements that share a scale in blocked quantisation."""

LEAST = 16
"""Elements per scale below which a scale that fits is no evidence."""


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


def fit(
    codes: Array, values: Array, limits: tuple[float, float], zero: Array | None = None
) -> tuple[str, float, Fit] | None:
    """How the integers quantise the values, the largest difference and the bounds of the scale.

    ``zero`` are the zero points, one or one for each group; None where they have to be found. The
    answer is None when no scale does.
    """
    for words, groups in _groupings(codes.shape):
        q, w = groups(codes), groups(values)
        if q.shape[1] < LEAST or (zero is not None and zero.size not in {1, len(q)}):
            continue
        known = None if zero is None else np.broadcast_to(zero.reshape(-1), len(q))
        # A few groups refuse nearly every wrong candidate.
        for part in (slice(0, 4), slice(None)):
            found = _scales(q[part], w[part], limits, None if known is None else known[part])
            if not found.exists.all():
                break
        else:
            shifted = ", with zero points" if found.zero.any() else ""
            how = f"quantised {words}{shifted}: one scale puts every element within half a step"
            return how, _difference(q, w, found), found
    return None


def _difference(q: Array, w: Array, fit: Fit) -> float:
    """Largest ``|w - s (q - z)|`` with the scale in the middle of what is possible."""
    high = np.where(np.isfinite(fit.high), fit.high, fit.low)
    scale = ((fit.low + high) / 2)[:, None]
    step = max(CHUNK // max(len(q), 1), 1)
    return max(
        float(np.abs(w[:, at : at + step] - scale * (q[:, at : at + step] - fit.zero[:, None])).max())
        for at in range(0, q.shape[1], step)
    )


def _groupings(shape: tuple[int, ...]) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Ways to share scales: in words, and as a view of shape (groups, elements per group)."""
    yield "per tensor", lambda array: array.reshape(1, -1)
    for axis in range(min(len(shape), 2)):
        if shape[axis] > 1:
            yield (
                f"per channel of axis {axis}",
                partial(_channels, axis=axis),
            )
    for block in BLOCKS:
        for axis in range(min(len(shape), 2)):
            if shape[axis] % block == 0 and shape[axis] > block:
                yield (
                    f"in blocks of {block} along axis {axis}",
                    partial(_blocks, axis=axis, block=block),
                )


def _channels(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _blocks(array: Array, axis: int, block: int) -> Array:
    return np.moveaxis(array, axis, -1).reshape(-1, block)


def _scales(q: Array, w: Array, limits: tuple[float, float], zero: Array | None) -> Fit:
    """The scale interval of each group, for its zero point or else the one that allows a scale."""
    if zero is not None:
        return _bounds(q, w, zero.astype(np.float64), limits)
    nearest = np.abs(w).argmin(axis=1)[:, None]
    # What stands for the value closest to zero is the zero point, give or take one.
    guess = np.take_along_axis(q, nearest, axis=1)[:, 0].astype(np.float64)
    best = _bounds(q, w, np.zeros(len(q)), limits)
    for offset in (0, -1, 1):
        if best.exists.all():
            break
        other = _bounds(q, w, guess + offset, limits)
        better = other.exists & ~best.exists
        best = Fit(*(np.where(better, new, old) for new, old in zip(other, best, strict=True)))
    return best


def _bounds(q: Array, w: Array, zero: Vector, limits: tuple[float, float]) -> Fit:
    """``s (k - 1/2) <= w <= s (k + 1/2)`` with ``k = q - zero``, solved for ``s``.

    The smallest and the largest code are what values beyond the range are clamped to, so they
    bound on one side only.
    """
    low, high = np.zeros(len(q)), np.full(len(q), np.inf)
    step = max(CHUNK // max(len(q), 1), 1)
    for first in range(0, q.shape[1], step):
        part = slice(first, first + step)
        codes, values = q[:, part].astype(np.float64), w[:, part].astype(np.float64)
        k = codes - zero[:, None]
        # Dividing by a negative edge turns the inequality, so each edge bounds both ways.
        least, most = values / (k - 0.5), values / (k + 0.5)
        bounding, capping = codes > limits[0], codes < limits[1]
        uppers = np.minimum(
            np.where(bounding & (k > 0.5), least, np.inf),
            np.where(capping & (k < -0.5), most, np.inf),
        )
        lowers = np.maximum(
            np.where(bounding & (k < 0.5), least, 0.0),
            np.where(capping & (k > -0.5), most, 0.0),
        )
        high = np.minimum(high, uppers.min(axis=1))
        low = np.maximum(low, lowers.max(axis=1))
    return Fit(low, high, zero)
