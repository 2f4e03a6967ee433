"""Deflated records, inflated as they are read: nothing is kept, so a bomb costs no memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import Corrupt
from sizeforensics.source import BLOCK, Source
from sizeforensics.units import counted


class Inflated(Source):
    """``nbytes`` that the deflate stream in ``[start, end)`` of another source is declared to hold.

    Raises Corrupt when the stream breaks, holds more or fewer bytes, or ends before its record.
    """

    def __init__(self, whole: Source, start: int, end: int, nbytes: int, name: str) -> None:
        self.path = whole.path
        self.size = nbytes
        self._whole = whole
        self._start = start
        self._end = end
        self._name = name

    def origin(self) -> int:
        return self._whole.origin() + self._start

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        end = start + len(buffer)
        self.check(start, end)
        position = 0
        for piece in self._pieces():
            # The whole stream when its end is asked for, so that a longer one is noticed.
            if position >= end and end < self.size:
                return
            low, high = max(position, start), min(position + len(piece), end)
            if low < high:
                buffer[low - start : high - start] = np.frombuffer(
                    piece, dtype=np.uint8, count=high - low, offset=low - position
                )
            position += len(piece)

    def blocks(self, start: int, end: int, size: int = BLOCK) -> Iterator[npt.NDArray[np.uint8]]:
        self.check(start, end)
        buffer = np.empty(min(size, end - start), dtype=np.uint8)
        filled = position = 0
        for piece in self._pieces():
            part = piece[max(0, start - position) : max(0, end - position)]
            position += len(piece)
            while part:
                take = min(len(part), len(buffer) - filled)
                buffer[filled : filled + take] = np.frombuffer(part, dtype=np.uint8, count=take)
                part, filled = part[take:], filled + take
                if filled == len(buffer):
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]

    def _pieces(self) -> Iterator[bytes]:
        """The inflated content in pieces that stay in the cache; raises when its size is a lie."""
        machine = zlib.decompressobj(-zlib.MAX_WBITS)
        produced = 0
        for block in self._whole.blocks(self._start, self._end, 1 << 16):
            waiting = block.tobytes()
            while waiting and not machine.eof:
                try:
                    piece = machine.decompress(waiting, 1 << 18)
                except zlib.error as error:
                    raise self._lie(f"a deflate stream ({str(error).split(': ')[-1]})") from None
                produced += len(piece)
                if produced > self.size:
                    raise self._lie("more")
                yield piece
                waiting = machine.unconsumed_tail
            if machine.eof and (waiting or machine.unused_data):
                raise self._lie("a stream that ends before its record does")
        if not machine.eof:
            yield from self._rest(machine, produced)
        elif produced != self.size:
            raise self._lie(f"{produced:,}")

    def _rest(self, machine: zlib._Decompress, produced: int) -> Iterator[bytes]:
        """Output that the machine still held back when its input had been read."""
        while piece := machine.decompress(b"", 1 << 18):
            produced += len(piece)
            if produced > self.size:
                raise self._lie("more")
            yield piece
        if not machine.eof or produced != self.size:
            raise self._lie(f"{produced:,}, the stream cut short" if not machine.eof else f"{produced:,}")

    def _lie(self, got: str) -> Corrupt:
        return Corrupt(
            self.path, self.origin(),
            f"record {self._name!r} to inflate to {counted(self.size, 'byte')}", got,
        )
