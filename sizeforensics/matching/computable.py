"""Tiers 8 and 9: content that a few numbers regenerate: fills, ranges, grids, masks, waves.

A recipe is proved by running it: each function returns the words and the bytes of numbers that
the recipe needs only when what it computes equals the stored elements.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STACKED = 4
"""Length up to which an axis may stack separate grids: x, y, width, height."""

ROUNDINGS = 8
"""Units of roundoff that a computed coordinate may differ by; one product and a few sums."""

SEQUENCE = 8
"""Elements from which a formula of a few numbers is no coincidence."""

MOST_RUNS = 64
"""Runs up to which a tensor is computed rather than compressed."""

COUNT = 8
"""Bytes that say how often a number is repeated."""

WAVE_TOLERANCE = 1e-3
"""Sines of large arguments differ that much between libraries in single precision."""


class Recipe(NamedTuple):
    """What regenerates a tensor, in words, and how many bytes of numbers that takes."""

    words: str
    nbytes: int


def recipe(array: Array) -> Recipe | None:
    """The cheapest recipe for an array of numbers; None when it is none of the known kinds.

    A recipe that needs more than half as many bytes as it makes is none.
    """
    if array.size < 2 or array.dtype.kind not in "iufb":
        return None
    core = repeated_core(array)
    found = None
    for attempt in (_fill, _mask, _grid, _powers, _waves, _window, _diagonals, _runs):
        found = attempt(core)
        if found is not None:
            break
    if found is None or found.nbytes > core.nbytes:
        found = Recipe(f"{core.size:,} numbers", core.nbytes)
    if 2 * found.nbytes > array.nbytes:
        return None
    if 1 < core.size < array.size:
        return Recipe(f"{found.words}, repeated to {array.size:,} elements", found.nbytes)
    return found


def repeated_core(array: Array) -> Array:
    """The array with every axis along which it repeats itself cut to one repetition."""
    for axis in range(array.ndim):
        length = array.shape[axis]
        for period in range(1, length // 2 + 1):
            if length % period == 0 and _repeats(array, axis, period):
                array = array.take(range(period), axis=axis)
                break
    return array


def _repeats(array: Array, axis: int, period: int) -> bool:
    rows = np.moveaxis(array, axis, 0)
    # The first repetition alone refuses nearly every period.
    return np.array_equal(_bits(rows[0]), _bits(rows[period])) and np.array_equal(
        _bits(rows[period:]), _bits(rows[:-period])
    )


def _fill(core: Array) -> Recipe | None:
    if core.size != 1:
        return None
    return Recipe(f"a fill of {core.reshape(-1)[0].item()!r}", core.itemsize)


def _mask(core: Array) -> Recipe | None:
    """A triangle of one value in a field of another: causal attention masks."""
    square = core.reshape([size for size in core.shape if size != 1])
    if square.ndim != 2 or min(square.shape) < 2:
        return None
    if len(set(square[0].tolist())) > 2 or len(set(square[:, 0].tolist())) > 2:
        return None
    for words, triangle in (("below", np.tril), ("above", np.triu)):
        for diagonal in (0, 1, -1):
            inside = triangle(np.ones(square.shape, dtype=bool), diagonal)
            if inside.all() or not inside.any():
                continue
            values = square[inside][0], square[~inside][0]
            if np.array_equal(_bits(square), _bits(np.where(inside, *values).astype(core.dtype))):
                text = f"{values[0].item()!r} on and {words} a diagonal, {values[1].item()!r} else"
                return Recipe(f"a triangular mask: {text}", 2 * core.itemsize)
    return None


def _grid(core: Array) -> Recipe | None:
    """Coordinates: affine in the indices, or a short axis of such coordinates."""
    found = _affine(core)
    if found is not None:
        return found
    for axis in range(core.ndim):
        if 1 < core.shape[axis] <= STACKED:
            parts = [_affine(core.take(at, axis=axis)) for at in range(core.shape[axis])]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                return Recipe(
                    f"{len(parts)} coordinate grids", sum(part.nbytes for part in whole)
                )
    return None


def _affine(array: Array) -> Recipe | None:
    """``start + step * index`` summed over the axes, within rounding."""
    axes = [axis for axis in range(array.ndim) if array.shape[axis] > 1]
    numbers = 1 + len(axes)
    if array.size < 2 * numbers:
        return None
    origin = float(array[(0,) * array.ndim])
    steps = []
    for axis in axes:
        # The mean step over the whole axis rounds less than the first one.
        last = float(array[tuple(-1 if at == axis else 0 for at in range(array.ndim))])
        steps.append((last - origin) / (array.shape[axis] - 1))
    if not np.all(np.isfinite([origin, *steps])):
        return None  # an infinite bound would let everything pass
    roundoff = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 2.0**-40
    # The first row refuses nearly everything that is no grid.
    for part in (tuple(slice(0, 1) for _ in axes[:-1]), ()):
        rows = array.reshape([array.shape[axis] for axis in axes])[part]
        expected = np.full((1,) * len(axes), origin)
        for axis, step in enumerate(steps):
            shape = [-1 if at == axis else 1 for at in range(len(axes))]
            expected = expected + (np.arange(rows.shape[axis]) * step).reshape(shape)
        wide = rows.astype(np.float64)
        with np.errstate(invalid="ignore"):
            bound = ROUNDINGS * roundoff * float(np.abs(wide).max())
            if not np.isfinite(bound) or not np.all(np.abs(expected - wide) <= bound):
                return None
    words = "a range" if len(axes) == 1 else "a coordinate grid"
    return Recipe(words, numbers * array.itemsize)


def _waves(core: Array) -> Recipe | None:
    """Columns that are sines of a constant frequency: positional tables.

    A bounded sequence satisfies ``x[t + 1] + x[t - 1] = 2 cos(w) x[t]`` for every t exactly when it
    is a sine of frequency w; frequency, phase and amplitude make three numbers a column.
    """
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim != 2 or table.dtype.kind != "f" or len(table) < 8 or table.shape[1] < 4:
        return None
    wide = table.astype(np.float64)
    amplitude = np.abs(wide).max(axis=0)
    middle, neighbours = wide[1:-1], wide[2:] + wide[:-2]
    energy = (middle * middle).sum(axis=0)
    if not np.all(np.isfinite(amplitude)) or np.any(energy == 0):
        return None
    factor = (middle * neighbours).sum(axis=0) / energy
    error = np.abs(neighbours - factor * middle)
    if np.all(error <= WAVE_TOLERANCE * amplitude) and np.all(np.abs(factor) <= 2 + WAVE_TOLERANCE):
        return Recipe(
            f"{table.shape[1]} sines of constant frequency", 3 * table.shape[1] * core.itemsize
        )
    return None


def _powers(core: Array) -> Recipe | None:
    """A geometric sequence: the frequencies of rotary and sinusoidal positions."""
    flat = core.reshape(-1)
    if max(core.shape) != core.size or core.size < SEQUENCE or core.dtype.kind != "f":
        return None
    wide = flat.astype(np.float64)
    if not np.all(np.isfinite(wide)) or not np.all(wide > 0):
        return None
    ratio = (wide[-1] / wide[0]) ** (1 / (core.size - 1))
    error = np.abs(wide[0] * ratio ** np.arange(core.size) - wide)
    if ratio == 1 or not np.all(error <= ROUNDINGS * np.finfo(core.dtype).eps * wide):
        return None
    return Recipe("powers of one number", 2 * core.itemsize)


def _window(core: Array) -> Recipe | None:
    """A constant plus one sine: the Hann and Hamming windows of spectrograms.

    As for ``_waves``, with the constant ``c`` it is ``x[t + 1] + x[t - 1] = k x[t] + c (2 - k)``.
    """
    if max(core.shape) != core.size or core.size < SEQUENCE or core.dtype.kind != "f":
        return None
    wide = core.reshape(-1).astype(np.float64)
    if not np.all(np.isfinite(wide)):
        return None
    middle, neighbours = wide[1:-1], wide[2:] + wide[:-2]
    unknowns = np.stack([middle, np.ones_like(middle)], axis=1)
    (factor, shift), *_ = np.linalg.lstsq(unknowns, neighbours, rcond=None)
    error = np.abs(neighbours - factor * middle - shift)
    bound = 2 * ROUNDINGS * np.finfo(core.dtype).eps * np.abs(wide).max()
    if not np.all(error <= bound) or not abs(factor) < 2:
        return None
    return Recipe("a constant and one sine", 4 * core.itemsize)


def _diagonals(core: Array) -> Recipe | None:
    """A matrix that depends on the distance of its indices: identities, bands, buckets."""
    square = core.reshape([size for size in core.shape if size != 1])
    if square.ndim != 2 or min(square.shape) < STACKED:
        return None
    bits = _bits(square)
    if not np.array_equal(bits[1:, 1:], bits[:-1, :-1]):
        return None
    edge = np.concatenate([square[::-1, 0], square[0, 1:]])
    runs = _run_count(edge)
    words = f"{runs:,} numbers" if runs > 1 else "one number"
    return Recipe(f"a matrix of {words} along its diagonals", runs * (core.itemsize + COUNT))


def _runs(core: Array) -> Recipe | None:
    """Few numbers, each many times in a row: the strides of a detector's heads."""
    runs = _run_count(core.reshape(-1))
    if not 1 < runs <= MOST_RUNS:
        return None
    return Recipe(f"{runs:,} numbers in runs", runs * (core.itemsize + COUNT))


def _run_count(flat: Array) -> int:
    bits = _bits(flat)
    return 1 + int(np.count_nonzero(bits[1:] != bits[:-1]))


def _bits(array: Array) -> Array:
    """Elements as integers, so that equal means equal bit for bit."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
