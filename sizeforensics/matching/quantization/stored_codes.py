"""Quantised tensors as codes, and the ways in which the numbers stored for them may be shared.

Of an artifact with its payload all elements; of a snapshot those of the grid, where the numbers of all
of them are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sizeforensics.inventory import Quantization
from sizeforensics.matching.arrays import Array
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.kept_codes import plain_codes
from sizeforensics.matching.quantization.kept_scales import kept_spreads
from sizeforensics.matching.quantization.spreads import Spread, in_words, spreads
from sizeforensics.matching.quantization.stored_scales import Stored, codes_of, stored_scales
from sizeforensics.matching.units import Unit


class Reading(NamedTuple):
    """Codes, one way to share the numbers stored for them, and how to say it."""

    codes: Array
    spread: Spread
    words: str


class StoredCodes:
    """The quantised tensors of one side for which it stores a scale."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._inventory = pairing.inventories[side]
        self._stored: dict[int, Stored] = {}
        self._links: dict[int, Quantization] = {}
        if pairing.sampled:
            self._links = {link.tensor: link for link in self._inventory.quantizations}
        else:
            self._stored = stored_scales(self._inventory, pairing.coverages[side])

    @property
    def indices(self) -> set[int]:
        """Those of the tensors."""
        return self._stored.keys() | self._links.keys()

    def of(self, unit: Unit) -> Iterator[Reading]:
        """One tensor in every way that its numbers may be shared; nothing of one without any."""
        shape = unit.tensor.shape
        stored, link = self._stored.get(unit.index), self._links.get(unit.index)
        if stored is not None:
            codes = codes_of(self._inventory, unit, shape)
            for spread in [] if codes is None else spreads(shape, stored):
                if codes is not None:
                    yield Reading(codes, spread, in_words(spread, stored))
        elif link is not None and (kept := plain_codes(unit)) is not None:
            for spread, places in kept_spreads(self._inventory, link, shape):
                if places is None or places.whole(kept.grid.shape):
                    yield Reading(kept.grid, spread, f"quantised {spread.words}: what is kept is within half a step")
