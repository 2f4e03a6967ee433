"""Sequences of one formula: sines, cosine windows, powers.

Positional tables are sines of one frequency in each column (Vaswani et al. 2017, section 3.5), rotary
caches likewise (Su et al. 2021); their frequencies are powers of one number. Nothing is assumed of
them: frequency, phase and amplitude are fitted to each column, and the sine is computed and compared.

Tolerance: that of ``recipes``; the argument of a sine of frequency ``w`` at place ``t`` is a product
rounded in single precision, which moves the sine by ``w t`` roundings.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from sizeforensics.matching.constants.recipes import (
    SINGLE,
    Array,
    Doubles,
    Recipe,
    is_float,
    same,
    slack,
)
from sizeforensics.spans import Integers

SEQUENCE = 8
"""Elements from which a formula of a few numbers is no coincidence."""

LEAST_COLUMNS = 4
"""Columns from which sines in all of them are none either."""

COLUMNS = 64
"""Columns that are fitted at once."""

PADDING = 8
"""Times its length to which a column is padded to find its frequency."""

SLOW = (0.05, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0)
"""Radians over the whole length of waves too long for a spectrum to tell."""

ARGUMENT = 4
"""Roundings of the largest argument of a sine, and what they do to the fitted phase."""

FITTED = 1024
"""Elements of a column that its sine is fitted to; it is compared with all of them."""

FEW = 64
"""Elements of a sequence that its formula is tried on before it is on all of them."""

FEW_SLACK = 4
"""Times the tolerance that is allowed where only the few are fitted."""

ENOUGH = 0.999
"""Share of the squares left over above which a further step is no better."""

REFINEMENTS = 12
"""Steps of Gauss and Newton; each about squares the error."""

LEAST_HEADS = 5
"""Heads from which two sequences of slopes are no coincidence."""

COSINES = 4
"""Terms of the windows of spectrograms: Hann and Hamming have two, Blackman three, Nuttall four."""


def waves(core: Array) -> Recipe | None:
    """Columns, or rows, that are sines of a constant frequency: positional tables."""
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim < 2 or not is_float(core):
        return None
    along_first, along_last = table.reshape(len(table), -1), table.reshape(-1, table.shape[-1]).T
    for columns in (along_first, along_last):
        if len(columns) >= SEQUENCE and columns.shape[1] >= LEAST_COLUMNS and _are_sines(columns):
            count = columns.shape[1]
            return Recipe(f"{count:,} sines of constant frequency", 3 * count * core.itemsize)
    return None


def _are_sines(table: Array) -> bool:
    edges = [0, LEAST_COLUMNS, *range(COLUMNS, table.shape[1], COLUMNS), table.shape[1]]
    # A few columns refuse nearly everything that is no such table.
    blocks = [table[:, first:last] for first, last in pairwise(edges) if first != last]
    try:
        return all(map(_recurs, blocks)) and all(map(_fit, blocks))
    except np.linalg.LinAlgError:  # numbers too large for their squares
        return False


def _recurs(table: Array) -> bool:
    """Whether the neighbours of an element add up to ``2 cos w`` times it, as those of a sine do.

    Each of the three elements may be off as far as ``_fit`` allows at the highest frequency.
    """
    wide = table.astype(np.float64)
    computed, rounded = slack(table)
    error = computed + 2 * rounded + ARGUMENT * SINGLE * np.pi * len(table)
    bound = 4 * error * np.abs(wide).max(axis=0)
    # The first rows refuse nearly everything, but not zeros with a few numbers behind them.
    for rows in (wide[:FEW], wide):
        middle, around = rows[1:-1], rows[:-2] + rows[2:]
        factor = (around * middle).sum(axis=0) / np.maximum((middle * middle).sum(axis=0), 1e-300)
        left = np.sqrt(((around - factor * middle) ** 2).mean(axis=0))
        # What is not finite fails the comparison.
        if not np.all(left <= bound):
            return False
    return True


def _fit(table: Array) -> bool:
    """Whether each column is a sine: fitted by least squares, computed, and compared."""
    if not np.all(np.isfinite(table[:: max(len(table) // FITTED, 1)].astype(np.float64))):
        return False
    reach = min(len(table), FITTED)
    frequency = None
    while True:
        # The further apart the elements, the better they tell a frequency that is known already
        # well enough to count the periods in between.
        places = np.arange(FITTED) * reach // FITTED if reach > FITTED else np.arange(reach)
        some, times = table[places].astype(np.float64), places[:, None].astype(np.float64)
        if frequency is None:
            frequency = _first_guess(some, times)
        # What looks constant so far may be slow.
        frequency, factors = _refined(some, times, np.maximum(frequency, SLOW[0] / reach))
        if reach == len(table):
            break
        reach = min(len(table), 4 * reach)
    peak = np.abs(table.astype(np.float64)).max(axis=0)
    moved = ARGUMENT * SINGLE * np.abs(frequency) * len(table)
    times = np.arange(len(table), dtype=np.float64)[:, None]
    expected = factors[0] * np.cos(frequency * times) + factors[1] * np.sin(frequency * times)
    return same(expected, table, peak, moved * peak)


def _first_guess(wide: Doubles, times: Doubles) -> Doubles:
    """The frequency of each column that leaves least of it, of the strongest and of slow ones."""
    length = PADDING * len(wide)
    spectrum = np.abs(np.fft.rfft(wide, n=length, axis=0))
    strongest = np.maximum(np.argmax(spectrum, axis=0), 0.5) * (2 * np.pi / length)
    guesses = [strongest, *(np.full_like(strongest, total / len(wide)) for total in SLOW)]
    left = [_residual(wide, times, guess)[1] for guess in guesses]
    best: Doubles = np.choose(np.argmin(left, axis=0), guesses)
    return best


def _residual(wide: Doubles, times: Doubles, frequency: Doubles) -> tuple[Doubles, Doubles]:
    """(factors of cosine and sine, shape (2, columns); squares left over) at given frequencies."""
    cosine, sine = np.cos(frequency * times), np.sin(frequency * times)
    factors = _least_squares([cosine, sine], wide)
    return factors, ((wide - factors[0] * cosine - factors[1] * sine) ** 2).sum(axis=0)


def _least_squares(functions: list[Doubles], wide: Doubles) -> Doubles:
    """Factors of some functions that are closest to each column, shape (functions, columns)."""
    basis = np.stack(functions, axis=-1).transpose(1, 0, 2)
    lengths = np.sqrt((basis * basis).sum(axis=1)) + 1e-300
    # Slow waves are nearly straight, so their functions are nearly alike: normal equations would
    # lose what tells them apart.
    orthogonal, triangle = np.linalg.qr(basis / lengths[:, None, :])
    right = np.einsum("cti,tc->ci", orthogonal, wide)
    factors = np.einsum("cij,cj->ci", np.linalg.pinv(triangle, rcond=1e-13), right)
    solved: Doubles = (factors / lengths).T
    return solved


def _refined(wide: Doubles, times: Doubles, frequency: Doubles) -> tuple[Doubles, Doubles]:
    factors, left = _residual(wide, times, frequency)
    for _ in range(REFINEMENTS):
        cosine, sine = np.cos(frequency * times), np.sin(frequency * times)
        slope = times * (factors[1] * cosine - factors[0] * sine)
        rest = wide - factors[0] * cosine - factors[1] * sine
        step = _least_squares([cosine, sine, slope], rest)[2]
        # Slow waves are linear in the square of the frequency, and so are short steps in itself.
        square = frequency * (frequency + 2 * step)
        moved = np.sqrt(np.maximum(square, (frequency / 4) ** 2))
        others, remains = _residual(wide, times, moved)
        better = remains < ENOUGH * left
        if not better.any():
            break
        frequency = np.where(better, moved, frequency)
        factors, left = np.where(better, others, factors), np.where(better, remains, left)
    return frequency, factors


def powers(core: Array) -> Recipe | None:
    """A geometric sequence: the frequencies of rotary and sinusoidal positions."""
    if not _is_sequence(core):
        return None
    flat = core.reshape(-1)
    first, last = float(flat[0]), float(flat[-1])
    if not 0 < first < np.inf or not 0 < last < np.inf or first == last:
        return None
    for index in _few_then_all(flat.size):
        places = index / (flat.size - 1)
        expected = first ** (1 - places) * last**places
        if not same(expected, flat[index], expected):
            return None
    return Recipe("powers of one number", 2 * core.itemsize)


def slopes(core: Array) -> Recipe | None:
    """The slopes of ALiBi for a number of heads that is no power of two (Press et al. 2022).

    Those of the next smaller power, and behind them every second one of the next greater.
    """
    heads = core.size
    if max(core.shape) != heads or heads < LEAST_HEADS or not heads & (heads - 1) or not is_float(core):
        return None
    fewer = 1 << (heads.bit_length() - 1)
    exponents = [8 / fewer * np.arange(1, fewer + 1), 4 / fewer * np.arange(1, 2 * (heads - fewer), 2)]
    flat, expected = core.reshape(-1), 2.0 ** -np.concatenate(exponents)
    expected *= float(flat[0]) / expected[0]
    if not np.isfinite(expected[0]) or not expected[0] or not same(expected, flat, np.abs(expected)):
        return None
    return Recipe(f"the slopes of ALiBi for {heads:,} heads", 2 * core.itemsize)


def window(core: Array) -> Recipe | None:
    """A sum of a few cosines, over one period that ends on the last element or just behind it."""
    if not _is_sequence(core) or core.size < 4 * COSINES:
        return None
    flat = core.reshape(-1)
    for period in (flat.size, flat.size - 1):
        if all(_is_window(flat, index, period) for index in _few_then_all(flat.size)):
            return Recipe("a sum of cosines of one period", (COSINES + 1) * core.itemsize)
    return None


def _is_window(flat: Array, index: Integers, period: int) -> bool:
    """Whether the elements at ``index`` are cosines of the period: fitted, computed and compared."""
    some = flat[index]
    wide = some.astype(np.float64)
    if not np.all(np.isfinite(wide)):
        return False
    basis = np.cos(2 * np.pi * index[:, None] / period * np.arange(COSINES))
    factors, *_ = np.linalg.lstsq(basis, wide, rcond=None)
    # Of few elements the fit may be further from one of them than the fit of all is.
    peak = float(np.abs(wide).max()) * (1 if len(index) == flat.size else FEW_SLACK)
    return same(basis @ factors, some, peak)


def _few_then_all(size: int) -> Iterator[Integers]:
    """Places of a vector: a few spread evenly, which refuse nearly everything, and then all."""
    if size > FEW:
        yield np.arange(FEW) * (size - 1) // (FEW - 1)
    yield np.arange(size)


def _is_sequence(core: Array) -> bool:
    return max(core.shape) == core.size >= SEQUENCE and is_float(core)
