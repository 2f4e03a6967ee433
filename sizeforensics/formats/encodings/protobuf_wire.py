"""Find the fields of protobuf messages, of many messages at once or of one of any size.

The protobuf runtimes throw the offsets away and copy the payloads; here the offsets are the result
and a payload is stepped over. Small messages of one kind are decoded in lockstep: one field of
every message per numpy step. A large message is decoded field by field from blocks that are read
around its payloads.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import numpy as np

from sizeforensics.errors import Corrupt, LimitExceeded, Truncated
from sizeforensics.formats.encodings.protobuf_fields import FEW, PEEK, REGION, Fields, regions
from sizeforensics.formats.encodings.protobuf_scalars import (
    BROKEN,
    END_GROUP,
    HEADER,
    I32,
    I64,
    LARGEST_TAG,
    LEN,
    START_GROUP,
    VARINT,
    WIRE_NAMES,
    Bytes,
    any_field,
    fields_at,
    varint,
)
from sizeforensics.source import Source
from sizeforensics.spans import Integers
from sizeforensics.units import counted

_LARGE = 1 << 16
"""A message above this size, in bytes, is not loaded but walked."""
_MANY = 1 << 16
"""Fields of one chunk when a large message is handed out in parts."""
_BLOCKS = 256
"""Pieces of the file that are put together in one chunk."""
_LONG = 256
"""Bytes of a run of scalars from which numpy finds its end faster than a loop."""


def scan(
    source: Source,
    starts: Integers,
    ends: Integers,
    *,
    stream: bool = False,
    runs: bool = False,
    most: int | None = None,
) -> Iterator[Fields]:
    """Decode the fields of the messages ``[starts, ends)``, ascending and disjoint, in file order.

    ``stream`` allows a large message to be split over several chunks. ``runs`` lets consecutive
    scalar fields of one number, when there are more than a few, come as rows ``[start of the first,
    end of the last)``; the payload of such a row begins at its start. ``most`` bounds the fields of
    one message that is not streamed.

    Raises Truncated where a message that reaches the end of the file is cut short, Corrupt where
    the wire format is broken, LimitExceeded above ``most``.
    """
    parts: list[Fields] = []
    weight = 0
    for part in _parts(source, starts, ends, stream=stream, runs=runs, most=most):
        parts.append(part)
        weight += len(part) + part.count
        if weight >= _MANY or len(parts) >= _BLOCKS:
            yield _taken(parts)
            weight = 0
    if parts:
        yield _taken(parts)


def _taken(parts: list[Fields]) -> Fields:
    """All parts as one, and none left: nothing but the one holds their bytes."""
    whole = _joined(parts)
    for part in parts:
        if part is not whole:
            part.forget()
    parts.clear()
    return whole


def _parts(
    source: Source, starts: Integers, ends: Integers, *, stream: bool, runs: bool, most: int | None
) -> Iterator[Fields]:
    """The fields of the messages in pieces of any size."""
    large = np.flatnonzero(ends - starts > _LARGE).tolist()
    position = 0
    for index in [*large, len(starts)]:
        for first, last in regions(starts[position:index], ends[position:index]):
            chunk = slice(position + first, position + last)
            yield _small(source, starts[chunk], ends[chunk], first=chunk.start, runs=runs)
        if index < len(starts):
            bounds = int(starts[index]), int(ends[index])
            parts = _walk(source, bounds, index=index, runs=runs)
            yield from parts if stream else (_whole(parts, most),)
        position = index + 1


def _whole(parts: Iterator[Fields], most: int | None) -> Fields:
    """All fields of one large message as one chunk."""
    chunks = []
    total = 0
    for part in parts:
        chunks.append(part)
        total += len(part)
        if most is not None and total > most:
            raise LimitExceeded(
                part.source.path, part.source.origin() + int(part.starts[-1]), "graph_nodes", most,
                f"a message of {total:,} fields or more",
            )
    return _joined(chunks)


def _joined(parts: list[Fields]) -> Fields:
    """Chunks that follow each other as one."""
    if len(parts) == 1:
        return parts[0]
    return Fields(
        parts[0].source, parts[0].first, sum(part.count for part in parts),
        np.concatenate([part.message for part in parts]),
        np.concatenate([part.tags for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.payloads for part in parts]),
        np.concatenate([part.ends for part in parts]),
        [block for part in parts for block in part.loaded],
    )


def _walk(
    source: Source, bounds: tuple[int, int], *, index: int, runs: bool
) -> Iterator[Fields]:
    """The fields of message ``index``, ``bounds`` of the file, reading around the payloads.

    Yields at least one chunk. The block that was read last stays loaded: for most tensors that is
    all but the payload.
    """
    position, end = bounds
    size, begun = PEEK, False
    while position < end or not begun:
        columns = _Columns()
        block, origin = b"", position
        while position < end and len(columns) < _MANY:
            origin, have = position, min(end, position + size)
            block = source.read(origin, have)
            # A header near the end of the block is left to the next one, unless none follows.
            safe = len(block) if have == end else len(block) - HEADER
            position += _decode(block + bytes(HEADER), safe, columns, runs=runs, origin=origin)
            if position > end:
                _refuse(source, columns.starts[-1], end)
            # Small fields in a row are read in growing blocks; behind a payload only a peek.
            size = min(2 * size, REGION) if position <= have + PEEK else PEEK
        message = np.full(len(columns), index, dtype=np.int64)
        tags, starts, payloads = columns.arrays()
        ends = np.append(starts[1:], position) if len(starts) else starts
        yield Fields(
            source, index + begun, 1 - begun, message, tags, starts, payloads, ends,
            [(origin, block)],
        )
        begun = True


class _Columns:
    """Grows the columns of a chunk; a field ends where the next one starts."""

    __slots__ = ("payloads", "starts", "tags")

    def __init__(self) -> None:
        self.tags = array("q")
        self.starts = array("q")
        self.payloads = array("q")

    def __len__(self) -> int:
        return len(self.tags)

    def arrays(self) -> tuple[Integers, Integers, Integers]:
        """Tags, starts and payloads."""
        tags, starts, payloads = (
            np.frombuffer(column, dtype=np.int64)
            for column in (self.tags, self.starts, self.payloads)
        )
        return tags, starts, payloads


def _decode(block: bytes, safe: int, columns: _Columns, *, runs: bool, origin: int) -> int:
    """Decode fields that begin before ``safe``; the position in ``block`` behind the last one.

    ``block`` is zero-padded by ``HEADER`` bytes and begins at ``origin``. A payload may leave the
    block: the position is then behind its end, which the caller checks. Where the wire format is
    broken the position is far outside every file, the broken field being the last one added.
    """
    add_tag, add_start, add_payload = (
        columns.tags.append, columns.starts.append, columns.payloads.append
    )
    at, before, window = 0, -1, 1
    while at < safe:
        tag = block[at]
        if tag & 0x87 == LEN and tag > 7:  # a one-byte tag of a length-delimited field
            length = block[at + 1]
            payload = at + 2
            if length > 0x7F:
                second = block[payload]
                length = length & 0x7F | second << 7
                payload += 1
                if second > 0x7F:
                    length, payload = varint(block, at + 1)
            before = -1
            add_tag(tag)
            add_start(origin + at)
            add_payload(origin + payload)
            at = payload + length
            continue
        tag, payload, following = any_field(block, at)
        scalar = payload == at + 1 and tag & 7 != LEN
        if runs and scalar and tag == before and following <= safe:
            window += window
            if window > _LONG:
                # One row with the field before, in steps that grow while they find more of them.
                columns.payloads[-1] = columns.starts[-1]
                at = _run_end(block, at, min(safe, at + min(window, REGION)), tag)
                continue
        else:
            window = 1
        add_tag(tag)
        add_start(origin + at)
        add_payload(origin + payload)
        at, before = following, tag if scalar else -1
    return at


def _run_end(block: bytes, at: int, stop: int, tag: int) -> int:
    """Where fields of this scalar tag, back to back from ``at``, end; at least one field on.

    No further than ``stop``, but for the first field, which the caller has decoded.
    """
    data = np.frombuffer(block, dtype=np.uint8)[at:stop]
    if tag & 7 != VARINT:
        stride = 9 if tag & 7 == I64 else 5
        other = np.flatnonzero(data[::stride] != tag)
        count = int(other[0]) if len(other) else len(data) // stride
        return at + stride * max(count, 1)
    # Bytes below 0x80 are, by turns, a tag and the last byte of its value.
    last = np.flatnonzero(data < 0x80)
    tags, values = last[::2], last[1::2]
    count = min(len(tags), len(values))
    expected = np.concatenate([np.zeros(1, dtype=np.int64), values[: count - 1] + 1])
    odd = (tags[:count] != expected) | (data[tags[:count]] != tag)
    odd |= values[:count] - tags[:count] > 9  # ten bytes may overflow: left to the slow path
    ill = np.flatnonzero(odd)
    count = int(ill[0]) if len(ill) else count
    return at + int(values[count - 1]) + 1 if count else any_field(block, at)[2]


class _Region(NamedTuple):
    """Bytes of the file from ``base`` on, zero-padded by ``HEADER`` bytes."""

    source: Source
    base: int
    data: Bytes


def _small(
    source: Source, starts: Integers, ends: Integers, *, first: int, runs: bool
) -> Fields:
    """The fields of messages that are read in one piece; the first of them has index ``first``."""
    base, size = int(starts[0]), int(ends[-1]) - int(starts[0])
    region = _Region(source, base, np.zeros(size + HEADER, dtype=np.uint8))
    source.read_into(base, region.data[:size])
    stops = ends - base
    steps, rest = _lockstep(region, starts - base, stops, runs=runs)
    message, tags, begins, payloads = _assembled(len(starts), steps, rest)

    # A field ends where the next one of its message begins; the last one where the message does.
    behind = stops[message]
    inner = np.flatnonzero(message[1:] == message[:-1])
    behind[inner] = begins[inner + 1]
    return Fields(
        source, first, len(starts), message + first, tags, begins + base, payloads + base,
        behind + base, [(base, region.data[:size].tobytes())],
    )


_Step = tuple[Integers, Integers, Integers, Integers]
_Rest = tuple[int, _Columns]


def _lockstep(
    region: _Region, position: Integers, limit: Integers, *, runs: bool
) -> tuple[list[_Step], list[_Rest]]:
    """(messages, tags, starts, payloads) of every step, and what is left of single messages."""
    active = np.flatnonzero(position < limit)
    position, limit = position[active], limit[active]
    steps: list[_Step] = []
    while len(active) >= FEW:
        tags, payloads, following = fields_at(region.data, position)
        broken = np.flatnonzero(following > limit)
        if len(broken):
            at = int(broken[0])
            start, end = region.base + int(position[at]), region.base + int(limit[at])
            _refuse(region.source, start, end)
        steps.append((active, tags, position, payloads))
        more = following < limit
        if more.all():
            position = following
        else:
            active, position, limit = active[more], following[more], limit[more]

    rest: list[_Rest] = []
    for message, start, end in zip(
        active.tolist(), position.tolist(), limit.tolist(), strict=True
    ):
        columns = _Columns()
        block = region.data[start:end].tobytes() + bytes(HEADER)
        if _decode(block, end - start, columns, runs=runs, origin=start) > end - start:
            _refuse(region.source, region.base + columns.starts[-1], region.base + end)
        rest.append((message, columns))
    return steps, rest


def _assembled(
    messages: int, steps: list[_Step], rest: list[_Rest]
) -> tuple[Integers, Integers, Integers, Integers]:
    """(messages, tags, starts, payloads) in file order; step n has the n-th fields."""
    counts = np.zeros(messages, dtype=np.int64)
    for active, *_ in steps:
        counts[active] += 1
    taken = counts.copy()
    for message, columns in rest:
        counts[message] += len(columns)
    offsets = np.cumsum(counts) - counts
    tags, starts, payloads = np.empty((3, int(counts.sum())), dtype=np.int64)
    for step, (active, *parts) in enumerate(steps):
        at = offsets[active] + step
        tags[at], starts[at], payloads[at] = parts
    for message, columns in rest:
        first = int(offsets[message] + taken[message])
        last = first + len(columns)
        tags[first:last], starts[first:last], payloads[first:last] = columns.arrays()
    return np.repeat(np.arange(messages), counts), tags, starts, payloads


def _refuse(source: Source, start: int, end: int) -> NoReturn:
    """Say what is wrong with the field at ``start`` of a message that ends at ``end``.

    Where the message is the rest of the file, a field beyond its end means truncation.
    """
    head = source.read(start, min(end, start + 2 * HEADER))
    padded = head + bytes(2 * HEADER)
    origin = source.origin()
    whole = end == source.size
    edge = "the end of the file" if whole else f"the end of its message at {origin + end:#x}"

    def refuse(expected: str, got: str) -> NoReturn:
        kind = Truncated if whole and got.startswith(edge) else Corrupt
        raise kind(source.path, origin + start, expected, got)

    tag, after = varint(padded, 0)
    if after > len(head):
        refuse("a protobuf tag", "a varint of more than 64 bits" if after == BROKEN else edge)
    number, wire = tag >> 3, tag & 7
    if tag > LARGEST_TAG or number == 0:
        refuse("a protobuf field number from 1 to 536,870,911", f"{number:,}")
    if wire > I32 or wire in (START_GROUP, END_GROUP):
        got = WIRE_NAMES[wire] if wire <= I32 else "undefined"
        refuse("wire type 0, 1, 2 or 5", f"{wire} ({got}) for field {number}")
    if wire in (I64, I32):
        refuse(f"a {WIRE_NAMES[wire]} value of field {number}", edge)
    value, payload = varint(padded, after)
    if payload > len(head):
        got = "a varint of more than 64 bits" if payload == BROKEN else edge
        refuse(f"a varint of field {number}", got)
    refuse(f"{counted(value, 'byte')} of field {number}", f"{edge} after {end - start - payload:,}")


def peek(source: Source, start: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(tag, payload, end) of up to ``most`` fields from ``start``, reading headers only.

    Stops, without an error, at what is no field. The last end may lie behind the source.
    """
    for _ in range(most):
        if start >= source.size:
            return
        block = source.read(start, min(start + HEADER, source.size)) + bytes(HEADER)
        tag, payload, following = any_field(block, 0)
        if following >= BROKEN:
            return
        yield tag, start + payload, start + following
        start += following
