"""An inventory without the weights, small enough to commit: take it, and write it as JSON.

Spans become totals by file, role and subject, nodes totals by operator, and the content of each
tensor an excerpt: digests, and a few elements on a grid.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import PurePath
from typing import Any

import numpy as np
import xxhash

from sizeforensics.bags import BAG_BYTES, MODULUS, bag_of
from sizeforensics.content import decoded
from sizeforensics.dtypes import DTYPES, DType, numpy_dtype
from sizeforensics.excerpts import (
    CASTS,
    KEY_BYTES,
    MARK_BYTES,
    ORIGIN,
    SCHEMA,
    Excerpt,
    bags_kept,
    flat_places,
    grid_shape,
)
from sizeforensics.findings import waste_of
from sizeforensics.fingerprints import Advance, Fingerprint, fingerprints, on_threads, silent
from sizeforensics.inventory import Inventory, Quantization, Storage, Tensor, c_strides
from sizeforensics.matching import exact_narrower_type
from sizeforensics.matching.arrays import MOST_ELEMENTS, Array
from sizeforensics.matching.casts import cast_into, castable
from sizeforensics.matching.constants.broadcasts import core_in, recipe_of
from sizeforensics.matching.constants.tables import distinct_rows
from sizeforensics.matching.folding.batch_norms import Parts, declared_parts
from sizeforensics.matching.parts.cuts import marks_of
from sizeforensics.matching.relations import BLOCK_ELEMENTS, typed_blocks
from sizeforensics.matching.units import Unit, as_pairs, is_distinctive
from sizeforensics.program_data import has_program
from sizeforensics.spans import ROLES, TENSOR_DATA
from sizeforensics.views import cover


def take(inventory: Inventory, advance: Advance = silent) -> Inventory:
    """The same artifact without payload: what its snapshot holds, as reading it gives it back.

    Reads every payload. ``advance`` is called with the number of bytes done.
    """
    if inventory.excerpts is not None:
        return inventory
    seen = as_pairs(inventory)
    coverage = cover(inventory)
    prints = fingerprints(seen, coverage, advance)
    tensors = list(zip(seen.tensors, prints, coverage.claimed.tolist(), strict=True))
    computes = has_program(seen)  # looks at every span: once, not once a tensor

    def look(index: int) -> Excerpt:
        tensor, known, claimed = tensors[index]
        # A recipe is only ever asked for of data that a program holds.
        recipe = computes or tensor.use == "constant"
        return _excerpt(seen, index, tensor, known, claimed, recipe=recipe)

    excerpts = on_threads(look, range(len(tensors)), [tensor.nbytes for tensor, _, _ in tensors])
    waste = waste_of(inventory, coverage, prints)
    return replace(inventory, excerpts=tuple(excerpts), waste=waste)


# One tensor

_TILE = 16, 64
"""Rows and columns of a matrix that are transposed at once, which stay in the processor's cache."""


def _excerpt(
    inventory: Inventory, index: int, tensor: Tensor, known: Fingerprint | None, claimed: int, *, recipe: bool,
) -> Excerpt:
    if known is None:
        return Excerpt(claimed)
    distinctive = is_distinctive(tensor, known.sample)
    unit = Unit(0, index, tensor, claimed, known.digest, known.sample, distinctive)
    if known.sample is None:
        return Excerpt(claimed, known.digest, distinctive=distinctive)
    whole = _whole(inventory, tensor)
    parts = typed_blocks(inventory, tensor) if whole is None else iter([whole.reshape(-1)])
    grid, casts, bags = _read_once(parts, tensor, distinctive)
    narrower = exact_narrower_type(inventory, unit)
    matrix = _matrix(whole)
    return Excerpt(
        claimed, known.digest, grid, casts, bags,
        None if matrix is None or tensor.dtype.bits < 8 else _transposed(matrix), distinctive,
        narrower.name if narrower else "", _core(whole, unit),
        _marks(matrix, unit),
        distinct_rows(whole, unit, narrow=narrower is not None),
        recipe_of(inventory, unit) if recipe else None,
    )  # fmt: skip


def _whole(inventory: Inventory, tensor: Tensor) -> Array | None:
    """All elements in their shape, read once for all that looks at them; None of too many."""
    # Beside a size of 0 the other one may be more than numpy takes.
    if not 0 < tensor.elements <= MOST_ELEMENTS:
        return None
    flat = decoded(inventory, tensor)
    return None if flat is None else flat.reshape(tensor.shape)


def _read_once(
    parts: Iterable[Array], tensor: Tensor, distinctive: bool
) -> tuple[Array, dict[str, bytes], dict[str, int]]:
    """The elements of the grid, the keys of the casts, and the bags."""
    own = tensor.dtype.name
    wanted = flat_places(tensor.shape) if tensor.elements else np.zeros(0, dtype=np.int64)
    states = {name: xxhash.xxh3_128() for name in CASTS.get(own, ())}
    bags = dict.fromkeys(bags_kept(own) if distinctive and castable(own) else (), 0)
    cast = {name: np.empty(min(tensor.elements, BLOCK_ELEMENTS), numpy_dtype(name)) for name in states}
    kept: list[Array] = []
    first = 0
    for block in chain.from_iterable(map(_pieces, parts)):
        if own in bags:
            bags[own] += bag_of(block, own)
        for name, state in states.items():
            rounded = cast[name][: len(block)]
            cast_into(rounded, block, own, name)
            state.update(rounded.view(np.uint8).data)
            if name in bags:
                bags[name] += bag_of(rounded, name)
        here = slice(*np.searchsorted(wanted, (first, first + len(block))))
        if here.start < here.stop:
            kept.append(block[wanted[here] - first])
        first += len(block)
    flat = np.concatenate(kept) if kept else np.zeros(0, dtype=numpy_dtype(own))
    grid = flat.reshape(grid_shape(tensor.shape))
    keys = {name: state.digest()[:KEY_BYTES] for name, state in states.items()}
    return grid, keys, {name: bag % MODULUS for name, bag in bags.items()}


def _pieces(part: Array) -> Iterator[Array]:
    return (part[first : first + BLOCK_ELEMENTS] for first in range(0, len(part), BLOCK_ELEMENTS))


def _core(whole: Array | None, unit: Unit) -> tuple[int, bytes] | None:
    """How many elements a tensor repeats, and their key."""
    core = None if whole is None else core_in(whole, unit)
    if core is None:
        return None
    flat = np.ascontiguousarray(core).reshape(-1).view(np.uint8)
    return core.size, xxhash.xxh3_128_digest(flat.data)[:KEY_BYTES]


def _matrix(whole: Array | None) -> Array | None:
    """What has two axes longer than 1, without the others."""
    matrix = None if whole is None else whole.squeeze()
    return matrix if matrix is not None and matrix.ndim == 2 else None


def _transposed(matrix: Array) -> bytes:
    """The key of a matrix written column by column."""
    state, (high, wide) = xxhash.xxh3_128(), _TILE
    turned = np.empty((wide, len(matrix)), dtype=matrix.dtype)
    for left in range(0, matrix.shape[1], wide):
        columns = matrix[:, left : left + wide]
        rows = turned[: columns.shape[1]]
        for top in range(0, len(matrix), high):
            rows[:, top : top + high] = columns[top : top + high].T
        state.update(rows.reshape(-1).view(np.uint8).data)
    return state.digest()[:KEY_BYTES]


def _marks(matrix: Array | None, unit: Unit) -> tuple[int, ...]:
    usable = unit.distinctive and unit.tensor.dtype.kind == "float" and castable(unit.tensor.dtype.name)
    return marks_of(matrix, unit.tensor.dtype.name) if usable and matrix is not None else ()


# The document


def document(inventory: Inventory) -> dict[str, Any]:
    """What ``take`` gave, or a snapshot that was read, as plain values: one list item a line.

    The keys are those of the schema ``sizeforensics.snapshot/2``; what is not listed is empty, or has
    the value that the schema gives as its default.
    """
    if inventory.excerpts is None:
        raise ValueError("a document needs excerpts: take a snapshot first")
    original = dict(inventory.metadata).get(ORIGIN, inventory.format)
    storages = _Storages(inventory)
    readers = _readers(inventory)
    said = {
        "schema": SCHEMA,
        "format": original,
        "bytes": inventory.nbytes,
        "files": [[path, file.nbytes] for path, file in zip(_paths(inventory), inventory.files, strict=True)],
        "spans": [list(row) for row in _totals(inventory)],
        "tensors": [
            _tensor(tensor, excerpt, storages, readers.get(tensor.name, ()))
            for tensor, excerpt in zip(inventory.tensors, inventory.excerpts, strict=True)
        ],
        "storages": storages.rest(),
        "ops": [[op, count, nbytes] for op, count, nbytes in _ops(inventory)],
        "batch_norms": [_batch_norm(inventory, parts) for parts in declared_parts(inventory)],
        "quantizations": [_quantization(link) for link in inventory.quantizations],
        "records": [
            [record.name, ROLES[record.role], record.subject, record.stored_bytes, record.nbytes,
             [[ROLES[role], subject, size] for role, subject, size in record.parts]]
            for record in inventory.records if record.role != TENSOR_DATA
        ],
        "findings": [
            [found.cause, [[ROLES[role], size] for role, size in enumerate(found.roles) if size],
             [[part.subject, part.nbytes, *([part.label] if part.label else [])] for part in found.parts]]
            for found in inventory.waste or ()
        ],
        "metadata": [[key, value] for key, value in inventory.metadata if key != ORIGIN],
        "warnings": [text.removeprefix(f"{inventory.path}: ") for text in inventory.warnings],
    }  # fmt: skip
    return {key: value for key, value in said.items() if value != []}


def _paths(inventory: Inventory) -> list[str]:
    """The files as seen from the model, so that where it lies does not matter."""
    if inventory.format == "snapshot":
        return [file.path for file in inventory.files]
    folder = os.path.dirname(inventory.path)  # noqa: PTH120  lexical, as it was given
    beside = [os.path.relpath(file.path, folder or ".") for file in inventory.files]
    return [PurePath(path).as_posix() for path in beside]


def _totals(inventory: Inventory) -> Iterator[tuple[int, str, str, int, int]]:
    """(file, role, subject, bytes, spans) of all spans that have these in common."""
    for number, file in enumerate(inventory.files):
        for (role, subject), (nbytes, count) in sorted(inventory.bytes_by_subject([file]).items()):
            yield number, ROLES[role], subject, nbytes, count


def _ops(inventory: Inventory) -> list[tuple[str, int, int]]:
    return [row for row in inventory.nodes.count_and_bytes_by_op() if row[1]]


def _readers(inventory: Inventory) -> dict[str, list[str]]:
    """Name of a value to the operators that read it, for what the artifact stores."""
    nodes = inventory.nodes
    stored = {tensor.name for tensor in inventory.tensors}
    wanted = np.array([name in stored for name in nodes.values], dtype=bool)
    found: dict[str, set[str]] = defaultdict(set)
    if len(wanted):
        chosen = wanted[nodes.read_values]
        ops, values = nodes.ops[nodes.read_nodes[chosen]], nodes.read_values[chosen]
        for op, value in zip(ops.tolist(), values.tolist(), strict=True):
            found[nodes.values[value]].add(nodes.op_names[op])
    return {name: sorted(ops) for name, ops in found.items()}


def _quantization(link: Quantization) -> dict[str, Any]:
    said = {key: value for key, value in link._asdict().items() if value is not None}
    if not link.zero:
        del said["zero"]
    return said


def _batch_norm(inventory: Inventory, parts: Parts) -> dict[str, Any]:
    names = {
        part: inventory.tensors[index].name
        for part, index in zip(
            ("scale", "shift", "mean", "variance", "counter"), parts[:5], strict=True
        )
        if index is not None
    }
    return names if parts.eps is None else {**names, "eps": parts.eps}


class _Storages:
    """Storages as the tensors that view them first describe them, in the order of the tensors.

    Where a storage lies is told as the gap behind the one before, so that one tensor that grows
    changes one line.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._storages = inventory.storages
        self._numbers: dict[int, int] = {}
        self._ends = [0] * len(inventory.files)

    def of(self, tensor: Tensor) -> dict[str, Any]:
        """What a tensor says about its storage: all of it, or how many storages ago it was told."""
        if tensor.storage is None:
            return {}
        known = self._numbers.get(tensor.storage)
        if known is not None:
            return {"view": known - len(self._numbers)}
        self._numbers[tensor.storage] = len(self._numbers)
        return {"in": self._row(self._storages[tensor.storage], tensor.name, tensor.nbytes)}

    def rest(self) -> list[list[Any]]:
        """The storages that no tensor views."""
        return [
            self._row(storage, "", 0)
            for number, storage in enumerate(self._storages)
            if number not in self._numbers
        ]

    def _row(self, storage: Storage, name: str, nbytes: int) -> list[Any]:
        """Name, gap, bytes, bytes in the file, encoding, file; without what goes without saying."""
        gap = storage.offset - self._ends[storage.file]
        self._ends[storage.file] = storage.offset + storage.stored_bytes
        row = [
            "" if storage.name == name else storage.name, gap, storage.nbytes,
            storage.stored_bytes, storage.encoding, storage.file,
        ]  # fmt: skip
        usual = ["", 0, nbytes, storage.nbytes, "raw", 0]
        while row and row[-1] == usual[len(row) - 1]:
            row.pop()
        return row


def _tensor(
    tensor: Tensor, excerpt: Excerpt, storages: _Storages, readers: Iterable[str]
) -> dict[str, Any]:
    """One line: what a tensor is, where it is stored, what is known of its content."""
    where = storages.of(tensor)
    usual_claim = tensor.nbytes if "in" in where else 0
    keys = {
        "name": tensor.name,
        "dtype": _dtype(tensor.dtype),
        "shape": list(tensor.shape),
        "strides": [] if tensor.strides == c_strides(tensor.shape) else list(tensor.strides),
        "offset": tensor.offset,
        "use": "" if tensor.use == "weight" else tensor.use,
        "scope": tensor.scope,
        "read_by": list(readers),
    }
    content = {
        "digest": _coded(excerpt.digest or b""),
        "casts": _coded(b"".join(excerpt.casts.values())),
        "bags": _coded(*map(_bag, excerpt.bags.values())),
        "transposed": _coded(excerpt.transposed or b""),
        "grid": "" if excerpt.grid is None else _coded(excerpt.grid.tobytes()),
        "trivial": excerpt.digest is not None and not excerpt.distinctive,
        "narrower": excerpt.narrower,
        "core": [] if excerpt.core is None else [excerpt.core[0], _coded(excerpt.core[1])],
        "marks": _coded(*(mark.to_bytes(MARK_BYTES, "big") for mark in excerpt.marks)),
        "distinct": [] if excerpt.distinct is None else [excerpt.distinct[0], _coded(_bag(excerpt.distinct[1]))],
        "recipe": list(excerpt.recipe or ()),
    }
    said = {key: value for key, value in keys.items() if value or key in ("name", "shape")}
    if excerpt.claimed != usual_claim:
        where["claimed"] = excerpt.claimed
    return {**said, **where, **{key: value for key, value in content.items() if value}}


def _bag(bag: int) -> bytes:
    return bag.to_bytes(BAG_BYTES, "big")


def _coded(*parts: bytes) -> str:
    """In base64, without the padding that the length tells."""
    return b64encode(b"".join(parts)).decode().rstrip("=")


def _dtype(dtype: DType) -> Any:
    """The name of a type that can be computed with; name, bits and bytes of any other."""
    if DTYPES.get(dtype.name) == dtype:
        return dtype.name
    return [dtype.name, dtype.bits, *(() if dtype.total is None else (dtype.total,))]
