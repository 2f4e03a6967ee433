"""What a file loses besides, when some of its bytes go: framing that goes or shrinks with them.

Cuts are ranges of one file, ``(n, 2)`` offsets, ascending and disjoint. What a fix saves is the cuts
themselves and what the file's layout says goes besides: the header of a record that is no more, the
digits of a length that gets smaller, padding that is another one behind a shorter record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sizeforensics.spans import ALIGNMENT, CONTAINER, Integers

_MOST_ALIGNMENT = 1 << 20


class Besides(NamedTuple):
    """Columns: ``nbytes`` of ``roles`` go at ``places`` of the file; negative where padding grows."""

    places: Integers
    nbytes: Integers
    roles: npt.NDArray[np.uint8]


class Layout(Protocol):
    """How a file frames what it holds."""

    def besides(self, cuts: Integers) -> Besides:
        """What goes besides ``cuts`` when they go and the same writer writes the rest again."""
        ...


def inside(cuts: Integers, starts: Integers, ends: Integers) -> Integers:
    """Bytes of the cuts in each ``[start, end)``."""
    return _before(cuts, ends) - _before(cuts, starts)


def _before(cuts: Integers, places: Integers) -> Integers:
    """Bytes of the cuts in front of each place."""
    lengths = cuts[:, 1] - cuts[:, 0]
    sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    after = np.searchsorted(cuts[:, 0], places, side="right")
    last = np.maximum(after - 1, 0)
    return np.where(
        after > 0, sums[last] + np.minimum(places - cuts[last, 0], lengths[last]), 0
    )


@dataclass(frozen=True, slots=True)
class Records:
    """Payloads ``[starts, ends)`` in the order of the file, each with framing of its own.

    ``before`` and ``behind`` are the bytes of framing that touch a payload, ``elsewhere`` those in a
    table; ``paddings`` fill the file up in front of a payload. A record whose payload is cut
    altogether goes with all of them.
    """

    starts: Integers
    ends: Integers
    before: Integers
    paddings: Integers
    behind: Integers
    elsewhere: Integers

    def besides(self, cuts: Integers) -> Besides:
        if not len(self.starts):
            return Besides(self.starts, self.starts, self.starts.astype(np.uint8))
        lengths = self.ends - self.starts
        left = lengths - inside(cuts, self.starts, self.ends)
        kept = np.flatnonzero((left > 0) | (lengths == 0))
        framing, padding = self.before + self.behind + self.elsewhere, self.paddings.copy()
        framing[kept] = padding[kept] = 0
        alignment = self.alignment()
        if alignment:
            padding[kept] = self.paddings[kept] - (-self._unpadded(kept, left) % alignment)
        return Besides(
            np.concatenate([self.starts, self.starts]), np.concatenate([framing, padding]),
            np.repeat(np.array([CONTAINER, ALIGNMENT], dtype=np.uint8), len(framing)),
        )

    def alignment(self) -> int:
        """What every payload begins at a multiple of, as all paddings show; 0 where they do not."""
        everything = np.arange(len(self.starts))
        unpadded = self._unpadded(everything, self.ends - self.starts)
        alignment = 1
        while alignment <= _MOST_ALIGNMENT:
            if np.array_equal(-unpadded % alignment, self.paddings):
                return alignment
            alignment *= 2
        return 0

    def _unpadded(self, rows: Integers, lengths: Integers) -> Integers:
        """Bytes from where the payload before begins, an aligned place, to each payload, unpadded."""
        found = self.before[rows]
        found[1:] += (lengths + self.behind)[rows[:-1]]
        return found


_FIRST_OF_BYTES = np.array([0, *(1 << bits for bits in range(7, 63, 7))], dtype=np.int64)
"""The least value that takes one byte as a varint, two, three…"""
_NONE = np.zeros(0, dtype=np.int64)
PLAIN = Records(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE)
"""A file that frames nothing, or of which nobody knows how: the cuts go and nothing besides."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Fields of protobuf with a length: at ``heads``, their content in ``[starts, ends)``.

    ``depths`` says how many of them are around each, ``roles`` what tag and length are. The length is
    a varint, which gets shorter. A large model has a million of them, hence the narrow columns.
    """

    heads: Integers
    starts: Integers
    ends: Integers
    depths: npt.NDArray[np.uint16]
    roles: npt.NDArray[np.uint8]

    @classmethod
    def ordered(cls, parts: Sequence[Messages]) -> Messages:
        """All of them in one, by where they begin."""
        if not parts:
            return cls(_NONE, _NONE, _NONE, _NONE.astype(np.uint16), _NONE.astype(np.uint8))
        order = np.argsort(np.concatenate([part.heads for part in parts]), kind="stable")
        return cls(
            np.concatenate([part.heads for part in parts])[order],
            np.concatenate([part.starts for part in parts])[order],
            np.concatenate([part.ends for part in parts])[order],
            np.concatenate([part.depths for part in parts])[order],
            np.concatenate([part.roles for part in parts])[order],
        )

    def besides(self, cuts: Integers) -> Besides:
        lost = inside(cuts, self.starts, self.ends)
        # A field that goes altogether has no length left to shrink.
        touched = np.flatnonzero((lost > 0) & (inside(cuts, self.heads, self.starts) == 0))
        places, nbytes, roles = np.zeros((3, 0), dtype=np.int64)
        order = touched[np.argsort(-self.depths[touched].astype(np.int64), kind="stable")]
        for level in np.split(order, np.flatnonzero(np.diff(self.depths[order])) + 1):
            sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(nbytes)])
            first, last = (np.searchsorted(places, edge[level]) for edge in (self.starts, self.ends))
            length = self.ends[level] - self.starts[level]
            shorter = length - lost[level] - (sums[last] - sums[first])
            saved = _varint_bytes(length) - _varint_bytes(shorter)
            places = np.concatenate([places, self.heads[level]])
            nbytes = np.concatenate([nbytes, saved])
            roles = np.concatenate([roles, self.roles[level]])
            rank = np.argsort(places, kind="stable")
            places, nbytes, roles = places[rank], nbytes[rank], roles[rank]
        return Besides(places, nbytes, roles.astype(np.uint8))


def _varint_bytes(values: Integers) -> Integers:
    """Bytes of each value as a varint: seven bits in each."""
    return np.searchsorted(_FIRST_OF_BYTES, values, side="right").astype(np.int64)
