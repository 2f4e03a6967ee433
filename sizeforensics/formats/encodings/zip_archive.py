"""ZIP archives: every record, header, descriptor and directory entry with its place in the file.

Section numbers are those of PKWARE's APPNOTE.TXT 6.3.10. Where real readers differ this one follows
the directory, as PyTorch's does (``caffe2/serialize/inline_container.cc`` over miniz), and says
which local headers claim something else.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LimitExceeded
from sizeforensics.escape import visible
from sizeforensics.formats.encodings.inflate import Inflated
from sizeforensics.formats.encodings.zip_directory import (
    DEFLATED,
    DESCRIPTOR_FOLLOWS,
    KNOWN_FIELDS,
    PADDING_FIELD,
    STORED,
    ZIP64_FIELD,
    Row,
    extra_fields,
    read_directory,
)
from sizeforensics.formats.encodings.zip_end import (
    END_BYTES,
    END_SIGNATURE,
    FULL_32,
    LOCAL_SIGNATURE,
    End,
    corrupt,
    find_end,
)
from sizeforensics.formats.notes import Notes
from sizeforensics.layout import Records
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import ALIGNMENT, CONTAINER, UNCLAIMED, Integers, Owners, SpanSink, sum_by
from sizeforensics.units import counted

_LOCAL = struct.Struct("<4s5H3I2H")  # 4.3.7
_DESCRIPTOR = struct.Struct("<4s3I")  # 4.3.9, with the signature that 4.3.9.3 mentions
_DESCRIPTOR_SIGNATURE = b"PK\x07\x08"
_SMALL_RECORD = 1 << 20
_SMALL_ARCHIVE = 128 << 20
_HEADERS_AHEAD, _RECORDS_AHEAD = 1 << 12, 1 << 16
_DEFERRED = (0, 0, 0)  # CRC and sizes of a record whose descriptor has them, as miniz writes it

SUBJECTS = (
    "record headers", "record padding", "archive directory", "end records", "archive comment",
    "bytes before the first record", "bytes between records", "bytes after the archive",
    "padding that holds something else", "extra fields nobody registered",
)  # fmt: skip
"""What framing is; the subject of its owner."""
(_HEADERS, _PADDING, _DIRECTORY, _ENDS, _COMMENT, _BEFORE, _BETWEEN, _AFTER, _FAKE_PADDING,
 _UNKNOWN_FIELD) = range(len(SUBJECTS))  # fmt: skip
_SUBJECT_ROLES = np.array(
    [CONTAINER, ALIGNMENT, CONTAINER, CONTAINER, CONTAINER, *[UNCLAIMED] * 5], dtype=np.uint8
)
_ARCHIVE = -1


class Entry(NamedTuple):
    """One record: its stored bytes are ``[start, end)`` of the file, ``nbytes`` once inflated."""

    name: str
    """Decoded for people; look records up by ``raw_name``."""
    raw_name: bytes
    method: int
    flags: int
    crc: int
    start: int
    end: int
    nbytes: int
    header: int
    """Offset of the local header."""

    @property
    def stored_bytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Framing:
    """Everything of the file that is no record's data, as columns of equal length.

    ``subjects`` indexes ``SUBJECTS``, ``entries`` the archive's entries; -1 is the archive itself.
    """

    starts: Integers
    ends: Integers
    subjects: npt.NDArray[np.uint8]
    entries: Integers

    @property
    def roles(self) -> npt.NDArray[np.uint8]:
        return _SUBJECT_ROLES[self.subjects]


@dataclass(frozen=True, slots=True)
class Archive:
    """Records in the order of the directory; with ``framing`` they tile the file."""

    source: Source
    entries: tuple[Entry, ...]
    framing: Framing
    warnings: tuple[str, ...]

    @property
    def follows_another(self) -> bool:
        """Whether the file is several archives in a row, of which this is the last."""
        first = min((entry.header for entry in self.entries), default=0)
        if first < END_BYTES or self.source.read(0, 4) != LOCAL_SIGNATURE:
            return False
        return self.source.read(first - END_BYTES, first - END_BYTES + 4) == END_SIGNATURE

    def content(self, entry: Entry) -> Source:
        """The record's bytes, inflated if need be; a record that inflates to another size than it
        declares raises Corrupt when that is noticed."""
        if entry.method == STORED:
            return self.source.window(entry.start, entry.end)
        return Inflated(self.source, entry.start, entry.end, entry.nbytes, entry.name)

    def layout(self) -> Records:
        """What a record takes beside its data, in the order of the file."""
        framing, count = self.framing, len(self.entries)
        bounds = np.array(
            [(entry.header, entry.start, entry.end) for entry in self.entries], dtype=np.int64
        ).reshape(-1, 3)
        own = framing.entries != _ARCHIVE
        at, starts = framing.entries[own], framing.starts[own]
        sizes, padding = framing.ends[own] - starts, framing.subjects[own] == _PADDING
        in_front = starts < bounds[at, 1]
        # The directory follows all records; descriptors touch their data.
        touching = ~in_front & (starts == bounds[at, 2])
        before, paddings, behind, elsewhere = (
            sum_by(at[chosen], sizes[chosen], count)
            for chosen in (in_front & ~padding, padding, touching, ~in_front & ~touching)
        )
        order = np.argsort(bounds[:, 0])
        columns = (bounds[:, 1], bounds[:, 2], before, paddings, behind, elsewhere)
        return Records(*(column[order] for column in columns))

    def claim_framing(self, sink: SpanSink, owners: Owners) -> None:
        """Give the framing to its records, one owner for each record and subject."""
        framing = self.framing
        keys = framing.entries * len(SUBJECTS) + framing.subjects
        unique, inverse = np.unique(keys, return_inverse=True)
        names, subjects = [], []
        for key in unique.tolist():
            entry, subject = divmod(key, len(SUBJECTS))
            subjects.append(SUBJECTS[subject])
            names.append(SUBJECTS[subject] if entry == _ARCHIVE else self.entries[entry].name)
        indices = owners.extend(names, subjects)[inverse]
        sink.extend(framing.starts, framing.ends, framing.roles, indices)


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Archive:
    """The archive that fills ``source``.

    CRCs are compared for every record of at most 1 MiB, and for larger ones too while all records
    together hold at most 128 MiB: CRC-32 takes several times as long as reading payload does, and
    PyTorch never looks at it. The sizes of deflated records are checked along with it, and in any
    case when the content is read.
    """
    end = find_end(source)
    rows = read_directory(source, end, limits)
    records = _Records(source, end)
    entries = records.read(rows)
    records.claim_ends()
    archive = Archive(source, entries, records.framing.finish(), ())
    _check_contents(archive, limits, records.notes)
    return Archive(source, entries, archive.framing, records.notes.finish())


class _Records:
    """Walks the local headers of an archive in file order and claims all that is not data."""

    def __init__(self, source: Source, end: End) -> None:
        self.source = source
        self.end = end
        self.notes = Notes()
        self.framing = _Framing()
        self._reader = _Reader(source, _HEADERS_AHEAD)

    def read(self, rows: list[Row]) -> tuple[Entry, ...]:
        """The records in the order of ``rows``; raises Corrupt where two of them overlap."""
        order = sorted(range(len(rows)), key=lambda index: rows[index].header)
        limits = [rows[index].header for index in order[1:]] + [self.end.directory_start]
        entries: dict[int, Entry] = {}
        position = 0
        for place, index in enumerate(order):
            row, limit = rows[index], limits[place]
            # Duplicates of one header collide here: the second begins before the first one ends.
            if row.header < position:
                raise corrupt(self.source, row.header, f"record {row.name!r} after {position:#x}",
                              "one that overlaps the record before it")  # fmt: skip
            if row.header > position:
                self._claim_gap(position, row.header, _BETWEEN if entries else _BEFORE)
            entry = entries[index] = self._read_local(row, index, limit)
            position = self._claim_descriptor(entry, index, limit)
            self._claim_row(row, index)
        self._claim_gap(position, self.end.directory_start, _BETWEEN if entries else _BEFORE)
        return tuple(entries[index] for index in range(len(rows)))

    def _read_local(self, row: Row, index: int, limit: int) -> Entry:
        """The local header (4.3.7), compared with the directory, and where the data begin."""
        data, at = self._reader.look(row.header, _LOCAL.size)
        local = _LOCAL.unpack_from(data, at)
        signature, _, flags, method, _, _, crc, stored, nbytes, len_name, len_extra = local
        if signature != LOCAL_SIGNATURE:
            raise corrupt(self.source, row.header, f"the local header of record {row.name!r}",
                          repr(signature))  # fmt: skip
        ofs_extra = row.header + _LOCAL.size + len_name
        start = ofs_extra + len_extra
        if start + row.stored > limit:
            raise corrupt(
                self.source, row.header,
                f"record {row.name!r} to end before the next record or directory at {limit:#x}",
                f"data at [{start:#x}, {start + row.stored:#x})",
            )
        data, at = self._reader.look(row.header + _LOCAL.size, len_name + len_extra)
        raw_name = data[at : at + len_name]
        extra = data[at + len_name : at + len_name + len_extra]
        zip64 = self._claim_header(row, index, ofs_extra, extra)
        said = (flags, method, crc, stored, nbytes)
        if raw_name != row.raw_name or said != (row.flags, row.method, *_DEFERRED):
            self._compare(said, raw_name, zip64, row)
        return Entry(row.name, row.raw_name, row.method, row.flags, row.crc, start,
                     start + row.stored, row.nbytes, row.header)  # fmt: skip

    def _claim_header(self, row: Row, index: int, ofs_extra: int, extra: bytes) -> bytes:
        """Claim a local header, its extra fields by what they hold; the data of the ZIP64 field."""
        zip64 = b""
        start = row.header
        for ident, first, last in extra_fields(extra):
            if ident == ZIP64_FIELD:
                zip64 = extra[first:last]
            elif ident == PADDING_FIELD or ident not in KNOWN_FIELDS:
                subject = _special_subject(ident, extra[first:last])
                self.framing.add(start, ofs_extra + first, _HEADERS, index)
                self.framing.add(ofs_extra + first, ofs_extra + last, subject, index)
                start = ofs_extra + last
                if subject != _PADDING:
                    self.notes.count("hold unregistered data in a local extra field", row.name)
        self.framing.add(start, ofs_extra + len(extra), _HEADERS, index)
        return zip64

    def _compare(
        self, said: tuple[int, int, int, int, int], raw_name: bytes, zip64: bytes, row: Row
    ) -> None:
        flags, method, crc, stored, nbytes = said
        if raw_name != row.raw_name:
            self.notes.count("have another name in the local header", row.name)
        if method != row.method:
            self.notes.count("have another method in the local header", row.name)
        if flags != row.flags:
            self.notes.count("have other flags in the local header", row.name)
        if not _sizes_agree(flags, crc, stored, nbytes, zip64, row):
            self.notes.count("have other sizes or another CRC in the local header", row.name)

    def _claim_descriptor(self, entry: Entry, index: int, limit: int) -> int:
        """Where the record ends, its data descriptor (4.3.9) included.

        A descriptor that ends where the next record begins is preferred to others that fit, then
        the shortest.
        """
        if not entry.flags & DESCRIPTOR_FOLLOWS:
            return entry.end
        length = min(24, limit - entry.end)
        data, at = self._reader.look(entry.end, length)
        data = data[at : at + length]
        if data == _usual_descriptor(entry):
            self.framing.add(entry.end, limit, _HEADERS, index)
            return limit
        fitting = _descriptors(entry, data)
        if not fitting:
            self.notes.count("lack the data descriptor that is announced", entry.name)
            return entry.end
        length, crc = min(fitting, key=lambda pair: (pair[0] != limit - entry.end, pair[0]))
        if crc != entry.crc:
            self.notes.count("have another CRC in the data descriptor", entry.name)
        self.framing.add(entry.end, entry.end + length, _HEADERS, index)
        return entry.end + length

    def _claim_gap(self, start: int, end: int, subject: int) -> None:
        if start >= end:
            return
        self.framing.add(start, end, subject)
        data, at = self._reader.look(start, min(4, end - start))
        hidden = data.startswith(LOCAL_SIGNATURE, at)
        self.notes.count(
            f"belong to no record the directory lists ({SUBJECTS[subject]})",
            f"{counted(end - start, 'byte')} at {start:#x}"
            + (", which begin like a record" if hidden else ""),
            noun="stretch of bytes" if subject == _BEFORE else "gap",
        )

    def claim_ends(self) -> None:
        """The end records, the comment, and what lies before and behind them."""
        end, size = self.end, self.source.size
        self._claim_gap(end.directory_end, end.records_start, _BETWEEN)
        self.framing.add(end.records_start, end.comment_start, _ENDS)
        self.framing.add(end.comment_start, end.comment_end, _COMMENT)
        self.framing.add(end.comment_end, size, _AFTER)
        if size > end.comment_end:
            self.notes.say(f"{counted(size - end.comment_end, 'byte')} behind the end of the archive")
        if end.shift:
            self.notes.say(f"{counted(end.shift, 'byte')} in front of the archive, whose offsets do "
                           "not count them: PyTorch cannot read it")  # fmt: skip
        if end.inside_comment:
            self.notes.say("the end record lies inside the comment of another, which is ignored")

    def _claim_row(self, row: Row, index: int) -> None:
        """Claim the record's entry in the directory, and say what is odd about it."""
        name, start = row.name, row.start
        for first, last in row.unknown:
            self.framing.add(start, first, _DIRECTORY, index)
            self.framing.add(first, last, _UNKNOWN_FIELD, index)
            start = last
        self.framing.add(start, row.end, _DIRECTORY, index)
        if row.unknown:
            self.notes.count("hold unregistered data in an extra field of the directory", name)
        if not name or name[0] == "/" or ".." in name or "\\" in name or visible(name) != name:
            self.notes.count("have a name that is no plain relative path", name)


def _special_subject(ident: int, data: bytes) -> int:
    if ident != PADDING_FIELD:
        return _UNKNOWN_FIELD
    return _FAKE_PADDING if data.strip(b"Z") else _PADDING


def _sizes_agree(  # noqa: PLR0917 - in the order of the header
    flags: int, crc: int, stored: int, nbytes: int, zip64: bytes, row: Row
) -> bool:
    """Whether a local header says what the directory says, or leaves it to the descriptor."""
    if flags & DESCRIPTOR_FOLLOWS and crc in (0, row.crc):
        # 4.4.4 asks for zeros, which miniz writes; others write the sizes or 0xFFFFFFFF.
        return stored in (0, row.stored, FULL_32) and nbytes in (0, row.nbytes, FULL_32)
    values = list(struct.unpack_from(f"<{len(zip64) // 8}Q", zip64))
    nbytes = values.pop(0) if nbytes == FULL_32 and values else nbytes
    stored = values.pop(0) if stored == FULL_32 and values else stored
    return (crc, stored, nbytes) == (row.crc, row.stored, row.nbytes)


def _usual_descriptor(entry: Entry) -> bytes | None:
    """What miniz writes behind every record of less than 4 GiB; None for larger ones."""
    if max(entry.stored_bytes, entry.nbytes) > FULL_32:
        return None
    return _DESCRIPTOR.pack(_DESCRIPTOR_SIGNATURE, entry.crc, entry.stored_bytes, entry.nbytes)


def _descriptors(entry: Entry, data: bytes) -> list[tuple[int, int]]:
    """(length, CRC) of each layout of a data descriptor that fits: sizes of 4 or 8 bytes, with or
    without signature. Without one the CRC has to fit too."""
    fitting = []
    for code in "IQ":
        if code == "I" and max(entry.stored_bytes, entry.nbytes) > FULL_32:
            continue
        sizes = struct.pack(f"<2{code}", entry.stored_bytes, entry.nbytes)
        if data.startswith(_DESCRIPTOR_SIGNATURE) and data.startswith(sizes, 8):
            fitting.append((8 + len(sizes), int.from_bytes(data[4:8], "little")))
        if data.startswith(entry.crc.to_bytes(4, "little") + sizes):
            fitting.append((4 + len(sizes), entry.crc))
    return fitting


def _check_contents(archive: Archive, limits: Limits, notes: Notes) -> None:
    inflated = sum(entry.nbytes for entry in archive.entries if entry.method == DEFLATED)
    if inflated > limits.inflated_bytes:
        raise LimitExceeded(
            archive.source.path, archive.source.origin(), "inflated_bytes", limits.inflated_bytes,
            f"records that inflate to {counted(inflated, 'byte')}",
        )
    everything = sum(entry.nbytes for entry in archive.entries) <= _SMALL_ARCHIVE
    reader = _Reader(archive.source, _RECORDS_AHEAD)
    for entry in archive.entries:
        crc = entry.crc
        if entry.method == STORED and entry.nbytes <= _SMALL_RECORD:
            data, at = reader.look(entry.start, entry.nbytes)
            crc = zlib.crc32(memoryview(data)[at : at + entry.nbytes])
        elif everything or entry.nbytes <= _SMALL_RECORD:
            crc = _checksum(archive.content(entry))
        if entry.crc == 0 and entry.nbytes:
            notes.count("carry a zero CRC", entry.name)
        elif crc != entry.crc:
            notes.count("carry a wrong CRC", entry.name)


def _checksum(content: Source) -> int:
    crc = 0
    for block in content.blocks(0, content.size):
        crc = zlib.crc32(block.data, crc)
    return crc


class _Reader:
    """Small reads in ascending order, many of them from one ``pread`` where records are small.

    A file reads ahead too, but checks and copies what is asked for: of an archive of 50,000 small
    records that would cost a quarter more.
    """

    def __init__(self, source: Source, ahead: int) -> None:
        self.source = source
        self.ahead = ahead
        self._start = 0
        self._data = b""

    def look(self, start: int, length: int) -> tuple[bytes, int]:
        """(data, place in it) of at least ``length`` bytes from ``start`` of the source."""
        at = start - self._start
        if at < 0 or at + length > len(self._data):
            ahead = min(self.ahead, self.source.size - start)
            self._data = self.source.read(start, start + max(length, ahead))
            self._start, at = start, 0
        return self._data, at


class _Framing:
    """Collects framing in any order."""

    def __init__(self) -> None:
        self._rows = array("q")

    def add(self, start: int, end: int, subject: int, entry: int = _ARCHIVE) -> None:
        """``[start, end)``; an empty range is dropped."""
        if end > start:
            self._rows.extend((start, end, subject, entry))

    def finish(self) -> Framing:
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, 4)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return Framing(rows[:, 0], rows[:, 1], rows[:, 2].astype(np.uint8), rows[:, 3])
