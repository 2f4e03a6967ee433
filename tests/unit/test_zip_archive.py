"""The ZIP reader: every byte a span, every contradiction refused or flagged."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated, Unsupported
from sizeforensics.formats.encodings import zip_archive
from sizeforensics.limits import Limits
from sizeforensics.source import MemorySource
from sizeforensics.spans import TENSOR_DATA, Owners, SpanSink


@dataclass
class Record:
    """One record of a handmade archive; ``local`` and ``central`` override packed fields."""

    name: bytes = b"a/data/0"
    data: bytes = b"hello"
    method: int = 0
    flags: int = 0
    extra: bytes = b""
    central_extra: bytes = b""
    descriptor: bytes = b""
    local: tuple[tuple[str, object], ...] = ()
    central: tuple[tuple[str, object], ...] = ()
    gap: bytes = b""


def build(
    *records: Record,
    prefix: bytes = b"",
    adjusted: bool = True,
    between: bytes = b"",
    comment: bytes = b"",
    tail: bytes = b"",
    end: tuple[tuple[str, int], ...] = (),
    zip64: bool = False,
) -> bytes:
    base = len(prefix) if adjusted else 0
    body, directory = b"", b""
    for record in records:
        body += record.gap
        stored = record.data
        if record.method == 8:
            machine = zlib.compressobj(wbits=-15)
            stored = machine.compress(record.data) + machine.flush()
        sizes = {"crc": zlib.crc32(record.data), "stored": len(stored), "nbytes": len(record.data)}
        local: dict[str, object] = {
            "signature": b"PK\3\4", "name": record.name, "flags": record.flags,
            "method": record.method, **sizes, **dict(record.local),
        }
        central: dict[str, object] = {
            "name": record.name, "flags": record.flags, "method": record.method, **sizes,
            "disk": 0, "header": base + len(body), **dict(record.central),
        }
        name = local["name"]
        body += struct.pack(
            "<4s5H3I2H", local["signature"], 20, local["flags"], local["method"], 0, 15 << 5,
            local["crc"], local["stored"], local["nbytes"], len(name), len(record.extra),
        ) + name + record.extra + stored + record.descriptor
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, central["flags"], central["method"], 0, 15 << 5,
            central["crc"], central["stored"], central["nbytes"], len(central["name"]),
            len(record.central_extra), 0, central["disk"], 0, 0, central["header"],
        ) + central["name"] + record.central_extra
    body += between
    ends = {"disk": 0, "start": 0, "here": len(records), "records": len(records),
            "length": len(directory), "offset": base + len(body), **dict(end)}
    out = prefix + body + directory
    if zip64:
        position = base + len(body) + len(directory)
        out += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(records), len(records),
                           len(directory), base + len(body))
        out += struct.pack("<4sIQI", b"PK\6\7", 0, position, 1)
    out += struct.pack("<4s4H2IH", b"PK\5\6", ends["disk"], ends["start"], ends["here"],
                       ends["records"], ends["length"], ends["offset"], len(comment))
    return out + comment + tail


def read(data: bytes, limits: Limits | None = None) -> zip_archive.Archive:
    archive = zip_archive.read(MemorySource("m.zip", data), limits or Limits())
    tile(archive)
    return archive


def tile(archive: zip_archive.Archive) -> dict[str, int]:
    """Bytes by owner's subject; raises unless framing and data tile the file."""
    sink, owners = SpanSink(), Owners()
    archive.claim_framing(sink, owners)
    for entry in archive.entries:
        sink.add(entry.start, entry.end, TENSOR_DATA, owners.add(entry.name, "data"))
    spans = sink.finish(archive.source.size, owners.add("gap", "gap"))
    totals: dict[str, int] = {}
    for start, end, _, owner in spans:
        subject = owners.subjects[owner]
        totals[subject] = totals.get(subject, 0) + end - start
    assert "gap" not in totals
    return totals


def content(archive: zip_archive.Archive, index: int = 0) -> bytes:
    source = archive.content(archive.entries[index])
    return source.read(0, source.size)


SEVERAL = (
    Record(b"a/one", b"first"),
    Record(b"a/two", b"second" * 100, method=8),
    Record(b"a/empty", b""),
    Record("a/ü".encode(), b"x", flags=1 << 11),
)


def test_it_agrees_with_zipfile() -> None:
    data = build(*SEVERAL)
    archive = read(data)
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert [entry.name for entry in archive.entries] == theirs.namelist()
        for index, info in enumerate(theirs.infolist()):
            assert content(archive, index) == theirs.read(info)
            assert archive.entries[index].header == info.header_offset
            assert archive.entries[index].crc == info.CRC
    assert archive.warnings == ()


@pytest.mark.parametrize("streamed", [False, True], ids=["seekable", "with descriptors"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("force_zip64", [False, True])
def test_it_reads_what_zipfile_writes(streamed: bool, method: int, force_zip64: bool) -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return not streamed

        def seek(self, *arguments: object) -> int:
            if streamed:
                raise OSError
            return super().seek(*arguments)

    out = Stream()
    with zipfile.ZipFile(out, "w", method) as theirs:
        for name in ("a/1", "a/2"):
            with theirs.open(name, "w", force_zip64=force_zip64) as record:
                record.write(name.encode() * 1000)
    archive = read(out.getvalue())
    assert [content(archive, index) for index in range(2)] == [b"a/1" * 1000, b"a/2" * 1000]
    assert archive.warnings == ()


def test_every_byte_has_an_owner() -> None:
    archive = read(build(*SEVERAL, comment=b"words"))
    assert tile(archive) == {
        "record headers": 4 * 30 + sum(len(record.name) for record in SEVERAL),
        "archive directory": 4 * 46 + sum(len(record.name) for record in SEVERAL),
        "end records": 22,
        "archive comment": 5,
        "data": sum(entry.stored_bytes for entry in archive.entries),
    }


@pytest.mark.parametrize("signature", [b"", b"PK\7\x08"], ids=["bare", "signed"])
@pytest.mark.parametrize("code", ["I", "Q"], ids=["short", "long"])
@pytest.mark.parametrize("method", [0, 8])
def test_descriptors_of_every_size_are_headers(signature: bytes, code: str, method: int) -> None:
    data = b"some data" * 9
    machine = zlib.compressobj(wbits=-15)
    stored = machine.compress(data) + machine.flush() if method else data
    descriptor = signature + struct.pack(f"<I2{code}", zlib.crc32(data), len(stored), len(data))
    zeros = (("crc", 0), ("stored", 0), ("nbytes", 0))
    record = Record(data=data, method=method, flags=8, descriptor=descriptor, local=zeros)
    archive = read(build(record, replace(record, name=b"a/2")))
    assert archive.warnings == ()
    assert tile(archive)["record headers"] == 2 * (30 + len(descriptor)) + 8 + 3


def test_a_descriptor_that_lies_is_flagged_and_shown() -> None:
    record = Record(flags=8, descriptor=b"PK\7\x08" + bytes(12))
    archive = read(build(record))
    assert any("lacks the data descriptor that is announced" in line for line in archive.warnings)
    assert tile(archive)["bytes between records"] == 16


def test_padding_is_alignment_only_when_it_is_padding() -> None:
    def padded(body: bytes) -> Record:
        return Record(extra=b"FB" + struct.pack("<H", len(body)) + body)

    archive = read(build(padded(b"Z" * 40)))
    assert tile(archive)["record padding"] == 40
    assert archive.warnings == ()
    archive = read(build(padded(b"Z" * 39 + b"!")))
    assert tile(archive)["padding that holds something else"] == 40
    assert "1 record holds unregistered data" in archive.warnings[0]


def test_unregistered_extra_fields_are_unclaimed() -> None:
    field = b"\xde\xc0\x04\x00evil"
    archive = read(build(Record(extra=field, central_extra=field)))
    assert tile(archive)["extra fields nobody registered"] == 8
    assert len(archive.warnings) == 2


def test_known_extra_fields_are_headers() -> None:
    archive = read(build(Record(extra=b"UT\x05\x00\x01\0\0\0\0")))
    assert tile(archive)["record headers"] == 30 + 8 + 9
    assert archive.warnings == ()


@pytest.mark.parametrize(
    ("local", "words"),
    [
        ((("name", b"a/data/1"),), "another name"),
        ((("name", b"a/data/longer"),), "another name"),
        ((("flags", 2),), "other flags"),
        ((("method", 8),), "another method"),
        ((("stored", 4),), "other sizes"),
        ((("nbytes", 4),), "other sizes"),
        ((("crc", 4),), "another CRC"),
    ],
)
def test_local_headers_that_disagree_are_flagged(
    local: tuple[tuple[str, object], ...], words: str
) -> None:
    archive = read(build(Record(local=local), Record(b"a/fine")))
    assert content(archive) == b"hello"
    assert len(archive.warnings) == 1
    assert words in archive.warnings[0]
    assert "'a/data/0'" in archive.warnings[0]


@pytest.mark.parametrize(("crc", "words"), [(0, "carries a zero CRC"), (7, "carries a wrong CRC")])
def test_crcs_are_checked(crc: int, words: str) -> None:
    fields = (("crc", crc),)
    archive = read(build(Record(local=fields, central=fields)))
    assert archive.warnings == (f"1 record {words}: 'a/data/0'",)


def test_many_oddities_are_one_line() -> None:
    zero = (("crc", 0),)
    archive = read(build(*(Record(b"a/%d" % i, local=zero, central=zero) for i in range(3))))
    assert archive.warnings == ("3 records carry a zero CRC: 'a/0' and 2 more",)


def test_large_records_are_not_checked_in_large_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build(Record(data=bytes(100), local=(("crc", 1),), central=(("crc", 1),)))
    monkeypatch.setattr(zip_archive, "_SMALL_RECORD", 99)
    assert "wrong CRC" in read(data).warnings[0]
    monkeypatch.setattr(zip_archive, "_SMALL_ARCHIVE", 99)
    assert read(data).warnings == ()


@pytest.mark.parametrize("adjusted", [True, False])
@pytest.mark.parametrize("zip64", [True, False])
def test_a_prefix_is_shown(adjusted: bool, zip64: bool) -> None:
    archive = read(build(*SEVERAL, prefix=b"#!/bin/sh\n", adjusted=adjusted, zip64=zip64))
    assert content(archive) == b"first"
    assert tile(archive)["bytes before the first record"] == 10
    assert any("10 bytes" in line for line in archive.warnings)
    assert any("PyTorch cannot read it" in line for line in archive.warnings) is not adjusted


def test_bytes_after_the_end_are_shown() -> None:
    archive = read(build(*SEVERAL, tail=b"secret"))
    assert tile(archive)["bytes after the archive"] == 6
    assert archive.warnings == ("6 bytes behind the end of the archive",)


def test_gaps_are_shown_and_hidden_records_named() -> None:
    hidden = build(Record(b"a/hidden"))[: 30 + 8 + 5]
    archive = read(build(Record(b"a/1"), Record(b"a/2", gap=hidden), between=b"xyz"))
    assert tile(archive)["bytes between records"] == len(hidden) + 3
    assert "2 gaps" in archive.warnings[0]
    assert "begin like a record" in archive.warnings[0]


def test_two_archives_in_one_file_are_shown() -> None:
    first = build(Record(b"first/x"))
    second = build(*SEVERAL, prefix=first, adjusted=False)
    archive = read(second)
    assert [entry.name for entry in archive.entries] == ["a/one", "a/two", "a/empty", "a/ü"]
    assert tile(archive)["bytes before the first record"] == len(first)
    assert len(archive.warnings) == 2


def test_the_last_end_record_is_the_one_that_counts() -> None:
    inner = build(Record(b"a/inner"))
    outer = build(Record(b"a/the outer one"), comment=inner)
    archive = read(outer)
    assert [entry.name for entry in archive.entries] == ["a/inner"]
    assert any("inside the comment of another" in line for line in archive.warnings)


def test_an_archive_inside_a_record_is_data() -> None:
    inner = build(*SEVERAL)
    archive = read(build(Record(b"a/zip", inner), Record(b"a/z")))
    assert content(archive) == inner
    assert archive.warnings == ()


def test_cutting_an_archive_inside_an_archive_is_noticed() -> None:
    inner = build(*SEVERAL)
    data = build(Record(b"a/zip", inner), Record(b"a/z"))
    with pytest.raises(Truncated, match="inside it"):
        read(data[: data.index(b"PK\5\6") + 22])


@pytest.mark.parametrize(
    "name",
    [b"../up", b"a/../../up", b"/etc/passwd", b"a\0b", b"a\x1b[2J", b"a\nb", b"", b"c:\\x",
     "a/\N{RIGHT-TO-LEFT OVERRIDE}".encode(), b"a/\xff\xfe", b"x" * 60_000 + b"\r"],
)  # fmt: skip
def test_odd_names_are_flagged_on_one_line(name: bytes) -> None:
    archive = read(build(Record(name, flags=1 << 11)))
    assert archive.entries[0].raw_name == name
    assert any("no plain relative path" in line for line in archive.warnings) or (
        name == b"a/\xff\xfe"
    )
    assert all(line.isprintable() and len(line) < 400 for line in archive.warnings)


def test_names_without_the_utf8_bit_are_code_page_437() -> None:
    assert read(build(Record(b"a/\x81"))).entries[0].name == "a/ü"


def test_months_that_do_not_exist_are_read() -> None:
    assert len(read(build(*SEVERAL)).entries) == 4  # build() writes month 15


@pytest.mark.parametrize("zip64", [True, False])
def test_an_archive_without_records(zip64: bool) -> None:
    archive = read(build(zip64=zip64))
    assert archive.entries == ()
    assert tile(archive) == {"end records": 98 if zip64 else 22}


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zip64", [True, False])
def test_every_truncation_is_refused(zip64: bool) -> None:
    data = build(*SEVERAL, comment=b"a comment", zip64=zip64)
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:cut])


def test_one_local_record_under_two_entries_is_refused() -> None:
    data = build(Record(b"a/1"), Record(b"a/2", central=(("header", 0),)))
    with pytest.raises(Corrupt, match="next record"):
        read(data)


def test_quoted_overlap_is_refused() -> None:
    # The first record's data are the second local header and its data (CVE-2024-0450).
    inner = build(Record(b"a/2", b"bomb"))[: 30 + 3 + 4]
    outer = Record(b"a/1", inner)
    data = build(outer, Record(b"a/2", b"bomb", central=(("header", 30 + 3),)))
    with pytest.raises(Corrupt, match="before the next record"):
        read(data)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((("stored", 500), ("nbytes", 500)), Corrupt),
        ((("stored", 0xFFFFFFFE), ("nbytes", 0xFFFFFFFE)), Corrupt),
        ((("header", 0xFFFFFFFE),), Corrupt),
        ((("header", 1),), Corrupt),
        ((("nbytes", 4),), Corrupt),
        ((("method", 8), ("nbytes", 5 * 1032 + 1)), Corrupt),
        ((("method", 9),), Unsupported),
        ((("method", 14),), Unsupported),
        ((("flags", 1),), Unsupported),
        ((("flags", 1 << 13),), Unsupported),
        ((("disk", 1),), Unsupported),
        ((("stored", 0xFFFFFFFF), ("nbytes", 0xFFFFFFFF)), Corrupt),
    ],
)
def test_impossible_directory_entries_are_refused(
    fields: tuple[tuple[str, object], ...], error: type[FormatError]
) -> None:
    with pytest.raises(error) as caught:
        read(build(Record(central=fields)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("m.zip: at 0x")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ((("records", 2), ("here", 2)), Corrupt),
        ((("records", 0), ("here", 0)), Corrupt),
        ((("here", 0),), Corrupt),
        ((("disk", 1),), Unsupported),
        ((("start", 1),), Unsupported),
        ((("length", 20),), Corrupt),
        ((("length", 500),), Corrupt),
        ((("offset", 3),), Truncated),
        ((("offset", 5_000),), Corrupt),
    ],
)
@pytest.mark.parametrize("zip64", [True, False])
def test_impossible_end_records_are_refused(
    fields: tuple[tuple[str, int], ...], error: type[FormatError], zip64: bool
) -> None:
    with pytest.raises((Corrupt, error)):
        read(build(Record(), end=fields, zip64=zip64))


@pytest.mark.parametrize("field", ["length", "offset"])
def test_full_fields_need_a_zip64_end_record(field: str) -> None:
    read(build(Record(), end=((field, 0xFFFFFFFF),), zip64=True))
    with pytest.raises(Corrupt, match="ZIP64 end record"):
        read(build(Record(), end=((field, 0xFFFFFFFF),)))


@pytest.mark.parametrize("field", [0, 1, 2])
@pytest.mark.parametrize("value", [1 << 62, (1 << 64) - 1, 1 << 32])
def test_zip64_sizes_past_the_end_are_refused(field: int, value: int) -> None:
    values = [5, 5, 0]
    values[field] = value
    full = (("nbytes", 0xFFFFFFFF), ("stored", 0xFFFFFFFF), ("header", 0xFFFFFFFF))
    extra = struct.pack("<2H3Q", 1, 24, *values)
    with pytest.raises(Corrupt):
        read(build(Record(central=full, central_extra=extra)))


def test_zip64_sizes_are_read() -> None:
    full = (("nbytes", 0xFFFFFFFF), ("stored", 0xFFFFFFFF), ("header", 0xFFFFFFFF))
    extra = struct.pack("<2H3Q", 1, 24, 5, 5, 0)
    local = (("nbytes", 0xFFFFFFFF), ("stored", 0xFFFFFFFF))
    archive = read(build(Record(local=local, extra=struct.pack("<2H2Q", 1, 16, 5, 5),
                                central=full, central_extra=extra), zip64=True))  # fmt: skip
    assert content(archive) == b"hello"
    assert archive.warnings == ()


def test_records_behind_the_first_four_gigabytes_as_miniz_writes_them() -> None:
    # The local ZIP64 field holds the offset only, the sizes are zero, the descriptor is long.
    offset = struct.pack("<2HQ", 1, 8, 0)
    record = Record(
        flags=8, extra=offset + b"FB\x02\x00ZZ", central=(("header", 0xFFFFFFFF),),
        central_extra=offset, local=(("crc", 0), ("stored", 0), ("nbytes", 0)),
        descriptor=struct.pack("<4sI2Q", b"PK\7\x08", zlib.crc32(b"hello"), 5, 5),
    )  # fmt: skip
    archive = read(build(record, zip64=True))
    assert content(archive) == b"hello"
    assert archive.warnings == ()
    assert tile(archive)["record headers"] == 30 + 8 + 12 + 4 + 24


def test_zip64_fields_that_are_too_short_or_contradict_are_refused() -> None:
    full = (("nbytes", 0xFFFFFFFF), ("stored", 0xFFFFFFFF))
    with pytest.raises(Corrupt, match="ZIP64 field with 2 sizes, got 1"):
        read(build(Record(central=full, central_extra=struct.pack("<2HQ", 1, 8, 5))))
    with pytest.raises(Corrupt, match="ZIP64 sizes"):
        read(build(Record(central_extra=struct.pack("<2H2Q", 1, 16, 5, 6))))
    read(build(Record(central_extra=struct.pack("<2H2Q", 1, 16, 5, 5))))


@pytest.mark.parametrize("at", [-98 + 4, -42 + 8, -98 + 48, -98 + 32])
def test_zip64_ends_that_contradict_are_refused(at: int) -> None:
    data = bytearray(build(*SEVERAL, zip64=True))
    data[at] ^= 1
    with pytest.raises(FormatError):
        read(bytes(data))


def test_no_end_record_means_truncated() -> None:
    with pytest.raises(Truncated, match="cut short"):
        read(build(*SEVERAL)[:50])


def test_a_wrong_local_signature_is_refused() -> None:
    with pytest.raises(Corrupt, match="local header"):
        read(build(Record(local=(("signature", b"PK\3\5"),))))


# --- deflate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(3_000_000), np.random.default_rng(0).bytes(700_000)],
    ids=["empty", "one", "zeros", "noise"],
)  # fmt: skip
def test_inflating_in_blocks_and_ranges(data: bytes) -> None:
    archive = read(build(Record(data=data, method=8)))
    source = archive.content(archive.entries[0])
    assert source.read(0, source.size) == data
    assert b"".join(block.tobytes() for block in source.blocks(0, source.size, 1000)) == data
    low, high = len(data) // 3, len(data) // 2
    assert source.read(low, high) == data[low:high]
    assert b"".join(b.tobytes() for b in source.blocks(low, high, 65_536)) == data[low:high]
    with pytest.raises(Truncated):
        source.read(0, len(data) + 1)


@pytest.mark.parametrize("lie", [-1, 1, -999, 700])
def test_a_record_that_lies_about_its_size_is_refused(lie: int) -> None:
    fields = (("nbytes", 5000 + lie),)
    with pytest.raises(Corrupt, match="to inflate to"):
        read(build(Record(data=b"ab" * 2500, method=8, local=fields, central=fields)))


def test_large_records_are_refused_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "_SMALL_RECORD", 0)
    monkeypatch.setattr(zip_archive, "_SMALL_ARCHIVE", 0)
    fields = (("nbytes", 4999),)
    archive = read(build(Record(data=b"ab" * 2500, method=8, local=fields, central=fields)))
    with pytest.raises(Corrupt, match="to inflate to"):
        content(archive)


def test_streams_that_are_broken_or_end_early_are_refused() -> None:
    for stored in (b"\xff" * 30, zlib.compress(b"hello" * 20, wbits=-15) + b"hidden",
                   zlib.compress(np.random.default_rng(0).bytes(100), wbits=-15)[:-30]):  # fmt: skip
        fields = (("method", 8), ("nbytes", 100), ("crc", 0))
        with pytest.raises(Corrupt, match="to inflate to"):
            read(build(Record(data=stored, local=fields, central=fields)))


# --- limits ---------------------------------------------------------------------------------------


def test_limits_allow_their_own_value_and_no_more() -> None:
    data = build(*(Record(b"a/%d" % index, b"zz" * 50, method=8) for index in range(3)))
    length = len(data) - 22 - data.index(b"PK\1\2")
    for limit, value in (("archive_entries", 3), ("archive_directory_bytes", length),
                         ("inflated_bytes", 300)):  # fmt: skip
        read(data, replace(Limits(), **{limit: value}))
        with pytest.raises(LimitExceeded, match=limit):
            read(data, replace(Limits(), **{limit: value - 1}))


def test_many_records_take_few_reads() -> None:
    class Counting(MemorySource):
        reads = 0

        def read_into(self, start: int, buffer: np.ndarray) -> None:  # type: ignore[type-arg]
            self.reads += 1
            super().read_into(start, buffer)

    source = Counting("m.zip", build(*(Record(b"a/%d" % index, b"") for index in range(500))))
    zip_archive.read(source)
    assert source.reads < 25 + 500  # one for the CRC of each record, few for all headers
