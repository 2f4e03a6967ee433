"""Who owns the bytes of a pickle: nested claims, of which the innermost counts, made a tiling."""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LawBroken
from sizeforensics.spans import Integers


class Tiling(NamedTuple):
    """Columns that tile ``[0, size)``, ascending; ``owners`` indexes the table of the claims."""

    starts: Integers
    ends: Integers
    roles: npt.NDArray[np.uint8]
    owners: Integers


class Claims:
    """A table of owners and what they claim. Of two claims of the same bytes the later counts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.subjects: list[str] = []
        self._starts = array("q")
        self._ends = array("q")
        self._roles = array("B")
        self._owners = array("q")

    def owner(self, name: str, subject: str) -> int:
        """A new owner; its index."""
        self.names.append(name)
        self.subjects.append(subject)
        return len(self.names) - 1

    def claim(self, start: int, end: int, role: int, owner: int) -> None:
        if end > start:
            self._starts.append(start)
            self._ends.append(end)
            self._roles.append(role)
            self._owners.append(owner)

    def tile(self, size: int) -> Tiling:
        """The claims on ``[0, size)`` flattened, touching spans of one role and owner joined.

        Raises LawBroken when claims cross or leave a gap: a pickle's values lie inside each other.
        """
        claim_starts = np.array(self._starts, dtype=np.int64)
        claim_ends = np.array(self._ends, dtype=np.int64)
        order = np.lexsort((np.arange(len(claim_starts)), -claim_ends, claim_starts))
        positions, claims = _flatten(
            claim_starts[order].tolist(), claim_ends[order].tolist(), order.tolist(), size
        )
        starts = np.array(positions, dtype=np.int64)
        roles = np.array(self._roles, dtype=np.uint8)[claims]
        owners = np.array(self._owners, dtype=np.int64)[claims]
        first = np.ones(len(starts), dtype=bool)
        first[1:] = (roles[1:] != roles[:-1]) | (owners[1:] != owners[:-1])
        starts = starts[first]
        return Tiling(starts, np.append(starts[1:], size), roles[first], owners[first])


def _flatten(
    starts: list[int], ends: list[int], order: list[int], size: int
) -> tuple[list[int], list[int]]:
    """Where the innermost claim changes, and to which claim."""
    positions: list[int] = []
    claims: list[int] = []
    inside: list[tuple[int, int]] = []  # the claims around the current one: end, claim

    def change(position: int, claim: int) -> None:
        if positions and positions[-1] == position:
            claims[-1] = claim
        else:
            positions.append(position)
            claims.append(claim)

    for start, end, claim in zip(starts, ends, order, strict=True):
        while inside and inside[-1][0] <= start:
            closed, _ = inside.pop()
            if inside and inside[-1][0] > closed:
                change(closed, inside[-1][1])
        if end > (inside[-1][0] if inside else size) or (not inside and start != 0):
            raise LawBroken(f"claims on the bytes of a pickle cross at [{start:#x}, {end:#x})")
        change(start, claim)
        inside.append((end, claim))
    while inside:
        closed, _ = inside.pop()
        if inside and inside[-1][0] > closed:
            change(closed, inside[-1][1])
    if (positions[0] if positions else size) != 0:
        raise LawBroken("no claim covers the pickle")
    return positions, claims
