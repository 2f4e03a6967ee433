"""safetensors: a JSON header of names, types and offsets, then the elements without a gap.

As strict as the crate (``SafeTensors::read_metadata`` and ``Metadata::validate`` in
``safetensors/src/tensor.rs``): every byte belongs to one tensor, and the file ends with the last.
Stricter in two points that the specification asks for and the crate lets pass: keys occur once, and
the header begins with ``{``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated, Unsupported
from sizeforensics.formats.beside import NotReadError, Sidecars
from sizeforensics.formats.encodings import bounded_json
from sizeforensics.formats.notes import Notes
from sizeforensics.inventory import File, Inventory, Storage, Tensor, c_strides
from sizeforensics.layout import PLAIN, Besides, Layout, inside
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import ALIGNMENT, METADATA, TENSOR_DATA, Integers, Owners, Spans, SpanSink
from sizeforensics.units import counted

HEADER = "safetensors header"
INDEX = "safetensors index"
STORAGES = "tensors"
PADDING = "header padding"
"""Subjects of owners."""

_LEN_LENGTH = 8
_DTYPES: dict[str, DType] = {
    "BOOL": DTYPES["bool"], "U8": DTYPES["uint8"], "I8": DTYPES["int8"], "I16": DTYPES["int16"],
    "U16": DTYPES["uint16"], "F16": DTYPES["float16"], "BF16": DTYPES["bfloat16"],
    "I32": DTYPES["int32"], "U32": DTYPES["uint32"], "F32": DTYPES["float32"],
    "C64": DTYPES["complex64"], "F64": DTYPES["float64"], "I64": DTYPES["int64"],
    "U64": DTYPES["uint64"], "F8_E5M2": DTYPES["float8_e5m2"], "F8_E4M3": DTYPES["float8_e4m3fn"],
    "F8_E8M0": DTYPES["float8_e8m0fnu"], "F8_E4M3FNUZ": DTYPES["float8_e4m3fnuz"],
    "F8_E5M2FNUZ": DTYPES["float8_e5m2fnuz"], "F4": DTYPES["float4_e2m1fn"],
    "F6_E2M3": opaque("float6_e2m3fn", 6), "F6_E3M2": opaque("float6_e3m2fn", 6),
}  # fmt: skip

_NAMES = {dtype.name: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8
_FIRST_OF_DIGITS = np.array([0, *(10**power for power in range(1, 19))], dtype=np.int64)
"""The least number of one digit, of two, three…"""
_LINE = ':{"dtype":"","shape":[],"data_offsets":[,]},'
"""What a tensor's line of the header is beside its name, type, sizes and offsets."""


class Entry(NamedTuple):
    """One tensor of a header; its elements are ``[start, end)`` of the file."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    end: int


class Header(NamedTuple):
    """``entries`` in the order of the file; JSON ends, and spaces begin, at ``end_json``."""

    entries: list[Entry]
    metadata: dict[str, str]
    end_json: int
    end: int


def looks_like(source: Source, head: bytes) -> bool:
    """Whether eight bytes that may be a length are followed by the beginning of JSON.

    A length has a zero among its bytes and text has none, so text with ``{`` as its ninth character
    is another thing, and so is a pickle whose first string has it there.
    """
    if head[_LEN_LENGTH : _LEN_LENGTH + 1] != b"{" or b"\0" not in head[:_LEN_LENGTH]:
        return False
    fits = int.from_bytes(head[:_LEN_LENGTH], "little") <= source.size - _LEN_LENGTH
    return fits or not (head[0] == 0x80 and head[1] <= 5)


def looks_like_index(head: bytes) -> bool:
    """Whether this begins like ``model.safetensors.index.json``."""
    return head.lstrip(b" \t\r\n").startswith(b"{") and b'"weight_map"' in head


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of one file. Raises as ``read_header`` does."""
    header = read_header(source, limits)
    owners = Owners()
    spans = _tile(source, header, owners, limits)
    return Inventory(
        source.path, "safetensors", (File(source.path, spans),), owners,
        tuple(_storages(source, header, 0)), tuple(_tensors(header, 0)),
        metadata=_properties(header.metadata), limits=limits, layouts=(_layout(header),),
    )  # fmt: skip


def read_header(source: Source, limits: Limits = DEFAULT_LIMITS) -> Header:
    """The header, checked against the file's size.

    Raises Truncated, Corrupt or LimitExceeded where the crate refuses the file.
    """
    if source.size < _LEN_LENGTH:
        raise Truncated(source.path, 0, "8 bytes of header length", f"{source.size} bytes")
    length = int.from_bytes(source.read(0, _LEN_LENGTH), "little")
    end = _LEN_LENGTH + length
    if end > source.size:  # whatever the limit: to raise it would help nobody
        raise Truncated(source.path, 0, f"a header of {counted(length, 'byte')}",
                        f"{counted(source.size - _LEN_LENGTH, 'byte')} behind its length")  # fmt: skip
    if length > limits.json_bytes:
        raise LimitExceeded(
            source.path, 0, "json_bytes", limits.json_bytes, f"a header of {counted(length, 'byte')}"
        )
    found = bounded_json.loads(source, _LEN_LENGTH, end, limits)
    if type(found) is not dict:
        raise Corrupt(source.path, _LEN_LENGTH, "a JSON object as header", type(found).__name__)
    metadata = _metadata(source, found.pop("__metadata__", None))
    entries = [_entry(source, end, name, value, limits) for name, value in found.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end, entry.name))
    _check_layout(source, end, entries)
    text = source.read(_LEN_LENGTH, end)
    return Header(entries, metadata, _LEN_LENGTH + len(text.rstrip(b" ")), end)


def _metadata(source: Source, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if type(value) is not dict or any(type(text) is not str for text in value.values()):
        raise Corrupt(source.path, _LEN_LENGTH, "__metadata__ that maps text to text",
                      _shown(value))  # fmt: skip
    return value


def _entry(source: Source, base: int, name: str, value: Any, limits: Limits) -> Entry:
    """One entry, of which offsets and shape agree; ``base`` is where the elements begin."""

    def fail(expected: str, got: object) -> FormatError:
        return Corrupt(source.path, _LEN_LENGTH, f"{expected} of tensor {_shown(name)}",
                       _shown(got))  # fmt: skip

    if type(value) is not dict:
        raise fail("an object with dtype, shape and data_offsets", value)
    kind: Any = value.get("dtype")
    dtype = _DTYPES.get(kind) if type(kind) is str else None
    if dtype is None:
        raise fail("a dtype", kind)
    shape: Any = value.get("shape")
    offsets: Any = value.get("data_offsets")
    if not _are_sizes(shape):
        raise fail("a shape", shape)
    if len(shape) > limits.tensor_rank:
        raise LimitExceeded(
            source.path, _LEN_LENGTH, "tensor_rank", limits.tensor_rank,
            f"tensor {_shown(name)} of {len(shape):,} dimensions",
        )
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise fail("two ascending data_offsets", offsets)
    start, end = offsets
    bits = prod(shape) * dtype.bits
    if bits != 8 * (end - start):
        raise fail(f"{counted(bits // 8, 'byte')} of data for shape and dtype", f"{end - start:,}")
    return Entry(name, dtype, tuple(shape), base + start, base + end)


def _are_sizes(value: Any) -> bool:
    """Whether this is a list of integers that torch could count elements or bytes with."""
    return type(value) is list and all(
        type(item) is int and 0 <= item < 1 << 63 for item in value
    )


def _check_layout(source: Source, base: int, entries: Sequence[Entry]) -> None:
    position = base
    for entry in entries:
        if entry.start != position:
            what = "overlaps the one before it" if entry.start < position else "follows a hole"
            raise Corrupt(source.path, _LEN_LENGTH, f"data_offsets that begin at {position - base:#x}",
                          f"tensor {_shown(entry.name)} at {entry.start - base:#x}, which {what}")  # fmt: skip
        position = entry.end
    if position > source.size:
        raise Truncated(source.path, source.size, f"tensor data up to {position:#x}",
                        f"the end of the file, {counted(position - source.size, 'byte')} early")  # fmt: skip
    if position < source.size:
        raise Corrupt(source.path, position, "the end of the file behind the last tensor",
                      f"{counted(source.size - position, 'byte')} more")  # fmt: skip


def _shown(value: object) -> str:
    """A value out of the header in a few characters, without looking far into it."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    return repr(value[:100] if isinstance(value, str) else value)


# The inventory


def _tile(source: Source, header: Header, owners: Owners, limits: Limits) -> Spans:
    sink = SpanSink(source.path, limits)
    sink.add(0, header.end_json, METADATA, owners.add(HEADER, HEADER))
    sink.add(header.end_json, header.end, ALIGNMENT, owners.add(PADDING, PADDING))
    entries = header.entries
    sink.extend(
        np.array([entry.start for entry in entries], dtype=np.int64),
        np.array([entry.end for entry in entries], dtype=np.int64), TENSOR_DATA,
        owners.extend([entry.name for entry in entries], [STORAGES] * len(entries)),
    )  # fmt: skip
    return sink.finish(source.size, owners.add("unclaimed", "unclaimed"))


def _layout(header: Header) -> _Lines:
    """What each tensor takes of a header, as the crate writes it (``serde_json``, no spaces)."""
    lines = [
        len(json.dumps(entry.name, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        + len(_LINE) + len(_NAMES[entry.dtype.name]) + len(",".join(map(str, entry.shape)))
        for entry in header.entries
    ]  # fmt: skip
    starts, ends = (
        np.array(column, dtype=np.int64)
        for column in ([entry.start for entry in header.entries], [entry.end for entry in header.entries])
    )
    return _Lines(starts, ends, np.array(lines, dtype=np.int64), header.end_json, header.end)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The header of a file as lines of which each describes one tensor of ``[starts, ends)``.

    A ``Layout``: a tensor that goes takes its line with it, the offsets of those behind it get
    shorter, and spaces fill the header up to a multiple of 8 bytes.
    """

    starts: Integers
    ends: Integers
    lines: Integers
    """Bytes of each line without its offsets."""
    end_json: int
    end: int

    def besides(self, cuts: Integers) -> Besides:
        lost = inside(cuts, self.starts, self.ends)
        lengths = self.ends - self.starts
        gone = (lost > 0) & (lost == lengths)
        ends = np.cumsum(lengths - lost)
        digits = _digits(self.starts - self.end) + _digits(self.ends - self.end)
        nbytes = digits - _digits(ends - (lengths - lost)) - _digits(ends)
        nbytes[gone] = (self.lines + digits)[gone]
        left = self.end_json - int(nbytes.sum())
        padding = self.end - self.end_json
        filled = -left % _ALIGNMENT if self.end % _ALIGNMENT == 0 else padding
        roles = np.full(len(nbytes) + 1, METADATA, dtype=np.uint8)
        roles[-1] = ALIGNMENT
        return Besides(np.append(self.starts, 0), np.append(nbytes, padding - filled), roles)


def _digits(values: Integers) -> Integers:
    return np.searchsorted(_FIRST_OF_DIGITS, values, side="right").astype(np.int64)


def _storages(source: Source, header: Header, file: int) -> Iterator[Storage]:
    for entry in header.entries:
        nbytes = entry.end - entry.start
        yield Storage(
            entry.name, file, entry.start, nbytes, nbytes, source.window(entry.start, entry.end)
        )


def _tensors(header: Header, first: int) -> Iterator[Tensor]:
    """The tensors of a header whose storages begin at index ``first``."""
    for index, entry in enumerate(header.entries, first):
        yield Tensor(
            entry.name, entry.dtype, entry.shape, c_strides(entry.shape), 0, index, "weight"
        )


def _properties(metadata: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((f"property {key}", metadata[key]) for key in sorted(metadata))


# Shards


def read_sharded(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of ``model.safetensors.index.json`` and of the shards in its directory.

    ``files[0]`` is the index, the others are the shards in the order of their names. A shard that
    is missing or may not be opened is a warning; one that is no safetensors file raises.
    """
    weight_map, properties = _read_index(source, limits)
    owners, notes = Owners(), Notes()
    sink = SpanSink(source.path, limits)
    sink.add(0, source.size, METADATA, owners.add(INDEX, INDEX))
    files = [File(source.path, sink.finish(source.size, owners.add("unclaimed", "unclaimed")))]
    layouts: list[Layout] = [PLAIN]
    sidecars = Sidecars(source)
    storages: list[Storage] = []
    tensors: list[Tensor] = []
    held: dict[str, str] = {}
    unread = set()
    for shard in sorted(set(weight_map.values())):
        try:
            known = len(sidecars.files)
            number = sidecars.find(shard)
        except NotReadError as why:
            unread.add(shard)
            notes.count(f"are not read ({why})", shard, "shard")
            continue
        if number < known:
            notes.count("are another name of one that is read already", shard, "shard")
            continue
        content = sidecars.files[number]
        header = read_header(content, limits)
        tensors.extend(_tensors(header, len(storages)))
        storages.extend(_storages(content, header, len(files)))
        files.append(File(content.path, _tile(content, header, owners, limits)))
        layouts.append(_layout(header))
        _compare(shard, header, weight_map, held, notes)
    for name, shard in weight_map.items():
        if name not in held and shard not in unread:
            notes.count("are not in the shard the index names", name, "tensor")
    total = properties.get("total_size")
    if total is not None and not unread and total != str(sum(item.nbytes for item in storages)):
        notes.say(f"the index says the tensors have {total[:40]} bytes, the shards hold "
                  f"{sum(item.nbytes for item in storages)}")  # fmt: skip
    return Inventory(
        source.path, "safetensors", tuple(files), owners, tuple(storages), tuple(tensors),
        metadata=_properties(properties), warnings=notes.finish(), limits=limits,
        layouts=tuple(layouts),
    )


def _compare(
    shard: str, header: Header, weight_map: dict[str, str], held: dict[str, str], notes: Notes
) -> None:
    """Say where a shard holds what the index does not say, and note what it holds."""
    for entry in header.entries:
        if entry.name in held:
            notes.count("are in several shards", entry.name, "tensor")
        elif weight_map.get(entry.name) != shard:
            notes.count("are in a shard without being listed for it", entry.name, "tensor")
        held[entry.name] = shard


def _read_index(source: Source, limits: Limits) -> tuple[dict[str, str], dict[str, str]]:
    """Tensor name to shard, and what else the index says. Raises Unsupported for other shards."""
    found = bounded_json.loads(source, 0, source.size, limits)
    weight_map = found.get("weight_map") if type(found) is dict else None
    if type(weight_map) is not dict or any(type(name) is not str for name in weight_map.values()):
        raise Corrupt(source.path, 0, "weight_map with the shard of each tensor", _shown(weight_map))
    other = next((name for name in weight_map.values() if name.endswith((".bin", ".pt", ".pth"))), "")
    if other:
        raise Unsupported(source.path, 0, "an index of safetensors shards", f"one of {other[:100]!r}")
    facts = found.get("metadata")
    properties = {
        key: value if type(value) is str else str(value)
        for key, value in (facts.items() if type(facts) is dict else ())
        if type(value) in (str, int)
    }
    return weight_map, properties
