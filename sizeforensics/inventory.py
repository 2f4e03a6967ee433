"""Everything one artifact contains, whatever its format: files and spans, storages, tensors, nodes.

A storage owns bytes; a tensor is a named, typed, shaped view of one and owns none, so tied weights
are counted once. This module knows no file format and reads nothing; a storage carries the handle
its elements can be read through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, DType
from sizeforensics.errors import LawBroken, LimitExceeded
from sizeforensics.excerpts import Excerpt
from sizeforensics.layout import Layout
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import TENSOR_DATA, Integers, Owners, Spans, sum_by
from sizeforensics.units import counted

USES = (
    "weight",  # a parameter or an initializer
    "buffer",  # state that is not trained: batch-norm statistics, masks
    "constant",  # data the program holds: Constant nodes, attributes, TorchScript constants
    "optimizer-state",
    "ema-copy",
    "quantization-parameters",
    "sparse-index",
    "unreferenced",  # nothing in the artifact reads it
)
"""What a tensor is for, as far as the format says."""

FINDINGS = (
    "optimizer-state", "ema-copy", "unreferenced", "duplicate", "debug-info", "value-info",
    "storage-slack", "encoding", "dtype",
)
"""Causes of which there can be waste in one artifact."""

DESCRIPTIONS = "tensor descriptions"
"""Subject of the opcodes of a pickle that describe tensors, without which nobody can load them."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an artifact, tiled by its spans."""

    path: str
    spans: Spans

    @property
    def nbytes(self) -> int:
        return self.spans.size


@dataclass(frozen=True, slots=True)
class Storage:
    """Stored bytes that hold tensor elements.

    ``stored_bytes`` is what the file spends on the elements; ``nbytes`` what they are once inflated
    or decoded. They differ only where ``encoding`` is ``deflate`` (a compressed record) or
    ``typed`` (ONNX typed fields); ``raw`` bytes are the elements themselves.
    """

    name: str
    file: int
    """Index into ``Inventory.files``."""
    offset: int
    """Where the first stored byte is in that file."""
    stored_bytes: int
    nbytes: int
    payload: Source | None
    """``nbytes`` little-endian bytes; None where the bytes are missing or may not be read."""
    encoding: str = "raw"

    def __post_init__(self) -> None:
        if self.payload is not None and self.payload.size != self.nbytes:
            raise LawBroken(
                f"storage {self.name!r} has {self.nbytes:,} bytes, its payload "
                f"{self.payload.size:,}"
            )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named view of a storage: ``shape``, ``strides`` and ``offset`` count elements.

    ``storage`` is an index into ``Inventory.storages``; None when the tensor has no bytes here
    (a meta tensor, a record that is missing, external data that may not be opened).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: int | None
    use: str
    scope: str = ""
    """Where it lives: the top-level key of a checkpoint, the path of an ONNX subgraph."""

    elements: int = field(init=False)
    """Number of elements; 1 for shape ``()``."""
    contiguous: bool = field(init=False)
    """Whether the elements lie in C order without gaps."""

    def __post_init__(self) -> None:
        # Asked for many times per tensor, of a hundred thousand tensors: computed once.
        contiguous, step = True, 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if stride != step and size != 1:
                contiguous = False
            step *= size
        object.__setattr__(self, "elements", step)
        object.__setattr__(self, "contiguous", contiguous or step == 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements written out, whatever is stored."""
        return self.dtype.nbytes(self.elements)

    def as_pairs(self) -> Tensor:
        """A complex tensor seen as pairs of real and imaginary parts; any other as it is.

        That is what ``torch.view_as_real`` gives, and how ONNX has to store complex numbers.
        """
        if self.dtype.kind != "complex":
            return self
        return replace(
            self,
            dtype=DTYPES[f"float{self.dtype.bits // 2}"],
            shape=(*self.shape, 2),
            strides=(*(2 * stride for stride in self.strides), 1),
            offset=2 * self.offset,
        )


def ranges(known: Mapping[int, tuple[int, int]], count: int) -> Integers:
    """``[start, end)`` of each of ``count`` things, shape ``(count, 2)``; empty where not known."""
    found = np.zeros((count, 2), dtype=np.int64)
    if known:
        found[list(known)] = list(known.values())
    return found


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a contiguous tensor of this shape."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The operators of every graph of an artifact, as columns of equal length.

    ``ops`` indexes ``op_names``; ``starts`` and ``ends`` bound the encoded node in file 0, ``scopes``
    indexes ``scope_names`` (the path of the graph it belongs to). Edges are two more columns each:
    ``read_nodes[i]`` reads the value ``values[read_values[i]]``, in the order of its inputs, and
    ``write_nodes`` / ``write_values`` likewise for outputs.
    """

    names: list[str]
    op_names: list[str]
    ops: Integers
    starts: Integers
    ends: Integers
    scope_names: list[str]
    scopes: Integers
    values: list[str]
    read_nodes: Integers
    read_values: Integers
    write_nodes: Integers
    write_values: Integers

    def __len__(self) -> int:
        return len(self.ops)

    @classmethod
    def none(cls) -> Nodes:
        """The nodes of an artifact that has no graph."""
        empty = np.zeros(0, dtype=np.int64)
        return cls([], [], empty, empty, empty, [], empty, [], empty, empty, empty, empty)

    def count_and_bytes_by_op(self) -> list[tuple[str, int, int]]:
        """(operator, number of nodes, bytes of their encodings), most bytes first."""
        counts = np.bincount(self.ops, minlength=len(self.op_names)).tolist()
        nbytes = sum_by(self.ops, self.ends - self.starts, len(self.op_names)).tolist()
        rows = zip(self.op_names, counts, nbytes, strict=True)
        return sorted(rows, key=lambda row: (-row[2], row[0]))


class Quantization(NamedTuple):
    """A tensor whose elements ``q`` stand for ``scale * (q - zero point)``, as the file says.

    Tensors are indices into ``Inventory.tensors``. A scale that is neither a tensor nor a number is
    one that the file does not say.
    """

    tensor: int
    scale: int | None
    zero_point: int | None
    factor: int | None = None
    """One more scale, by which ``scale`` is multiplied: a bias has those of input and weight."""
    step: float | None = None
    """The scale where it is no tensor."""
    zero: int = 0
    """The zero point where it is no tensor."""
    axes: tuple[int, ...] | None = None
    """The axes of the tensor along which those of the scale count; None where shapes have to tell."""
    block: int | None = None
    """Elements that share a scale along an axis that has fewer scales than elements."""
    groups: int | None = None
    """A tensor that says which scale each element along that axis has, where blocks do not."""
    width: int | None = None
    """Elements of the last axis that stand for anything, where the rest fills up the last block."""


@dataclass(frozen=True, slots=True)
class Module:
    """A pickled module: ``path`` from the checkpoint's root, class, and its plain attributes."""

    path: str
    class_path: str
    attributes: dict[str, int | float | str | bool | None]
    tensors: dict[str, int]
    """Its own parameters and buffers: attribute name to index into ``Inventory.tensors``."""


@dataclass(frozen=True, slots=True)
class Record:
    """A member of an archive: ``stored_bytes`` in the file, ``nbytes`` once inflated."""

    name: str
    role: int
    subject: str
    """The subject under which its stored bytes are summed, see ``Owners``."""
    stored_bytes: int
    nbytes: int
    parts: tuple[tuple[int, str, int], ...] = ()
    """(role, subject, bytes) of what a deflated record holds once inflated, where that is known."""

    @property
    def compressed(self) -> bool:
        return self.stored_bytes != self.nbytes


class Waste(NamedTuple):
    """The bytes that could go of one subject; ``label`` as a row of a ledger has it."""

    subject: str
    nbytes: int
    label: str = ""


class Found(NamedTuple):
    """Waste of one cause: its parts, and what the same bytes are, in the order of ``ROLES``."""

    cause: str
    parts: tuple[Waste, ...]
    roles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything one artifact contains.

    Raises LawBroken when its storages and spans disagree, LimitExceeded beyond ``limits.tensors``.
    """

    path: str
    format: str
    files: tuple[File, ...]
    owners: Owners
    storages: tuple[Storage, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    nodes: Nodes = field(default_factory=Nodes.none)
    modules: tuple[Module, ...] = ()
    quantizations: tuple[Quantization, ...] = ()
    records: tuple[Record, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    """Facts a reader wants to see: producer, opset, versions, properties."""
    warnings: tuple[str, ...] = ()
    excerpts: tuple[Excerpt, ...] | None = None
    """What is known of the content of each tensor where there is no payload: in a snapshot."""
    layouts: tuple[Layout, ...] = ()
    """How each file frames what it holds, in the order of ``files``; none for plain bytes."""
    holders: Integers | None = None
    """For each tensor the ``[start, end)`` of file 0 that is there for it alone, or for it and others
    of its use: a TensorProto, a Constant node, a checkpoint's entry. Empty where there is none."""
    waste: tuple[Found, ...] | None = None
    """What was found in the files that a snapshot was taken of."""
    limits: Limits = DEFAULT_LIMITS
    """Under which the files were read."""

    def __post_init__(self) -> None:
        if len(self.tensors) > self.limits.tensors:
            raise LimitExceeded(
                self.path, 0, "tensors", self.limits.tensors, counted(len(self.tensors), "tensor")
            )
        spans = sum(int(file.spans.bytes_by_role()[TENSOR_DATA]) for file in self.files)
        storages = sum(storage.stored_bytes for storage in self.storages)
        if spans != storages:
            raise LawBroken(
                f"{self.path}: tensor-data spans hold {spans:,} bytes, storages {storages:,}"
            )
        if self.excerpts is not None and len(self.excerpts) != len(self.tensors):
            raise LawBroken(
                f"{self.path}: {len(self.excerpts):,} excerpts of {len(self.tensors):,} tensors"
            )
        for tensor in self.tensors:
            if tensor.storage is not None and not 0 <= tensor.storage < len(self.storages):
                raise LawBroken(f"{self.path}: tensor {tensor.name!r} views no storage")

    @property
    def nbytes(self) -> int:
        """Bytes of all files of the artifact."""
        return sum(file.nbytes for file in self.files)

    def bytes_by_role(self) -> npt.NDArray[np.int64]:
        """Bytes of each role over all files, in the order of ``ROLES``."""
        total = np.zeros_like(self.files[0].spans.bytes_by_role())
        for file in self.files:
            total += file.spans.bytes_by_role()
        return total

    def bytes_by_subject(
        self, files: Sequence[File] | None = None
    ) -> dict[tuple[int, str], tuple[int, int]]:
        """(role, owner's subject) to (bytes, number of spans), for every role, over all files or
        the given ones."""
        totals: dict[tuple[int, str], tuple[int, int]] = {}
        subject_ids: dict[str, int] = {}
        ids = np.array(
            [subject_ids.setdefault(subject, len(subject_ids)) for subject in self.owners.subjects],
            dtype=np.int64,
        )
        subjects = list(subject_ids)
        for file in self.files if files is None else files:
            spans = file.spans
            if not len(spans):
                continue
            keys = spans.roles.astype(np.int64) * len(subjects) + ids[spans.owners]
            unique, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
            nbytes = sum_by(inverse, spans.ends - spans.starts, len(unique))
            if spans.counts is not None:
                counts = sum_by(inverse, spans.counts, len(unique))
            for key, size, count in zip(
                unique.tolist(), nbytes.tolist(), counts.tolist(), strict=True
            ):
                at = (key // len(subjects), subjects[key % len(subjects)])
                before = totals.get(at, (0, 0))
                totals[at] = (before[0] + size, before[1] + count)
        return totals
