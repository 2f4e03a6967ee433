"""Bases of discrete Fourier and cosine transforms, with or without a window, and their inverses.

A graph that has no operator for a spectrogram multiplies by the transform's matrix, often as the
kernels of a convolution. Element ``(k, t)`` is a wave of ``k`` at time ``t``, times a window; inverse
and orthonormal transforms have another factor for the constant wave and for the fastest one.

Tolerance: that of ``recipes``; an angle may have been rounded in single precision, which moves a wave
by as many roundings as the angle has radians.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.constants.recipes import SINGLE, Array, Doubles, is_float, same

LEAST_WAVES = 4
"""Waves, and places in time, below which a table is no basis."""

ANGLE = 4
"""Roundings of an angle: pi, one product, one quotient, and a place between two elements."""

FEW = 64
"""Places in time that two waves are compared at before all are computed."""


class Basis(NamedTuple):
    """What a table is: words, the window as it is stored, and how many factors waves have of their own."""

    words: str
    window: Array
    factors: int


class _Waves(NamedTuple):
    """``cos(angle)`` or, where ``sine``, ``sin(angle)`` of every wave; ``ends`` have factors of their own."""

    words: str
    number: int
    step: float
    shift: float
    parts: tuple[bool, ...]
    ends: tuple[int, ...]


def basis(core: Array) -> Basis | None:
    """The basis that a table holds, one wave in each row or in each column."""
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim != 2 or not is_float(core) or min(table.shape) < LEAST_WAVES:
        return None
    for rows in (table, table.T):
        for waves in _candidates(*rows.shape):
            if _agree(rows, waves):
                window = _window(rows, waves)
                if window is not None:
                    return Basis(waves.words, window, len(waves.parts) * len(waves.ends))
    return None


def _candidates(rows: int, times: int) -> Iterator[_Waves]:
    """The bases that a table of this shape may hold: of all waves, or of those that differ for real input."""
    half, turn = times // 2 + 1, 2 * np.pi / times
    for count in (half, times):
        ends = (0, times // 2) if times % 2 == 0 else (0,)
        if rows == 2 * count:
            yield _Waves("a discrete Fourier transform", count, turn, 0.0, (False, True), ends)
        elif rows == count:
            for sine in (False, True):
                kind = "sines" if sine else "cosines"
                yield _Waves(f"the {kind} of a discrete Fourier transform", count, turn, 0.0, (sine,), ends)
    if rows <= times:
        yield _Waves("a discrete cosine transform", rows, np.pi / times, 0.5, (False,), (0,))


def _agree(rows: Array, waves: _Waves) -> bool:
    """Whether the second wave and the third have one window, at a few places; that refuses nearly all."""
    places = np.arange(min(FEW, rows.shape[1])) * (rows.shape[1] - 1) // (min(FEW, rows.shape[1]) - 1)
    angles = (places + waves.shift) * waves.step
    wave = np.sin if waves.parts[0] else np.cos
    first, second = (rows[at, places].astype(np.float64) for at in (1, 2))
    if not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        return False
    peak = max(float(np.abs(first).max()), float(np.abs(second).max()))
    # Each side rounds an element once; half a hundredth is more than any type here loses.
    return peak > 0 and bool(np.all(np.abs(first * wave(2 * angles) - second * wave(angles)) <= peak / 64))


def _window(rows: Array, waves: _Waves) -> Array | None:
    """The window of the waves, if window, waves and factors give every element."""
    angles = np.outer(np.arange(waves.number), (np.arange(rows.shape[1]) + waves.shift) * waves.step)
    pure = np.concatenate([np.sin(angles) if sine else np.cos(angles) for sine in waves.parts])
    wide = rows.astype(np.float64)
    if not np.all(np.isfinite(wide)):
        return None
    inner = np.ones(len(rows), dtype=np.bool_)
    ends = [part * waves.number + end for part in range(len(waves.parts)) for end in waves.ends]
    inner[ends] = False
    for part in range(1, len(waves.parts)):
        # Of sines some have the sign of the exponent, some the other.
        own = slice(part * waves.number, (part + 1) * waves.number)
        first = slice(0, waves.number)
        if _sign(wide[own], pure[own], wide[first], pure[first]) < 0:
            pure[own] *= -1
    window = _ratio(wide[inner], pure[inner], axis=0)
    scaled = window * pure
    factors = np.ones(len(rows))
    factors[ends] = _ratio(wide[ends], scaled[ends], axis=1)
    expected, peak = factors[:, None] * scaled, np.abs(factors[:, None] * window)
    moved = ANGLE * SINGLE * np.concatenate([angles] * len(waves.parts)) * peak
    # What is no wave at all, as the sine of no frequency, is rounding of the others.
    if not same(expected, rows, np.maximum(peak, np.abs(window)), moved):
        return None
    level = float(window.mean())
    stored = window.astype(rows.dtype)
    # Where there is no window each place is the mean of as many roundings.
    flat = same(np.full_like(window, level), stored, abs(level))
    return np.full_like(stored, level) if flat else stored


def _ratio(stored: Doubles, pure: Doubles, axis: int) -> Doubles:
    """The factor that is closest for all elements along an axis; 0 where there is nothing to scale."""
    squares = (pure * pure).sum(axis=axis)
    found: Doubles = (stored * pure).sum(axis=axis) / np.where(squares > 1e-9, squares, np.inf)
    return found


def _sign(stored: Doubles, pure: Doubles, others: Doubles, waves: Doubles) -> float:
    window = _ratio(others, waves, axis=0)
    return float((stored * pure * window).sum())
