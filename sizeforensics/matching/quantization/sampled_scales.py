"""Quantised tensors of two snapshots: the elements that both keep agree under the stored scale.

What ``quantized`` proves of all elements is inferred here from those of a grid: each has to lie
within half a step of the scale that the file says belongs to the tensor, one for all, for each channel
or for each block, as far as the scale of a place is kept too. Where the file names none, one has to be
stored near by (``sampled_unnamed``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from sizeforensics.excerpts import grid_shape
from sizeforensics.inventory import Quantization
from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.kept_codes import KeptCodes, packed_codes, plain_codes
from sizeforensics.matching.quantization.kept_scales import kept_spreads
from sizeforensics.matching.quantization.likeness import Likeness, axes_of
from sizeforensics.matching.quantization.quantized import may_be_codes
from sizeforensics.matching.quantization.sampled_unnamed import LEAST, KeptScales
from sizeforensics.matching.quantization.spreads import difference, holds_codes
from sizeforensics.matching.units import Unit

Shape = tuple[int, ...]


def match_sampled(pairing: Pairing) -> None:
    """Match free tensors that are quantised with free floats of the other side."""
    for side in (0, 1):
        _Side(pairing, side).match()


class _Side:
    """The quantised tensors of one side, and the floats of the other that they may stand for."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._pairing = pairing
        self._inventory = pairing.inventories[side]
        self._units = list(pairing.free[side].values())
        self._floats: dict[Shape, list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                self._floats[axes_of(unit.tensor.shape)].append(unit)
        self._scales = KeptScales(pairing, self._units)
        self._likeness: dict[tuple[Shape, Shape], Likeness] = {}

    def match(self) -> None:
        links = {link.tensor: link for link in self._inventory.quantizations}
        for codes in self._units:
            if not self._pairing.is_free(codes) or codes.sample is None or codes.sample.size < LEAST:
                continue
            link, plain = links.get(codes.index), plain_codes(codes)
            if link is not None and (link.scale is not None or link.step is not None):
                if plain is not None and holds_codes(codes.tensor.dtype.name):
                    self._match_stored(codes, plain, link)
                continue
            if plain is not None and may_be_codes(codes):
                self._match_unnamed(codes, plain)
            for kept in packed_codes(codes) if link is None and codes.distinctive else ():
                if self._pairing.is_free(codes):
                    self._match_unnamed(codes, kept)

    def _alike(self, kept: KeptCodes) -> Iterator[tuple[Unit, Array]]:
        """Floats most like the codes: the unit, and its values at the places of the codes."""
        held, known = grid_shape(kept.shape), np.isfinite(kept.grid)
        key = axes_of(kept.shape), held
        rivals = self._floats.get(key[0], [])
        if not rivals or np.count_nonzero(known) < LEAST:
            return
        if key not in self._likeness:
            self._likeness[key] = Likeness(self._pairing, rivals, held)
        likeness = self._likeness[key]
        # What is not kept is like anything.
        own = np.where(known, kept.grid, kept.grid[known].mean())
        for candidate in likeness.alike(own[likeness.places]):
            yield candidate.unit, likeness.turned(candidate)

    def _match_stored(self, codes: Unit, kept: KeptCodes, link: Quantization) -> None:
        spreads = list(kept_spreads(self._inventory, link, codes.tensor.shape))
        for unit, values in self._alike(kept) if spreads else ():
            for spread, places in spreads:
                own = kept.grid
                ours, theirs = (own, values) if places is None else map(places.of_codes, (own, values))
                found = None
                if ours.size >= LEAST:
                    found = difference(ours, theirs, spread, codes.tensor.dtype.name)
                if found is not None:
                    how = f"quantised {spread.words}: what is kept is within half a step"
                    self._pairing.pair(unit, codes, "inferred", how, found)
                    return

    def _match_unnamed(self, codes: Unit, kept: KeptCodes) -> None:
        """Match codes whose scale nobody names, and the scale and zero points stored near by."""
        found = self._scales.explain(codes, kept, list(self._alike(kept)))
        if found is not None:
            packed = kept.type_name if kept.words else ""
            self._pairing.pair(found.unit, codes, "inferred", found.how, found.difference, packed=packed)
            self._pairing.scale(found.scale, codes, "a scale that every kept element allows, of")
            if found.zeros is not None:
                words = "the zero points that every kept element allows, of"
                self._pairing.scale(found.zeros, codes, words)
