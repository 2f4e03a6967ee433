"""Bytes are read inside their bounds or refused, with offsets of the file they are in."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.errors import SourceError, Truncated
from sizeforensics.source import DerivedSource, FileSource, MemorySource

DATA = bytes(range(256)) * 8


def sources(folder):
    path = folder / "data.bin"
    path.write_bytes(b"head" + DATA + b"tail")
    array = np.frombuffer(DATA, dtype=np.uint8)
    return {
        "file": FileSource(str(path)).window(4, 4 + len(DATA)),
        "memory": MemorySource("m", DATA),
        "array": MemorySource("m", array),
        "derived": DerivedSource("d", len(DATA), 0, lambda: array),
        "window of a window": MemorySource("m", b"--" + DATA + b"-").window(1, 2051).window(1, 2049),
    }


@pytest.fixture(params=["file", "memory", "array", "derived", "window of a window"])
def source(request, tmp_path):
    return sources(tmp_path)[request.param]


def test_reads_what_is_there(source):
    size = len(DATA)
    assert source.size == size
    for start, end in [(0, size), (0, 0), (size, size), (5, 900), (size - 1, size)]:
        assert source.read(start, end) == DATA[start:end]
        assert source.array(start, end).tobytes() == DATA[start:end]
        buffer = np.zeros(end - start, dtype=np.uint8)
        source.read_into(start, buffer)
        assert buffer.tobytes() == DATA[start:end]


@pytest.mark.parametrize("size", [1, 7, 255, 2_048, 10_000])
def test_blocks_join_to_the_range(source, size):
    parts = [block.tobytes() for block in source.blocks(3, 2_000, size)]
    assert b"".join(parts) == DATA[3:2_000]
    assert {len(part) for part in parts[:-1]} <= {size}


def test_no_blocks_of_an_empty_range(source):
    assert b"".join(block.tobytes() for block in source.blocks(9, 9)) == b""


@pytest.mark.parametrize(
    "bounds", [(-1, 3), (0, len(DATA) + 1), (5, 4), (len(DATA) + 1, len(DATA) + 1), (0, 1 << 70)]
)
def test_leaving_the_source_is_truncated(source, bounds):
    for read in (source.read, source.array, source.window, source.check):
        with pytest.raises(Truncated):
            read(*bounds)
    with pytest.raises(Truncated):
        list(source.blocks(*bounds))


@pytest.mark.parametrize("start", [-1, len(DATA) - 2])
def test_reading_into_a_buffer_that_is_too_long_is_truncated(source, start):
    with pytest.raises(Truncated):
        source.read_into(start, np.zeros(3, dtype=np.uint8))


@given(st.data())
def test_a_window_reads_what_its_range_holds(data):
    start = data.draw(st.integers(0, 100))
    end = data.draw(st.integers(start, 200))
    window = MemorySource("m", DATA).window(start, end)
    low = data.draw(st.integers(0, window.size))
    high = data.draw(st.integers(low, window.size))
    assert window.read(low, high) == DATA[start:end][low:high]


def test_errors_of_windows_name_offsets_of_the_file():
    window = MemorySource("record", DATA, origin=1_000).window(100, 200).window(10, 20)
    assert window.origin() == 1_110
    with pytest.raises(Truncated) as caught:
        window.read(4, 11)
    assert caught.value.offset == 1_114
    assert caught.value.path == "record"
    with pytest.raises(Truncated) as caught:
        window.read(1 << 40, (1 << 40) + 1)
    assert caught.value.offset == 1_120


def test_errors_of_derived_sources_name_offsets_of_the_file():
    derived = DerivedSource("d", 4, 77, lambda: np.zeros(4, dtype=np.uint8))
    with pytest.raises(Truncated) as caught:
        derived.window(1, 3).read(0, 3)
    assert caught.value.offset == 78


def test_derived_bytes_are_computed_when_read_and_not_before():
    calls = []

    def derive():
        calls.append(1)
        return np.arange(10, dtype=np.uint8)

    source = DerivedSource("d", 10, 0, derive)
    window = source.window(2, 8)
    assert calls == []
    assert window.read(1, 3) == b"\x03\x04"
    assert calls == [1]


def test_a_file_that_shrinks_is_truncated_where_it_ends(tmp_path):
    path = tmp_path / "shrinks"
    path.write_bytes(DATA)
    source = FileSource(str(path))
    os.truncate(path, 100)
    assert source.read(0, 100) == DATA[:100]
    with pytest.raises(Truncated) as caught:
        source.read(40, 300)
    assert caught.value.offset == 100
    with pytest.raises(Truncated):
        list(source.blocks(0, len(DATA), 64))


def test_a_file_that_grows_keeps_the_size_it_had(tmp_path):
    path = tmp_path / "grows"
    path.write_bytes(b"abc")
    source = FileSource(str(path))
    path.write_bytes(b"abcdef")
    assert source.read(0, source.size) == b"abc"
    with pytest.raises(Truncated):
        source.read(0, 4)


def test_an_empty_file_is_a_source_of_no_bytes(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    source = FileSource(str(path))
    assert source.size == 0
    assert source.read(0, 0) == b""
    with pytest.raises(Truncated):
        source.read(0, 1)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(SourceError, match="a directory"):
        FileSource(str(tmp_path))


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SourceError, match="a FIFO"):
        FileSource(str(tmp_path / "fifo"))


def test_a_device_is_no_file():
    with pytest.raises(SourceError, match="a device"):
        FileSource("/dev/null")


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        FileSource(str(tmp_path / "missing.pt"))


@pytest.mark.parametrize("path", ["", "a\x00b", "x" * 5_000])
def test_a_path_no_system_takes_is_refused(path):
    with pytest.raises(SourceError):
        FileSource(path)


def test_a_descriptor_that_is_no_file_is_refused_and_closed(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SourceError, match="a directory"):
        FileSource.from_descriptor("folder", descriptor)
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_a_descriptor_is_adopted(tmp_path):
    (tmp_path / "x").write_bytes(b"xyz")
    descriptor = os.open(tmp_path / "x", os.O_RDONLY)
    source = FileSource.from_descriptor("given/name", descriptor)
    assert source.path == "given/name"
    assert source.read(1, 3) == b"yz"
    assert source.identity == FileSource(str(tmp_path / "x")).identity
    source.close()
    source.close()
    with pytest.raises((SourceError, OSError)):
        source.read(0, 1)
