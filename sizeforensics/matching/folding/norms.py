"""Weight and spectral normalisation: weights that are others times what their norms say.

Weight norm (Salimans and Kingma 2016, equation 2) makes ``w = g v / |v|`` of a magnitude ``g`` and
a direction ``v``, one norm for each channel or one for the whole tensor; spectral norm (Miyato et
al. 2018) makes ``w = v / (a v b)`` of two unit vectors. ``scaling`` finds the weights and the factor
of each channel without looking at names; here the tensors are found that give these factors.

Tolerance: that of ``scaling``, doubled, because norm and factor are each rounded.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, Doubles, doubles, nearest
from sizeforensics.matching.folding.scaling import ROUNDINGS, Scaled
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Vectors stored nearest to a weight that are tried as a spectral norm's."""

LEAST = 4
"""Channels below which a norm that fits may be chance."""


class Norm(NamedTuple):
    """What gives the factors of a scaled weight, and the tensors that the weight absorbs."""

    words: str
    absorbed: tuple[Unit, ...]


class Norms:
    """The free float tensors of one side that can be magnitudes or singular vectors."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._pairing = pairing
        self._lines: dict[int, list[Unit]] = defaultdict(list)
        for unit in pairing.free[side].values():
            line = sum(size != 1 for size in unit.tensor.shape) <= 1
            if line and unit.digest is not None and unit.tensor.dtype.name in ROUNDOFF:
                self._lines[unit.tensor.elements].append(unit)
        self._firsts: dict[int, Doubles] = {}

    @property
    def widths(self) -> set[int]:
        """Numbers of channels that a magnitude along any axis could have."""
        return {
            size
            for size, units in self._lines.items()
            if size > 1 and any(len(unit.tensor.shape) > 1 for unit in units)
        }

    def find(self, scaled: Scaled) -> Norm | None:
        """The norm whose factors these are."""
        source = doubles(self._pairing, scaled.source)
        if source is None or source.shape[scaled.axis] != len(scaled.factors):
            return None
        rows = np.moveaxis(source, scaled.axis, 0).reshape(len(scaled.factors), -1)
        tolerance = 2 * ROUNDINGS * scaled.roundoff
        return self._weight_norm(scaled, rows, tolerance) or self._spectral(
            scaled, source, tolerance
        )

    def _weight_norm(self, scaled: Scaled, rows: Doubles, tolerance: float) -> Norm | None:
        norms = np.sqrt((rows * rows).sum(axis=1))
        if len(norms) >= LEAST:
            found = self._equal(scaled.factors * norms, tolerance)
            if found is not None:
                return Norm(f"weight norm along axis {scaled.axis}", (found,))
        if _one_factor(scaled, tolerance):
            whole = np.array([np.mean(scaled.factors) * np.sqrt((norms * norms).sum())])
            found = self._equal(whole, tolerance)
            if found is not None:
                return Norm("weight norm of the whole tensor", (found,))
        return None

    def _equal(self, wanted: Doubles, tolerance: float) -> Unit | None:
        """The free tensor that holds these numbers, within rounding."""
        units = self._lines.get(len(wanted), [])
        if not units:
            return None
        firsts = self._first_elements(len(wanted))
        # One number refuses nearly every other magnitude.
        for at in np.flatnonzero(np.abs(firsts - wanted[0]) <= tolerance * abs(wanted[0])).tolist():
            values = doubles(self._pairing, units[at]) if self._pairing.is_free(units[at]) else None
            if values is not None and np.all(
                np.abs(values.reshape(-1) - wanted) <= tolerance * np.abs(wanted)
            ):
                return units[at]
        return None

    def _first_elements(self, size: int) -> Doubles:
        if size not in self._firsts:
            units = self._lines[size]
            self._firsts[size] = np.array(
                [np.nan if unit.sample is None else float(unit.sample[0]) for unit in units]
            )
        return self._firsts[size]

    def _spectral(self, scaled: Scaled, source: Doubles, tolerance: float) -> Norm | None:
        if not _one_factor(scaled, tolerance):
            return None
        sigma = 1 / float(np.mean(scaled.factors))
        for axis in range(min(source.ndim, 2)):
            matrix = np.moveaxis(source, axis, 0).reshape(source.shape[axis], -1)
            left, right = (self._near(scaled.source, size) for size in matrix.shape)
            for one, u in left:
                image = u @ matrix
                for other, v in right:
                    # Old versions keep one vector: the other one is where it leads to.
                    if other is not one and abs(image @ v - sigma) <= tolerance * abs(sigma):
                        return Norm("spectral norm", (one, other))
                if abs(np.sqrt(image @ image) - sigma) <= tolerance * abs(sigma):
                    return Norm("spectral norm", (one,))
        return None

    def _near(self, weight: Unit, size: int) -> list[tuple[Unit, Doubles]]:
        """The free vectors of unit length stored nearest to a weight."""
        found = []
        for unit in nearest(weight, self._lines.get(size, []), CANDIDATES):
            values = doubles(self._pairing, unit) if self._pairing.is_free(unit) else None
            if values is not None and abs(float((values * values).sum()) - 1) < 0.01:
                found.append((unit, values.reshape(-1)))
        return found


def match_norms_of_themselves(pairing: Pairing) -> None:
    """Absorb magnitudes that are the norms of a weight which the other side has as it is.

    Before the first step of training a weight-normalised weight is its own direction.
    """
    for side in (0, 1):
        weights: dict[tuple[int, int, int], list[Unit]] = defaultdict(list)
        partner = {match.on(side): match.on(1 - side) for match in pairing.matches}
        theirs = {unit.index: unit for unit in pairing.units[1 - side]}
        for unit in pairing.units[side]:
            if unit.index in partner and unit.tensor.dtype.name in ROUNDOFF:
                for along, size in enumerate(unit.tensor.shape):
                    weights[len(unit.tensor.shape), along, size].append(unit)
        for unit in list(pairing.free[side].values()):
            axis = _long_axis(unit)
            if axis is None or unit.tensor.dtype.name not in ROUNDOFF:
                continue
            rivals = weights.get((len(unit.tensor.shape), axis, unit.tensor.shape[axis]), [])
            for weight in nearest(unit, rivals, CANDIDATES):
                if _is_norm(pairing, unit, weight, axis):
                    pairing.fold(unit, theirs[partner[weight.index]], "weight norm of")
                    break


def _long_axis(unit: Unit) -> int | None:
    """The one axis longer than 1 of a magnitude that keeps the rank of its weight."""
    shape = unit.tensor.shape
    longer = [axis for axis, size in enumerate(shape) if size >= LEAST]
    return longer[0] if len(shape) > 1 and unit.tensor.elements == max(shape) and longer else None


def _is_norm(pairing: Pairing, magnitude: Unit, weight: Unit, axis: int) -> bool:
    values, array = doubles(pairing, magnitude), doubles(pairing, weight)
    if values is None or array is None:
        return False
    rows = np.moveaxis(array, axis, 0).reshape(values.size, -1)
    if rows.shape[1] < 2:
        return False
    tolerance = 2 * ROUNDINGS * ROUNDOFF[magnitude.tensor.dtype.name]
    norms = np.sqrt((rows * rows).sum(axis=1))
    return bool(np.all(np.abs(norms - values.reshape(-1)) <= tolerance * norms))


def _one_factor(scaled: Scaled, tolerance: float) -> bool:
    middle = float(np.mean(scaled.factors))
    return bool(np.all(np.abs(scaled.factors - middle) <= tolerance * abs(middle)))
