"""The directory of a ZIP archive: what it says about every record, checked against itself.

Section numbers are those of PKWARE's APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from sizeforensics.errors import LimitExceeded, Unsupported
from sizeforensics.formats.encodings.zip_end import (
    CENTRAL_SIGNATURE,
    FULL_16,
    FULL_32,
    End,
    corrupt,
)
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.units import counted

STORED, DEFLATED = 0, 8
DESCRIPTOR_FOLLOWS = 1 << 3
_ENCRYPTED, _UTF8, _MASKED = 1 << 0, 1 << 11, 1 << 13
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # 4.3.12
_LOCAL_BYTES = 30  # 4.3.7
_DEFLATE_RATIO = 1032
"""No deflate stream is shorter than its output by more: 258 bytes per two bits (RFC 1951, 3.2.5)."""

ZIP64_FIELD = 0x0001
PADDING_FIELD = int.from_bytes(b"FB", "little")
"""What PyTorch aligns records with (``getPadding``, caffe2/serialize/inline_container.cc)."""
# Header ids that APPNOTE 4.5.2 and 4.6.1 list; nothing else may hide behind an extra field.
KNOWN_FIELDS = frozenset((
    ZIP64_FIELD, PADDING_FIELD, 0x0007, 0x0008, 0x0009, 0x000A, 0x000C, 0x000D, 0x000E, 0x000F,
    0x0014, 0x0015, 0x0016, 0x0017, 0x0018, 0x0019, 0x0020, 0x0021, 0x0022, 0x0023, 0x0065, 0x0066,
    0x4690, 0x07C8, 0x1986, 0x2605, 0x2705, 0x2805, 0x334D, 0x4154, 0x4341, 0x4453, 0x4704, 0x470F,
    0x4B46, 0x4C41, 0x4D49, 0x4F4C, 0x5356, 0x5455, 0x554E, 0x5855, 0x6375, 0x6542, 0x6854, 0x7075,
    0x7441, 0x756E, 0x7855, 0x7875, 0xA11E, 0xA220, 0xD935, 0xE57A, 0xFD4A, 0x9901, 0x9902,
))  # fmt: skip


class Row(NamedTuple):
    """One directory entry; ``header`` is the offset of its local header in the file."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    nbytes: int
    header: int
    start: int
    """Where the entry itself begins in the file."""
    end: int
    unknown: tuple[tuple[int, int], ...]
    """Data of extra fields that nobody registered, as ranges of the file."""


class Sizes(NamedTuple):
    """The numbers of a record that a ZIP64 field may widen, in its order."""

    nbytes: int
    stored: int
    header: int
    disk: int


def read_directory(source: Source, end: End, limits: Limits) -> list[Row]:
    """Every entry of the directory (4.3.12), which must fill its bytes exactly."""
    where = source.origin() + end.directory_start
    length = end.directory_end - end.directory_start
    if end.records > limits.archive_entries:
        raise LimitExceeded(
            source.path, where, "archive_entries", limits.archive_entries, f"{end.records:,} records"
        )
    if length > limits.archive_directory_bytes:
        raise LimitExceeded(
            source.path, where, "archive_directory_bytes", limits.archive_directory_bytes,
            f"a directory of {counted(length, 'byte')}",
        )
    data = source.read(end.directory_start, end.directory_end)
    rows: list[Row] = []
    at = 0
    for _ in range(end.records):
        if at + _CENTRAL.size > length or not data.startswith(CENTRAL_SIGNATURE, at):
            raise corrupt(
                source, end.directory_start + at,
                f"directory entry {len(rows) + 1:,} of {end.records:,}",
                "the end of the directory" if at >= length else "something else",
            )
        row = _read_row(source, end, data, at)
        rows.append(row)
        at = row.end - end.directory_start
    if at != length:
        raise corrupt(
            source, end.directory_start + at, f"the end of a directory of {end.records:,} entries",
            counted(length - at, "more byte"),
        )
    return rows


def _read_row(source: Source, end: End, data: bytes, at: int) -> Row:
    (_, _, _, flags, method, _, _, crc, stored, nbytes, len_name, len_extra, len_comment, disk,
     _, _, header) = _CENTRAL.unpack_from(data, at)  # fmt: skip
    start = end.directory_start + at
    ofs_extra = at + _CENTRAL.size + len_name
    stop = ofs_extra + len_extra + len_comment
    if stop > len(data):
        raise corrupt(source, start, "a directory entry inside the directory",
                      f"one that ends {counted(stop - len(data), 'byte')} after it")  # fmt: skip
    raw_name = data[at + _CENTRAL.size : ofs_extra]
    unknown: list[tuple[int, int]] = []
    if len_extra or FULL_32 in (stored, nbytes, header):
        base = end.directory_start + ofs_extra
        extra = data[ofs_extra : ofs_extra + len_extra]
        zip64 = b""
        for ident, first, last in extra_fields(extra):
            if ident == ZIP64_FIELD:
                zip64 = extra[first:last]
            elif ident not in KNOWN_FIELDS:
                unknown.append((base + first, base + last))
        sizes = Sizes(nbytes, stored, header, disk)
        nbytes, stored, header, disk = _widen(source, start, sizes, zip64)
    row = Row(
        _text(raw_name, flags), raw_name, flags, method, crc, stored, nbytes, header + end.shift,
        start, end.directory_start + stop, tuple(unknown),
    )
    if disk:
        raise Unsupported(source.path, source.origin() + start, f"record {row.name!r} on disk 0",
                          f"disk {disk}")  # fmt: skip
    _check_row(source, end, row)
    return row


def _widen(source: Source, start: int, short: Sizes, zip64: bytes) -> Sizes:
    """The sizes with those that are full taken from the ZIP64 field, in its order (4.5.3)."""
    values = list(struct.unpack_from(f"<{len(zip64) // 8}Q", zip64))
    full = [value == FULL_32 for value in short[:3]]
    if not any(full):
        # Some writers repeat sizes that fit; they must then say the same.
        if tuple(values[:3]) != short[: min(3, len(values))]:
            raise corrupt(
                source, start, f"ZIP64 sizes of {short.nbytes:,} and {counted(short.stored, 'byte')}",
                " and ".join(f"{value:,}" for value in values[:2]),
            )
        return short
    if len(values) < sum(full):
        raise corrupt(source, start, f"a ZIP64 field with {sum(full)} sizes", f"{len(values)}")
    nbytes, stored, header = (
        values.pop(0) if wide else size for size, wide in zip(short[:3], full, strict=True)
    )
    disk = short.disk
    if disk == FULL_16 and len(zip64) % 8 == 4:
        disk = int.from_bytes(zip64[-4:], "little")
    return Sizes(nbytes, stored, header, disk)


def _check_row(source: Source, end: End, row: Row) -> None:
    if row.flags & (_ENCRYPTED | _MASKED):
        raise Unsupported(source.path, source.origin() + row.start,
                          f"record {row.name!r} in the clear", "encryption")  # fmt: skip
    if row.method not in (STORED, DEFLATED):
        raise Unsupported(source.path, source.origin() + row.start,
                          f"record {row.name!r} stored or deflated", f"compression method {row.method}")  # fmt: skip
    if row.header + _LOCAL_BYTES + row.stored > end.directory_start:
        raise corrupt(
            source, row.start,
            f"record {row.name!r} before the directory at {end.directory_start:#x}",
            f"{counted(row.stored, 'byte')} after a header at {row.header:#x}",
        )
    if row.method == STORED and row.stored != row.nbytes:
        raise corrupt(source, row.start, f"stored record {row.name!r} to have one size",
                      f"{row.stored:,} and {row.nbytes:,}")  # fmt: skip
    if row.nbytes > row.stored * _DEFLATE_RATIO:
        raise corrupt(
            source, row.start,
            f"record {row.name!r} to inflate to at most {counted(row.stored * _DEFLATE_RATIO, 'byte')}",
            f"{row.nbytes:,}",
        )


def extra_fields(extra: bytes) -> Iterator[tuple[int, int, int]]:
    """(header id, start, end of its data) of each extra field (4.5.1).

    A header that does not fit ends the list, as it does for every reader. What is left is one more,
    of no header id, unless it is zeros that align what follows.
    """
    at = 0
    while at + 4 <= len(extra):
        ident = extra[at] | extra[at + 1] << 8
        end = at + 4 + (extra[at + 2] | extra[at + 3] << 8)
        if end > len(extra):
            break
        yield ident, at + 4, end
        at = end
    if any(extra[at:]):
        yield -1, at, len(extra)


def _text(raw_name: bytes, flags: int) -> str:
    """A name as text: UTF-8 where bit 11 says so, else IBM code page 437 (4.4.4, appendix D)."""
    if flags & _UTF8:
        return raw_name.decode("utf-8", "backslashreplace")
    return raw_name.decode("cp437")
