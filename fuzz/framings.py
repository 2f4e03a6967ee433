"""Take a file apart into labelled parts, and put parts together to a valid file again.

A mutated byte of a ZIP archive is a wrong length or a wrong checksum nearly always, and the record
behind it is never looked at. Mutating a part and framing it anew reaches what reads the part.
"""

from __future__ import annotations

import io
import pickletools
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

Parts = list[tuple[bytes, bytes]]
"""A label that frames it (a name, a tag), and the content."""

PAIR = b"PAIR"
"""What begins two files in one input: the length of the first, the first, the second."""


class Framing(NamedTuple):
    """``split`` raises ValueError for bytes that are not framed like this."""

    split: Callable[[bytes], Parts]
    join: Callable[[Parts], bytes]


def take_apart(data: bytes) -> tuple[Framing, Parts] | None:
    """The parts of ``data`` by the first framing that fits; None when it is one piece to all."""
    for framing in FRAMINGS:
        try:
            parts = framing.split(data)
        except (ValueError, struct.error):
            continue
        if parts:
            return framing, parts
    return None


def pair(first: bytes, second: bytes) -> bytes:
    """Two files as one input."""
    return PAIR + struct.pack("<I", len(first)) + first + second


def unpair(data: bytes) -> tuple[bytes, bytes] | None:
    """The two files of an input; None when it is one."""
    if not data.startswith(PAIR) or len(data) < 8:
        return None
    middle = 8 + int(struct.unpack_from("<I", data, 4)[0])
    return data[8:middle], data[middle:]


def _split_pair(data: bytes) -> Parts:
    both = unpair(data)
    if both is None:
        raise ValueError("no pair")
    return [(b"", both[0]), (b"", both[1])]


def _join_pair(parts: Parts) -> bytes:
    contents = [content for _, content in parts]
    return pair(contents[0] if contents else b"", contents[-1] if contents[1:] else b"")


def _split_zip(data: bytes) -> Parts:
    if not data.startswith(b"PK\x03\x04"):
        raise ValueError("no archive")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [
                (info.filename.encode(), archive.read(info))
                for info in archive.infolist()
            ]
    except Exception as error:  # noqa: BLE001  zipfile raises many kinds on damaged archives
        raise ValueError(str(error)) from None


def _join_zip(parts: Parts) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # about equal names
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name.decode(errors="replace")[:1000]), content)
    return out.getvalue()


def _split_tar(data: bytes) -> Parts:
    if not data.startswith(b"ustar", 257):
        raise ValueError("no tar")
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members: Parts = []
            while (member := tar.next()) is not None and len(members) < 20:
                held = tar.extractfile(member)
                members.append((member.name.encode("latin-1", "replace"), held.read() if held else b""))
            return members
    except Exception as error:  # noqa: BLE001  tarfile raises many kinds on damaged archives
        raise ValueError(str(error)) from None


def _join_tar(parts: Parts) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, content in parts:
            info = tarfile.TarInfo(name.decode("latin-1").replace("\0", "0"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _split_safetensors(data: bytes) -> Parts:
    length = struct.unpack_from("<Q", data)[0]
    if data[8:9] != b"{" or length > len(data) - 8:
        raise ValueError("no header")
    return [(b"header", data[8 : 8 + length]), (b"data", data[8 + length :])]


def _join_safetensors(parts: Parts) -> bytes:
    header = parts[0][1] if parts else b""
    return struct.pack("<Q", len(header)) + header + b"".join(content for _, content in parts[1:])


def _split_pickle(data: bytes) -> Parts:
    """One part an opcode, of several pickles if they follow each other; then whatever follows."""
    stream = io.BytesIO(data)
    bounds = [0]
    stopped = False
    try:
        while stream.tell() < len(data):
            bounds.extend(stream.tell() for _ in pickletools.genops(stream))
            stopped = True
    except Exception as error:  # noqa: BLE001  pickletools raises many kinds on damaged pickles
        if not stopped:
            raise ValueError(str(error)) from None
    bounds.append(len(data))
    opcodes = [data[start:end] for start, end in pairwise(bounds)]
    # Frames would have to be as long as they say.
    return [(b"", opcode) for opcode in opcodes if opcode and opcode[0] != 0x95]


def _join_contents(parts: Parts) -> bytes:
    return b"".join(content for _, content in parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("cut off")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("overlong")


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _split_protobuf(data: bytes) -> Parts:
    parts: Parts = []
    at = 0
    while at < len(data):
        tag, after = _varint(data, at)
        kind = tag & 7
        if not tag >> 3 or kind not in (0, 1, 2, 5):
            raise ValueError("no field")
        if kind == 2:
            length, start = _varint(data, after)
            end = start + length
        else:
            start = after
            end = {1: start + 8, 5: start + 4}.get(kind) or _varint(data, start)[1]
        if end > len(data):
            raise ValueError("cut off")
        parts.append((data[at:after], data[start:end]))
        at = end
    return parts


def _join_protobuf(parts: Parts) -> bytes:
    out = bytearray()
    for tag, content in parts:
        out += tag
        if tag and tag[0] & 7 == 2:
            out += _encoded(len(content))
        out += content
    return bytes(out)


FRAMINGS = (
    Framing(_split_pair, _join_pair), Framing(_split_zip, _join_zip),
    Framing(_split_tar, _join_tar), Framing(_split_safetensors, _join_safetensors),
    Framing(_split_protobuf, _join_protobuf), Framing(_split_pickle, _join_contents),
)  # fmt: skip
"""From the one that is hardest to fit by accident to the easiest."""
