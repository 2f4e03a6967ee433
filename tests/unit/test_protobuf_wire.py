"""The wire scanner against a decoder of ten lines, and against every way a field can be broken."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated
from sizeforensics.formats.encodings import protobuf_fields
from sizeforensics.formats.encodings import protobuf_scalars as scalars
from sizeforensics.formats.encodings import protobuf_wire as wire
from sizeforensics.formats.encodings.protobuf_scalars import I32, I64, LEN, VARINT
from sizeforensics.source import MemorySource, Source

Field = tuple[int, int, bytes]
"""Number, wire type, payload."""


def varint(value: int, size: int = 0) -> bytes:
    """Base 128, low group first; ``size`` bytes long where that is more than it needs."""
    out = bytearray()
    while value > 0x7F or len(out) + 1 < size:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def encode(fields: list[Field]) -> bytes:
    return b"".join(
        varint(number << 3 | kind) + (varint(len(payload)) if kind == LEN else b"") + payload
        for number, kind, payload in fields
    )


def numbers() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, 31), st.integers(1, (1 << 29) - 1))


def fields() -> st.SearchStrategy[Field]:
    value = st.integers(0, (1 << 64) - 1).map(varint)
    return st.one_of(
        st.tuples(numbers(), st.just(LEN), st.binary(max_size=300)),
        st.tuples(numbers(), st.just(VARINT), value),
        st.tuples(numbers(), st.just(I32), st.binary(min_size=4, max_size=4)),
        st.tuples(numbers(), st.just(I64), st.binary(min_size=8, max_size=8)),
    )


def batch(messages: list[bytes], gap: int = 2) -> tuple[Source, np.ndarray, np.ndarray]:
    """The messages in one file, ``gap`` bytes in front of each."""
    data, starts, ends = b"", [], []
    for message in messages:
        data += bytes(gap)
        starts.append(len(data))
        data += message
        ends.append(len(data))
    return MemorySource("file", data), np.array(starts), np.array(ends)


def rows(source: Source, chunks: Iterator[protobuf_fields.Fields]) -> list[tuple[int, int, int, bytes]]:
    found = []
    for chunk in chunks:
        columns = (chunk.message, chunk.tags, chunk.payloads, chunk.ends)
        for message, tag, start, end in zip(*(c.tolist() for c in columns), strict=True):
            found.append((message, tag >> 3, tag & 7, source.read(start, end)))
    return found


@pytest.fixture(params=["lockstep", "loop", "large", "tiny blocks"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every path through the scanner must give the same."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "lockstep":
            patch.setattr(wire, "FEW", 1)
        if request.param == "large":
            patch.setattr(wire, "_LARGE", 0)
        if request.param == "tiny blocks":
            patch.setattr(wire, "_LARGE", 60)
            patch.setattr(wire, "_MANY", 3)
            for module in (wire, protobuf_fields):
                patch.setattr(module, "REGION", 128)
                patch.setattr(module, "PEEK", 48)
        yield request.param


@given(messages=st.lists(st.lists(fields(), max_size=9), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.usefixtures("mode")
def test_scan_returns_what_was_encoded(messages: list[list[Field]], stream: bool) -> None:
    source, starts, ends = batch([encode(message) for message in messages])
    chunks = list(wire.scan(source, starts, ends, stream=stream))
    expected = [
        (index, *field) for index, message in enumerate(messages) for field in message
    ]
    assert rows(source, iter(chunks)) == expected
    begun = [at for chunk in chunks for at in range(chunk.first, chunk.first + chunk.count)]
    assert begun == list(range(len(messages)))
    for chunk in chunks:
        inner = chunk.message[1:] == chunk.message[:-1]
        assert (chunk.ends[:-1] == chunk.starts[1:])[inner].all()


@pytest.mark.usefixtures("mode")
def test_an_empty_batch_has_no_fields() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert list(wire.scan(MemorySource("file", b""), empty, empty)) == []


@given(
    runs=st.lists(
        st.tuples(st.sampled_from([VARINT, I32, I64]), st.integers(1, 400)),
        min_size=1, max_size=6,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.usefixtures("mode")
def test_runs_cover_the_same_bytes_as_their_fields(runs: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    encoded, expected = b"", []
    for at, (kind, count) in enumerate(runs):
        start = len(encoded)
        for _ in range(count):
            value = int(rng.integers(0, 1 << 63)) >> int(rng.integers(0, 63))
            payload = {
                VARINT: varint(value), I32: bytes(4), I64: b"\x11" * 8
            }[kind]
            encoded += encode([(at % 2 + 1, kind, payload)])
        expected.append((at % 2 + 1, kind, start, len(encoded)))
    source, starts, ends = batch([encoded], gap=0)
    found: list[tuple[int, int, int, int]] = []
    for chunk in wire.scan(source, starts, ends, runs=True):
        for tag, start, end in zip(
            chunk.tags.tolist(), chunk.starts.tolist(), chunk.ends.tolist(), strict=True
        ):
            if found and found[-1][:2] == (tag >> 3, tag & 7) and found[-1][3] == start:
                found[-1] = (*found[-1][:3], end)
            else:
                found.append((tag >> 3, tag & 7, start, end))
    joined: list[tuple[int, int, int, int]] = []
    for row in expected:
        if joined and joined[-1][:2] == row[:2]:
            joined[-1] = (*joined[-1][:3], row[3])
        else:
            joined.append(row)
    assert found == joined


@pytest.mark.usefixtures("mode")
def test_what_is_between_two_scalars_ends_a_run() -> None:
    message = [(1, I32, bytes(4)), (2, LEN, b"between")] * 300
    source, starts, ends = batch([encode(message)])
    found = rows(source, wire.scan(source, starts, ends, runs=True))
    assert [row[1:] for row in found] == message


@pytest.mark.parametrize(
    "value", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01"], ids=["65 bits", "11 bytes"]
)
@pytest.mark.usefixtures("mode")
def test_a_broken_value_in_a_long_run_is_refused(value: bytes) -> None:
    good = encode([(1, VARINT, varint((1 << 64) - 1)), (1, VARINT, b"\x05")]) * 300
    source, starts, ends = batch([good + b"\x08" + value + good])
    with pytest.raises(Corrupt) as refused:
        list(wire.scan(source, starts, ends, runs=True))
    assert refused.value.offset == int(starts[0]) + len(good)


def test_a_long_run_is_few_rows() -> None:
    source, starts, ends = batch([encode([(7, I32, bytes(4))]) * 500_000], gap=0)
    assert sum(len(chunk) for chunk in wire.scan(source, starts, ends, runs=True)) < 300


BROKEN = {
    "tag cut off": (b"\x80", Truncated),
    "tag of 11 bytes": (b"\x80" * 10 + b"\x01", Corrupt),
    "tag above 32 bits": (varint(1 << 35 | 2) + b"\0", Corrupt),
    "field number 0": (b"\x02\x01x", Corrupt),
    "start group": (b"\x0b\x0c", Corrupt),
    "stray end group": (b"\x0c", Corrupt),
    "wire type 6": (b"\x0e", Corrupt),
    "wire type 7": (b"\x0f", Corrupt),
    "value cut off": (b"\x08\xff", Truncated),
    "value of 11 bytes": (b"\x08" + b"\x80" * 10 + b"\x01", Corrupt),
    "value above 64 bits": (b"\x08" + b"\xff" * 9 + b"\x02", Corrupt),
    "length cut off": (b"\x0a", Truncated),
    "length above 64 bits": (b"\x0a" + b"\xff" * 9 + b"\x7f", Corrupt),
    "length of 2^63": (b"\x0a" + varint(1 << 63), Truncated),
    "length of 2^62": (b"\x0a" + varint(1 << 62), Truncated),
    "length past the end": (b"\x0a\x05four", Truncated),
    "32-bit value cut off": (b"\x0d\0\0\0", Truncated),
    "64-bit value cut off": (b"\x09\0\0\0\0\0\0\0", Truncated),
}


@pytest.mark.parametrize(("tail", "kind"), BROKEN.values(), ids=BROKEN)
@pytest.mark.usefixtures("mode")
def test_what_is_no_field_is_refused_where_it_is(tail: bytes, kind: type[FormatError]) -> None:
    good = encode([(1, LEN, b"x" * 70), (2, VARINT, b"\x05")])
    source, starts, ends = batch([good, good + tail], gap=7)
    with pytest.raises(kind) as refused:
        list(wire.scan(source, starts, ends))
    assert type(refused.value) is kind
    assert refused.value.offset == int(ends[1]) - len(tail)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("tail", "kind"), BROKEN.values(), ids=BROKEN)
@pytest.mark.usefixtures("mode")
def test_a_message_inside_the_file_is_corrupt_not_truncated(
    tail: bytes, kind: type[FormatError]
) -> None:
    source, starts, ends = batch([tail, encode([(1, LEN, b"x" * 99)])], gap=3)
    with pytest.raises(Corrupt) as refused:
        list(wire.scan(source, starts, ends))
    assert refused.value.offset == 3


@pytest.mark.usefixtures("mode")
def test_every_cut_of_a_message_is_truncated_or_shorter() -> None:
    message = [(1, LEN, b"abc"), (2, VARINT, varint(300)), (300, I32, bytes(4)),
               (4, I64, bytes(8)), (5, LEN, b"y" * 200)]  # fmt: skip
    whole = encode(message)
    edges = {len(encode(message[:count])): count for count in range(len(message) + 1)}
    for cut in range(len(whole)):
        source, starts, ends = batch([whole[:cut]], gap=0)
        if cut in edges:
            found = rows(source, wire.scan(source, starts, ends))
            assert [row[1:] for row in found] == message[: edges[cut]]
        else:
            with pytest.raises(Truncated):
                list(wire.scan(source, starts, ends))


@pytest.mark.usefixtures("mode")
def test_longer_varints_than_needed_are_read() -> None:
    data = varint(1 << 3 | VARINT, 3) + varint(7, 10) + varint(2 << 3 | 2, 5) + varint(2, 4)
    source, starts, ends = batch([data + b"hi"], gap=0)
    (chunk,) = wire.scan(source, starts, ends)
    assert chunk.tags.tolist() == [8, 18]
    assert chunk.varints(np.array([0])).tolist() == [7]
    assert chunk.texts(np.array([1])) == ["hi"]


def test_payloads_of_a_large_message_are_not_read() -> None:
    class Counting(MemorySource):
        bytes_read = 0

        def read_into(self, start: int, buffer: np.ndarray) -> None:
            Counting.bytes_read += len(buffer)
            super().read_into(start, buffer)

    data = encode([(1, LEN, bytes(10_000_000)), (2, LEN, bytes(20_000_000))])
    source = Counting("file", data)
    (chunk,) = wire.scan(source, np.array([0]), np.array([len(data)]))
    assert len(chunk) == 2
    assert Counting.bytes_read < 20_000


def test_most_bounds_the_fields_of_a_message_that_comes_whole() -> None:
    source, starts, ends = batch([encode([(1, LEN, b"")]) * 100_000], gap=0)
    assert sum(map(len, wire.scan(source, starts, ends, most=100_000))) == 100_000
    with pytest.raises(LimitExceeded):
        list(wire.scan(source, starts, ends, most=99_999))
    assert sum(map(len, wire.scan(source, starts, ends, most=10, stream=True))) == 100_000


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=200))
@settings(max_examples=40, deadline=None)
def test_texts_are_decoded(texts: list[str]) -> None:
    encoded = [encode([(1, LEN, text.encode())]) for text in texts]
    source, starts, ends = batch(encoded)
    (chunk,) = wire.scan(source, starts, ends)
    assert chunk.singular(0x0A) == texts


def test_many_texts_with_separators_in_them_are_decoded() -> None:
    texts = [f"a\0b{at}" if at % 50 == 0 else f"c{at}" for at in range(300)]
    source, starts, ends = batch([encode([(1, LEN, text.encode())]) for text in texts])
    (chunk,) = wire.scan(source, starts, ends)
    assert chunk.singular(0x0A) == texts


def test_bytes_that_are_no_text_become_escapes() -> None:
    source, starts, ends = batch([encode([(1, LEN, b"a\xffb")])])
    (chunk,) = wire.scan(source, starts, ends)
    assert chunk.singular(0x0A) == ["a\\xffb"]


@pytest.mark.parametrize("unpacked", [True, False])
@given(values=st.lists(st.integers(0, (1 << 64) - 1), max_size=50))
@settings(max_examples=40, deadline=None)
def test_varint_blocks_give_back_the_values(values: list[int], unpacked: bool) -> None:
    data = b"".join((b"\x28" if unpacked else b"") + varint(value) for value in values)
    blocks = list(scalars.varint_blocks(MemorySource("m", data), 0, len(data), unpacked=unpacked))
    assert [value for block in blocks for value in block.tolist()] == values


def test_varint_blocks_join_values_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [(1 << 50) + at for at in range(300_000)]
    data = b"".join(map(varint, values))  # 2.4 MB: several blocks
    blocks = list(scalars.varint_blocks(MemorySource("m", data), 0, len(data), unpacked=False))
    assert len(blocks) > 1
    assert np.concatenate(blocks).tolist() == values


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x01" + b"\x80" * 10 + b"\x01", b"\xff" * 9 + b"\x02", b"\x80" * 99],
    ids=["cut off", "11 bytes", "65 bits", "endless"],
)
def test_broken_varints_in_a_packed_field_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        list(scalars.varint_blocks(MemorySource("m", data), 0, len(data), unpacked=False))


def test_peek_reads_headers_and_stops_at_what_is_no_field() -> None:
    data = encode([(1, VARINT, b"\x08"), (7, LEN, b"graph")]) + b"\x0f"
    assert list(wire.peek(MemorySource("m", data), 0, 9)) == [(8, 1, 2), (58, 4, 9)]
    assert list(wire.peek(MemorySource("m", data[:6]), 0, 9)) == [(8, 1, 2), (58, 4, 9)]
    assert list(wire.peek(MemorySource("m", data), 0, 1)) == [(8, 1, 2)]
    assert list(wire.peek(MemorySource("m", b""), 0, 9)) == []
