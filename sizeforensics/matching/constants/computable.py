"""Tiers 8 and 9: content that a few numbers regenerate: fills, ranges, grids, masks, waves."""

from __future__ import annotations

from math import isqrt

import numpy as np

from sizeforensics.matching.constants.bases import basis
from sizeforensics.matching.constants.filterbanks import filterbank
from sizeforensics.matching.constants.grids import distances, grid, pieces
from sizeforensics.matching.constants.recipes import COUNT, Array, Recipe, bits, is_float, same
from sizeforensics.matching.constants.waves import powers, slopes, waves, window

STACKED = 4
"""Length up to which an axis may stack tables that have nothing in common: x, y, width, height."""

LEAST_FITTED = 1024
"""Bytes from which a formula is fitted: that takes milliseconds, and of a smaller table saves nothing."""

_BORDERS = ("a row", "a column")

MOST_RUNS = 64
"""Runs up to which a tensor is computed rather than compressed."""


def recipe(array: Array) -> Recipe | None:
    """The cheapest recipe for an array of numbers; None when it is none of the known kinds.

    A recipe that needs more than half as many bytes as it makes is none.
    """
    if array.size < 2 or not (array.dtype.kind in "iufb" or is_float(array)):
        return None
    with np.errstate(all="ignore"):  # what is not finite fits nothing
        found, core = _whole(array)
    if 2 * found.nbytes > array.nbytes:
        return None
    if 1 < core.size < array.size:
        return Recipe(f"{found.words}, repeated to {array.size:,} elements", found.nbytes)
    return found


def repeated_core(array: Array) -> Array:
    """The array with every axis along which it repeats itself cut to one repetition."""
    for axis in range(array.ndim):
        for period in _periods(array.shape[axis]):
            if _repeats(array, axis, period):
                array = array.take(range(period), axis=axis)
                break
    return array


def _periods(length: int) -> list[int]:
    """The divisors of a length other than itself, ascending."""
    small = [period for period in range(1, isqrt(length) + 1) if length % period == 0]
    return sorted({*small, *(length // period for period in small)} - {length})


def _repeats(array: Array, axis: int, period: int) -> bool:
    rows = np.moveaxis(array, axis, 0)
    # The first repetition alone refuses nearly every period.
    return np.array_equal(bits(rows[0]), bits(rows[period])) and np.array_equal(
        bits(rows[period:]), bits(rows[:-period])
    )


def _whole(array: Array, *, stacked: bool = False) -> tuple[Recipe, Array]:
    """The recipe of what an array repeats, which is at worst its numbers, and what it repeats.

    What is one of a stack is no stack itself: of many short axes there are too many orders to try. The
    same goes for what is behind a border.
    """
    core = repeated_core(array)
    if core.size == 1:
        return Recipe(f"a fill of {core.reshape(-1)[0].item()!r}", core.nbytes), core
    known: list[Recipe] = []
    formulas = _FORMULAS if core.nbytes >= LEAST_FITTED else ()
    for attempts in (_EXACT, _PRODUCTS if stacked else _STACKS, formulas, () if stacked else _BORDERED):
        known = [found for attempt in attempts if (found := attempt(core)) is not None]
        known = [found for found in known if found.nbytes < core.nbytes]
        if known:
            break
    plain = Recipe(f"{core.size:,} numbers", core.nbytes)
    return min(known, key=lambda found: found.nbytes, default=plain), core


def _triangle(core: Array) -> Recipe | None:
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
            if np.array_equal(bits(square), bits(np.where(inside, *values).astype(core.dtype))):
                text = f"{values[0].item()!r} on and {words} a diagonal, {values[1].item()!r} else"
                return Recipe(f"a triangular mask: {text}", 2 * core.itemsize)
    return None


def _diagonals(core: Array) -> Recipe | None:
    """A matrix that depends on the distance of its indices: identities, bands, buckets."""
    square = core.reshape([size for size in core.shape if size != 1])
    if square.ndim != 2 or min(square.shape) < STACKED:
        return None
    codes = bits(square)
    if not np.array_equal(codes[1:, 1:], codes[:-1, :-1]):
        return None
    edge = np.concatenate([square[::-1, 0], square[0, 1:]])
    runs = _run_count(edge)
    return Recipe(f"a matrix of {runs:,} numbers along its diagonals", runs * (core.itemsize + COUNT))


def _runs(core: Array) -> Recipe | None:
    """Few numbers, each many times in a row: the strides of a detector's heads."""
    runs = _run_count(core.reshape(-1))
    if not 1 < runs <= MOST_RUNS:
        return None
    return Recipe(f"{runs:,} numbers in runs", runs * (core.itemsize + COUNT))


def _run_count(flat: Array) -> int:
    codes = bits(flat)
    return 1 + int(np.count_nonzero(codes[1:] != codes[:-1]))


def _labels(core: Array) -> Recipe | None:
    """Square matrices with one value where two indices have one label and another where not.

    Those are the masks of shifted windows and of sequences that are packed together.
    """
    squares = core.reshape([size for size in core.shape if size != 1])
    size = squares.shape[-1] if squares.ndim > 1 else 0
    if size < STACKED or squares.shape[-2] != size:
        return None
    codes = bits(squares).reshape(-1, size, size)
    # The first row refuses nearly everything that has more than two values.
    if np.unique(codes[0, 0]).size > 2:
        return None
    inside = codes == codes[0, 0, 0]
    others = codes[~inside]
    if not others.size or np.any(others != others[0]):
        return None
    # The label of an index is the first one that it belongs together with.
    labels = np.argmax(inside, axis=2)
    if not np.array_equal(labels[:, :, None] == labels[:, None, :], inside):
        return None
    flat = squares.reshape(-1)
    other = flat[int(np.argmin(inside.reshape(-1)))].item()
    words = f"{flat[0].item()!r} where two of {size:,} indices have one label, {other!r} else"
    label_bytes = np.min_scalar_type(size - 1).itemsize
    return Recipe(f"a mask: {words}", labels.size * label_bytes + 2 * core.itemsize)


def _stack(core: Array) -> Recipe | None:
    """A short axis whose members have nothing in common but that each has a recipe."""
    for axis in range(core.ndim):
        if not 1 < core.shape[axis] <= STACKED or core.size < 2 * core.shape[axis]:
            continue
        parts = []
        for at in range(core.shape[axis]):
            part = core.take(at, axis=axis)
            parts.append(_whole(part, stacked=True)[0])
            if 2 * parts[-1].nbytes > part.nbytes:
                break
        else:
            kinds = list(dict.fromkeys(part.words for part in parts))
            words = f", each {kinds[0]}" if len(kinds) == 1 else f": {'; '.join(kinds)}"
            return Recipe(f"{len(parts)} tables{words}", sum(part.nbytes for part in parts))
    return None


def _product(core: Array) -> Recipe | None:
    """Members that are multiples of one: slopes times distances, positions times frequencies."""
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim < 2 or not is_float(core):
        return None
    rows = table.reshape(len(table), -1)
    if min(rows.shape) < STACKED:
        return None
    last = rows[-1].astype(np.float64)
    at = int(np.argmax(np.abs(last)))
    column = rows[:, at].astype(np.float64)
    if not (np.all(np.isfinite(last)) and np.all(np.isfinite(column)) and last[at]):
        return None
    # The first rows refuse nearly everything that is no product.
    for count in (2, len(rows)):
        expected = np.outer(column[:count], last / last[at])
        # Three elements make each one, so the rounding of each counts.
        if not same(expected, rows[:count], 2 * np.abs(expected)):
            return None
    parts = _whole(rows[:, at])[0], _whole(table[-1])[0]
    return Recipe(
        f"products of {parts[0].words} and {parts[1].words}", sum(part.nbytes for part in parts)
    )


def _basis(core: Array) -> Recipe | None:
    """The matrix of a transform, with the recipe of its window."""
    found = basis(core)
    if found is None:
        return None
    window = _whole(found.window)[0]
    nbytes = window.nbytes + found.factors * core.itemsize + COUNT
    return Recipe(f"{found.words}, its window {window.words}", nbytes)


def _bordered(core: Array) -> Recipe | None:
    """A first row of few numbers, a first column, or both, and a recipe of the rest.

    Positional tables have one for the class token, which is nowhere in the image.
    """
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim != 2 or min(table.shape) <= STACKED:
        return None
    for rows, columns in ((1, 0), (0, 1), (1, 1)):
        borders = [table[:rows].reshape(-1), table[rows:, :columns].reshape(-1)]
        runs = sum(_run_count(border) for border in borders if border.size)
        if runs > 3:
            continue
        rest = table[rows:, columns:]
        inner = _whole(rest, stacked=True)[0]
        if 2 * inner.nbytes <= rest.nbytes:
            words = f"{inner.words}, behind {' and '.join(_BORDERS[:rows] + _BORDERS[2 - columns:])}"
            return Recipe(words, inner.nbytes + runs * (core.itemsize + COUNT))
    return None


def _crossed(core: Array) -> Recipe | None:
    """Columns that each follow one of the two axes of a grid: positions in an image."""
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim not in (2, 3) or not is_float(core):
        return None
    for rows in (table.reshape(-1, table.shape[-1]), table.reshape(len(table), -1).T):
        codes = bits(rows)
        for width in _periods(len(rows)):
            if min(width, len(rows) // width) < STACKED:
                continue
            places = codes.reshape(-1, width, rows.shape[1])
            # The first two rows refuse nearly everything.
            if not np.all((places[0, 1] == places[0, 0]) | (places[1, 0] == places[0, 0])):
                continue
            across = (places == places[:1]).all(axis=(0, 1))
            down = (places == places[:, :1]).all(axis=(0, 1))
            if not np.all(across | down) or min(across.sum(), (~across).sum()) <= STACKED:
                continue
            values = rows.reshape(-1, width, rows.shape[1])
            parts = [_whole(values[0][:, across])[0], _whole(values[:, 0][:, ~across])[0]]
            words = " and ".join(dict.fromkeys(part.words for part in parts))
            place = f"positions on a grid of {len(rows) // width:,} x {width:,}"
            return Recipe(f"{place}: {words}", sum(part.nbytes for part in parts) + COUNT)
    return None


_EXACT = (
    _triangle, grid, _diagonals, _runs, pieces, powers, slopes, window, _labels, distances, _crossed
)
_PRODUCTS = (_product,)
_STACKS = (*_PRODUCTS, _stack)
_BORDERED = (_bordered,)
_FORMULAS = (_basis, filterbank, waves)
"""From what says most of a tensor, and is found fastest, to what fits most tables."""
