"""The presentation model of one artifact: where its bytes go, and what of it is waste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from sizeforensics.escape import one_line
from sizeforensics.findings import Finding
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.report import words
from sizeforensics.report.presentation import side, warnings_of
from sizeforensics.report.rows import Side, shape_text
from sizeforensics.spans import ROLES, TENSOR_DATA, UNCLAIMED
from sizeforensics.units import format_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """One slice of a whole: a role, an element type, an operator."""

    name: str
    bytes: int
    count: int
    share: float
    """Of the artifact."""
    percent: str


class TensorRow(NamedTuple):
    """A tensor as a table shows it.

    ``bytes`` are its elements written out, stored or not; ``stored_bytes`` those that the file
    spends on its storage, counted for the first tensor that views it, so that with
    ``InspectReport.subjects`` they sum to the artifact. ``file`` and ``offset`` say where its first
    byte is stored, None where it has none; ``storage`` indexes the artifact's storages. ``digest``
    is that of the elements, as hexadecimal digits; ``use`` is what it is for (``weight``, ``buffer``,
    ``constant``…), ``scope`` where it lives: a key of the checkpoint, a subgraph.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    file: int | None
    offset: int | None
    storage: int | None
    digest: str | None
    use: str
    scope: str
    stored_bytes: int

    @property
    def shape_text(self) -> str:
        return shape_text(self.shape)


class SubjectRow(NamedTuple):
    """Bytes of one role that are no tensor data, summed for one subject."""

    role: str
    subject: str
    bytes: int
    spans: int


class NodeRow(NamedTuple):
    """An operator: ``offset`` and ``bytes`` of its encoding in the first file, ``scope`` of its graph."""

    name: str
    op: str
    scope: str
    offset: int
    bytes: int


class FindingRow(NamedTuple):
    """Waste: the bytes that a fix would save, as ``percent`` of the artifact too; ``finding`` is a cause
    and ``subjects`` are what is wasted, most bytes first."""

    finding: str
    bytes: int
    percent: str
    subjects: tuple[str, ...]
    remedy: str
    code: str = ""
    """Command or lines of code; empty where none fits every model."""


@dataclass(frozen=True, slots=True)
class InspectReport:
    """Everything a report about one artifact shows."""

    headline: str
    side: Side
    roles: tuple[Part, ...]
    """Sum to the artifact; ``count`` is spans."""
    dtypes: tuple[Part, ...]
    """Stored bytes by element type, summing to the role tensor-data; ``count`` is tensors."""
    ops: tuple[Part, ...]
    """Bytes of the encoded nodes by operator; ``count`` is nodes."""
    tensors: tuple[TensorRow, ...]
    """In the order of the artifact."""
    subjects: tuple[SubjectRow, ...]
    """What is no tensor's ``stored_bytes``, most bytes first; together they sum to the artifact."""
    findings: tuple[FindingRow, ...]
    metadata: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    unclaimed_bytes: int


def inspect_report(
    inventory: Inventory, findings: Sequence[Finding], digests: Sequence[str | None] = ()
) -> InspectReport:
    """The presentation of an inventory; ``digests`` are in the order of its tensors, or missing."""
    total = inventory.nbytes
    roles = _roles(inventory)
    dtypes = _dtypes(inventory)
    name = one_line(PurePath(inventory.path).name or inventory.path)
    stored = _stored(inventory)
    found = tuple(
        FindingRow(
            finding.finding, finding.nbytes, words.percent(finding.nbytes, total),
            finding.subjects, finding.remedy, words.code(finding.finding, inventory.format),
        )
        for finding in findings
    )  # fmt: skip
    return InspectReport(
        headline=_headline(name, inventory, dtypes, found),
        side=side(inventory, name),
        roles=roles,
        dtypes=dtypes,
        ops=tuple(
            _part(op, nbytes, count, total)
            for op, count, nbytes in inventory.nodes.count_and_bytes_by_op()
            if count
        ),
        tensors=tuple(
            _tensor(inventory, tensor, digests[index] if digests else None, stored[index])
            for index, tensor in enumerate(inventory.tensors)
        ),
        subjects=_subjects(inventory, sum(stored)),
        findings=found,
        metadata=inventory.metadata,
        warnings=warnings_of(inventory),
        unclaimed_bytes=int(inventory.bytes_by_role()[UNCLAIMED]),
    )


def node_rows(inventory: Inventory) -> list[NodeRow]:
    """Every node, in the order of the graph."""
    nodes = inventory.nodes
    columns = (nodes.ops, nodes.scopes, nodes.starts, nodes.ends)
    return [
        NodeRow(name, nodes.op_names[op], nodes.scope_names[scope], start, end - start)
        for name, op, scope, start, end in zip(
            nodes.names, *(column.tolist() for column in columns), strict=True
        )
    ]


def _part(name: str, nbytes: int, count: int, total: int) -> Part:
    share = nbytes / total if total else 0.0
    return Part(name, nbytes, count, share, words.percent(nbytes, total))


def _largest_first(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (-part.bytes, part.name)))


def _roles(inventory: Inventory) -> tuple[Part, ...]:
    counts = [0] * len(ROLES)
    for (role, _), (_, count) in inventory.bytes_by_subject().items():
        counts[role] += count
    nbytes = inventory.bytes_by_role().tolist()
    return _largest_first([
        _part(role, size, count, inventory.nbytes)
        for role, size, count in zip(ROLES, nbytes, counts, strict=True)
        if size
    ])


def _dtypes(inventory: Inventory) -> tuple[Part, ...]:
    """A storage counts for the type of the first tensor that views it."""
    types: list[str] = [""] * len(inventory.storages)
    counts: dict[str, int] = {}
    for tensor in inventory.tensors:
        counts[tensor.dtype.name] = counts.get(tensor.dtype.name, 0) + 1
        if tensor.storage is not None and not types[tensor.storage]:
            types[tensor.storage] = tensor.dtype.name
    sizes = dict.fromkeys(counts, 0)
    for storage, dtype in zip(inventory.storages, types, strict=True):
        name = dtype or "(no tensor)"
        sizes[name] = sizes.get(name, 0) + storage.stored_bytes
    return _largest_first([
        _part(name, size, counts.get(name, 0), inventory.nbytes) for name, size in sizes.items()
    ])


def _stored(inventory: Inventory) -> tuple[int, ...]:
    sizes = [0] * len(inventory.tensors)
    seen: set[int] = set()
    for index, tensor in enumerate(inventory.tensors):
        if tensor.storage is not None and tensor.storage not in seen:
            seen.add(tensor.storage)
            sizes[index] = inventory.storages[tensor.storage].stored_bytes
    return tuple(sizes)


def _subjects(inventory: Inventory, stored: int) -> tuple[SubjectRow, ...]:
    rows = [
        SubjectRow(ROLES[role], subject, nbytes, count)
        for (role, subject), (nbytes, count) in inventory.bytes_by_subject().items()
        if role != TENSOR_DATA
    ]
    alone = int(inventory.bytes_by_role()[TENSOR_DATA]) - stored
    if alone:
        rows.append(SubjectRow(ROLES[TENSOR_DATA], "storages no tensor views", alone, 1))
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.role, row.subject)))


def _tensor(inventory: Inventory, tensor: Tensor, digest: str | None, stored: int) -> TensorRow:
    file = offset = None
    if tensor.storage is not None:
        storage = inventory.storages[tensor.storage]
        file, offset = storage.file, storage.offset
        if storage.encoding == "raw":
            # Inside an inflated or decoded storage an element has no offset of its own.
            offset += tensor.offset * tensor.dtype.bits // 8
    return TensorRow(
        tensor.name, tensor.dtype.name, tensor.shape, tensor.nbytes, file, offset, tensor.storage,
        digest, tensor.use, tensor.scope, stored,
    )  # fmt: skip


def _headline(
    name: str, inventory: Inventory, dtypes: Sequence[Part], findings: Sequence[FindingRow]
) -> str:
    total = inventory.nbytes
    data = int(inventory.bytes_by_role()[TENSOR_DATA])
    parts = [f"{words.percent(data, total)} tensor data"]
    if dtypes and data:
        parts.append(f"mostly {dtypes[0].name}" if len(dtypes) > 1 else f"all {dtypes[0].name}")
    sentence = f"{name} is {format_bytes(total)}: {', '.join(parts)}"
    if findings:
        saved = sum(finding.bytes for finding in findings)
        sentence += f"; {format_bytes(saved)} could go ({words.percent(saved, total)})"
    return f"{sentence}."
