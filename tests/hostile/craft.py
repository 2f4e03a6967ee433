"""Hostile files by hand, from the standard library only: every number in them can be a lie."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from random import Random

# -- ZIP (APPNOTE.TXT 6.3.10) --------------------------------------------------------------------

STORED, DEFLATED = 0, 8
MONTH_15 = 15 << 5 | 1


@dataclass(frozen=True)
class Record:
    """One record as its two headers say; what is None is what is true."""

    name: bytes
    stored: bytes
    method: int = STORED
    size: int | None = None
    """Of the content; that of ``stored`` when it is not deflated."""
    crc: int | None = None
    flags: int = 0
    extra: bytes = b""
    central_extra: bytes = b""
    descriptor: bytes = b""
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_size: int | None = None
    local_crc: int | None = None
    central_stored: int | None = None
    central_offset: int | None = None
    date: int = 33
    disk: int = 0
    listed: bool = True

    @property
    def true_size(self) -> int:
        return len(self.stored) if self.size is None else self.size

    @property
    def true_crc(self) -> int:
        content = self.stored if self.method == STORED else inflated(self.stored)
        return zlib.crc32(content) if self.crc is None else self.crc

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        flags = self.flags if self.local_flags is None else self.local_flags
        method = self.method if self.local_method is None else self.local_method
        crc = self.true_crc if self.local_crc is None else self.local_crc
        size = self.true_size if self.local_size is None else self.local_size
        stored = len(self.stored) if self.local_size is None or self.method else self.local_size
        if flags & 8:
            crc = size = stored = 0
        if self.extra[:2] == b"\1\0":
            size = stored = 0xFFFFFFFF
        header = struct.pack("<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, self.date, crc, stored,
                             size, len(name), len(self.extra))  # fmt: skip
        return header + name + self.extra + self.stored + self.descriptor

    def central(self, offset: int) -> bytes:
        stored = len(self.stored) if self.central_stored is None else self.central_stored
        offset = offset if self.central_offset is None else self.central_offset
        header = struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, self.flags, self.method, 0, self.date, self.true_crc,
            stored, self.true_size, len(self.name), len(self.central_extra), 0, self.disk, 0, 0, offset,
        )  # fmt: skip
        return header + self.name + self.central_extra


def inflated(stored: bytes) -> bytes:
    try:
        return zlib.decompress(stored, -15)
    except zlib.error:
        return b""


def deflated(name: bytes, content: bytes, **lies: object) -> Record:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stored = packer.compress(content) + packer.flush()
    return replace(Record(name, stored, DEFLATED, len(content), zlib.crc32(content)), **lies)  # type: ignore[arg-type]


def zeros(name: bytes, count: int, **lies: object) -> Record:
    """A record that inflates to ``count`` zeros; they are never in memory here."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    crc, stored, block = 0, b"", bytes(1 << 20)
    for position in range(0, count, len(block)):
        piece = block[: count - position]
        stored += packer.compress(piece)
        crc = zlib.crc32(piece, crc)
    return replace(Record(name, stored + packer.flush(), DEFLATED, count, crc), **lies)  # type: ignore[arg-type]


def archive(
    records: Iterable[Record], *, prefix: bytes = b"", adjusted: bool = True, comment: bytes = b"",
    between: bytes = b"", behind: bytes = b"", zip64: bool = False, **lies: int,
) -> bytes:  # fmt: skip
    """Local records, directory, end record. ``lies``: ``count``, ``length``, ``start``, ``disk`` of the
    end record. ``between`` is put behind every record."""
    out = bytearray(prefix)
    central = bytearray()
    shift = 0 if adjusted else len(prefix)
    count = 0
    for record in records:
        if record.listed:
            central += record.central(len(out) - shift)
            count += 1
        out += record.local() + between
    start = len(out) - shift
    out += central
    if zip64:
        out += zip64_end(count, len(central), start, len(out), lies)
        lies = {"count": 0xFFFF, "length": 0xFFFFFFFF, "start": 0xFFFFFFFF}
    out += end(lies.get("count", count), lies.get("length", len(central)), lies.get("start", start),
               lies.get("disk", 0), comment)  # fmt: skip
    return bytes(out) + behind


def end(count: int, length: int, start: int, disk: int = 0, comment: bytes = b"") -> bytes:
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, count, count, length, start, len(comment)) + comment


def zip64_end(count: int, length: int, start: int, at: int, lies: Mapping[str, int]) -> bytes:
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, lies.get("count", count), count,
                         lies.get("length", length), lies.get("start", start))  # fmt: skip
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, lies.get("at", at), 1)


# -- pickle (CPython Lib/pickletools.py) ---------------------------------------------------------


def text(value: str | bytes) -> bytes:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return (b"\x8a" + bytes([len(data)]) if len(data) < 256 else b"\x8b" + struct.pack("<I", len(data))) + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def items(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def mapping(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + items(*arguments) + b"R"


def stream(value: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + value + b"."


def storage(key: str = "0", count: bytes | int = 4, kind: str = "FloatStorage") -> bytes:
    held = count if isinstance(count, bytes) else number(count)
    return items(text("storage"), named("torch", kind), text(key), text("cpu"), held) + b"Q"


def tensor(
    shape: Sequence[int | bytes] = (4,), strides: Sequence[int] = (1,), offset: int = 0,
    held: bytes | None = None,
) -> bytes:  # fmt: skip
    sizes = [size if isinstance(size, bytes) else number(size) for size in shape]
    return call(
        named("torch._utils", "_rebuild_tensor_v2"), storage() if held is None else held,
        number(offset), items(*sizes), items(*map(number, strides)), b"\x89",
        call(named("collections", "OrderedDict")),
    )  # fmt: skip


def state(*pairs: tuple[str | bytes, bytes]) -> bytes:
    """A pickle of a dict of text keys."""
    return stream(mapping(*((text(key), value) for key, value in pairs)))


WEIGHT = state(("w", tensor()))
PAYLOAD = struct.pack("<4f", 1.5, -2.25, 3.125, 4.75)


def checkpoint_records(pickle: bytes = WEIGHT, payload: bytes = PAYLOAD) -> list[Record]:
    return [
        Record(b"m/data.pkl", pickle), Record(b"m/byteorder", b"little"),
        Record(b"m/data/0", payload), Record(b"m/version", b"3\n"),
    ]  # fmt: skip


def checkpoint(pickle: bytes = WEIGHT, payload: bytes = PAYLOAD) -> bytes:
    return archive(checkpoint_records(pickle, payload))


def overlapping(
    shape: Sequence[int], views: int, seed: int = 0, *, sparse: bool = False
) -> bytes:
    """A checkpoint of so many views of one storage, each an element further on.

    The numbers are random, which tells them from a formula at once, or ``sparse`` ones in zeros.
    """
    strides = [prod(shape[at + 1 :]) for at in range(len(shape))]
    count = prod(shape) + views
    random = Random(seed)
    numbers = (at % 1009 == 0 if sparse else random.gauss(0, 1) for at in range(count))
    payload = struct.pack(f"<{count}f", *numbers)
    held = storage(count=count)
    return checkpoint(state(*((f"v{at}", tensor(shape, strides, at, held)) for at in range(views))), payload)


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(
    objects: bytes = WEIGHT, *, magic: bytes | None = None, system: bytes | None = None,
    keys: bytes | None = None, counts: Sequence[int] = (4,), payload: bytes = PAYLOAD,
) -> bytes:  # fmt: skip
    """Before torch 1.6: five pickles, then for each key a count and as many elements."""
    facts = mapping((text("protocol_version"), number(1001)), (text("little_endian"), b"\x88"))
    pickles = [
        stream(number(MAGIC)) if magic is None else magic, stream(number(1001)),
        stream(facts) if system is None else system, objects,
        stream(b"](" + text("0") + b"e") if keys is None else keys,
    ]  # fmt: skip
    return b"".join(pickles) + b"".join(struct.pack("<q", count) + payload for count in counts)


# -- protobuf, ONNX (onnx.proto) -----------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, value: int | bytes | str) -> bytes:
    """Field ``tag``: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(data)) + data


def node(op: str = "Add", *, attributes: bytes = b"", name: str = "n") -> bytes:
    return field(1, "w") + field(2, "y") + field(3, name) + field(4, op) + attributes


def onnx_tensor(
    dims: Sequence[int] = (4,), *, kind: int = 1, raw: bytes | None = PAYLOAD, name: str = "w",
    more: bytes = b"",
) -> bytes:  # fmt: skip
    out = b"".join(field(1, size) for size in dims) + field(2, kind) + field(8, name)
    return out + (field(9, raw) if raw is not None else b"") + more


def external(entries: Sequence[tuple[str, str]], *, raw: bytes | None = None, name: str = "w") -> bytes:
    pairs = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries)
    return onnx_tensor(raw=raw, name=name, more=pairs + field(14, 1))


def graph(*tensors: bytes, nodes: Sequence[bytes] = (), more: bytes = b"") -> bytes:
    body = b"".join(field(1, item) for item in (nodes or [node()]))
    value = field(12, field(1, "y"))
    return body + field(2, "g") + b"".join(field(5, item) for item in tensors) + value + more


def model(body: bytes | None = None, *, more: bytes = b"") -> bytes:
    return field(1, 8) + field(7, graph(onnx_tensor()) if body is None else body) + field(
        8, field(1, "") + field(2, 17)
    ) + more


def nested(depth: int, chains: int = 1) -> bytes:
    """Subgraphs in an attribute, one in the other, below each of some nodes."""
    inner = graph(onnx_tensor())
    for level in range(depth):
        attribute = field(1, "then_branch") + field(20, 5) + field(6, inner)
        holder = node("If", attributes=field(5, attribute))
        outermost = level == depth - 1
        inner = graph(
            *([onnx_tensor()] if outermost else []), nodes=[holder] * (chains if outermost else 1)
        )
    return model(inner)


# -- safetensors ---------------------------------------------------------------------------------


def safetensors(header: bytes | Mapping[str, object], payload: bytes = PAYLOAD, length: int | None = None) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + payload


def entry(dtype: str = "F32", shape: Sequence[object] = (4,), ends: Sequence[object] = (0, 16)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(ends)}


# -- tar -----------------------------------------------------------------------------------------


def tar_member(name: bytes, data: bytes, size: bytes | None = None) -> bytes:
    """One member in the ustar format; ``size`` as it is written."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[124:136] = b"%011o\0" % len(data) if size is None else size.ljust(12, b"\0")
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)
