"""Scales that a file stores without saying of what, found by the bounds that every element sets.

A safetensors file or a state dict lists scales beside weights, in layouts that only a library knows:

- one number, one for each row or column, or one for each block of a row, as it is multiplied
  (``weight_scale`` of compressed-tensors, ``scale`` of MX with exponents alone, OCP Microscaling 1.0);
- one for each square (``weight_scale_inv`` of DeepSeek-V3, which is multiplied in spite of its name);
- the largest absolute value in place of the scale (``SCB`` of bitsandbytes, ``w = q SCB / 127``).

None of these names is looked at. How many scales there are follows from the shape, and what each can
be from the codes and the values: the tensor that has all of them between their bounds is the scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import xxhash

from sizeforensics.content import decoded
from sizeforensics.matching.arrays import ROUNDOFF, Array, Doubles, Vector
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import COLUMNS, SortedRows, evenly
from sizeforensics.matching.quantization.packings import PER_WORD, packings
from sizeforensics.matching.quantization.scale_bounds import (
    Fit,
    difference_under,
    fit,
    groupings,
)
from sizeforensics.matching.quantization.spreads import SLACK, Span, enough
from sizeforensics.matching.units import Unit

EXPONENTS = "float8_e8m0fnu"
"""A type of scales alone."""

ABSMAX = 127
"""What the largest absolute value becomes, where that is stored in place of the scale."""


class Explained(NamedTuple):
    """How codes quantise values, and the tensor that scales them, if one is stored."""

    how: str
    difference: float
    scale: Unit | None
    zero: Vector
    """The zero point of each group, in the order of the scales in C order."""


class _Numbers(NamedTuple):
    """The elements of a tensor that can be scales, in C order or in that of its transpose."""

    unit: Unit
    values: Vector


class Scales:
    """The free floats of one side, by how many elements they have and what these are."""

    def __init__(self, pairing: Pairing, units: Sequence[Unit]) -> None:
        self._pairing = pairing
        self._units: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.digest is not None and unit.tensor.dtype.name in (*ROUNDOFF, EXPONENTS):
                self._units[unit.tensor.elements].append(unit)
        self._tables: dict[int, tuple[list[_Numbers], SortedRows]] = {}

    def explain(
        self, codes: Unit, own: Array, values: Array, span: Span, zero: Array | None
    ) -> Explained | None:
        """How ``own``, the elements of ``codes``, quantise the values; None where no scale does."""
        possible = None
        for grouped in groupings(own, values):
            for roundoff in self._roundoffs(len(grouped.codes)):
                bounds = fit(grouped, span, zero, roundoff)
                if bounds is None:
                    continue
                shifted = ", with zero points" if bounds.zero.any() else ""
                how = f"quantised {grouped.words}{shifted}: one scale puts every element within half a step"
                for unit, scale in self._within(codes, bounds, span):
                    worst, telling = difference_under(grouped, scale, bounds.zero, span)
                    if enough(telling, own.size, span.type_name):
                        return Explained(f"{how}, as {unit.tensor.name} does", worst, unit, bounds.zero)
                if possible is None and not roundoff:
                    worst, _ = difference_under(grouped, bounds.middle, bounds.zero, span)
                    possible = Explained(f"{how}, but none is stored", worst, None, bounds.zero)
        return possible

    def _roundoffs(self, count: int) -> list[float]:
        """How far computing with scales of the types may have rounded of which there are so many."""
        names = {unit.tensor.dtype.name for unit in self._units.get(count, ())}
        return sorted({0.0, *(ROUNDOFF[name] for name in names & {"float16", "bfloat16"})})

    def _within(self, codes: Unit, bounds: Fit, span: Span) -> Iterator[tuple[Unit, Vector]]:
        """Free tensors whose numbers are between the bounds, those stored nearest to the codes first."""
        count = len(bounds.low)
        if not np.isfinite(bounds.high).any() or count not in self._units:
            return
        numbers, table = self._table(count)
        places = evenly(count, COLUMNS)
        for factor in (1, ABSMAX) if span.most == ABSMAX else (1,):
            low, high = bounds.low * factor * (1 - SLACK), bounds.high * factor * (1 + SLACK)
            found = [numbers[row] for row in table.between(low[places], high[places]).tolist()]
            for unit, values in sorted(found, key=lambda one: abs(one.unit.index - codes.index)):
                free = self._pairing.is_free(unit) and unit is not codes
                if free and np.all((values >= low) & (values <= high)):
                    yield unit, values / factor

    def _table(self, count: int) -> tuple[list[_Numbers], SortedRows]:
        if count not in self._tables:
            numbers = [found for unit in self._units[count] for found in self._orders(unit)]
            places = evenly(count, COLUMNS)
            rows = np.array([values[places] for _, values in numbers]).reshape(-1, len(places))
            self._tables[count] = numbers, SortedRows(rows)
        return self._tables[count]

    def _orders(self, unit: Unit) -> Iterator[_Numbers]:
        flat = decoded(self._pairing.inventories[unit.side], unit.tensor)
        if flat is not None:
            values: Doubles = flat.astype(np.float64)
            yield _Numbers(unit, values)
            sizes = [size for size in unit.tensor.shape if size != 1]
            if len(sizes) == 2:
                yield _Numbers(unit, values.reshape(sizes).T.reshape(-1))


class ZeroPoints:
    """The free integers of one side as zero points: plain or packed, by what they hold."""

    def __init__(self, pairing: Pairing, units: Sequence[Unit]) -> None:
        self._pairing = pairing
        self._units: dict[int, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.digest is not None and unit.tensor.dtype.kind in ("int", "uint"):
                self._units[unit.tensor.elements].append(unit)
        self._tables: dict[int, dict[bytes, list[Unit]]] = {}

    def of(self, explained: Explained, codes: Unit) -> Unit | None:
        """The free tensor that holds the zero points, in any layout; None where there is none."""
        likely = self._table(len(explained.zero)).get(_key(explained.zero), [])
        return min(
            (unit for unit in likely if unit is not codes and self._pairing.is_free(unit)),
            key=lambda unit: abs(unit.index - codes.index), default=None,
        )  # fmt: skip

    def _table(self, count: int) -> dict[bytes, list[Unit]]:
        """What all tensors that can hold so many zero points hold."""
        if count not in self._tables:
            table = self._tables[count] = defaultdict(list)
            for elements in {count, *(count // each for each in PER_WORD)}:
                for unit in self._units.get(elements, ()):
                    for key in self._keys(unit, count):
                        table[key].append(unit)
        return self._tables[count]

    def _keys(self, unit: Unit, count: int) -> set[bytes]:
        flat = decoded(self._pairing.inventories[unit.side], unit.tensor)
        if flat is None:
            return set()
        found = [flat.reshape(unit.tensor.shape)]
        if len(unit.tensor.shape) == 2:
            for packing in packings(unit.tensor.dtype.name):
                codes = packing.codes(found[0]).astype(np.int64)
                found += [codes, codes + 1]
        return {_key(order) for zeros in found if zeros.size == count for order in (zeros, zeros.T)}


def _key(zeros: Array) -> bytes:
    return xxhash.xxh3_128_digest(np.ascontiguousarray(zeros, dtype=np.int64).data)
