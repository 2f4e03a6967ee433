"""Channels that one weight was multiplied by and the vector in front of it divided by.

Quantisers make inputs or weights of a layer easier to round so: SmoothQuant (Xiao et al. 2023, equation
3) and AWQ (Lin et al. 2024, section 3.2) multiply the input channels of a weight and divide the norm in
front, which leaves the network as it is. A weight alone could be scaled by anything; here a vector has
to be there on both sides whose quotient is the factor of every channel; a zero is anything times zero
and says no factor.

Tolerance: that of the weight's factors, and ``PLAIN_ROUNDINGS`` units of roundoff of each vector's type.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, Vector
from sizeforensics.matching.folding.batch_norms import Vectors
from sizeforensics.matching.folding.scaled_codes import scaled_codes
from sizeforensics.matching.folding.scaling import FAR, PLAIN_ROUNDINGS, Scaled
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import COLUMNS, SortedRows, evenly
from sizeforensics.matching.units import Unit

LEAST = 8
"""Channels below which quotients may agree by chance."""


def match_rescaled(pairing: Pairing) -> None:
    """Pair weights that differ by factors of channels with the vectors that differ by their inverse."""
    vectors = Vectors(pairing)
    for side in (0, 1):
        one, other = (vectors.lengths(place) for place in (side, 1 - side))
        widths = {length for length in one & other if length >= LEAST}
        divided = _Divided(vectors, side)
        settled: set[tuple[int, int]] = set()
        for likely in scaled_codes(vectors, side, widths, settled, floats=True):
            scaled = likely.scaled
            witnesses = list(divided.by(scaled)) if _differ(scaled) else []
            witnesses.sort(key=lambda found: not _tells(scaled, found[1]))
            if not witnesses or not _tells(scaled, witnesses[0][1]):
                continue
            known = likely.under(_quotient(scaled, *witnesses[0][1:]))
            if known is None:
                continue
            settled |= {(unit.side, unit.index) for unit in (known.source, known.target)}
            (vector, divided_one), *_ = [pair for pair, *_ in witnesses]
            words = (
                f"scaled per channel of axis {known.axis} by what {vector.tensor.name} was divided by"
                f"{known.how}"
            )
            pairing.pair(known.source, known.target, pairing.computed, words, known.error)
            for (vector, divided_one), *_ in witnesses:
                if pairing.is_free(vector) and pairing.is_free(divided_one):
                    words = f"divided by the factors of {known.target.tensor.name}"
                    pairing.pair(vector, divided_one, pairing.computed, words)


def _differ(scaled: Scaled) -> bool:
    """Whether most channels have a factor that is not one."""
    names = [unit.tensor.dtype.name for unit in (scaled.source, scaled.target)]
    roundoff = max(ROUNDOFF.get(name, 0.0) for name in names)
    away = np.abs(scaled.factors - 1) > np.maximum(scaled.slack, FAR * roundoff)
    return bool(2 * np.count_nonzero(away) > len(away))


def _tells(scaled: Scaled, vector: Vector) -> bool:
    """Whether a vector says every factor: of zeros any number is the quotient."""
    return bool(np.all((scaled.of_channels(vector) != 0) | ~np.isfinite(scaled.slack)))


def _quotient(scaled: Scaled, vector: Vector, divided: Vector) -> Vector:
    """The factors, those of channels that leave them open by the vectors."""
    with np.errstate(all="ignore"):
        quotient = scaled.of_channels(vector / divided)
        return np.where(np.isfinite(scaled.slack), scaled.factors, quotient)


_Pair = tuple[Unit, Unit]


class _Divided:
    """Vectors of both sides, and which pairs of them were divided by the factors of a weight."""

    def __init__(self, vectors: Vectors, side: int) -> None:
        self._vectors = vectors
        self._side = side
        self._known: dict[int, list[tuple[_Pair, Vector, Vector]]] = {}
        self._tables: dict[tuple[int, int], tuple[list[tuple[Unit, Vector]], SortedRows]] = {}

    def by(self, scaled: Scaled) -> Iterator[tuple[_Pair, Vector, Vector]]:
        """Each pair and its elements; several weights may read what one vector scales."""
        known = self._known.setdefault(scaled.channels, [])
        found = [pair for pair in known if _fits(scaled, *pair)]
        if not found:
            found = [pair for pair in self._new(scaled) if _fits(scaled, *pair)]
            known += found
        yield from found

    def _new(self, scaled: Scaled) -> Iterator[tuple[_Pair, Vector, Vector]]:
        # Of excerpts the factors of a few channels are known, wherever these are in a vector.
        length, places = scaled.channels, evenly(scaled.channels, COLUMNS)
        factors, slack = scaled.factors, scaled.slack
        if scaled.kept is None:
            factors, slack = factors[places], slack[places]
        else:
            places = scaled.kept
        if (length, len(places)) not in self._tables:
            others = list(self._vectors.free(1 - self._side, length))
            rows = np.array([value[places] for _, value in others]).reshape(-1, len(places))
            self._tables[length, len(places)] = others, SortedRows(rows)
        others, table = self._tables[length, len(places)]
        for vector, value in self._vectors.free(self._side, length):
            with np.errstate(all="ignore"):
                ends = value[places] / (factors - slack), value[places] / (factors + slack)
            open_ended = ~np.isfinite(slack) | (np.abs(factors) <= slack)
            around = 0.1 * np.abs(value[places])
            low = np.where(open_ended, -np.inf, np.minimum(*ends) - around)
            high = np.where(open_ended, np.inf, np.maximum(*ends) + around)
            for row in table.between(low, high).tolist():
                unit, divided = others[row]
                if self._vectors.pairing.is_free(unit):
                    yield (vector, unit), value, divided


def _fits(scaled: Scaled, pair: _Pair, value: Vector, divided: Vector) -> bool:
    """Whether the factors are the quotient of two vectors in every channel, of which most are no zeros."""
    if 2 * np.count_nonzero(value) < len(value):
        return False
    roundings = PLAIN_ROUNDINGS * sum(ROUNDOFF[unit.tensor.dtype.name] for unit in pair)
    value, divided = scaled.of_channels(value), scaled.of_channels(divided)
    off = np.abs(divided * scaled.factors - value)
    with np.errstate(all="ignore"):
        fits = off <= np.abs(divided) * scaled.slack + roundings * np.abs(value)
    return bool(np.all(fits | ~np.isfinite(scaled.slack)))
