"""Fields of protobuf messages as columns of offsets, and the values that are asked of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import numpy as np

from sizeforensics.formats.encodings.protobuf_scalars import HEADER, varint, varints
from sizeforensics.source import Source
from sizeforensics.spans import Integers

FEW = 64
"""With fewer items than this a numpy step costs more than a Python loop."""
REGION = 1 << 20
"""Bytes that are loaded at once; also bounds the fields of one chunk, 40 bytes each."""
PEEK = 1 << 12
"""Bytes read after stepping over a payload: the header of what comes next."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of some of the messages of a batch, in file order; columns of equal length.

    ``message`` indexes the batch. A field is ``[starts, ends)`` and its payload ``[payloads,
    ends)``, offsets of the file; ``tags`` are ``number << 3 | wire type``. ``first`` and ``count``
    say which messages begin in this chunk: every message begins in exactly one, also when it has
    no field.
    """

    source: Source
    first: int
    count: int
    message: Integers
    tags: Integers
    starts: Integers
    payloads: Integers
    ends: Integers
    loaded: list[tuple[int, bytes]]
    """Blocks of the file that are in memory: where each begins, and its bytes; ascending."""

    def __len__(self) -> int:
        return len(self.tags)

    @property
    def begun(self) -> slice:
        """The messages of the batch that begin in this chunk."""
        return slice(self.first, self.first + self.count)

    def forget(self) -> None:
        """Hold no bytes any more; what is asked for from now on is read again."""
        self.loaded.clear()

    def bytes_at(self, start: int, end: int) -> bytes:
        """The bytes ``[start, end)`` of the file, from memory where they were loaded."""
        block = bisect_right(self.loaded, start, key=itemgetter(0)) - 1
        if block >= 0:
            base, loaded = self.loaded[block]
            if end - base <= len(loaded):
                return loaded[start - base : end - base]
        return self.source.read(start, end)

    def texts(self, rows: Integers, most: int | None = None) -> list[str]:
        """The payloads of these rows as text; bytes that are not UTF-8 become hex escapes.

        ``most`` cuts every payload to that many bytes.
        """
        starts, ends = self.payloads[rows], self.ends[rows]
        if most is not None:
            ends = np.minimum(ends, starts + most)
        found: list[str] = []
        for first, last in regions(starts, ends) if len(rows) else ():
            base = int(starts[first])
            data = self.bytes_at(base, int(ends[last - 1]))
            found += _cut(data, starts[first:last] - base, ends[first:last] - base)
        return found

    def varints(self, rows: Integers) -> Integers:
        """The values of these varint fields; 2^63 and more are negative."""
        starts, ends = self.payloads[rows], self.ends[rows]
        found = np.empty(len(rows), dtype=np.int64)
        for first, last in regions(starts, ends) if len(rows) else ():
            base = int(starts[first])
            data = self.bytes_at(base, int(ends[last - 1])) + bytes(HEADER)
            if last - first < FEW:
                for row in range(first, last):
                    value = varint(data, int(starts[row]) - base)[0]
                    found[row] = value - (1 << 64) if value >> 63 else value
            else:
                loaded = np.frombuffer(data, dtype=np.uint8)
                found[first:last] = varints(loaded, starts[first:last] - base)[0]
        return found

    def singular(self, tag: int, most: int | None = None) -> list[str]:
        """A text field of every message that begins in this chunk: the last one, or ""."""
        rows = np.flatnonzero(self.tags == tag)
        return self.one_each(rows, self.texts(rows, most))

    def one_each(self, rows: Integers, texts: list[str]) -> list[str]:
        """What ``texts`` of these ``rows`` say of every message that begins in this chunk."""
        message = self.message[rows] - self.first
        if len(rows) == self.count and (message == np.arange(self.count)).all():
            return texts
        found = [""] * self.count
        for at, text in zip(message.tolist(), texts, strict=True):
            found[at] = text
        return found


def _cut(data: bytes, starts: Integers, ends: Integers) -> list[str]:
    """The ranges of ``data`` as text; at least a header is between two of them."""
    if len(starts) >= FEW:
        # Splitting one text at separators is twice as fast as slicing it at offsets.
        bounds = np.stack([starts, ends + 1], axis=1).reshape(-1)
        kept = np.zeros(len(bounds) + 1, dtype=np.bool_)
        kept[1::2] = True
        marked = np.frombuffer(bytearray(data) + b"\0", dtype=np.uint8)
        marked[ends] = 0
        lengths = np.diff(bounds, prepend=0, append=len(marked))
        joined = marked[np.repeat(kept, lengths)].tobytes()
        if joined.isascii() and joined.count(0) == len(starts):
            return joined.decode("ascii").split("\0")[:-1]
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return [data[start:end].decode("utf-8", "backslashreplace") for start, end in pairs]


def regions(starts: Integers, ends: Integers) -> Iterator[tuple[int, int]]:
    """Split ascending ranges into runs worth reading at once: near each other, not too many."""
    far = np.flatnonzero(starts[1:] - ends[:-1] > PEEK) + 1
    edges = [0, *far.tolist(), len(starts)]
    for first, last in pairwise(edges):
        while first < last:
            cut = int(np.searchsorted(ends[first:last], starts[first] + REGION, side="right"))
            yield first, first + max(cut, 1)
            first += max(cut, 1)
