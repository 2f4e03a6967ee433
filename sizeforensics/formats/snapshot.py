"""Snapshots: inventories without the weights, as ``sizeforensics.snapshot`` writes them.

JSON, plain or compressed with gzip or zstandard, whose first key is the schema. What it says is
checked as strictly as a model file: sizes must add up, digests and grids must have their lengths.
"""

from __future__ import annotations

import io
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, DType, numpy_dtype
from sizeforensics.errors import Corrupt, LimitExceeded, Unsupported
from sizeforensics.excerpts import KEY_BYTES, Excerpt, grid_shape
from sizeforensics.formats.encodings import bounded_json
from sizeforensics.inventory import (
    USES,
    File,
    Inventory,
    Module,
    Nodes,
    Record,
    Storage,
    Tensor,
    c_strides,
)
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import MemorySource, Source
from sizeforensics.spans import ROLES, TENSOR_DATA, Owners, Spans

SCHEMA = "sizeforensics.snapshot/1"

ORIGIN = "snapshot of"
"""The metadata that says which format a snapshot was taken from."""

MOST = 1 << 53
"""Bytes of an artifact, and elements of a tensor: what every JSON reader reads exactly."""

_BEGINNING = re.compile(rb'\s*\{\s*"schema"\s*:\s*"sizeforensics\.snapshot/(\d+)"')
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LOOK = 4096
_WINDOW = 1 << 27
DIGEST_BYTES = 16


def looks_like(head: bytes) -> bool:
    """Whether this is how a snapshot begins, unpacked or not."""
    return _BEGINNING.match(_unpacked_head(head)) is not None


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory that a snapshot holds.

    Raises Corrupt where it is no JSON, contradicts its schema or does not add up, Unsupported for
    a later version, LimitExceeded beyond ``json_bytes`` once unpacked.
    """
    text = _unpacked(source, limits)
    version = _BEGINNING.match(text.read(0, min(_LOOK, text.size)))
    if version is None or version[1] != SCHEMA.rpartition("/")[2].encode():
        got = "another one" if version is None else version[1].decode()
        raise Unsupported(source.path, 0, "a snapshot of version 1", f"version {got}")
    return _Reader(source, bounded_json.loads(text, 0, text.size, limits), limits).inventory()


# Unpacking


def _unpacked_head(head: bytes) -> bytes:
    try:
        return _unpack(head, _LOOK)[0]
    except (_BrokenError, ImportError):
        return b""


def _unpacked(source: Source, limits: Limits) -> Source:
    if source.size > limits.json_bytes:
        raise LimitExceeded(
            source.path, 0, "json_bytes", limits.json_bytes, f"{source.size:,} bytes"
        )
    packed = source.read(0, source.size)
    if not packed.startswith((_GZIP, _ZSTD)):
        return source
    try:
        data, whole = _unpack(packed, limits.json_bytes + 1)
    except _BrokenError as error:
        raise Corrupt(source.path, 0, "a compressed snapshot", str(error)) from None
    if len(data) > limits.json_bytes:
        raise LimitExceeded(source.path, 0, "json_bytes", limits.json_bytes, "more once unpacked")
    if not whole:
        raise Corrupt(source.path, 0, "one compressed stream", "one cut short, or with a tail")
    return MemorySource(source.path, data)


class _BrokenError(ValueError):
    """Compressed bytes that are none; the message says what is wrong with them."""


def _unpack(data: bytes, most: int) -> tuple[bytes, bool]:
    """At most ``most`` bytes of what ``data`` holds, and whether that is all, to the last byte."""
    if data.startswith(_GZIP):
        machine = zlib.decompressobj(wbits=31)
        try:
            unpacked = machine.decompress(data, most)
        except zlib.error as error:
            raise _BrokenError(f"a broken stream ({str(error).split(': ')[-1]})") from None
        return unpacked, machine.eof and not machine.unused_data
    if data.startswith(_ZSTD):
        import zstandard  # an extra, 10 ms

        stream = io.BytesIO(data)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        reader = decompressor.stream_reader(stream, read_size=1 << 16, read_across_frames=False)
        try:
            unpacked = reader.read(most)
            whole = len(unpacked) < most and stream.tell() == len(data)
            # A frame that ends early gives less without complaint: its declared size tells.
            whole = whole and zstandard.frame_content_size(data) == len(unpacked)
        except zstandard.ZstdError as error:
            raise _BrokenError(f"a broken stream ({error})") from None
        return unpacked, whole
    return data[:most], len(data) <= most


# What a snapshot says, checked


class _Fields:
    """One JSON object or array of the document, read key by key; raises Corrupt where it is wrong."""

    def __init__(self, reader: _Reader, where: str, values: Any) -> None:
        self._reader = reader
        self._where = where
        self._values = values

    def _get(self, key: str | int, default: Any) -> Any:
        if isinstance(self._values, dict):
            found = self._values.get(key, default)
        else:
            found = self._values[key] if int(key) < len(self._values) else default
        if found is None:
            raise self.wrong(key, "a value", "none")
        return found

    def wrong(self, key: str | int, expected: str, got: object) -> Corrupt:
        where = f"{self._where}[{key}]" if isinstance(key, int) else f"{self._where}.{key}"
        text = got if isinstance(got, str) else repr(got)
        return self._reader.wrong(f"{expected} as {where.lstrip('.')}", text)

    def text(self, key: str | int, default: str | None = None) -> str:
        found = self._get(key, default)
        if type(found) is not str:
            raise self.wrong(key, "text", found)
        return found

    def integer(self, key: str | int, default: int | None = None, least: int = 0) -> int:
        found = self._get(key, default)
        if type(found) is not int or not least <= found <= MOST:
            raise self.wrong(key, f"an integer from {least:,} to 2**53", found)
        return found

    def flag(self, key: str) -> bool:
        found = self._get(key, default=False)
        if type(found) is not bool:
            raise self.wrong(key, "true or false", found)
        return found

    def one_of(self, key: str | int, known: Sequence[str], default: str | None = None) -> str:
        found = self.text(key, default)
        if found not in known:
            raise self.wrong(key, f"one of {', '.join(known[:4])}, ...", repr(found))
        return found

    def items(self, key: str | int, most: int = 1 << 30) -> list[Any]:
        found = self._get(key, [])
        if type(found) is not list or len(found) > most:
            raise self.wrong(key, "a list" if most == 1 << 30 else f"at most {most:,} items", found)
        return found

    def integers(self, key: str, most: int) -> tuple[int, ...]:
        found = self.items(key, most)
        if not all(type(item) is int and 0 <= item <= MOST for item in found):
            raise self.wrong(key, "integers from 0 to 2**53", found)
        return tuple(found)

    def key_bytes(self, key: str, length: int) -> bytes | None:
        """Hexadecimal of exactly ``length`` bytes; None where the key is missing."""
        found = self.text(key, "")
        if found and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", found) is None:
            raise self.wrong(key, f"{length} bytes in hexadecimal", repr(found))
        return bytes.fromhex(found) if found else None

    def inner(self, key: str | int) -> _Fields:
        """The object or array under a key, or an empty object."""
        found = self._get(key, {})
        if type(found) not in (dict, list):
            raise self.wrong(key, "an object or a list", found)
        return _Fields(self._reader, f"{self._where}.{key}", found)

    def get(self, key: str) -> Any:
        """The value as it is; None where the key is missing."""
        return self._values.get(key) if isinstance(self._values, dict) else None

    def numbers(self, key: str) -> dict[str, int | float | str | bool | None]:
        """One number that may be missing, as the attribute of its name."""
        found = self.get(key)
        if found is None:
            return {}
        if type(found) not in (int, float):
            raise self.wrong(key, "a number", found)
        return {key: found}

    def rows_of(self, key: int) -> Iterator[_Fields]:
        """``rows`` of an item of an array."""
        inner = self.inner(key)
        for number, item in enumerate(self.items(key)):
            if type(item) not in (dict, list):
                raise self.wrong(key, "a list of lists", item)
            yield _Fields(self._reader, f"{inner._where}[{number}]", item)  # noqa: SLF001

    def rows(self, key: str) -> Iterator[_Fields]:
        """The objects or arrays that the list under a key holds."""
        for number, item in enumerate(self.items(key)):
            if type(item) not in (dict, list):
                raise self.wrong(f"{key}[{number}]", "an object or a list", item)
            yield _Fields(self._reader, f"{self._where}.{key}[{number}]", item)

    def names(self) -> list[str]:
        return list(self._values) if isinstance(self._values, dict) else []

    def has(self, key: str) -> bool:
        return isinstance(self._values, dict) and key in self._values


class _Reader:
    """Turns one document into an inventory."""

    def __init__(self, source: Source, document: Any, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._top = _Fields(self, "", document)
        self._storages: list[Storage] = []
        self._ends: list[int] = []
        self._left: list[int] = []
        """Bytes of each storage that no tensor has claimed so far."""

    def wrong(self, expected: str, got: str) -> Corrupt:
        return Corrupt(self._source.path, 0, expected, got)

    def inventory(self) -> Inventory:
        top = self._top
        owners = Owners()
        files = self._files(owners)
        tensors, excerpts, readers = self._tensors()
        for row in top.rows("storages"):
            self._storage(row, "", 0)
        self._check_sums(files)
        return Inventory(
            self._source.path, "snapshot", files, owners, tuple(self._storages), tuple(tensors),
            self._nodes(tensors, readers), tuple(self._batch_norms(tensors)),
            records=tuple(self._records()),
            metadata=(
                (ORIGIN, top.text("format")), *((row.text(0), row.text(1)) for row in top.rows("metadata"))
            ),
            warnings=tuple(map(str, top.items("warnings"))), excerpts=tuple(excerpts),
        )  # fmt: skip

    def _files(self, owners: Owners) -> tuple[File, ...]:
        """The files, each tiled by one span for each role and subject, in the order they are told."""
        listed = [(row.text(0), row.integer(1)) for row in self._top.rows("files")]
        if not listed:
            raise self._top.wrong("files", "at least one file", "none")
        self._ends = [0] * len(listed)
        columns: list[list[tuple[int, int, int, int]]] = [[] for _ in listed]
        for row in self._top.rows("spans"):
            number = row.integer(0)
            role, subject = row.one_of(1, ROLES), row.text(2)
            nbytes, count = row.integer(3, least=1), row.integer(4, least=1)
            if number >= len(listed):
                raise row.wrong(0, f"one of {len(listed):,} files", number)
            name = subject if count == 1 else f"{subject} ({count:,} spans)"
            owner = owners.add(name, subject)
            columns[number].append((nbytes, ROLES.index(role), owner, count))
        files = []
        for (path, size), rows in zip(listed, columns, strict=True):
            if sum(row[0] for row in rows) != size:
                raise self.wrong(f"spans of {size:,} bytes in {path!r}", f"{sum(row[0] for row in rows):,}")
            table = np.array(rows, dtype=np.int64).reshape(-1, 4)
            ends = np.cumsum(table[:, 0])
            files.append(File(path, Spans(
                size, ends - table[:, 0], ends, table[:, 1].astype(np.uint8), table[:, 2], table[:, 3]
            )))  # fmt: skip
        return tuple(files)

    def _check_sums(self, files: tuple[File, ...]) -> None:
        total = sum(file.nbytes for file in files)
        if total != self._top.integer("bytes") or total > MOST:
            raise self._top.wrong("bytes", f"the size of all files, {total:,}", self._top.integer("bytes"))
        spans = sum(int(file.spans.bytes_by_role()[TENSOR_DATA]) for file in files)
        stored = sum(storage.stored_bytes for storage in self._storages)
        if spans != stored:
            raise self.wrong(f"storages of {spans:,} bytes, as the spans have it", f"{stored:,}")
        if sum(storage.nbytes for storage in self._storages) > MOST:
            raise self.wrong("storages of at most 2**53 bytes", "more")

    def _tensors(self) -> tuple[list[Tensor], list[Excerpt], list[list[Any]]]:
        tensors, excerpts, readers = [], [], []
        for row in self._top.rows("tensors"):
            tensor = self._tensor(row)
            tensors.append(tensor)
            excerpts.append(self._excerpt(row, tensor))
            readers.append(row.items("read_by"))
        return tensors, excerpts, readers

    def _tensor(self, row: _Fields) -> Tensor:
        dtype = self._dtype(row)
        shape = row.integers("shape", self._limits.tensor_rank)
        strides = row.integers("strides", self._limits.tensor_rank) or c_strides(shape)
        if len(strides) != len(shape) or prod(shape) > MOST:
            raise row.wrong("shape", "a shape of at most 2**53 elements, and as many strides", shape)
        name = row.text("name")
        nbytes = dtype.nbytes(prod(shape))
        storage: int | None = None
        if row.has("in"):
            storage = len(self._storages)
            self._storage(row.inner("in"), name, nbytes)
        elif row.has("view"):
            ago = -row.integer("view", least=-len(self._storages))
            if ago < 1:
                raise row.wrong("view", "how many storages ago, as a negative number", -ago)
            storage = len(self._storages) - ago
        return Tensor(
            name, dtype, shape, strides, row.integer("offset", 0), storage,
            row.one_of("use", USES, "weight"), row.text("scope", ""),
        )  # fmt: skip

    def _dtype(self, row: _Fields) -> DType:
        if not isinstance(row.get("dtype"), list):
            return DTYPES[row.one_of("dtype", list(DTYPES))]
        parts = row.inner("dtype")
        kind = parts.one_of(2, ("float", "int", "uint", "bool", "complex", "opaque"))
        total = parts.integer(3) if len(row.items("dtype")) > 3 else None
        return DType(parts.text(0), parts.integer(1, least=1), kind, total)

    def _storage(self, row: _Fields, name: str, nbytes: int) -> None:
        file = row.integer(5, 0)
        if file >= len(self._ends):
            raise row.wrong(5, f"one of {len(self._ends):,} files", file)
        size = row.integer(2, nbytes)
        stored = row.integer(3, size)
        offset = self._ends[file] + row.integer(1, 0, least=-MOST)
        if offset < 0:
            raise row.wrong(1, "a storage inside its file", f"offset {offset:,}")
        encoding = row.one_of(4, ("raw", "deflate", "typed"), "raw")
        self._ends[file] = offset + stored
        self._storages.append(
            Storage(row.text(0, "") or name, file, offset, stored, size, None, encoding)
        )
        self._left.append(size)

    def _excerpt(self, row: _Fields, tensor: Tensor) -> Excerpt:
        claimed = row.integer("claimed", tensor.nbytes if row.has("in") else 0)
        if claimed:
            if tensor.storage is None or claimed > self._left[tensor.storage]:
                raise row.wrong("claimed", "bytes that the storage has left", claimed)
            self._left[tensor.storage] -= claimed
        casts = row.inner("casts")
        keys = {name: casts.key_bytes(name, KEY_BYTES) for name in casts.names()}
        recipe = row.inner("recipe")
        return Excerpt(
            claimed, row.key_bytes("digest", DIGEST_BYTES), self._grid(row, tensor.as_pairs()),
            {name: key for name, key in keys.items() if key is not None},
            row.key_bytes("transposed", KEY_BYTES),
            distinctive=row.has("digest") and not row.flag("trivial"),
            narrower=row.one_of("narrower", ["", *DTYPES], ""),
            recipe=(recipe.text(0), recipe.integer(1)) if row.has("recipe") else None,
        )  # fmt: skip

    def _grid(self, row: _Fields, tensor: Tensor) -> npt.NDArray[Any] | None:
        dtype = numpy_dtype(tensor.dtype.name)
        if dtype is None or not row.has("digest"):
            return None
        shape = grid_shape(tensor.shape)
        try:
            data = b64decode(row.text("grid", ""), validate=True)
        except ValueError:
            raise row.wrong("grid", "elements in base64", "what is none") from None
        if len(data) != prod(shape) * dtype.itemsize:
            wanted = f"{prod(shape) * dtype.itemsize:,} bytes in base64"
            raise row.wrong("grid", wanted, f"{len(data):,}")
        return np.frombuffer(data, dtype=dtype).reshape(shape)

    def _nodes(self, tensors: Sequence[Tensor], readers: Sequence[list[Any]]) -> Nodes:
        """As many nodes of each operator as there were, and who reads what the artifact stores.

        Which node of an operator it was is not known: its tensors are spread over them.
        """
        names, counts, sizes = [], [], []
        for row in self._top.rows("ops"):
            names.append(row.text(0))
            counts.append(row.integer(1, least=1))
            sizes.append(row.integer(2))
        total = sum(counts)
        if total > self._limits.graph_nodes or len(set(names)) < len(names):
            raise self._top.wrong("ops", f"at most {self._limits.graph_nodes:,} nodes, each operator once", f"{total:,}")
        if not names:
            return Nodes.none()
        ops = np.repeat(np.arange(len(names)), counts)
        firsts = np.cumsum([0, *counts])[:-1]
        lengths = np.repeat(np.array(sizes) // np.array(counts), counts)
        lengths[firsts] += np.array(sizes) % np.array(counts)
        ends = np.cumsum(lengths)
        index = {name: number for number, name in enumerate(names)}
        values: dict[str, int] = {}
        reads: list[tuple[int, int]] = []
        given = [0] * len(names)
        for tensor, operators in zip(tensors, readers, strict=True):
            for name in operators:
                op = index.get(name) if isinstance(name, str) else None
                if op is None:
                    raise self.wrong(f"an operator that reads {tensor.name!r}", repr(name))
                node = int(firsts[op]) + given[op] % counts[op]
                given[op] += 1
                reads.append((node, values.setdefault(tensor.name, len(values))))
        edges = np.array(reads, dtype=np.int64).reshape(-1, 2)
        none = np.zeros(0, dtype=np.int64)
        return Nodes(
            [""] * total, names, ops, ends - lengths, ends, [""], np.zeros(total, dtype=np.int64),
            list(values), edges[:, 0], edges[:, 1], none, none,
        )  # fmt: skip

    def _batch_norms(self, tensors: Sequence[Tensor]) -> Iterator[Module]:
        by_name: dict[str, int] = {}
        for index, tensor in enumerate(tensors):
            by_name.setdefault(tensor.name, index)
        for row in self._top.rows("batch_norms"):
            parts = {}
            for key, attribute in _PARTS.items():
                if row.has(key):
                    name = row.text(key)
                    if name not in by_name:
                        raise row.wrong(key, "a tensor of the snapshot", repr(name))
                    parts[attribute] = by_name[name]
            if not {"running_mean", "running_var"} <= set(parts):
                raise row.wrong("mean", "a mean and a variance", "none")
            yield Module("", "", row.numbers("eps"), parts)

    def _records(self) -> Iterator[Record]:
        for row in self._top.rows("records"):
            parts = tuple(
                (ROLES.index(part.one_of(0, ROLES)), part.text(1), part.integer(2))
                for part in row.rows_of(5)
            )
            yield Record(
                row.text(0), ROLES.index(row.one_of(1, ROLES)), row.text(2), row.integer(3),
                row.integer(4), parts,
            )  # fmt: skip


_PARTS = {
    "scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var",
    "counter": "num_batches_tracked",
}  # fmt: skip
"""The parts of a batch-norm as a snapshot and as a module of torch name them."""
