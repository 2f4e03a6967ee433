"""Where rows can be found by how they begin: sorted columns of hashes, for there may be millions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.bags import GOLDEN
from sizeforensics.spans import Integers

Hashes = npt.NDArray[np.uint64]


class _Column(NamedTuple):
    """Rows in the order of their hashes; those of one hash in the order in which they were added."""

    hashes: Hashes
    sheets: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]


class Beginnings:
    """Rows of numbered sheets by the hash of their first elements, apart for each ``kind``.

    A hash may be that of other elements: what is found has to be compared.
    """

    def __init__(self) -> None:
        self._added: dict[Hashable, list[_Column]] = defaultdict(list)
        self._sorted: dict[Hashable, _Column] = {}

    def add(self, kind: Hashable, sheet: int, rows: Integers, windows: npt.NDArray[Any]) -> None:
        """Rows of a sheet, and how each begins: ``windows`` of shape ``(len(rows), n)``."""
        sheets = np.full(len(rows), sheet, dtype=np.int32)
        self._added[kind].append(_Column(_hashed(windows), sheets, rows.astype(np.int32)))

    def find(
        self, kind: Hashable, windows: npt.NDArray[Any], most: int
    ) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """(which window, the first ``most`` (sheet, row) that begin like it), where there are any."""
        column = self._column(kind)
        hashed = _hashed(windows)
        order = np.argsort(hashed)  # neighbours are looked for in the same places of a long column
        wanted = hashed[order]
        first = np.searchsorted(column.hashes, wanted)
        hit = column.hashes[np.minimum(first, len(column.hashes) - 1)] == wanted
        order, first = order[hit], first[hit]
        last = np.searchsorted(column.hashes, wanted[hit], side="right")
        for at, start, end in zip(order.tolist(), first.tolist(), last.tolist(), strict=True):
            alike = slice(start, min(end, start + most))
            pairs = zip(column.sheets[alike].tolist(), column.rows[alike].tolist(), strict=True)
            yield at, list(pairs)

    def _column(self, kind: Hashable) -> _Column:
        added = self._added.pop(kind, None)
        if added is not None:
            hashes, sheets, rows = (np.concatenate(parts) for parts in zip(*added, strict=True))
            order = np.argsort(hashes, kind="stable")
            self._sorted[kind] = _Column(hashes[order], sheets[order], rows[order])
        return self._sorted[kind]


def _hashed(windows: npt.NDArray[Any]) -> Hashes:
    """One number for each row of a matrix of elements, from their bits."""
    size = windows.shape[1] * windows.itemsize
    padded = np.zeros((len(windows), -(-size // 8) * 8), dtype=np.uint8)
    padded[:, :size] = np.ascontiguousarray(windows).view(np.uint8).reshape(len(windows), size)
    found = np.zeros(len(windows), dtype=np.uint64)
    for word in padded.view(np.uint64).T:
        found = (found ^ word) * GOLDEN
        found ^= found >> np.uint64(32)
    return found
