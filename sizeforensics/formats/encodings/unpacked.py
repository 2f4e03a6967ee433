"""Texts that are compressed as a whole, with gzip or zstandard, unpacked within bounds."""

from __future__ import annotations

import zlib

from sizeforensics.errors import Corrupt, LimitExceeded
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import MemorySource, Source
from sizeforensics.units import counted

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << 27
"""Bytes a zstandard stream may ask to be kept; what its own tools allow by default."""


def head_of(head: bytes, most: int) -> bytes:
    """The first bytes of what begins with ``head``, unpacked; empty where that cannot be done."""
    try:
        return _unpack(head, most)[0]
    except (_BrokenError, ImportError):
        return b""


def unpacked(source: Source, limits: Limits = DEFAULT_LIMITS) -> Source:
    """A text that may be compressed, as it was before.

    Raises Corrupt where a stream is broken, cut short or followed by something, LimitExceeded
    beyond ``json_bytes``, compressed or not.
    """
    if source.size > limits.json_bytes:
        raise LimitExceeded(
            source.path, 0, "json_bytes", limits.json_bytes, counted(source.size, "byte")
        )
    packed = source.read(0, source.size)
    if not packed.startswith((_GZIP, _ZSTD)):
        return source
    try:
        data, whole = _unpack(packed, limits.json_bytes + 1)
    except _BrokenError as error:
        raise Corrupt(source.path, 0, "a compressed stream", str(error)) from None
    if len(data) > limits.json_bytes:
        raise LimitExceeded(source.path, 0, "json_bytes", limits.json_bytes, "more once unpacked")
    if not whole:
        raise Corrupt(source.path, 0, "one compressed stream", "one cut short, or with a tail")
    return MemorySource(source.path, data)


class _BrokenError(ValueError):
    """Compressed bytes that are none; the message says what is wrong with them."""


def _unpack(data: bytes, most: int) -> tuple[bytes, bool]:
    """At most ``most`` bytes of what ``data`` holds, and whether that is all, to the last byte."""
    if data.startswith(_GZIP):
        machine = zlib.decompressobj(wbits=31)
        try:
            unpacked = machine.decompress(data, most)
        except zlib.error as error:
            raise _BrokenError(f"a broken stream ({str(error).split(': ')[-1]})") from None
        return unpacked, machine.eof and not machine.unused_data
    if data.startswith(_ZSTD):
        import zstandard  # an extra, 10 ms

        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        try:
            unpacked = decompressor.stream_reader(data).read(most)
            size = len(unpacked)
            if size == most or zstandard.frame_content_size(data) not in (-1, size):
                return unpacked, False
        except zstandard.ZstdError as error:
            raise _BrokenError(f"a broken stream ({error})") from None
        try:
            # Reading a stream does not mind where it ends. This does, and now its size is known.
            decompressor.decompress(data, max_output_size=max(size, 1), allow_extra_data=False)
        except zstandard.ZstdError:
            return unpacked, False
        return unpacked, True
    return data[:most], len(data) <= most
