"""Filterbanks of the mel scale: triangles over the frequencies of a spectrum.

There are two scales, that of HTK (``2595 log10(1 + f / 700)``) and Slaney's, which is linear up to
1,000 Hz and logarithmic above; triangles are as high as wide ones are low (Slaney), or of height one.
Librosa and torchaudio know both. Every edge of a triangle that two elements lie on says where it
begins: these places, evenly spaced on the scale, say lowest and highest frequency; all is computed
from those and compared.

Tolerance: that of ``recipes``; an element is a difference of two frequencies over the width of its
triangle, so the rounding of the frequency counts as often as it has that width.
"""

from __future__ import annotations

from collections.abc import Iterator

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

LEAST_BANDS = 8
"""Bands below which triangles may be anything."""

RATES = (16_000, 22_050, 8_000, 44_100, 48_000, 24_000, 32_000, 11_025, 12_000, 96_000)
"""Samples per second, the usual first."""

ROUND = (1000, 100, 50, 10, 5, 1)
"""Hertz that the limits of a filterbank are multiples of, the roundest first."""

FREQUENCY = 8
"""Roundings of a frequency that went through logarithm and power."""

_BREAK, _LINEAR, _LOG = 1000.0, 200.0 / 3, np.log(6.4) / 27


def filterbank(core: Array) -> Recipe | None:
    """Triangles over evenly spaced frequencies, a band in each row or in each column."""
    table = core.reshape([size for size in core.shape if size != 1])
    if table.ndim != 2 or not is_float(core) or min(table.shape) < LEAST_BANDS:
        return None
    for bands in (table, table.T):
        if bands.shape[1] > len(bands):
            found = _mel(bands)
            if found is not None:
                return found
    return None


def _mel(bands: Array) -> Recipe | None:
    numbers, edges = _edges(bands)
    if len(numbers) < LEAST_BANDS:
        return None
    last = bands.shape[1] - 1
    computed, rounded = slack(bands)
    for rate in RATES:
        for nyquist in sorted({rate / 2, float(rate // 2)}):
            for slaney in (True, False):
                places = _to_mel(edges * nyquist / last, slaney=slaney)
                step, first = np.polyfit(numbers, places, 1)
                # A place is as far off as the elements that it is extrapolated from.
                off = np.abs(places - (first + step * numbers)).max() / step if step > 0 else np.inf
                if off > 32 * (computed + rounded) + 1e-4:
                    continue
                ends = _to_hertz(np.array([first, first + step * (len(bands) + 1)]), slaney=slaney)
                for low, high in _limits(ends, nyquist, 1.0 if not rounded else 16.0):
                    height = _height(bands, nyquist, low, high, slaney=slaney)
                    if height is not None:
                        scale = "Slaney" if slaney else "HTK"
                        words = f"{len(bands):,} mel bands ({scale}) from {low:,g} to {high:,g} Hz"
                        return Recipe(f"a filterbank of {words} at {rate:,} Hz, {height}", 3 * 8)
    return None


def _edges(bands: Array) -> tuple[Doubles, Doubles]:
    """Numbers of the places where bands begin and end, and where that is, in elements."""
    numbers, places = [], []
    positive = bands.astype(np.float64)
    # A triangle is positive in one run: what is not finite, or negative, is none.
    if not np.all(np.isfinite(positive)) or positive.min() < 0 or positive[-1].max() <= 0:
        return np.zeros(0), np.zeros(0)
    for number, row in enumerate(positive):
        inside = np.flatnonzero(row)
        if not len(inside):
            continue
        if inside[-1] - inside[0] >= len(inside):
            return np.zeros(0), np.zeros(0)
        top = int(np.argmax(row))
        for near, far, which in ((inside[0], top - 1, number), (inside[-1], top + 1, number + 2)):
            slope = (row[far] - row[near]) / (far - near) if (far - near) * (top - near) > 0 else 0.0
            if slope:
                numbers.append(float(which))
                places.append(near - row[near] / slope)
    return np.array(numbers), np.array(places)


def _limits(ends: Doubles, nyquist: float, off: float) -> Iterator[tuple[float, float]]:
    """Round frequencies near two that were extrapolated, and half the rate."""
    lows, highs = (
        list(dict.fromkeys(
            [value for value in (nyquist,) if abs(value - end) <= off]
            + [unit * round(end / unit) for unit in ROUND if abs(unit * round(end / unit) - end) <= off]
        ))
        for end in ends.tolist()
    )  # fmt: skip
    for low in lows:
        for high in highs:
            if 0 <= low < high <= 2 * nyquist:
                yield float(low), float(high)


def _height(
    bands: Array, nyquist: float, low: float, high: float, *, slaney: bool
) -> str | None:
    """How high the triangles between these limits are, if they are what is stored."""
    ends = _to_mel(np.array([low, high]), slaney=slaney).tolist()
    edges = _to_hertz(np.linspace(ends[0], ends[1], len(bands) + 2), slaney=slaney)[:, None]
    widths, frequencies = np.diff(edges, axis=0), np.linspace(0, nyquist, bands.shape[1])
    rising, falling = (frequencies - edges[:-2]) / widths[:-1], (edges[2:] - frequencies) / widths[1:]
    triangles = np.maximum(np.minimum(rising, falling), 0)
    moved = FREQUENCY * SINGLE * high / np.minimum(widths[:-1], widths[1:])
    for words, factor in (("of height 1", 1.0), ("of area 1", 2 / (edges[2:] - edges[:-2]))):
        if same(factor * triangles, bands, factor, factor * moved):
            return words
    return None


def _to_mel(hertz: Doubles, *, slaney: bool) -> Doubles:
    if not slaney:
        return np.asarray(2595 * np.log10(1 + np.maximum(hertz, 0) / 700))
    above = _BREAK / _LINEAR + np.log(np.maximum(hertz, _BREAK) / _BREAK) / _LOG
    return np.where(hertz < _BREAK, hertz / _LINEAR, above)


def _to_hertz(mel: Doubles, *, slaney: bool) -> Doubles:
    if not slaney:
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    first = _BREAK / _LINEAR
    above = _BREAK * np.exp(_LOG * (np.maximum(mel, first) - first))
    return np.where(mel < first, mel * _LINEAR, above)
