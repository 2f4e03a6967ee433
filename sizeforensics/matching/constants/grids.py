"""Coordinates: ranges, grids, grids written row after row, and several of these in a row.

A grid is affine in its indices. Written out row by row its axes are the digits of one index, the
first being the most significant, so each axis of a tensor is split into digits where its steps say
so: that is how the anchor points of detectors and the indices of relative positions are stored.
"""

from __future__ import annotations

from math import prod

import numpy as np

from sizeforensics.matching.constants.recipes import COUNT, Array, Doubles, Recipe, same, slack

MOST_DIGITS = 4
"""Digits that one axis is split into: two rows and two columns, of a pair of places."""

MOST_PIECES = 16
"""Grids in a row: a detector has one for each stride, or three where each has its anchors."""

FOURS = 64
"""Places of a vector where four elements tell whether it may be grids in a row."""


def grid(core: Array) -> Recipe | None:
    """Elements that are a start plus a step for each digit of each index."""
    digits: list[int] = []
    for axis, size in enumerate(core.shape):
        if size > 1:
            line = core[tuple(slice(None) if at == axis else 0 for at in range(core.ndim))]
            split = _digits(line.astype(np.float64), _tolerance(line))
            if split is None:
                return None
            digits += split
    axes = sum(size > 1 for size in core.shape)
    numbers = 1 + len(digits)
    if core.size < 2 * numbers or not _is_affine(core.reshape(digits)):
        return None
    words = "a range" if len(digits) == 1 else "a coordinate grid"
    return Recipe(words, numbers * core.itemsize + (len(digits) - axes) * COUNT)


def distances(core: Array) -> Recipe | None:
    """The index of the distance, without its sign, of places of an image to all places of it.

    That is how LeViT (Graham et al. 2021) looks up the bias of a pair of places: the number of rows in
    between times the width, and the columns in between. Where attention shrinks the image, only every
    so many places ask.
    """
    table = core.reshape([size for size in core.shape if size != 1])
    if core.dtype.kind not in "iu" or table.ndim != 2 or table.shape[0] < 2:
        return None
    # Seen from the first place, the places are in their order; the second is one step further.
    count, step = table.shape[1], int(table[1, 0])
    if not 0 < step < count or not np.array_equal(table[0], np.arange(count)):
        return None
    for width in range(step + 1, count + 1):
        if count % width == 0 and -(-width // step) * -(-(count // width) // step) == len(table):
            rows, columns = np.divmod(np.arange(count), width)
            asks = (rows % step == 0) & (columns % step == 0)
            down, across = (np.abs(axis[asks, None] - axis) for axis in (rows, columns))
            if np.array_equal(width * down + across, table):
                words = f"distances in an image of {count // width:,} x {width:,}"
                return Recipe(f"the index of {words}", 3 * core.itemsize)
    return None


def pieces(core: Array) -> Recipe | None:
    """A vector of grids in a row, each as long as its own steps reach."""
    if max(core.shape) != core.size:
        return None
    flat = core.reshape(-1)
    if _is_refused(flat):
        return None
    start = nbytes = count = 0
    while start < flat.size:
        if count == MOST_PIECES:
            return None
        length, numbers = _first_piece(flat[start:])
        nbytes += numbers * flat.itemsize + 2 * COUNT
        if nbytes >= flat.nbytes:
            return None
        start += length
        count += 1
    return Recipe(f"{count} coordinate grids in a row", nbytes)


def _is_refused(flat: Array) -> bool:
    """Whether a few elements tell already that a vector is not grids in a row.

    Wherever four neighbours are in one grid of at most two digits, two of the three steps between them
    are equal. Of fours that share no element each of the other grids spoils one, where it begins.
    """
    count = min(FOURS, flat.size // 4)
    if count < MOST_PIECES:
        return False
    starts = np.arange(count) * (flat.size - 4) // (count - 1)
    fours = flat[starts[:, None] + np.arange(4)].astype(np.float64)
    steps = np.diff(fours, axis=1)
    unlike = ~(np.abs(steps - np.roll(steps, 1, axis=1)) <= _tolerance(flat)).any(axis=1)
    return int(np.count_nonzero(unlike)) >= MOST_PIECES


def _tolerance(line: Array) -> float:
    """How much two steps may differ by rounding; infinite numbers have no equal steps."""
    computed, rounded = slack(line)
    peak = max(abs(float(line.min())), abs(float(line.max())))
    return 4 * (computed + rounded) * peak if np.isfinite(peak) else 0.0


def _digits(line: Doubles, tolerance: float, most: int = MOST_DIGITS) -> list[int] | None:
    """The lengths of the digits of an index, the most significant first."""
    steps = np.diff(line)
    breaks = np.flatnonzero(~(np.abs(steps - steps[0]) <= tolerance))
    if not len(breaks):
        return [len(line)]
    period = int(breaks[0]) + 1
    if most == 1 or len(line) % period:
        return None
    outer = _digits(line[::period], tolerance, most - 1)
    return None if outer is None else [*outer, period]


def _is_affine(array: Array) -> bool:
    origin = float(array[(0,) * array.ndim])
    steps = []
    for axis, size in enumerate(array.shape):
        # The mean step over the whole axis rounds less than the first one.
        last = float(array[tuple(-1 if at == axis else 0 for at in range(array.ndim))])
        steps.append((last - origin) / (size - 1))
    if not np.all(np.isfinite(steps)):
        return False
    # The first row refuses nearly everything that is no grid.
    for part in (array[(slice(0, 1),) * (array.ndim - 1)], array):
        expected, terms = (np.full((1,) * array.ndim, start) for start in (origin, abs(origin)))
        for axis, step in enumerate(steps):
            shape = [-1 if at == axis else 1 for at in range(array.ndim)]
            term = (np.arange(part.shape[axis]) * step).reshape(shape)
            expected, terms = expected + term, terms + np.abs(term)
        if not same(expected, part, terms):
            return False
    return True


def _first_piece(flat: Array) -> tuple[int, int]:
    """``_piece``, looked for in a part of the vector that grows until the grid ends well within it."""
    reach = 4 * FOURS
    while True:
        length, numbers = _piece(flat[:reach])
        if 2 * length <= reach or reach >= flat.size:
            return length, numbers
        reach *= 2


def _piece(flat: Array) -> tuple[int, int]:
    """(elements, numbers) of the longest grid of at most two digits that a vector begins with."""
    line, tolerance = flat.astype(np.float64), _tolerance(flat)
    steps = np.diff(line)
    breaks = np.flatnonzero(~(np.abs(steps - steps[:1]) <= tolerance))
    width = int(breaks[0]) + 1 if len(breaks) else len(line)
    rows = line[::width]
    # Rows continue the grid while they begin one step further, each with the steps of the first.
    whole = line[: len(line) // width * width].reshape(-1, width)
    onward = np.abs(whole - whole[:1] - (rows[: len(whole), None] - rows[0])) <= tolerance
    onward = onward.all(axis=1)
    if len(whole) > 1:
        leaps = np.diff(rows[: len(whole)])
        onward[1:] &= np.abs(leaps - leaps[0]) <= tolerance
    height = len(onward) if onward.all() else int(np.argmin(onward))
    for shape in ((height, width), (1, width)):
        digits = [size for size in shape if size > 1]
        if not digits or _is_affine(flat[: prod(shape)].reshape(digits)):
            return prod(shape), 1 + len(digits)
    return 1, 1
