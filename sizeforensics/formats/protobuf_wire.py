"""Decode the protobuf wire format into fields with offsets, for many messages at once or one of any size.

Source: https://protobuf.dev/programming-guides/encoding/. A field is a tag (a varint holding
``number << 3 | wire type``) and a payload: a varint, eight bytes, four bytes, or a length and that
many bytes. The protobuf runtimes throw the offsets away and copy the payloads; here the offsets are
the result and a payload is stepped over.

Small messages of one kind are decoded in lockstep: one field of every message per numpy step. A
large message is decoded field by field from blocks that are read around its payloads.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import Corrupt, LimitExceeded, Truncated
from sizeforensics.source import Source
from sizeforensics.spans import Integers

VARINT, I64, LEN, START_GROUP, END_GROUP, I32 = range(6)
WIRE_NAMES = ("varint", "64-bit", "length-delimited", "start group", "end group", "32-bit")

Bytes = npt.NDArray[np.uint8]

_LARGE = 1 << 16
"""A message above this size, in bytes, is not loaded but walked."""
_REGION = 1 << 20
"""Bytes that are loaded at once; also bounds the fields of one chunk, 40 bytes each."""
_PEEK = 1 << 12
"""Bytes read after stepping over a payload: the header of what comes next."""
_HEADER = 20
"""Bytes of the longest tag and length, two varints."""
_FEW = 128
"""With fewer messages than this a numpy step costs more than a Python loop."""
_MANY = 1 << 16
"""Fields of one chunk when a large message is handed out in parts."""
_BLOCKS = 256
"""Pieces of the file that are put together in one chunk."""
_LONG = 256
"""Bytes of a run of scalars from which numpy finds its end faster than a loop."""
_LARGEST_TAG = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of some of the messages of a batch, in file order; columns of equal length.

    ``message`` indexes the batch. A field is ``[starts, ends)`` and its payload ``[payloads,
    ends)``, offsets of the file; ``tags`` are ``number << 3 | wire type``. ``first`` and ``count``
    say which messages begin in this chunk: every message begins in exactly one, also when it has
    no field.
    """

    source: Source
    first: int
    count: int
    message: Integers
    tags: Integers
    starts: Integers
    payloads: Integers
    ends: Integers
    _loaded: tuple[tuple[int, bytes], ...]
    """Blocks of the file that are in memory: where each begins, and its bytes; ascending."""

    def __len__(self) -> int:
        return len(self.tags)

    @property
    def begun(self) -> slice:
        """The messages of the batch that begin in this chunk."""
        return slice(self.first, self.first + self.count)

    def bytes_at(self, start: int, end: int) -> bytes:
        """The bytes ``[start, end)`` of the file, from memory where they were loaded."""
        block = bisect_right(self._loaded, start, key=itemgetter(0)) - 1
        if block >= 0:
            base, loaded = self._loaded[block]
            if end - base <= len(loaded):
                return loaded[start - base : end - base]
        return self.source.read(start, end)

    def texts(self, rows: Integers, most: int | None = None) -> list[str]:
        """The payloads of these rows as text; bytes that are not UTF-8 become hex escapes.

        ``most`` cuts every payload to that many bytes.
        """
        starts, ends = self.payloads[rows], self.ends[rows]
        if most is not None:
            ends = np.minimum(ends, starts + most)
        found: list[str] = []
        for first, last in _regions(starts, ends) if len(rows) else ():
            base = int(starts[first])
            data = self.bytes_at(base, int(ends[last - 1]))
            found += _cut(data, starts[first:last] - base, ends[first:last] - base)
        return found

    def varints(self, rows: Integers) -> Integers:
        """The values of these varint fields; 2^63 and more are negative."""
        starts, ends = self.payloads[rows], self.ends[rows]
        found = np.empty(len(rows), dtype=np.int64)
        for first, last in _regions(starts, ends) if len(rows) else ():
            base = int(starts[first])
            data = self.bytes_at(base, int(ends[last - 1])) + bytes(_HEADER)
            if last - first < _FEW:
                for row in range(first, last):
                    value = _varint(data, int(starts[row]) - base)[0]
                    found[row] = value - (1 << 64) if value >> 63 else value
            else:
                loaded = np.frombuffer(data, dtype=np.uint8)
                found[first:last] = _varints(loaded, starts[first:last] - base)[0]
        return found

    def singular(self, tag: int, most: int | None = None) -> list[str]:
        """A text field of every message that begins in this chunk: the last one, or ""."""
        rows = np.flatnonzero(self.tags == tag)
        return self.one_each(rows, self.texts(rows, most))

    def one_each(self, rows: Integers, texts: list[str]) -> list[str]:
        """What ``texts`` of these ``rows`` say of every message that begins in this chunk."""
        message = self.message[rows] - self.first
        if len(rows) == self.count and (message == np.arange(self.count)).all():
            return texts
        found = [""] * self.count
        for at, text in zip(message.tolist(), texts, strict=True):
            found[at] = text
        return found


def _cut(data: bytes, starts: Integers, ends: Integers) -> list[str]:
    """The ranges of ``data`` as text; at least a header is between two of them."""
    if len(starts) >= _FEW:
        # Splitting one text at separators is twice as fast as slicing it at offsets.
        bounds = np.stack([starts, ends + 1], axis=1).reshape(-1)
        kept = np.zeros(len(bounds) + 1, dtype=np.bool_)
        kept[1::2] = True
        marked = np.frombuffer(bytearray(data) + b"\0", dtype=np.uint8)
        marked[ends] = 0
        lengths = np.diff(bounds, prepend=0, append=len(marked))
        joined = marked[np.repeat(kept, lengths)].tobytes()
        if joined.isascii() and joined.count(0) == len(starts):
            return joined.decode("ascii").split("\0")[:-1]
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return [data[start:end].decode("utf-8", "backslashreplace") for start, end in pairs]


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
    scalar fields of one number come as a single row ``[start of the first, end of the last)`` in
    a message; the payload of such a row begins at its start. ``most`` bounds the fields of one
    message that is not streamed.

    Raises Truncated where a message that reaches the end of the file is cut short, Corrupt where
    the wire format is broken, LimitExceeded above ``most``.
    """
    parts: list[Fields] = []
    weight = 0
    for part in _parts(source, starts, ends, stream=stream, runs=runs, most=most):
        parts.append(part)
        weight += len(part) + part.count
        if weight >= _MANY or len(parts) >= _BLOCKS:
            yield _joined(parts)
            parts, weight = [], 0
    if parts:
        yield _joined(parts)


def _parts(
    source: Source, starts: Integers, ends: Integers, *, stream: bool, runs: bool, most: int | None
) -> Iterator[Fields]:
    """The fields of the messages in pieces of any size."""
    large = np.flatnonzero(ends - starts > _LARGE).tolist()
    position = 0
    for index in [*large, len(starts)]:
        for first, last in _regions(starts[position:index], ends[position:index]):
            chunk = slice(position + first, position + last)
            yield _small(source, starts[chunk], ends[chunk], first=chunk.start, runs=runs)
        if index < len(starts):
            bounds = int(starts[index]), int(ends[index])
            parts = _walk(source, bounds, index=index, runs=runs)
            yield from parts if stream else (_whole(parts, most),)
        position = index + 1


def _regions(starts: Integers, ends: Integers) -> Iterator[tuple[int, int]]:
    """Split ascending ranges into runs worth reading at once: near each other, not too many."""
    far = np.flatnonzero(starts[1:] - ends[:-1] > _PEEK) + 1
    edges = [0, *far.tolist(), len(starts)]
    for first, last in pairwise(edges):
        while first < last:
            cut = int(np.searchsorted(ends[first:last], starts[first] + _REGION, side="right"))
            yield first, first + max(cut, 1)
            first += max(cut, 1)


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
    columns = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("message", "tags", "starts", "payloads", "ends")
    )
    loaded = tuple(block for part in parts for block in part._loaded)  # noqa: SLF001 - our own
    return Fields(
        parts[0].source, parts[0].first, sum(part.count for part in parts), *columns, loaded
    )


# ---------------------------------------------------------------------------------------------
# One field at a time


def _walk(
    source: Source, bounds: tuple[int, int], *, index: int, runs: bool
) -> Iterator[Fields]:
    """The fields of message ``index``, ``bounds`` of the file, reading around the payloads.

    Yields at least one chunk. The block that was read last stays loaded: for most tensors that is
    all but the payload.
    """
    position, end = bounds
    size, begun = _PEEK, False
    while position < end or not begun:
        columns = _Columns()
        block, origin = b"", position
        while position < end and len(columns) < _MANY:
            origin, have = position, min(end, position + size)
            block = source.read(origin, have)
            # A header near the end of the block is left to the next one, unless none follows.
            safe = len(block) if have == end else len(block) - _HEADER
            position += _decode(block + bytes(_HEADER), safe, columns, runs=runs, origin=origin)
            if position > end:
                _refuse(source, columns.starts[-1], end)
            # Small fields in a row are read in growing blocks; behind a payload only a peek.
            size = min(2 * size, _REGION) if position <= have + _PEEK else _PEEK
        message = np.full(len(columns), index, dtype=np.int64)
        tags, starts, payloads = columns.arrays()
        ends = np.append(starts[1:], position) if len(starts) else starts
        yield Fields(
            source, index + begun, 1 - begun, message, tags, starts, payloads, ends,
            ((origin, block),),
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

    ``block`` is zero-padded by ``_HEADER`` bytes and begins at ``origin``. A payload may leave the
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
                    length, payload = _varint(block, at + 1)
            before = -1
            add_tag(tag)
            add_start(origin + at)
            add_payload(origin + payload)
            at = payload + length
            continue
        tag, payload, following = _any_field(block, at)
        scalar = payload == at + 1 and tag & 7 != LEN
        if runs and scalar and tag == before and following <= safe:
            # One of several: one row with the first. A long run is taken in steps that grow.
            columns.payloads[-1] = columns.starts[-1]
            window = min(2 * window, _REGION)
            if window > _LONG:
                following = _run_end(block, at, min(safe, at + window), tag)
            at = following
            continue
        add_tag(tag)
        add_start(origin + at)
        add_payload(origin + payload)
        at, before, window = following, tag if scalar else -1, 1
    return at


_BROKEN = 1 << 62


def _any_field(block: bytes, at: int) -> tuple[int, int, int]:
    """(tag, payload, position behind the field) of any field, ``_BROKEN`` where there is none."""
    tag, payload = _varint(block, at)
    wire = tag & 7
    if tag > _LARGEST_TAG or tag < 8:
        return tag & 0xFF, at, _BROKEN
    if wire == VARINT:
        return tag, payload, _varint(block, payload)[1]
    if wire == LEN:
        length, start = _varint(block, payload)
        return tag, start, min(start + length, _BROKEN)
    if wire in (I64, I32):
        return tag, payload, payload + (8 if wire == I64 else 4)
    return tag, payload, _BROKEN


def _varint(block: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); the position is ``_BROKEN`` beyond ten bytes or 64 bits."""
    value = 0
    for size in range(10):
        byte = block[at + size]
        value |= (byte & 0x7F) << 7 * size
        if byte < 0x80:
            return value, at + size + 1 if value < 1 << 64 else _BROKEN
    return value, _BROKEN


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
    return at + int(values[count - 1]) + 1 if count else _any_field(block, at)[2]


# ---------------------------------------------------------------------------------------------
# One field of every message at a time


class _Region(NamedTuple):
    """Bytes of the file from ``base`` on, zero-padded by ``_HEADER`` bytes."""

    source: Source
    base: int
    data: Bytes


def _small(
    source: Source, starts: Integers, ends: Integers, *, first: int, runs: bool
) -> Fields:
    """The fields of messages that are read in one piece; the first of them has index ``first``."""
    base, size = int(starts[0]), int(ends[-1]) - int(starts[0])
    region = _Region(source, base, np.zeros(size + _HEADER, dtype=np.uint8))
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
        behind + base, ((base, region.data[:size].tobytes()),),
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
    while len(active) >= _FEW:
        tags, payloads, following = _step(region.data, position)
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
        block = region.data[start:end].tobytes() + bytes(_HEADER)
        if _decode(block, end - start, columns, runs=runs, origin=start) > end - start:
            _refuse(region.source, region.base + columns.starts[-1], region.base + end)
        rest.append((message, columns))
    return steps, rest


def _step(data: Bytes, position: Integers) -> tuple[Integers, Integers, Integers]:
    """(tags, payloads, positions behind) of the field at each position, ``_BROKEN`` if none is."""
    tags, after = _varints(data, position)
    wire = tags & 7
    lengths, payloads = _varints(data, after)
    if (wire == LEN).all():
        following = payloads + lengths
        # A length of 2^62 or more, or one that a broken varint pretends, must not wrap around.
        following[(lengths < 0) | (lengths > _BROKEN) | (payloads == _BROKEN)] = _BROKEN
    else:
        is_length = wire == LEN
        following = np.where(wire == VARINT, payloads, _BROKEN)
        fine = is_length & (lengths >= 0) & (lengths < _BROKEN) & (payloads < _BROKEN)
        following[fine] = payloads[fine] + lengths[fine]
        following[wire == I64] = after[wire == I64] + 8
        following[wire == I32] = after[wire == I32] + 4
        payloads = np.where(is_length, payloads, after)
    if int(tags.min()) < 8 or int(tags.max()) > _LARGEST_TAG or int(after.max()) == _BROKEN:
        following[(tags < 8) | (tags > _LARGEST_TAG) | (after == _BROKEN)] = _BROKEN
    return tags, payloads, following


def _varints(data: Bytes, position: Integers) -> tuple[Integers, Integers]:
    """(value, position behind it) of the varint at each position, as ``_varint`` for one.

    A value of 2^63 or more is negative. Positions may be ``_BROKEN``; the result then is, too.
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
                after[more[byte > 1]] = _BROKEN
            more = more[byte > 0x7F]
            if not len(more):
                break
    if not inside.all():
        after[~inside] = _BROKEN
    return value, after


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


def peek(source: Source, start: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(tag, payload, end) of up to ``most`` fields from ``start``, reading headers only.

    Stops, without an error, at what is no field. The last end may lie behind the source.
    """
    for _ in range(most):
        if start >= source.size:
            return
        block = source.read(start, min(start + _HEADER, source.size)) + bytes(_HEADER)
        tag, payload, following = _any_field(block, 0)
        if following >= _BROKEN:
            return
        yield tag, start + payload, start + following
        start += following


# ---------------------------------------------------------------------------------------------
# What is wrong with a field


def _refuse(source: Source, start: int, end: int) -> NoReturn:
    """Say what is wrong with the field at ``start`` of a message that ends at ``end``.

    Where the message is the rest of the file, a field beyond its end means truncation.
    """
    head = source.read(start, min(end, start + 2 * _HEADER))
    padded = head + bytes(2 * _HEADER)
    origin = source.origin()
    whole = end == source.size
    edge = "the end of the file" if whole else f"the end of its message at {origin + end:#x}"

    def refuse(expected: str, got: str) -> NoReturn:
        kind = Truncated if whole and got.startswith(edge) else Corrupt
        raise kind(source.path, origin + start, expected, got)

    tag, after = _varint(padded, 0)
    if after > len(head):
        refuse("a protobuf tag", "a varint of more than 64 bits" if after == _BROKEN else edge)
    number, wire = tag >> 3, tag & 7
    if tag > _LARGEST_TAG or number == 0:
        refuse("a protobuf field number from 1 to 536,870,911", f"{number:,}")
    if wire > I32 or wire in (START_GROUP, END_GROUP):
        got = WIRE_NAMES[wire] if wire <= I32 else "undefined"
        refuse("wire type 0, 1, 2 or 5", f"{wire} ({got}) for field {number}")
    if wire in (I64, I32):
        refuse(f"a {WIRE_NAMES[wire]} value of field {number}", edge)
    value, payload = _varint(padded, after)
    if payload > len(head):
        got = "a varint of more than 64 bits" if payload == _BROKEN else edge
        refuse(f"a varint of field {number}", got)
    refuse(f"{value:,} bytes of field {number}", f"{edge} after {end - start - payload:,}")


# ---------------------------------------------------------------------------------------------
# Values of repeated scalars


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
        if len(data) - cut > 2 * _HEADER:
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
