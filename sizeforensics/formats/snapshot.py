"""Snapshots: inventories without the weights, as ``sizeforensics.snapshot`` writes them.

JSON, plain or compressed with gzip or zstandard, whose first key is the schema. What it says is
checked as strictly as a model file: sizes must add up, digests and grids must have their lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.bags import BAG_BYTES
from sizeforensics.dtypes import DTYPES, DType, numpy_dtype
from sizeforensics.errors import Corrupt, LimitExceeded, Outdated, Unsupported
from sizeforensics.excerpts import (
    CASTS,
    FEW,
    KEY_BYTES,
    MARK_BYTES,
    MARKS,
    ORIGIN,
    SCHEMA,
    Excerpt,
    bags_kept,
    grid_shape,
)
from sizeforensics.formats.encodings import bounded_json
from sizeforensics.formats.encodings.checked_json import MOST, Checked
from sizeforensics.formats.encodings.unpacked import head_of, unpacked
from sizeforensics.inventory import (
    FINDINGS,
    USES,
    File,
    Found,
    Inventory,
    Module,
    Nodes,
    Quantization,
    Record,
    Storage,
    Tensor,
    Waste,
    c_strides,
)
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import ROLES, TENSOR_DATA, Owners, Spans

_BEGINNING = re.compile(rb'\s*\{\s*"schema"\s*:\s*"sizeforensics\.snapshot/(\d+)"')
_VERSION = SCHEMA.rpartition("/")[2]
_LOOK = 4096
_DIGEST_BYTES = 16


def looks_like(head: bytes) -> bool:
    """Whether this is how a snapshot begins, unpacked or not."""
    return _BEGINNING.match(head_of(head, _LOOK)) is not None


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory that a snapshot holds.

    Raises Corrupt where it is no JSON, contradicts its schema or does not add up, Outdated for an
    earlier version, Unsupported for a later one, LimitExceeded beyond ``json_bytes`` once unpacked.
    """
    text = unpacked(source, limits)
    version = _BEGINNING.match(text.read(0, min(_LOOK, text.size)))
    if version is None or version[1] != _VERSION.encode():
        got = "another one" if version is None else version[1].decode()
        kind = Outdated if _is_earlier(got) else Unsupported
        raise kind(source.path, 0, f"a snapshot of version {_VERSION}", f"version {got}: take it anew from the model")
    return _Reader(source, bounded_json.loads(text, 0, text.size, limits), limits).inventory()


def _is_earlier(version: str) -> bool:
    return len(version) <= len(_VERSION) and version < _VERSION


class _Reader:
    """Turns one document into an inventory."""

    def __init__(self, source: Source, document: Any, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._top = Checked(source.path, document)
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
        for row in top.arrays("storages"):
            self._storage(row, "", 0)
        self._check_sums(files)
        metadata = [(row.text(0), row.text(1)) for row in top.arrays("metadata")]
        return Inventory(
            self._source.path, "snapshot", files, owners, tuple(self._storages), tuple(tensors),
            nodes=self._nodes(tensors, readers),
            modules=tuple(self._batch_norms(tensors)),
            quantizations=tuple(self._quantizations(len(tensors))),
            records=tuple(self._records()),
            metadata=((ORIGIN, top.text("format")), *metadata),
            warnings=top.texts("warnings"),
            excerpts=tuple(excerpts),
            waste=tuple(self._waste()) if top.has("findings") else None,
            limits=self._limits,
        )

    def _files(self, owners: Owners) -> tuple[File, ...]:
        """The files, each tiled by one span for each role and subject, in the order they are told."""
        listed = [(row.text(0), row.integer(1)) for row in self._top.arrays("files")]
        if not listed:
            raise self._top.wrong("files", "at least one file", "none")
        self._ends = [0] * len(listed)
        columns: list[list[tuple[int, int, int, int]]] = [[] for _ in listed]
        for row in self._top.arrays("spans"):
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

    def _tensors(self) -> tuple[list[Tensor], list[Excerpt], list[tuple[str, ...]]]:
        tensors, excerpts, readers = [], [], []
        for row in self._top.objects("tensors"):
            tensor = self._tensor(row)
            tensors.append(tensor)
            excerpts.append(self._excerpt(row, tensor))
            readers.append(row.texts("read_by"))
        return tensors, excerpts, readers

    def _tensor(self, row: Checked) -> Tensor:
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
            self._storage(row.array("in"), name, nbytes)
        elif row.has("view"):
            ago = -row.integer("view", least=-len(self._storages))
            if ago < 1:
                raise row.wrong("view", "how many storages ago, as a negative number", -ago)
            storage = len(self._storages) - ago
        return Tensor(
            name, dtype, shape, strides, row.integer("offset", 0), storage,
            row.one_of("use", USES, "weight"), row.text("scope", ""),
        )  # fmt: skip

    def _dtype(self, row: Checked) -> DType:
        if not row.is_list("dtype"):
            return DTYPES[row.one_of("dtype", list(DTYPES))]
        parts = row.array("dtype")
        name, bits = parts.text(0), parts.integer(1, least=1)
        if name in DTYPES and name != "string":
            raise row.wrong("dtype", f"just the name of {name}", "a list")
        total = parts.integer(2) if len(row.items("dtype")) > 2 else None
        return DType(name, bits, "opaque", total)

    def _storage(self, row: Checked, name: str, nbytes: int) -> None:
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

    def _excerpt(self, row: Checked, tensor: Tensor) -> Excerpt:
        claimed = row.integer("claimed", tensor.nbytes if row.has("in") else 0)
        if claimed:
            left = 0 if tensor.storage is None else self._left[tensor.storage]
            if tensor.storage is None or claimed > min(left, tensor.nbytes):
                raise row.wrong("claimed", "bytes of the tensor that its storage has left", claimed)
            self._left[tensor.storage] -= claimed
        own = tensor.as_pairs().dtype.name
        recipe, core, distinct = (row.array(key) for key in ("recipe", "core", "distinct"))
        digest = row.base64("digest", _DIGEST_BYTES) if row.has("digest") else None
        casts = _items(row, "casts", len(CASTS.get(own, ())), KEY_BYTES)
        bags = map(_bag, _items(row, "bags", len(bags_kept(own)), BAG_BYTES))
        return Excerpt(
            claimed, digest, None if digest is None else self._grid(row, tensor.as_pairs()),
            dict(zip(CASTS.get(own, ()), casts, strict=False)),
            dict(zip(bags_kept(own), bags, strict=False)),
            row.base64("transposed", KEY_BYTES) if row.has("transposed") else None,
            distinctive=digest is not None and not row.flag("trivial") and tensor.elements > FEW,
            narrower=row.one_of("narrower", ["", *DTYPES], ""),
            core=(core.integer(0), core.base64(1, KEY_BYTES)) if row.has("core") else None,
            marks=tuple(int.from_bytes(mark, "big") for mark in _items(row, "marks", MARKS, MARK_BYTES)),
            distinct=(distinct.integer(0), _bag(distinct.base64(1, BAG_BYTES))) if row.has("distinct") else None,
            recipe=(recipe.text(0), recipe.integer(1)) if row.has("recipe") else None,
        )  # fmt: skip

    def _grid(self, row: Checked, tensor: Tensor) -> npt.NDArray[Any] | None:
        dtype = numpy_dtype(tensor.dtype.name)
        if dtype is None:
            return None
        shape = grid_shape(tensor.shape)
        if not prod(shape):
            return np.zeros(shape, dtype=dtype)
        data = row.base64("grid", prod(shape) * dtype.itemsize)
        return np.frombuffer(data, dtype=dtype).reshape(shape)

    def _nodes(self, tensors: Sequence[Tensor], readers: Sequence[Sequence[str]]) -> Nodes:
        """As many nodes of each operator as there were, and who reads what the artifact stores.

        Which node of an operator it was is not known: its tensors are spread over them.
        """
        names, counts, sizes = [], [], []
        for row in self._top.arrays("ops"):
            names.append(row.text(0))
            counts.append(row.integer(1, least=1))
            sizes.append(row.integer(2))
        total = sum(counts)
        if total > self._limits.graph_nodes:
            raise LimitExceeded(
                self._source.path, 0, "graph_nodes", self._limits.graph_nodes, f"{total:,} nodes"
            )
        if len(set(names)) < len(names) or sum(sizes) > MOST:
            raise self._top.wrong("ops", "each operator once, at most 2**53 bytes", "another list")
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
                op = index.get(name)
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
        for row in self._top.objects("batch_norms"):
            parts = {}
            for key, attribute in _PARTS.items():
                if row.has(key):
                    name = row.text(key)
                    if name not in by_name:
                        raise row.wrong(key, "a tensor of the snapshot", repr(name))
                    parts[attribute] = by_name[name]
            if not {"running_mean", "running_var"} <= set(parts):
                raise row.wrong("mean", "a mean and a variance", "none")
            eps = row.number("eps")
            yield Module("", "", {} if eps is None else {"eps": eps}, parts)

    def _quantizations(self, tensors: int) -> Iterator[Quantization]:
        for row in self._top.objects("quantizations"):
            found = {key: row.integer(key) for key in _LINKS if row.has(key)}
            if any(index >= tensors for index in found.values()):
                raise row.wrong("tensor", f"tensors below {tensors:,}", "a larger number")
            yield Quantization(
                row.integer("tensor"), found.get("scale"), found.get("zero_point"),
                found.get("factor"), row.number("step"), row.integer("zero", 0, least=-MOST),
                row.integers("axes", _MOST_AXES) if row.has("axes") else None,
                row.integer("block", least=1) if row.has("block") else None,
                found.get("groups"),
                row.integer("width", least=1) if row.has("width") else None,
            )  # fmt: skip

    def _waste(self) -> Iterator[Found]:
        """What was found in the files, each cause once, and no more than they have bytes."""
        seen: set[str] = set()
        left = self._top.integer("bytes")
        for row in self._top.arrays("findings"):
            cause = row.one_of(0, [known for known in FINDINGS if known not in seen])
            seen.add(cause)
            parts = tuple(
                Waste(part.text(0), part.integer(1, least=-MOST), part.text(2, ""))
                for part in row.arrays(2)
            )
            roles = [0] * len(ROLES)
            for role in row.arrays(1):
                roles[ROLES.index(role.one_of(0, ROLES))] += role.integer(1, least=-MOST)
            nbytes = sum(part.nbytes for part in parts)
            if not 0 < nbytes <= left or sum(roles) != nbytes:
                raise row.wrong(2, f"1 to {left:,} bytes, as many by role", f"{nbytes:,}")
            left -= nbytes
            yield Found(cause, parts, tuple(roles))

    def _records(self) -> Iterator[Record]:
        for row in self._top.arrays("records"):
            parts = tuple(
                (ROLES.index(part.one_of(0, ROLES)), part.text(1), part.integer(2))
                for part in row.arrays(5)
            )
            yield Record(
                row.text(0), ROLES.index(row.one_of(1, ROLES)), row.text(2), row.integer(3),
                row.integer(4), parts,
            )  # fmt: skip


def _items(row: Checked, key: str, count: int, length: int) -> list[bytes]:
    """As many parts of some bytes; none where the key is missing."""
    data = row.base64(key, count * length) if row.has(key) else b""
    return [data[first : first + length] for first in range(0, len(data), length)]


def _bag(data: bytes) -> int:
    return int.from_bytes(data, "big")


_LINKS = ("tensor", "scale", "zero_point", "factor", "groups")
_MOST_AXES = 64
"""Axes along which a scale counts; no format has tensors of more."""

_PARTS = {
    "scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var",
    "counter": "num_batches_tracked",
}  # fmt: skip
"""The parts of a batch-norm as a snapshot and as a module of torch name them."""
