"""Structure bytes of a file by cause, counted with ``zipfile``, ``pickletools`` and ``onnx``.

Nothing here imports sizeforensics or reads bytes the way it does: archives come from ``zipfile``,
pickles run on a stack machine that knows only what ``pickletools`` says of every opcode, and models
are the ``onnx`` package's messages, of which the protobuf runtime gives the encoded sizes.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message


class Payload(NamedTuple):
    """Stored elements of one tensor: an archive's record, or a payload field of an initializer."""

    name: str
    nbytes: int
    stored: int
    """Bytes in the file; more or fewer than ``nbytes`` when deflated or written as typed values."""


@dataclass(slots=True)
class Structure:
    """One artifact: bytes of each cause without tensor payload, and the payload."""

    size: int
    causes: Counter[str] = field(default_factory=Counter)
    payloads: list[Payload] = field(default_factory=list)

    @property
    def payload_bytes(self) -> int:
        """Stored bytes of all tensors."""
        return sum(payload.stored for payload in self.payloads)

    def named(self, *names: str) -> int:
        """Stored bytes of the payloads with these names."""
        return sum(payload.stored for payload in self.payloads if payload.name in names)


def structure(path: Path) -> Structure:
    """What ``path`` holds beside its tensors; the sum is checked against the size of its files."""
    found = _archive(path) if zipfile.is_zipfile(path) else _model(path)
    total = found.causes.total() + found.payload_bytes
    if total != found.size:
        raise AssertionError(f"{path}: the oracle counts {total:,} of {found.size:,} bytes")
    return found


# Archives

_METADATA = frozenset({
    "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id",
})  # fmt: skip


def _archive(path: Path) -> Structure:
    """Σ(30 + name + extra + data + descriptor) + Σ(46 + name) + the end records."""
    found = Structure(path.stat().st_size)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        ends = [entry.header_offset for entry in entries[1:]] + [archive.start_dir]
        for entry, end in zip(entries, ends, strict=True):
            record = end - entry.header_offset
            found.causes["container"] += record - entry.compress_size
            found.causes["container"] += 46 + len(entry.filename) + len(entry.extra)
            padding = _padding(data, entry)
            found.causes["container"] -= padding
            found.causes["alignment"] += padding
            _record(found, archive, entry)
        directory = sum(46 + len(entry.filename) + len(entry.extra) for entry in entries)
        found.causes["container"] += found.size - archive.start_dir - directory
    return found


def _padding(data: bytes, entry: zipfile.ZipInfo) -> int:
    """Bytes of the ``FB`` field that PyTorch aligns a record with, without its four-byte header."""
    at = entry.header_offset + 30 + int.from_bytes(data[entry.header_offset + 26 :][:2], "little")
    extra = data[at : at + int.from_bytes(data[entry.header_offset + 28 :][:2], "little")]
    total = at = 0
    while at + 4 <= len(extra):
        length = int.from_bytes(extra[at + 2 : at + 4], "little")
        if extra[at : at + 2] == b"FB":
            total += length
        at += 4 + length
    return total


def _record(found: Structure, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    name = entry.filename.partition("/")[2]
    folder, _, key = name.rpartition("/")
    if folder in ("data", "constants") and key.isdecimal():
        found.payloads.append(Payload(name, entry.file_size, entry.compress_size))
    elif name in ("data.pkl", "constants.pkl", "traced_inputs.pkl"):
        keys = tensor_keys(archive.read(entry))
        found.causes["names"] += keys
        found.causes["pickle"] += entry.file_size - keys
        found.causes["compression"] += entry.compress_size - entry.file_size
    elif name in _METADATA or name.startswith("extra/"):
        found.causes["metadata"] += entry.file_size
        found.causes["compression"] += entry.compress_size - entry.file_size
    elif name.endswith(".debug_pkl"):
        found.causes["debug-info"] += entry.compress_size
    elif name.startswith("code/"):
        found.causes["code"] += entry.compress_size
    else:
        found.causes["unreferenced"] += entry.compress_size


# Pickles


class _Item(NamedTuple):
    """Something on the stack of the unpickler: where it begins, and what is known of it."""

    start: int
    text: str = ""
    """A string, or the path of a global."""
    tensor: bool = False


def tensor_keys(data: bytes) -> int:
    """Bytes of the keys, memo opcodes included, under which a pickle stores tensors."""
    return sum(end - start for start, end in _key_ranges(data))


def _key_ranges(data: bytes) -> Iterator[tuple[int, int]]:
    operations = list(pickletools.genops(data))
    frames = [position or 0 for operation, _, position in operations if operation.name == "FRAME"]
    stack: list[_Item | None] = []  # None is a mark
    memo: dict[int, _Item] = {}
    argument: Any
    for operation, argument, at in operations:
        position = at or 0
        name = operation.name
        top = stack[-1] if stack else None
        if name == "MEMOIZE" and top is not None:
            memo[len(memo)] = top
        elif name.endswith("PUT") and top is not None:
            memo[int(argument)] = top
        elif name.endswith("GET"):
            stack.append(memo[int(argument)]._replace(start=position))
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop(stack, operation)
            for key, value in zip(items[-2::-2][::-1], items[::-2][::-1], strict=True):
                if value.tensor:
                    inside = sum(key.start <= frame < value.start for frame in frames)
                    yield key.start, value.start - 9 * inside
        elif name in ("APPEND", "APPENDS", "BUILD", "ADDITEMS", "POP", "POP_MARK"):
            _pop(stack, operation)
        elif name == "MARK":
            stack.append(None)
        elif name not in ("PROTO", "FRAME", "STOP"):
            items = _pop(stack, operation)
            stack.append(_result(name, argument, items, position))


def _pop(stack: list[_Item | None], operation: Any) -> list[_Item]:
    """What an opcode takes, without the object that it leaves where it is."""
    before = operation.stack_before
    if pickletools.markobject in before:
        items: list[_Item] = []
        while (item := stack.pop()) is not None:
            items.insert(0, item)
        return items
    kept = operation.name in ("SETITEM", "APPEND", "BUILD")
    count = len(before) - kept
    items = [item for item in stack[len(stack) - count :] if item is not None]
    del stack[len(stack) - count :]
    return items


def _result(name: str, argument: Any, items: list[_Item], position: int) -> _Item:
    start = items[0].start if items else position
    if name == "GLOBAL":
        return _Item(position, str(argument).replace(" ", "."))
    if name == "STACK_GLOBAL":
        return _Item(start, f"{items[0].text}.{items[1].text}")
    if name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
        function = items[0].text
        return _Item(start, function if name != "REDUCE" else "", "._rebuild_" in function)
    return _Item(start, argument if isinstance(argument, str) else "")


# ONNX models: the framing rules of CAUSES.md

_CAUSES = {
    ("ModelProto", "ir_version"): "metadata",
    ("ModelProto", "producer_name"): "metadata",
    ("ModelProto", "producer_version"): "metadata",
    ("ModelProto", "domain"): "metadata",
    ("ModelProto", "model_version"): "metadata",
    ("ModelProto", "metadata_props"): "metadata",
    ("ModelProto", "graph"): "graph",
    ("ModelProto", "opset_import"): "graph",
    ("ModelProto", "functions"): "graph",
    ("GraphProto", "node"): "graph",
    ("GraphProto", "name"): "names",
    ("GraphProto", "initializer"): "container",
    ("GraphProto", "input"): "graph",
    ("GraphProto", "output"): "graph",
    ("GraphProto", "value_info"): "value-info",
    ("GraphProto", "quantization_annotation"): "graph",
    ("GraphProto", "metadata_props"): "metadata",
    ("NodeProto", "input"): "names",
    ("NodeProto", "output"): "names",
    ("NodeProto", "name"): "names",
    ("NodeProto", "metadata_props"): "debug-info",
    ("AttributeProto", "t"): "container",
    ("AttributeProto", "g"): "graph",
    ("TensorProto", "name"): "names",
    ("TensorProto", "metadata_props"): "metadata",
}
"""(message, field) to the cause of the field's bytes; all others have that of their message."""

_PAYLOAD = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def _model(path: Path) -> Structure:
    model = onnx.load(path, load_external_data=False)
    found = Structure(path.stat().st_size)
    _message(found, model, "metadata", {})
    names = dict.fromkeys(_external_files(model))
    found.size += sum((path.parent / name).stat().st_size for name in names)
    for name in names:
        _sidecar(found, path.parent / name, model)
    return found


def _message(found: Structure, message: Message, cause: str, names: dict[str, str]) -> None:
    """Add the bytes of one message, whose own framing has been counted."""
    kind = message.DESCRIPTOR.name
    for descriptor, value in message.ListFields():
        own = _CAUSES.get((kind, descriptor.name), cause)
        if kind == "ValueInfoProto" and cause == "graph":  # an input or an output of the graph
            own = {"name": "names", "metadata_props": "metadata"}.get(descriptor.name, own)
        if descriptor.name == "doc_string":
            own = "debug-info"
        if kind == "TensorProto" and descriptor.name in _PAYLOAD:
            _payload(found, message, descriptor, value)
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if descriptor.is_repeated else [value]:
                size = inner.ByteSize()
                found.causes[own] += _varint(descriptor.number << 3) + _varint(size)
                _message(found, inner, own, names)
        else:
            found.causes[own] += _alone(message, descriptor, value).ByteSize()


def _payload(found: Structure, tensor: Message, descriptor: FieldDescriptor, value: Any) -> None:
    encoded = _alone(tensor, descriptor, value).ByteSize()
    # A packed or length-delimited field is its tag, its length and the payload.
    stored = encoded - 1
    stored -= _varint(stored - _varint(stored))
    found.causes["container"] += encoded - stored
    name, nbytes = tensor.name, tensor_bytes(tensor)
    found.payloads.append(Payload(name, nbytes, stored))


def tensor_bytes(tensor: Any) -> int:
    """Bytes of a tensor's elements as raw data would hold them."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _alone(message: Message, descriptor: FieldDescriptor, value: Any) -> Message:
    """A message with only this one field."""
    one = type(message)()
    if descriptor.is_repeated:
        getattr(one, descriptor.name).extend(value)
    else:
        setattr(one, descriptor.name, value)
    return one


def _varint(number: int) -> int:
    """Bytes of a varint: seven bits each."""
    return max(1, -(-number.bit_length() // 7))


# External data


def _external(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, dict[str, str]]]:
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor, {entry.key: entry.value for entry in tensor.external_data}


def _external_files(model: onnx.ModelProto) -> Iterator[str]:
    for _, entries in _external(model):
        yield entries["location"]


def _sidecar(found: Structure, path: Path, model: onnx.ModelProto) -> None:
    """Ranges that tensors name are payload; zeros in between pad; everything else is dead."""
    data = path.read_bytes()
    ranges = sorted(
        (int(entries.get("offset", "0")), int(entries["length"]), tensor.name)
        for tensor, entries in _external(model)
        if entries["location"] == path.name and int(entries["length"])
    )
    position = 0
    for start, length, name in [*ranges, (len(data), 0, "")]:
        gap = data[position:start]
        padded = start < len(data) and len(gap) < 1 << 16 and not any(gap)
        found.causes["alignment" if padded else "unreferenced"] += len(gap)
        if length:
            found.payloads.append(Payload(name, length, length))
        position = start + length
