"""Tier 6: integers that stand for the other side's floats within half a step of a scale.

Where the file says which scale and zero point belong to a tensor, they have to put every element
within half a step (``spreads``); nothing else is tried.

Where it does not say the scale, it is asked whether any scale allows every element
(``scale_bounds``). It is proved when such a scale is stored beside the tensor; without one it is
inferred.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import Likeness, axes_of
from sizeforensics.matching.quantization.packings import packings
from sizeforensics.matching.quantization.spreads import (
    Span,
    difference,
    holds_codes,
    in_words,
    span_of,
    spreads,
)
from sizeforensics.matching.quantization.stored_scales import Stored, codes_of, stored_scales
from sizeforensics.matching.quantization.unnamed_scales import Explained, Scales, ZeroPoints
from sizeforensics.matching.units import Unit


def match_quantized(pairing: Pairing) -> None:
    """Match free integer tensors with free float tensors of the other side that they quantise."""
    for side in (0, 1):
        _Side(pairing, side).match()


class _Side:
    """The quantised tensors of one side, and the floats of the other that they may stand for."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self.pairing = pairing
        self.inventory = pairing.inventories[side]
        self.units = list(pairing.free[side].values())
        coverage = pairing.coverages[side]
        self.stored = stored_scales(self.inventory, coverage)
        self.floats: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                self.floats[axes_of(unit.tensor.shape)].append(unit)
        self.scales = Scales(pairing, self.units)
        self.zeros = ZeroPoints(pairing, self.units)
        self._likeness: dict[tuple[int, ...], Likeness] = {}

    def match(self) -> None:
        """Match all of them."""
        for unit in filter(self.pairing.is_free, self.units):
            stored = self.stored.get(unit.index)
            if stored is not None and stored.scale is not None:
                if unit.digest is not None and holds_codes(unit.tensor.dtype.name):
                    self._under_stored(unit, stored)
            elif may_be_codes(unit):
                self._under_any(unit, None if stored is None else stored.zero_point)
            if stored is None and self.pairing.is_free(unit):
                self._unpacked(unit)

    def _like(self, shape: tuple[int, ...]) -> Likeness | None:
        rivals = self.floats.get(axes_of(shape), [])
        if rivals and shape not in self._likeness:
            self._likeness[shape] = Likeness(self.pairing, rivals, shape)
        return self._likeness.get(shape)

    def _under_stored(self, codes: Unit, stored: Stored) -> None:
        """Match one tensor with the floats it stands for under the numbers stored for it."""
        name, shape = codes.tensor.dtype.name, codes.tensor.shape
        if stored.width is not None and shape and stored.width <= shape[-1]:
            shape = (*shape[:-1], stored.width)
        likeness = self._like(shape)
        own = None if likeness is None else codes_of(self.inventory, codes, shape)
        if likeness is None or own is None:
            return
        for spread in spreads(shape, stored):
            for candidate in likeness.fitting(own, spread, span_of(own, name)):
                found = difference(own, likeness.turned(candidate), spread, name)
                if found is not None:
                    how = in_words(spread, stored)
                    filled = own.size if shape != codes.tensor.shape else None
                    self.pairing.pair(candidate.unit, codes, "proved", how, found, elements=filled)
                    return

    def _under_any(self, codes: Unit, zero: Array | None) -> None:
        """Match one tensor whose scale nobody names, and the scale if one is stored."""
        shape = codes.tensor.shape
        likeness = self._like(shape)
        own = None if likeness is None else codes_of(self.inventory, codes, shape)
        if likeness is None or own is None:
            return
        span = span_of(own, codes.tensor.dtype.name)
        possible: tuple[Unit, Explained] | None = None
        for unit, found in self._explained(codes, own, likeness, span, zero):
            if found.scale is not None:
                self.pairing.pair(unit, codes, "proved", found.how, found.difference)
                self._place_numbers(codes, found, found.scale)
                return
            possible = possible or (unit, found)
        if possible is not None:
            self.pairing.pair(possible[0], codes, "inferred", possible[1].how, possible[1].difference)

    def _unpacked(self, codes: Unit) -> None:
        """Match one matrix of integers that may hold several codes each, under a scale that is stored."""
        tensor = codes.tensor
        if len(tensor.shape) != 2 or not codes.distinctive:
            return
        for packing in packings(tensor.dtype.name):
            likeness = self._like(packing.shape(tensor.shape))
            words = None if likeness is None else codes_of(self.inventory, codes, tensor.shape)
            if likeness is None or words is None:
                continue
            own = packing.codes(words)
            span = span_of(own, packing.type_name)
            for unit, found in self._explained(codes, own, likeness, span, None):
                if found.scale is not None:
                    how = f"{packing.words}: {found.how}"
                    self.pairing.pair(
                        unit, codes, "proved", how, found.difference, packed=packing.type_name
                    )
                    self._place_numbers(codes, found, found.scale)
                    return

    def _explained(
        self, codes: Unit, own: Array, likeness: Likeness, span: Span, zero: Array | None
    ) -> Iterator[tuple[Unit, Explained]]:
        for candidate in likeness.alike(own[likeness.places]):
            found = self.scales.explain(codes, own, likeness.turned(candidate), span, zero)
            if found is not None:
                yield candidate.unit, found

    def _place_numbers(self, codes: Unit, found: Explained, scale: Unit) -> None:
        self.pairing.scale(scale, codes, "a scale that every element allows, of")
        zeros = self.zeros.of(found, codes) if found.zero.any() else None
        if zeros is not None:
            self.pairing.scale(zeros, codes, "the zero points that every element allows, of")


def may_be_codes(unit: Unit) -> bool:
    """Whether a tensor may be quantised where no scale is named: small numbers in rows."""
    return (
        unit.distinctive
        and holds_codes(unit.tensor.dtype.name)
        and unit.tensor.dtype.bits <= 16
        and len(unit.tensor.shape) > 1
    )
