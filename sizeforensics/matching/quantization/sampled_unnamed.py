"""Scales that nothing names, in snapshots: the one stored near by under which what is kept agrees.

The layouts are those of ``unnamed_scales``. A zero point for each scale is one that a tensor holds, or
one that leaves more of the elements kept as evidence than there are zero points.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES
from sizeforensics.matching.arrays import ROUNDOFF, Array, Doubles, nearest
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.kept_codes import (
    Integers,
    KeptCodes,
    groups_of,
    numbers_at,
    sizes_of_zero_points,
    zero_points_at,
)
from sizeforensics.matching.quantization.scale_bounds import sharings
from sizeforensics.matching.quantization.spreads import (
    SLACK,
    Span,
    Spread,
    allowed,
    difference,
    span_of,
)
from sizeforensics.matching.quantization.stored_scales import is_scale
from sizeforensics.matching.quantization.unnamed_scales import ABSMAX, EXPONENTS
from sizeforensics.matching.units import Unit

LEAST = 8
"""Elements below which agreement may be chance."""

CANDIDATES = 16
"""Tensors stored nearest that are tried."""


class KeptExplained(NamedTuple):
    """How codes quantise the values of a unit as far as both are kept, and the tensors that say so."""

    unit: Unit
    how: str
    difference: float
    scale: Unit
    zeros: Unit | None


class _Fit(NamedTuple):
    """The row of values that fits, the tensor that holds the zero points, and the largest difference."""

    row: int
    zeros: Unit | None
    error: float


class _Try(NamedTuple):
    """Places of which codes and scales are kept, and zero points that tensors have for them.

    ``known`` are the places in the grid, ``groups`` the numbers of the scales; a zero point that is not
    kept is NaN.
    """

    known: npt.NDArray[np.bool_]
    codes: Doubles
    scale: Doubles
    groups: Integers
    span: Span
    roundoff: float
    zeros: list[tuple[Unit | None, Doubles]]

    def find(self, values: Doubles) -> _Fit | None:
        """The first row of values, shape ``(rows, places)``, that the codes stand for."""
        for unit, zero in self.zeros:
            fits = np.isfinite(zero)
            scale, zero = self.scale[fits], zero[fits]
            low, high = allowed(self.codes[fits], scale, zero, self.span, self.roundoff)
            around, own = SLACK * np.abs(values[:, fits]), values[:, fits]
            for row in np.flatnonzero(np.all((own >= low - around) & (own <= high + around), axis=1)):
                error = self._under(own[row], zero, fits)
                if error is not None:
                    return _Fit(int(row), unit, error)
        return None if DTYPES[self.span.type_name].kind == "float" else self._fitted(values)

    def _fitted(self, values: Doubles) -> _Fit | None:
        """The same with one zero point for all, or one for each scale, that is made to fit."""
        _, least, most = self.span
        with np.errstate(all="ignore"):  # what is not finite fits nothing
            offsets = self.codes - values / self.scale
        offsets[:, (self.codes == least) | (self.codes == most)] = np.nan
        offsets[~np.isfinite(offsets)] = np.nan
        apart = 1 + SLACK * most + 6 * self.roundoff * most
        for groups in (np.zeros_like(self.groups), self.groups):
            order = np.argsort(groups, kind="stable")
            _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
            if len(self.codes) - len(starts) < LEAST:
                continue
            lowest, highest = (
                end.reduceat(offsets[:, order], starts, axis=1) for end in (np.fmin, np.fmax)
            )
            for row in np.flatnonzero(~np.any(highest - lowest > apart, axis=1)):
                zero = np.empty(len(order))
                zero[order] = np.repeat(np.rint((lowest[row] + highest[row]) / 2), sizes)
                fits = np.isfinite(zero)
                if np.count_nonzero(fits) - len(starts) >= LEAST:
                    error = self._under(values[row, fits], zero[fits], fits)
                    if error is not None:
                        return _Fit(int(row), None, error)
        return None

    def _under(self, values: Doubles, zero: Doubles, fits: npt.NDArray[np.bool_]) -> float | None:
        spread = Spread("", self.scale[fits], zero, roundoff=self.roundoff)
        return difference(self.codes[fits], values, spread, self.span.type_name)


class KeptScales:
    """The free tensors of one side that can be scales or zero points, by how many elements they have."""

    def __init__(self, pairing: Pairing, units: Sequence[Unit]) -> None:
        self._pairing = pairing
        self._scales: dict[int, list[Unit]] = defaultdict(list)
        self._zeros: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.sample is not None and unit.digest is not None:
                if unit.tensor.dtype.name in (*ROUNDOFF, EXPONENTS):
                    self._scales[unit.tensor.elements].append(unit)
                elif unit.tensor.dtype.kind in ("int", "uint"):
                    self._zeros[unit.tensor.elements].append(unit)

    def explain(
        self, codes: Unit, kept: KeptCodes, candidates: Sequence[tuple[Unit, Array]]
    ) -> KeptExplained | None:
        """Which of some values the codes kept of a tensor quantise; None where no scale near by says so."""
        if not candidates:
            return None
        values = np.stack([value for _, value in candidates]).astype(np.float64)
        for sharing in sharings(kept.shape):
            groups, count = groups_of(sharing, kept.shape)
            for scale, attempt in self._attempts(codes, kept, groups, count):
                fit = attempt.find(values[:, attempt.known])
                if fit is not None:
                    packed = f"{kept.words}: " if kept.words else ""
                    how = f"{packed}quantised {sharing.words}: what is kept is within half a step of"
                    unit, _ = candidates[fit.row]
                    return KeptExplained(unit, f"{how} {scale.tensor.name}", fit.error, scale, fit.zeros)
        return None

    def _near(self, codes: Unit, units: Sequence[Unit]) -> list[Unit]:
        close = nearest(codes, units, CANDIDATES)
        return [unit for unit in close if self._pairing.is_free(unit) and unit is not codes]

    def _attempts(
        self, codes: Unit, kept: KeptCodes, groups: Integers, count: int
    ) -> Iterator[tuple[Unit, _Try]]:
        """Every tensor that may hold the scales, in every order, as they are or as largest values."""
        scales = self._near(codes, self._scales.get(count, ()))
        zeros = list(self._zero_points(codes, groups, count)) if scales else []
        for unit in scales:
            name = unit.tensor.dtype.name
            roundoff = ROUNDOFF[name] if name in ("float16", "bfloat16") else 0.0
            for numbers in numbers_at(unit, groups):
                known = np.isfinite(kept.grid) & np.isfinite(numbers)
                if np.count_nonzero(known) < LEAST or not is_scale(numbers[known]):
                    continue
                own = kept.grid[known]
                span = span_of(own, kept.type_name)
                of_tensors = [(None, np.zeros(len(own))), *_telling(zeros, known)]
                for factor in (1, ABSMAX) if span.most == ABSMAX else (1,):
                    scale = numbers[known] / factor
                    yield unit, _Try(known, own, scale, groups[known], span, roundoff, of_tensors)

    def _zero_points(
        self, codes: Unit, groups: Integers, count: int
    ) -> Iterator[tuple[Unit, Doubles]]:
        for size in sizes_of_zero_points(count):
            for unit in self._near(codes, self._zeros.get(size, ())):
                for zero in zero_points_at(unit, groups, count):
                    yield unit, zero


def _telling(
    zeros: Sequence[tuple[Unit, Doubles]], known: npt.NDArray[np.bool_]
) -> Iterator[tuple[Unit, Doubles]]:
    """Zero points at some places, where enough are kept and some are not zero."""
    for unit, zero in zeros:
        there = zero[known]
        if np.count_nonzero(np.isfinite(there)) >= LEAST and np.any(np.nan_to_num(there)):
            yield unit, there
