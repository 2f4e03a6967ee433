"""The state that the tiers of matching share: who is still free, who was matched, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sizeforensics.inventory import Inventory
from sizeforensics.matching.units import Unit
from sizeforensics.views import Coverage


class Match(NamedTuple):
    """A tensor of A that became a tensor of B: indices into the two inventories' tensors."""

    before: int
    after: int
    evidence: str
    """``proved`` when the full payloads were compared, else ``inferred``."""
    how: str
    difference: float = 0.0
    """The largest absolute difference between the two under the transformation."""
    elements: int | None = None
    """Elements matched, where one tensor is a slice of the other; None for all of them."""
    by_name: bool = False
    """Whether names or shapes are all that says so: other sizes are then no other encoding."""
    packed: str = ""
    """The type of the codes of which the integers of one side hold several each; empty otherwise."""

    def on(self, side: int) -> int:
        """The tensor of side 0, before, or 1, after."""
        return self.after if side else self.before


class Copy(NamedTuple):
    """A further copy, on one side, of content that is there (or on the other side) already."""

    side: int
    tensor: int
    of_side: int
    of_tensor: int
    how: str
    evidence: str = "proved"


class Fold(NamedTuple):
    """A tensor of one side that was absorbed into a tensor of the other side."""

    side: int
    tensor: int
    into: int
    how: str
    evidence: str = "proved"


class Scale(NamedTuple):
    """A tensor that scales a quantised tensor of the same side."""

    side: int
    tensor: int
    of: int
    how: str
    evidence: str = "proved"


@dataclass(frozen=True, slots=True)
class Matching:
    """What became of every tensor that owns bytes; a tensor in none of the lists is on its own."""

    matches: tuple[Match, ...]
    copies: tuple[Copy, ...]
    folds: tuple[Fold, ...]
    scales: tuple[Scale, ...]
    recipes: dict[tuple[int, int], tuple[str, int]]
    """(side, tensor) on its own to what regenerates it, in words and bytes of numbers."""
    coverages: tuple[Coverage, ...] = ()
    """What each tensor of the two sides claims, for those who account for the bytes."""


class Pairing:
    """The tensors of both sides that no tier has placed yet, and what the tiers found so far.

    ``free[side]`` maps tensor indices to units in the order of the inventory.
    """

    def __init__(
        self,
        inventories: tuple[Inventory, Inventory],
        units: tuple[list[Unit], list[Unit]],
        coverages: tuple[Coverage, ...] = (),
    ) -> None:
        self.coverages = coverages
        self.inventories = inventories
        self.units = units
        self.free = tuple({unit.index: unit for unit in side} for side in units)
        self.matched: tuple[set[int], set[int]] = (set(), set())
        self.matches: list[Match] = []
        self.copies: list[Copy] = []
        self.folds: list[Fold] = []
        self.scales: list[Scale] = []
        self.recipes: dict[tuple[int, int], tuple[str, int]] = {}
        self.sampled = any(unit.excerpt is not None for side in units for unit in side)
        """Whether some tensors are known by excerpts alone."""
        self.computed = "inferred" if self.sampled else "proved"
        """The evidence of a transformation that was computed: of excerpts it is no proof."""

    def is_free(self, unit: Unit) -> bool:
        return unit.index in self.free[unit.side]

    def pair(
        self, one: Unit, other: Unit, evidence: str, how: str, difference: float = 0.0,
        *, elements: int | None = None, by_name: bool = False, packed: str = "",
    ) -> None:
        """Match two free units of different sides, in whatever order they are given.

        ``elements`` is their number where one of the units has more that nothing corresponds to,
        ``by_name`` whether nothing but names or shapes says so, ``packed`` the type of the codes that
        integers hold several of.
        """
        before, after = (one, other) if one.side == 0 else (other, one)
        del self.free[0][before.index]
        del self.free[1][after.index]
        self.matched[0].add(before.index)
        self.matched[1].add(after.index)
        self.matches.append(
            Match(before.index, after.index, evidence, how, difference, elements, by_name, packed)
        )

    def slices(
        self, parts: Sequence[tuple[Unit, Unit, int, str]], evidence: str = "proved"
    ) -> None:
        """Match slices of free units: (one, other, elements, how) for each run they share."""
        for one, other, count, how in parts:
            before, after = (one, other) if one.side == 0 else (other, one)
            self.matches.append(Match(before.index, after.index, evidence, how, 0.0, count))
            for unit in (one, other):
                self.free[unit.side].pop(unit.index, None)
                self.matched[unit.side].add(unit.index)

    def copy(self, unit: Unit, of: Unit, how: str, evidence: str = "proved") -> None:
        """Place a free unit as a further copy of another unit of either side."""
        del self.free[unit.side][unit.index]
        self.copies.append(Copy(unit.side, unit.index, of.side, of.index, how, evidence))

    def fold(self, unit: Unit, into: Unit, how: str, evidence: str = "proved") -> None:
        """Place a free unit as absorbed by a unit of the other side."""
        del self.free[unit.side][unit.index]
        self.folds.append(Fold(unit.side, unit.index, into.index, how, evidence))

    def scale(self, unit: Unit, of: Unit, how: str) -> None:
        """Place a free unit as the scale of a quantised unit of its own side."""
        del self.free[unit.side][unit.index]
        self.scales.append(Scale(unit.side, unit.index, of.index, how, self.computed))

    def result(self) -> Matching:
        return Matching(
            tuple(sorted(self.matches, key=lambda match: match[:2])),
            tuple(sorted(self.copies)),
            tuple(sorted(self.folds)),
            tuple(sorted(self.scales)),
            self.recipes,
            self.coverages,
        )
