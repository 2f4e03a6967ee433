"""Inventories made from numpy arrays, for tests of everything above the formats."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sizeforensics.attribution import attribute
from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import (
    File,
    Inventory,
    Module,
    Nodes,
    Record,
    Storage,
    Tensor,
    c_strides,
)
from sizeforensics.ledger import Ledger
from sizeforensics.matching import match
from sizeforensics.source import MemorySource
from sizeforensics.spans import CONTAINER, TENSOR_DATA, Owners, SpanSink


def artifact(
    arrays: Mapping[str, np.ndarray],
    *,
    path: str = "model",
    views: Sequence[Tensor] = (),
    uses: Mapping[str, str] | None = None,
    scopes: Mapping[str, str] | None = None,
    modules: Sequence[Module] = (),
    nodes: Nodes | None = None,
    header: int = 16,
    others: Sequence[tuple[int, int, str]] = (),
    records: Sequence[Record] = (),
) -> Inventory:
    """A file of ``header`` container bytes and each array's bytes, one storage and tensor each.

    ``views`` are further tensors; their ``storage`` counts the arrays in order. ``others`` are
    further spans behind the arrays: (role, bytes, subject).
    """
    pieces = [Piece(name, array) for name, array in arrays.items()]
    tensors = [
        Tensor(
            name, dtype_of(array), array.shape, c_strides(array.shape), 0, number,
            (uses or {}).get(name, "weight"), (scopes or {}).get(name, ""),
        )
        for number, (name, array) in enumerate(arrays.items())
    ]  # fmt: skip
    return assemble(
        pieces, [*tensors, *views], path=path, modules=modules, nodes=nodes, header=header,
        others=others, records=records,
    )  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """One storage: ``stored_bytes`` in the file, the bytes of ``data`` once decoded."""

    name: str
    data: np.ndarray
    stored_bytes: int | None = None
    encoding: str = "raw"
    readable: bool = True


def assemble(
    pieces: Sequence[Piece],
    tensors: Sequence[Tensor],
    *,
    path: str = "model",
    modules: Sequence[Module] = (),
    nodes: Nodes | None = None,
    header: int = 16,
    others: Sequence[tuple[int, int, str]] = (),
    records: Sequence[Record] = (),
) -> Inventory:
    """A file of ``header`` container bytes, the storages in order, and the spans of ``others``."""
    owners, sink = Owners(), SpanSink()
    sink.add(0, header, CONTAINER, owners.add("header", "header"))
    storages = []
    at = header
    for piece in pieces:
        data = np.ascontiguousarray(piece.data).reshape(-1).view(np.uint8)
        stored = len(data) if piece.stored_bytes is None else piece.stored_bytes
        sink.add(at, at + stored, TENSOR_DATA, owners.add(piece.name, "tensors"))
        payload = MemorySource(path, data, at) if piece.readable else None
        storages.append(Storage(piece.name, 0, at, stored, len(data), payload, piece.encoding))
        at += stored
    for role, size, subject in others:
        sink.add(at, at + size, role, owners.add(subject, subject))
        at += size
    spans = sink.finish(at, owners.add("nobody", "nobody"))
    return Inventory(
        path, "onnx", (File(path, spans),), owners, tuple(storages), tuple(tensors),
        nodes=nodes or Nodes.none(), modules=tuple(modules), records=tuple(records),
    )  # fmt: skip


def dtype_of(array: np.ndarray):
    """The element type of an array in this package's terms."""
    return DTYPES["bool" if array.dtype == bool else array.dtype.name]


def view(
    name: str, array: np.ndarray, storage: int, shape: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None, *, offset: int = 0, use: str = "weight",
    scope: str = "",
) -> Tensor:  # fmt: skip
    """A tensor of the type of ``array``, its shape and C strides unless others are given."""
    shape = array.shape if shape is None else shape
    strides = c_strides(shape) if strides is None else strides
    return Tensor(name, dtype_of(array), shape, strides, offset, storage, use, scope)


def graph(*operators: tuple[str, Sequence[str], Sequence[str]]) -> Nodes:
    """The nodes of one graph from (operator, inputs, outputs)."""
    op_names: dict[str, int] = {}
    values: dict[str, int] = {}
    ops, reads, writes = [], [], []
    for number, (op, inputs, outputs) in enumerate(operators):
        ops.append(op_names.setdefault(op, len(op_names)))
        reads += [(number, values.setdefault(name, len(values))) for name in inputs]
        writes += [(number, values.setdefault(name, len(values))) for name in outputs]
    count = len(ops)
    zeros = np.zeros(count, dtype=np.int64)
    read = np.array(reads, dtype=np.int64).reshape(-1, 2)
    write = np.array(writes, dtype=np.int64).reshape(-1, 2)
    return Nodes(
        [f"node{number}" for number in range(count)], list(op_names), np.array(ops, dtype=np.int64),
        zeros, zeros, [""], zeros, list(values), read[:, 0], read[:, 1], write[:, 0], write[:, 1],
    )  # fmt: skip


def diff(before: Inventory, after: Inventory) -> Ledger:
    """The ledger of two artifacts."""
    return attribute(before, after, match(before, after))


def by_cause(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Cause to (bytes before, bytes after), summed over rows; causes without bytes are left out."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in ledger.rows:
        totals[row.cause][0] += row.before_bytes
        totals[row.cause][1] += row.after_bytes
    return {cause: (before, after) for cause, (before, after) in totals.items() if before or after}


def tensor_causes(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """``by_cause`` without the container bytes of the header."""
    return {cause: pair for cause, pair in by_cause(ledger).items() if cause != "container"}


def random(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    """Distinctive numbers of a normal distribution, the same for the same seed."""
    import ml_dtypes

    values = np.random.default_rng(seed).standard_normal(shape)
    target = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    if np.dtype(target).kind in "iu":
        values = values * 40
    return np.asarray(values).astype(target)
