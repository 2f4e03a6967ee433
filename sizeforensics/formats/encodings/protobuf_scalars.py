"""The scalars of the protobuf wire format: tags, lengths and varints, one or many at a time.

Source: https://protobuf.dev/programming-guides/encoding/. A field is a tag (a varint holding
``number << 3 | wire type``) and a payload: a varint, eight bytes, four bytes, or a length and that
many bytes. A varint takes seven bits per byte, the low ones first, and at most ten bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import Corrupt
from sizeforensics.source import Source
from sizeforensics.spans import Integers

VARINT, I64, LEN, START_GROUP, END_GROUP, I32 = range(6)
WIRE_NAMES = ("varint", "64-bit", "length-delimited", "start group", "end group", "32-bit")

Bytes = npt.NDArray[np.uint8]

HEADER = 20
"""Bytes of the longest tag and length; what a buffer must have behind its end to be decoded here."""
LARGEST_TAG = (1 << 32) - 1
BROKEN = 1 << 62
"""A position behind every file: where a field ends that is none."""


def any_field(block: bytes, at: int) -> tuple[int, int, int]:
    """(tag, payload, position behind the field) of any field, ``BROKEN`` where there is none."""
    tag, payload = varint(block, at)
    wire = tag & 7
    if tag > LARGEST_TAG or tag < 8 or payload == BROKEN:
        return tag & 0xFF, at, BROKEN
    if wire == VARINT:
        return tag, payload, varint(block, payload)[1]
    if wire == LEN:
        length, start = varint(block, payload)
        return tag, start, min(start + length, BROKEN)
    if wire in (I64, I32):
        return tag, payload, payload + (8 if wire == I64 else 4)
    return tag, payload, BROKEN


def varint(block: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); the position is ``BROKEN`` beyond ten bytes or 64 bits."""
    value = 0
    for size in range(10):
        byte = block[at + size]
        value |= (byte & 0x7F) << 7 * size
        if byte < 0x80:
            return value, at + size + 1 if value < 1 << 64 else BROKEN
    return value, BROKEN


def fields_at(data: Bytes, position: Integers) -> tuple[Integers, Integers, Integers]:
    """(tags, payloads, positions behind) of the field at each position, ``BROKEN`` if none is."""
    tags, after = varints(data, position)
    wire = tags & 7
    lengths, payloads = varints(data, after)
    if (wire == LEN).all():
        following = payloads + lengths
        # A length of 2^62 or more, or one that a broken varint pretends, must not wrap around.
        following[(lengths < 0) | (lengths > BROKEN) | (payloads == BROKEN)] = BROKEN
    else:
        is_length = wire == LEN
        following = np.where(wire == VARINT, payloads, BROKEN)
        fine = is_length & (lengths >= 0) & (lengths < BROKEN) & (payloads < BROKEN)
        following[fine] = payloads[fine] + lengths[fine]
        following[wire == I64] = after[wire == I64] + 8
        following[wire == I32] = after[wire == I32] + 4
        payloads = np.where(is_length, payloads, after)
    if int(tags.min()) < 8 or int(tags.max()) > LARGEST_TAG or int(after.max()) == BROKEN:
        following[(tags < 8) | (tags > LARGEST_TAG) | (after == BROKEN)] = BROKEN
    return tags, payloads, following


def varints(data: Bytes, position: Integers) -> tuple[Integers, Integers]:
    """(value, position behind it) of the varint at each position, as ``varint`` for one.

    A value of 2^63 or more is negative. Positions may be ``BROKEN``; the result then is, too.
    """
    inside = position < len(data) - 10
    if not inside.all():
        position = np.where(inside, position, len(data) - 10)
    byte = data[position]
    value = byte.astype(np.int64)
    after = position + 1
    if int(byte.max()) > 0x7F:
        more = np.flatnonzero(byte > 0x7F)
        value[more] &= 0x7F
        for size in range(1, 10):
            byte = data[position[more] + size]
            value[more] |= (byte & np.uint8(0x7F)).astype(np.int64) << 7 * size
            after[more] += 1
            if size == 9:
                after[more[byte > 1]] = BROKEN
            more = more[byte > 0x7F]
            if not len(more):
                break
    if not inside.all():
        after[~inside] = BROKEN
    return value, after


def varint_blocks(
    source: Source, start: int, end: int, *, unpacked: bool
) -> Iterator[npt.NDArray[np.uint64]]:
    """The varints of ``[start, end)``, block by block: packed, or each behind a one-byte tag.

    Raises Corrupt for a varint that is cut off, or longer than ten bytes or 64 bits.
    """
    carried = np.zeros(0, dtype=np.uint8)
    position = start
    for block in source.blocks(start, end):
        data = np.concatenate([carried, block])
        last = np.flatnonzero(data < 0x80)
        if unpacked:
            last = last[: len(last) // 2 * 2]
        cut = int(last[-1]) + 1 if len(last) else 0
        if len(data) - cut > 2 * HEADER:
            _overlong(source, position + cut)
        if cut:
            values = _decoded_varints(source, data[:cut], last, position)
            yield values[1::2] if unpacked else values
        carried = data[cut:]
        position += cut
    if len(carried):
        raise Corrupt(
            source.path, source.origin() + position, "a whole varint",
            f"the end of the field at {source.origin() + end:#x}",
        )


def _decoded_varints(
    source: Source, data: Bytes, last: Integers, position: int
) -> npt.NDArray[np.uint64]:
    """The varints whose last bytes are at ``last``."""
    first = np.concatenate([np.zeros(1, dtype=np.int64), last[:-1] + 1])
    sizes = last - first
    values: npt.NDArray[np.uint64] = (data[first] & np.uint8(0x7F)).astype(np.uint64)
    longer = np.flatnonzero(sizes)
    for size in range(1, 10):
        if not len(longer):
            break
        byte = data[first[longer] + size]
        if size == 9 and ((sizes[longer] > 9) | (byte > 1)).any():
            bad = longer[(sizes[longer] > 9) | (byte > 1)]
            _overlong(source, position + int(first[bad[0]]))
        values[longer] |= (byte & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * size)
        longer = longer[sizes[longer] > size]
    return values


def _overlong(source: Source, at: int) -> NoReturn:
    raise Corrupt(
        source.path, source.origin() + at, "a varint of at most 64 bits", "a longer one"
    )
