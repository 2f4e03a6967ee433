"""Tile the bytes ``[0, size)`` of one file with owned spans that neither overlap nor leave gaps.

Spans are columns, not objects: a model of 50,000 nodes has several hundred thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LawBroken, LimitExceeded
from sizeforensics.limits import DEFAULT_LIMITS, Limits

ROLES = (
    "tensor-data", "graph", "names", "pickle", "code", "debug-info", "value-info", "metadata",
    "container", "alignment", "unclaimed",
)  # fmt: skip
(TENSOR_DATA, GRAPH, NAMES, PICKLE, CODE, DEBUG_INFO, VALUE_INFO, METADATA, CONTAINER, ALIGNMENT,
 UNCLAIMED) = range(len(ROLES))  # fmt: skip

Integers = npt.NDArray[np.int64]


class Owners:
    """The table of who owns spans: a name to show, and the subject its bytes are summed under.

    A span stores an index into this table. ``subject`` groups what a reader wants as one row:
    all nodes of one operator, all descriptions of tensors, one top-level key of a checkpoint.
    """

    __slots__ = ("_index", "names", "subjects")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.subjects: list[str] = []
        self._index: dict[tuple[str, str], int] = {}

    def add(self, name: str, subject: str) -> int:
        """The index of this owner, which is added unless it is there already."""
        key = (name, subject)
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self.names)
            self.names.append(name)
            self.subjects.append(subject)
        return index

    def extend(self, names: list[str], subjects: list[str]) -> Integers:
        """Add owners in bulk without looking for equal ones; the indices, shape ``(len(names),)``."""
        first = len(self.names)
        self.names.extend(names)
        self.subjects.extend(subjects)
        return np.arange(first, len(self.names), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans that tile one file, ascending; four columns of equal length.

    ``starts``, ``ends`` are offsets in bytes, ``roles`` indices into ``ROLES``, ``owners`` indices
    into the inventory's ``Owners``. Raises LawBroken unless they tile ``[0, size)``.
    """

    size: int
    starts: Integers
    ends: Integers
    roles: npt.NDArray[np.uint8]
    owners: Integers
    counts: Integers | None = None
    """Spans that each stands for, where a file is known by its totals only; one each if None."""

    def __post_init__(self) -> None:
        if len(self.starts) == 0:
            if self.size:
                raise LawBroken(f"no span covers a file of {self.size:,} bytes")
            return
        broken = np.flatnonzero(self.starts[1:] != self.ends[:-1])
        if len(broken):
            at = int(broken[0])
            raise LawBroken(
                f"spans do not tile: [{self.starts[at]:#x}, {self.ends[at]:#x}) is followed by "
                f"[{self.starts[at + 1]:#x}, {self.ends[at + 1]:#x})"
            )
        if self.starts[0] != 0 or self.ends[-1] != self.size or np.any(self.ends <= self.starts):
            raise LawBroken(
                f"spans cover [{self.starts[0]:#x}, {self.ends[-1]:#x}) of a file of "
                f"{self.size:,} bytes, or one of them is empty"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int, str, int]]:
        """(start, end, role, owner index) of every span."""
        for start, end, role, owner in zip(
            self.starts.tolist(), self.ends.tolist(), self.roles.tolist(), self.owners.tolist(),
            strict=True,
        ):
            yield start, end, ROLES[role], owner

    def bytes_by_role(self) -> Integers:
        """Bytes of each role, in the order of ``ROLES``."""
        return sum_by(self.roles, self.ends - self.starts, len(ROLES))


def sum_by(keys: npt.NDArray[np.integer], amounts: Integers, count: int) -> Integers:
    """Sum of ``amounts`` for each key in ``range(count)``, in exact integers."""
    total = np.zeros(count, dtype=np.int64)
    np.add.at(total, keys, amounts)
    return total


@dataclass(slots=True)
class SpanSink:
    """Collects the spans of one file in any order; ``finish`` sorts and checks them.

    Raises LimitExceeded when more than ``limits.spans`` are claimed.
    """

    path: str = ""
    limits: Limits = DEFAULT_LIMITS
    _count: int = 0
    _columns: list[tuple[Integers, Integers, npt.NDArray[np.uint8], Integers]] = field(
        default_factory=list
    )
    _rows: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, start: int, end: int, role: int, owner: int) -> None:
        """Claim ``[start, end)``; an empty range is no span and is dropped."""
        if end > start:
            self._rows.append((start, end, role, owner))
            if len(self._rows) > self.limits.spans:
                self._refuse(start)

    def extend(
        self,
        starts: Integers,
        ends: Integers,
        roles: npt.NDArray[np.uint8] | int,
        owners: Integers | int,
    ) -> None:
        """Claim many ranges at once; empty ranges are dropped."""
        kept = ends > starts
        size = len(starts)
        self._count += int(np.count_nonzero(kept))
        if self._count > self.limits.spans:
            self._refuse(int(starts[0]))
        self._columns.append((
            starts[kept], ends[kept],
            np.broadcast_to(np.asarray(roles, dtype=np.uint8), size)[kept],
            np.broadcast_to(np.asarray(owners, dtype=np.int64), size)[kept],
        ))

    def _refuse(self, start: int) -> NoReturn:
        raise LimitExceeded(self.path, start, "spans", self.limits.spans, "more")

    def finish(self, size: int, unclaimed_owner: int) -> Spans:
        """The tiling of ``[0, size)``: gaps become ``unclaimed``, touching spans of one role and
        owner become one. Raises LawBroken on overlap."""
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, 4)
        columns = [*self._columns, (rows[:, 0], rows[:, 1], rows[:, 2].astype(np.uint8), rows[:, 3])]
        starts, ends, roles, owners = (
            np.concatenate([part[i] for part in columns]) for i in range(4)
        )
        order = np.argsort(starts, kind="stable")
        starts, ends, roles, owners = starts[order], ends[order], roles[order], owners[order]

        # Where one span ends and the next begins there may be a gap: give it to nobody, visibly.
        gap_starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        gap_ends = np.concatenate([starts, np.array([size], dtype=np.int64)])
        gaps = np.flatnonzero(gap_ends > gap_starts)
        if len(gaps):
            starts = np.insert(starts, gaps, gap_starts[gaps])
            ends = np.insert(ends, gaps, gap_ends[gaps])
            roles = np.insert(roles, gaps, np.uint8(UNCLAIMED))
            owners = np.insert(owners, gaps, unclaimed_owner)

        if len(starts):
            first = np.ones(len(starts), dtype=bool)
            first[1:] = (
                (roles[1:] != roles[:-1]) | (owners[1:] != owners[:-1]) | (starts[1:] != ends[:-1])
            )
            last = np.append(first[1:], True)
            starts, ends, roles, owners = starts[first], ends[last], roles[first], owners[first]
        return Spans(size, starts, ends, roles, owners)
