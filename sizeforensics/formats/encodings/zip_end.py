"""Where a ZIP archive ends, where its directory is, and what was put in front of or behind it.

Section numbers are those of PKWARE's APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from sizeforensics.errors import Corrupt, Truncated, Unsupported
from sizeforensics.source import Source
from sizeforensics.units import counted

_ZIP64_END = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_ZIP64_LOCATOR = struct.Struct("<4sIQI")  # 4.3.15
_END = struct.Struct("<4s4H2IH")  # 4.3.16
LOCAL_SIGNATURE, CENTRAL_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02"
END_SIGNATURE = b"PK\x05\x06"
END_BYTES = _END.size
_ZIP64_END_SIGNATURE, _ZIP64_LOCATOR_SIGNATURE = b"PK\x06\x06", b"PK\x06\x07"
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF
"""Values that say: see the ZIP64 record (4.4.1.4)."""


class End(NamedTuple):
    """Where the directory is, and what follows it; all offsets are of the file."""

    directory_start: int
    directory_end: int
    records: int
    shift: int
    """Bytes that the archive's own offsets do not count: what was put in front of it."""
    records_start: int
    """Offset of the ZIP64 end record if there is one, else of the end record."""
    comment_start: int
    comment_end: int
    inside_comment: bool
    """Whether an earlier end record declares a comment that covers this one."""


class _Numbers(NamedTuple):
    """What both kinds of end record say about the directory."""

    disk: int
    start_disk: int
    records_here: int
    records: int
    length: int
    offset: int


_FULL = _Numbers(FULL_16, FULL_16, FULL_16, FULL_16, FULL_32, FULL_32)


def find_end(source: Source) -> End:
    """The last end record of the file, which is the one that miniz takes (4.3.16)."""
    size = source.size
    tail_start = max(0, size - _END.size - FULL_16)
    tail = source.read(tail_start, size)
    at = tail.rfind(END_SIGNATURE, 0, max(0, len(tail) - _END.size + 4))
    if at < 0:
        raise Truncated(
            source.path, source.origin() + size, "a ZIP end record in the last 65,557 bytes",
            "none: the archive is cut short",
        )
    position = tail_start + at
    _, *short, len_comment = _END.unpack_from(tail, at)
    comment_start = position + _END.size
    if comment_start + len_comment > size:
        raise Truncated(
            source.path, source.origin() + position, f"an archive comment of {counted(len_comment, 'byte')}",
            f"{counted(size - comment_start, 'byte')} to the end of the file",
        )
    records_start, shift, numbers = _find_zip64_end(source, position, _Numbers(*short))
    if numbers.disk or numbers.start_disk:
        raise Unsupported(
            source.path, source.origin() + position, "an archive on one disk", "one on several"
        )
    if numbers.records_here != numbers.records:
        raise corrupt(source, position, f"{numbers.records:,} records on the only disk",
                      f"{numbers.records_here:,}")  # fmt: skip
    start = _find_directory(source, records_start, numbers, shift)
    return End(
        start, start + numbers.length, numbers.records, start - numbers.offset, records_start,
        comment_start, comment_start + len_comment, _inside_comment(tail, at),
    )


def _find_zip64_end(
    source: Source, position: int, short: _Numbers
) -> tuple[int, int | None, _Numbers]:
    """(start of the end records, shift where it is known, the directory's numbers) with those of
    the ZIP64 end record (4.3.14, 4.3.15) if there is one, which must not contradict the others."""
    locator = position - _ZIP64_LOCATOR.size
    if locator < 0 or source.read(locator, locator + 4) != _ZIP64_LOCATOR_SIGNATURE:
        if FULL_32 in (short.length, short.offset):
            raise corrupt(source, position, "a ZIP64 end record, as the end record says", "none")
        return position, None, short
    _, disk, offset, disks = _ZIP64_LOCATOR.unpack(source.read(locator, position))
    if disk or disks > 1:
        raise Unsupported(
            source.path, source.origin() + locator, "an archive on one disk", f"{disks} disks"
        )
    for start in (offset, locator - _ZIP64_END.size):
        if not 0 <= start <= locator - _ZIP64_END.size:
            continue
        signature, length, _, _, *values = _ZIP64_END.unpack(
            source.read(start, start + _ZIP64_END.size)
        )
        if signature == _ZIP64_END_SIGNATURE:
            break
    else:
        raise corrupt(source, locator, f"a ZIP64 end record at {offset:#x}", "none")
    if start + 12 + length != locator:
        raise corrupt(
            source, start, f"a ZIP64 end record of {counted(locator - start - 12, 'byte')}", f"{length:,}"
        )
    long = _Numbers(*values)
    for small, large, full in zip(short, long, _FULL, strict=True):
        if small not in (large, full):
            raise corrupt(
                source, position, f"{large:,}, as the ZIP64 end record says, or {full:#x}",
                f"{small:,} in the end record",
            )
    return start, start - offset, long


def _find_directory(source: Source, limit: int, numbers: _Numbers, shift: int | None) -> int:
    """Where the directory is: at the offset recorded, or as much later as something was put in
    front of the archive. Raises Corrupt when neither place holds one."""
    slack = limit - numbers.offset - numbers.length
    if slack < 0:
        raise corrupt(
            source, limit,
            f"a directory of {counted(numbers.length, 'byte')} at {numbers.offset:#x} to end before this",
            f"one that reaches {counted(-slack, 'byte')} further",
        )
    if numbers.records == 0 and numbers.length == 0:
        return numbers.offset
    for start in (numbers.offset, numbers.offset + slack):
        known = shift in (None, start - numbers.offset)
        if known and source.read(start, start + 4) == CENTRAL_SIGNATURE:
            if start > numbers.offset:
                _refuse_cut_archive(source, start - numbers.offset)
            return start
    raise corrupt(source, numbers.offset, "an archive directory", "something else")


def _inside_comment(tail: bytes, at: int) -> bool:
    outer = tail.rfind(END_SIGNATURE, 0, at)
    if outer < 0:
        return False
    *_, len_comment = _END.unpack_from(tail, outer)
    return outer + _END.size <= at < outer + _END.size + int(len_comment)


def _refuse_cut_archive(source: Source, prefix: int) -> None:
    """Tell two archives in one file from one that was cut inside a record which is an archive."""
    tail = source.read(max(0, prefix - _END.size - FULL_16), prefix)
    if source.read(0, min(4, source.size)) == LOCAL_SIGNATURE and END_SIGNATURE not in tail:
        raise Truncated(
            source.path, source.origin() + source.size, "the end record of the archive at 0x0",
            f"that of an archive inside it, at {prefix:#x}",
        )


def corrupt(source: Source, offset: int, expected: str, got: str) -> Corrupt:
    """The error for bytes at ``offset`` of ``source`` that contradict the specification."""
    return Corrupt(source.path, source.origin() + offset, expected, got)
