"""Random access to bytes, bounds-checked: a file read with ``pread``, a window of one, or memory.

Every reader of this package sees a file through these classes and nothing else. A memory map is
not used on purpose: a file that shrinks while it is mapped kills the process with SIGBUS, ``pread``
just returns less.
"""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import SourceError, Truncated
from sizeforensics.units import counted

BLOCK = 1 << 20
"""Bytes read at once when streaming; small enough to stay in the processor's cache."""

SMALL, AHEAD = 1 << 10, 1 << 16
"""Reads of at most ``SMALL`` bytes of a file are served from the last ``AHEAD`` bytes that one of
them fetched: small tensors lie side by side."""


class Source(ABC):
    """``size`` bytes at ``path`` that can be read at any position."""

    path: str
    size: int
    big_endian: bool = False
    """Whether the file holds in big-endian order what is read in little-endian order."""

    @abstractmethod
    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        """Fill ``buffer`` with the bytes from ``start``; raise Truncated if they are not there."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``; raise Truncated when the range leaves the source."""
        return self.array(start, end).tobytes()

    def array(self, start: int, end: int) -> npt.NDArray[np.uint8]:
        """The bytes of ``[start, end)`` as a uint8 array of shape ``(end - start,)``."""
        self.check(start, end)
        buffer = np.empty(end - start, dtype=np.uint8)
        self.read_into(start, buffer)
        return buffer

    def blocks(self, start: int, end: int, size: int = BLOCK) -> Iterator[npt.NDArray[np.uint8]]:
        """The bytes of ``[start, end)`` in order, ``size`` at a time.

        The same buffer is filled again for every block, so a block is valid until the next one.
        """
        self.check(start, end)
        buffer = np.empty(min(size, end - start), dtype=np.uint8)
        for position in range(start, end, size):
            block = buffer[: min(size, end - position)]
            self.read_into(position, block)
            yield block

    def check(self, start: int, end: int) -> None:
        """Raise Truncated unless ``[start, end)`` lies inside the source."""
        if start < 0 or end < start or end > self.size:
            raise Truncated(
                self.path, self.origin() + max(0, min(start, self.size)),
                f"{counted(end - start, 'byte')} at {start:#x}", f"a source of {counted(self.size, 'byte')}",
            )

    def origin(self) -> int:
        """Offset of this source's first byte in its file, for messages."""
        return 0

    def window(self, start: int, end: int) -> Source:
        """``[start, end)`` as a source of its own; its errors still name offsets of the file."""
        self.check(start, end)
        return Window(self, start, end)


class FileSource(Source):
    """A regular file, opened once and read with ``pread``.

    ``links`` is a directory of the user's choice: what lies beside the file may be a symbolic link
    to something in there. Nothing else may be a link.
    """

    links: str | None = None

    def __init__(self, path: str, links: str | None = None) -> None:
        if links is not None:
            if not os.path.isdir(links):  # noqa: PTH112  a Path would lose how it was given
                raise SourceError(links, "a directory whose files links may lead to", "none")
            self.links = links
        # O_NONBLOCK: opening a FIFO nobody writes to would otherwise hang for ever.
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError) as error:
            raise SourceError(path, "a readable file", _reason(error)) from None
        self._adopt(path, descriptor)

    @classmethod
    def from_descriptor(cls, path: str, descriptor: int) -> FileSource:
        """Take over a descriptor that the caller opened under conditions of its own."""
        self = cls.__new__(cls)
        self._adopt(path, descriptor)
        return self

    def _adopt(self, path: str, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise SourceError(path, "a regular file", _kind(status.st_mode))
        self.path = path
        self.size = status.st_size
        self.identity = (status.st_dev, status.st_ino)
        self._ahead = 0, np.empty(0, dtype=np.uint8)

    def array(self, start: int, end: int) -> npt.NDArray[np.uint8]:
        if end - start > SMALL:
            return super().array(start, end)
        self.check(start, end)
        first, ahead = self._ahead
        if not first <= start <= end <= first + len(ahead):
            try:
                ahead = super().array(start, min(start + AHEAD, self.size))
            except Truncated:  # it shrank: what was asked for may still be there
                return super().array(start, end)
            first, _ = self._ahead = start, ahead  # at once: threads may read too
        return ahead[start - first : end - first].copy()

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        self.check(start, start + len(buffer))
        view = memoryview(cast("bytearray", buffer))
        filled = 0
        while filled < len(view):
            try:
                got = os.preadv(self._descriptor, [view[filled:]], start + filled)
            except OSError as error:
                raise SourceError(self.path, "readable bytes", _reason(error)) from None
            if got == 0:
                raise Truncated(
                    self.path, start + filled, counted(len(view) - filled, "more byte"),
                    "the end of a file that shrank while it was read",
                )
            filled += got

    def close(self) -> None:
        """Close the descriptor; a closed source cannot be read any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()


class MemorySource(Source):
    """Bytes that are in memory already: a decoded record, or a file handed over as bytes."""

    def __init__(self, path: str, data: bytes | npt.NDArray[np.uint8], origin: int = 0) -> None:
        self.path = path
        self._data = np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else data
        self.size = len(self._data)
        self._origin = origin

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        self.check(start, start + len(buffer))
        buffer[:] = self._data[start : start + len(buffer)]

    def origin(self) -> int:
        return self._origin


class DerivedSource(Source):
    """``size`` bytes that ``derive`` computes from a file when asked: inflated, decoded, swapped.

    Nothing is kept between reads, so an inventory of many of them costs no memory.
    """

    def __init__(
        self, path: str, size: int, origin: int, derive: Callable[[], npt.NDArray[np.uint8]]
    ) -> None:
        self.path = path
        self.size = size
        self._origin = origin
        self._derive = derive

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        buffer[:] = self.array(start, start + len(buffer))

    def array(self, start: int, end: int) -> npt.NDArray[np.uint8]:
        self.check(start, end)
        return self._derive()[start:end]

    def blocks(self, start: int, end: int, size: int = BLOCK) -> Iterator[npt.NDArray[np.uint8]]:
        data = self.array(start, end)
        for position in range(0, len(data), size):
            yield data[position : position + size]

    def origin(self) -> int:
        return self._origin


class Window(Source):
    """``[start, end)`` of another source."""

    def __init__(self, whole: Source, start: int, end: int) -> None:
        self.path = whole.path
        self.size = end - start
        self._whole = whole
        self._start = start

    def array(self, start: int, end: int) -> npt.NDArray[np.uint8]:
        self.check(start, end)
        return self._whole.array(self._start + start, self._start + end)

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        self.check(start, start + len(buffer))
        self._whole.read_into(self._start + start, buffer)

    def origin(self) -> int:
        return self._whole.origin() + self._start


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _kind(mode: int) -> str:
    for name in ("fifo", "dir", "chr", "blk", "sock"):
        if getattr(stat, f"S_IS{name.upper()}")(mode):
            return {"fifo": "a FIFO", "dir": "a directory", "sock": "a socket"}.get(name, "a device")
    return "something else"
