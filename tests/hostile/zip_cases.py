"""ZIP archives that lie. PyTorch's reader (miniz) is what a lie is measured by: what it would read."""

from __future__ import annotations

import struct

from tests.hostile.case import ACCEPT, FLAG, REFUSE, Case
from tests.hostile.craft import (
    MONTH_15,
    PAYLOAD,
    Record,
    archive,
    checkpoint,
    checkpoint_records,
    deflated,
    state,
    storage,
    tensor,
    zeros,
)

PICKLE, ORDER, DATA, VERSION = checkpoint_records()
INNER = checkpoint() + bytes(-len(checkpoint()) % 4)
NAME = {
    "parent directory": b"m/../../etc/passwd", "absolute": b"/etc/passwd", "NUL": b"m/a\0b",
    "ANSI": b"m/\x1b[31mred", "newline": b"m/a\nerror: b", "right-to-left": "m/\u202egpj.pt".encode(),
    "60 kB": b"m/" + b"n" * 60_000, "empty": b"", "invalid UTF-8": b"m/\xff\xfe",
}  # fmt: skip


def plus(*more: Record, **options: object) -> bytes:
    return archive([*checkpoint_records(), *more], **options)  # type: ignore[arg-type]


def changed(which: int, record: Record) -> bytes:
    records = checkpoint_records()
    records[which] = record
    return archive(records)


def quoted_overlap() -> bytes:
    """Records that contain the records behind them (CVE-2024-0450)."""
    inner = Record(b"m/data/1", PAYLOAD)
    outer = Record(b"m/data/0", inner.local() + b"behind")
    return archive([PICKLE, outer, Record(b"m/data/1", b"", central_offset=len(PICKLE.local()) + 38)])


def shared_local() -> bytes:
    """Two entries of the directory for one local record (CVE-2019-9674)."""
    first = PICKLE.local()
    return archive([PICKLE, DATA, Record(b"m/data/0", PAYLOAD, central_offset=len(first))])


def descriptor(size: int) -> bytes:
    crc = struct.pack("<I", DATA.true_crc)
    lengths = struct.pack("<QQ" if size >= 20 else "<II", 16, 16)
    signature = b"PK\7\x08" if size in (16, 24) else b""
    return changed(2, Record(DATA.name, PAYLOAD, flags=8, descriptor=signature + crc + lengths,
                             extra=b"\1\0\x10\0" + bytes(16) if size >= 20 else b""))  # fmt: skip


def zip64_record() -> bytes:
    extra = struct.pack("<HHQQ", 1, 16, 16, 16)
    return changed(2, Record(DATA.name, PAYLOAD, extra=extra))


def hidden_in_padding() -> bytes:
    """What PyTorch pads its records with, but with something in it."""
    hidden = b"#!/bin/sh\ntouch canary\n"
    return changed(2, Record(DATA.name, PAYLOAD, extra=struct.pack("<2sH", b"FB", len(hidden)) + hidden))


_TWICE = "PyTorch looks a record up by name and reads the first: the others are dead weight, not a lie"
_PREFIX = "miniz finds the archive behind it; the bytes are shown as nobody's"
CASES = [
    Case("deflate bomb: a storage of 64 MiB of zeros", ACCEPT,
         lambda: archive([Record(PICKLE.name, state(("w", tensor((16 << 20,), held=storage(count=16 << 20))))),
                          ORDER, zeros(DATA.name, 64 << 20), VERSION]), why="streamed; it holds what it declares"),
    Case("deflate bomb: a storage that inflates past its size", REFUSE,
         lambda: changed(2, zeros(DATA.name, 1 << 20, size=16)), "inflate to 16 bytes",
         "inflated up to one byte more than declared; what lies about that may lie about all"),
    Case("deflate bomb: a storage that cannot reach its size", REFUSE,
         lambda: changed(2, deflated(DATA.name, bytes(range(256)) * 9, stored=b"\x63\x60", crc=0)), "inflate",
         "deflate makes at most 1,032 bytes of one: no need to try"),
    Case("pickle record: inflates past the limit", REFUSE,
         lambda: changed(0, zeros(PICKLE.name, 257 << 20)), "pickle bytes"),
    Case("overlap: two entries for one local record", REFUSE, shared_local),
    Case("overlap: a record quotes the one behind it", REFUSE, quoted_overlap),
    Case("twice: two records of one name", FLAG, lambda: plus(Record(b"m/data/0", bytes(16))), "m/data/0", _TWICE),
    Case("twice: names that differ by case", FLAG, lambda: plus(Record(b"m/DATA/0", bytes(16))), "DATA/0", _TWICE),
    Case("headers disagree: names", FLAG,
         lambda: changed(2, Record(DATA.name, PAYLOAD, local_name=b"m/data/1")), "name"),
    Case("headers disagree: flags", FLAG, lambda: changed(2, Record(DATA.name, PAYLOAD, local_flags=2)), "flags"),
    Case("headers disagree: method", FLAG, lambda: changed(2, Record(DATA.name, PAYLOAD, local_method=8)), "method"),
    Case("headers disagree: size", FLAG, lambda: changed(2, Record(DATA.name, PAYLOAD, local_size=99)), "size"),
    Case("CRC: wrong", FLAG, lambda: changed(2, Record(DATA.name, PAYLOAD, crc=1)), "CRC"),
    Case("CRC: zero", FLAG, lambda: changed(2, Record(DATA.name, PAYLOAD, crc=0)), "CRC"),
    Case("ends: the same end record again in the comment", FLAG,
         lambda: plus(comment=plus()[-22:]), "belongs to no record",
         "PyTorch takes the last end record; the one in front of it is shown as nobody's"),
    Case("ends: an end record of nothing in the comment", REFUSE,
         lambda: plus(comment=b"PK\5\6" + bytes(18)), "empty ZIP archive",
         "PyTorch takes the last end record, and with it the archive is empty"),
    Case("ends: two archives, the second with offsets of its own", FLAG,
         lambda: checkpoint() + checkpoint(), "belongs to no record", _PREFIX),
    Case("ends: a prefix with adjusted offsets", FLAG, lambda: plus(prefix=b"#!/bin/sh\n"), "before the first record", _PREFIX),
    Case("ends: a prefix without adjusted offsets", FLAG,
         lambda: plus(prefix=b"#!/bin/sh\n", adjusted=False), "in front of", _PREFIX),
    Case("ends: bytes behind the end", FLAG, lambda: plus(behind=b"tail"), "behind the end of the archive"),
    Case("ends: offsets that cannot be reconciled", REFUSE, lambda: plus(start=12345)),
    Case("numbers: ZIP64 contradicts itself", REFUSE, lambda: plus(zip64=True, count=99)),
    Case("numbers: ZIP64 end record elsewhere", REFUSE, lambda: plus(zip64=True, at=3)),
    Case("numbers: sizes of 2^62", REFUSE, lambda: changed(2, Record(
        DATA.name, PAYLOAD, size=0xFFFFFFFF, central_stored=0xFFFFFFFF,
        central_extra=struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62)))),
    Case("numbers: an offset past the end", REFUSE,
         lambda: changed(2, Record(DATA.name, PAYLOAD, central_offset=0x7FFFFFFF))),
    Case("numbers: the directory inside the data", REFUSE, lambda: plus(start=10, length=50)),
    Case("numbers: a truncated directory", REFUSE, lambda: plus(length=70)),
    Case("numbers: more entries than there are", REFUSE, lambda: plus(count=5)),
    Case("numbers: fewer entries than there are", REFUSE, lambda: plus(count=3)),
    Case("hidden: gaps between records", FLAG,
         lambda: archive(checkpoint_records(), between=b"gap"), "belong to no record"),
    Case("hidden: a record that is not in the directory", FLAG,
         lambda: plus(Record(b"m/hidden", b"payload", listed=False)), "record"),
    Case("hidden: payload in the padding", FLAG, hidden_in_padding, "unregistered data"),
    *(Case(f"names: {kind}", FLAG, lambda name=name: plus(Record(name, b"x")), "1 record")  # type: ignore[misc]
      for kind, name in NAME.items()),
    Case("size: 200,000 entries", ACCEPT, lambda: plus(
        *(Record(b"m/x/%d" % number, b"") for number in range(200_000)), zip64=True), why="linear; see the growth benchmark"),
    Case("size: an archive in an archive", ACCEPT, lambda: archive([
        Record(PICKLE.name, state(("w", tensor((len(INNER) // 4,), held=storage(count=len(INNER) // 4))))),
        ORDER, Record(DATA.name, INNER), VERSION])),
    Case("size: month 15", ACCEPT, lambda: changed(3, Record(VERSION.name, b"3\n", date=MONTH_15))),
    Case("features: an unsupported method", REFUSE, lambda: changed(2, Record(DATA.name, PAYLOAD, method=12, crc=0)), "method"),
    Case("features: encryption", REFUSE, lambda: changed(2, Record(DATA.name, PAYLOAD, flags=1)), "encrypt"),
    Case("features: several disks", REFUSE, lambda: plus(disk=1), "disk"),
    *(Case(f"descriptors: {size} bytes", ACCEPT, lambda size=size: descriptor(size)) for size in (12, 16, 20, 24)),  # type: ignore[misc]
    Case("descriptors: ZIP64 records", ACCEPT, zip64_record),
    Case("found: behind an extra field that leaves its record, directory", FLAG, lambda: changed(2, Record(
        DATA.name, PAYLOAD, central_extra=struct.pack("<HH", 1, 60_000) + b"hidden")), "unregistered data"),
    Case("found: behind an extra field that leaves its record", FLAG, lambda: changed(2, Record(
        DATA.name, PAYLOAD, extra=struct.pack("<HH", 0x5455, 60_000) + b"hidden")), "unregistered data"),
    Case("found: three zeros that align", ACCEPT, lambda: changed(2, Record(DATA.name, PAYLOAD, extra=bytes(3)))),
    Case("found: two ZIP64 fields that disagree", FLAG, lambda: changed(2, Record(
        DATA.name, PAYLOAD, size=0xFFFFFFFF, central_stored=0xFFFFFFFF,
        central_extra=struct.pack("<HHQQ", 1, 16, 16, 16) + struct.pack("<HHQQ", 1, 16, 8, 8))), "other sizes"),
    Case("found: a ZIP64 field of one size for two", REFUSE, lambda: changed(2, Record(
        DATA.name, PAYLOAD, size=0xFFFFFFFF, central_stored=0xFFFFFFFF,
        central_extra=struct.pack("<HHQ", 1, 8, 16))), "ZIP64"),
    Case("found: a comment full of end records", REFUSE, lambda: plus(comment=(
        struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 4, 4, 200, 0, 0) * 2_978)[:65_535]), "directory"),
    Case("found: names that only Unicode's normal form tells apart", FLAG, lambda: plus(
        Record("m/é".encode(), b"x"), Record("m/e\u0301".encode(), b"x")), "2 records"),
    Case("found: archives of gigabytes of zeros inside the archive", FLAG, lambda: plus(
        Record(b"m/inner.zip", archive([zeros(b"x", 1 << 28)]))), "nothing in the archive refers to",
         "what nothing refers to is not inflated"),
    Case("found: a tensor of a record that is missing", FLAG,
         lambda: checkpoint(state(("w", tensor()), ("v", tensor(held=storage("77"))))), "record"),
]

