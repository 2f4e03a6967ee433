"""tar archives: every member, its header and its padding, with their places in the file.

The layout is POSIX.1-2001 (ustar headers, pax records), as Python's ``tarfile`` writes it, plus the
base-256 numbers of GNU tar. ``tarfile`` itself is no base: it loops on a negative size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from sizeforensics.errors import Corrupt, LimitExceeded, Truncated, Unsupported
from sizeforensics.formats.notes import Notes
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import ALIGNMENT, CONTAINER, UNCLAIMED
from sizeforensics.units import counted

BLOCK = 512
RECORD = 20 * BLOCK
"""Bytes of a header, and what tar pads a whole archive to."""

HEADERS = "member headers"
PADDING = "member padding"
END = "end of the archive"
END_PADDING = "padding behind the end"
HIDDEN = "padding that holds something else"
"""Subjects of the framing."""

_MOST_PADDING = 1 << 20
"""Bytes of padding behind an archive: a hundred records; its zeros are looked at."""

_REGULAR = b"0\x007"
_WITHOUT_DATA = b"123456"
_PAX = b"xg"
_MOST_PAX = 1 << 20
_RECORD = re.compile(rb"([0-9]{1,7}) ([^=]+)=")
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*", re.DOTALL)


class Member(NamedTuple):
    """One member; its data are ``[start, end)`` of the file."""

    name: str
    kind: bytes
    header: int
    start: int
    end: int

    @property
    def regular(self) -> bool:
        return self.kind in _REGULAR


class Piece(NamedTuple):
    """A range of the file that is no member's data."""

    start: int
    end: int
    role: int
    name: str
    subject: str


@dataclass(slots=True)
class TarArchive:
    """Members in the order of the file; with ``framing`` they tile it."""

    members: list[Member] = field(default_factory=list)
    framing: list[Piece] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def find(self, name: str) -> Member | None:
        """The member ``tarfile`` would extract: the last one of this name."""
        named = (member for member in reversed(self.members) if member.name == name)
        return next(named, None)


def looks_like(head: bytes) -> bool:
    return head.startswith(b"ustar", 257)


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> TarArchive:
    """The archive that fills ``source``.

    Raises Truncated when a member or the end is missing, Corrupt for a wrong checksum or a number
    that is none, LimitExceeded beyond ``archive_entries``.
    """
    archive = TarArchive()
    position, overrides = 0, _Overrides({}, {})
    while True:
        header = _block(source, position)
        if not header.strip(b"\0"):
            break
        member = _member(source, position, header, overrides)
        padded = member.start + -(-(member.end - member.start) // BLOCK) * BLOCK
        if padded > source.size:
            raise Truncated(source.path, source.origin() + member.start,
                            f"member {member.name!r} up to {padded:#x}",
                            f"the end of the file at {source.size:#x}")  # fmt: skip
        archive.framing.append(Piece(position, member.start, CONTAINER, member.name, HEADERS))
        if member.kind in _PAX:
            archive.framing.append(
                Piece(member.start, member.end, CONTAINER, member.name, HEADERS)
            )
            overrides = _extended(source, member, overrides)
        else:
            archive.members.append(member)
            overrides = _Overrides(overrides.always, {})
        _pad(source, archive, member.end, padded, member.name, PADDING)
        if len(archive.members) > limits.archive_entries:
            raise LimitExceeded(source.path, source.origin() + position, "archive_entries",
                                limits.archive_entries, "more members")  # fmt: skip
        position = padded
    _end(source, archive, position)
    return archive


class _Overrides(NamedTuple):
    """pax records for all members to come, and for the next one."""

    always: dict[str, str]
    once: dict[str, str]

    def get(self, key: str) -> str | None:
        return self.once.get(key, self.always.get(key))


def _block(source: Source, position: int) -> bytes:
    if position + BLOCK > source.size:
        raise Truncated(source.path, source.origin() + position, "a header or the end of the archive",
                        f"{source.size - position} bytes")  # fmt: skip
    return source.read(position, position + BLOCK)


def _member(source: Source, position: int, header: bytes, overrides: _Overrides) -> Member:
    """The member whose ustar header this is (IEEE Std 1003.1, pax, "ustar Interchange Format")."""
    at = source.origin() + position
    checksum = _number(source, at + 148, header[148:156])
    plain = header[:148] + b" " * 8 + header[156:]
    # Some writers summed signed characters.
    if checksum != sum(plain) and checksum != sum(plain) - 256 * sum(byte > 127 for byte in plain):
        raise Corrupt(source.path, at, f"a tar header with checksum {sum(plain)}", str(checksum))
    kind = header[156:157]
    size = _number(source, at + 124, header[124:136])
    prefix = header[345:500] if header[257:263] == b"ustar\0" else b""
    name = _text(header[:100])
    if _text(prefix):
        name = f"{_text(prefix)}/{name}"
    if kind not in _PAX:
        name = overrides.get("path") or name
        digits = overrides.get("size")
        if digits is not None:
            if not re.fullmatch("[0-9]{1,19}", digits, re.ASCII):
                raise Corrupt(source.path, at, f"a size of member {name!r}", repr(digits[:40]))
            size = int(digits)
    start = position + BLOCK
    return Member(name, kind, position, start, start + (0 if kind in _WITHOUT_DATA else size))


def _number(source: Source, at: int, data: bytes) -> int:
    """Octal digits, or GNU's base 256 behind a byte 0x80; negative numbers are refused."""
    if data[0] == 0x80:
        return int.from_bytes(data[1:], "big")
    match = _OCTAL.fullmatch(data)
    if match is None:
        raise Corrupt(source.path, at, "an octal number that is not negative", repr(data))
    return int(match[1] or b"0", 8)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _extended(source: Source, member: Member, overrides: _Overrides) -> _Overrides:
    """What a pax header says about the members that follow: records ``length key=value``."""
    at = source.origin() + member.start
    if member.end - member.start > _MOST_PAX:
        raise Unsupported(source.path, at, f"a pax header of at most {counted(_MOST_PAX, 'byte')}",
                          f"{member.end - member.start:,}")  # fmt: skip
    data = source.read(member.start, member.end)
    found: dict[str, str] = {}
    position = 0
    while position < len(data) and data[position]:
        match = _RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise Corrupt(source.path, at + position, "a pax record",
                          repr(data[position : position + 40]))  # fmt: skip
        found[_text(match[2])] = data[match.end() : end - 1].decode("utf-8", "backslashreplace")
        position = end
    if member.kind == b"g":
        return _Overrides({**overrides.always, **found}, overrides.once)
    return _Overrides(overrides.always, {**overrides.once, **found})


def _pad(  # noqa: PLR0917 - a range and whose it is
    source: Source, archive: TarArchive, start: int, end: int, name: str, subject: str
) -> None:
    """Padding is zeros; other bytes are shown."""
    if start == end:
        return
    if any(block.any() for block in source.blocks(start, end)):
        archive.notes.count("hold something else than zeros", f"{counted(end - start, 'byte')} at {start:#x}",
                            "stretch of padding")  # fmt: skip
        archive.framing.append(Piece(start, end, UNCLAIMED, name, HIDDEN))
    else:
        archive.framing.append(Piece(start, end, ALIGNMENT, name, subject))


def _end(source: Source, archive: TarArchive, position: int) -> None:
    """Two blocks of zeros end an archive, then zeros fill its last record."""
    if _block(source, position + BLOCK).strip(b"\0"):
        archive.notes.say("one block of zeros instead of two ends the archive")
        end = position + BLOCK
    else:
        end = position + 2 * BLOCK
    archive.framing.append(Piece(position, end, CONTAINER, END, END))
    padded = min(source.size, end + _MOST_PADDING)
    _pad(source, archive, end, padded, END_PADDING, END_PADDING)
    if padded < source.size:
        archive.notes.say(f"{counted(source.size - padded, 'byte')} behind the end of the archive belong to nothing")
        archive.framing.append(Piece(padded, source.size, UNCLAIMED, END_PADDING, HIDDEN))
    if source.size % RECORD:
        archive.notes.say("the archive ends inside a record: the file may be cut short")
