"""Read an ONNX model and its external data: every byte of its files, tensors, nodes and metadata.

Source: ``onnx/onnx.proto``; the fields of each message are listed in ``onnx_schema``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import Corrupt, Truncated
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.encodings.protobuf_wire import peek
from sizeforensics.formats.onnx_parts.onnx_edges import Edges
from sizeforensics.formats.onnx_parts.onnx_messages import Messages
from sizeforensics.formats.onnx_parts.onnx_packed import unpacked
from sizeforensics.formats.onnx_parts.onnx_quantization import marked, quantizations
from sizeforensics.formats.onnx_parts.onnx_schema import QUANTIZATION_INPUTS, TABLES, TAGS
from sizeforensics.formats.onnx_parts.onnx_storages import Shelf
from sizeforensics.formats.onnx_parts.onnx_walk import Warnings
from sizeforensics.inventory import File, Inventory, Nodes
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import Integers

_GRAPH_TAG = 7 << 3 | LEN
_PEEKED = 10_000
"""Top-level fields that ``looks_like`` looks at; a ModelProto has some ten."""
_FIRST_WITH_OPSETS = 3
"""From this IR version on a model must say which operator sets it imports (onnx ``checker.cc``)."""


def looks_like(source: Source) -> bool:
    """Whether the content is a ModelProto with a graph, complete or cut off inside it.

    Only tags and lengths of the outermost message and of the graph's first field are read.
    """
    model, graph = TABLES["ModelProto"], TABLES["GraphProto"]
    seen = False
    for position, (tag, payload, end) in enumerate(peek(source, 0, _PEEKED)):
        known = bool(model.known[min(tag, TAGS)])
        if not known and (position == 0 or tag >> 3 in model.names):
            return False
        if tag == _GRAPH_TAG:
            seen = True
            if payload < min(end, source.size):
                first = next(peek(source, payload, 1), (0, 0, 0))[0]
                if not graph.known[min(first, TAGS)]:
                    return False
    return seen


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """Everything an ONNX model and its external data files contain.

    ``files[0]`` is the model, the others are the external data files in the order in which tensors
    refer to them; they are looked for in the directory of ``source.path`` when that is a file.
    ``Nodes.read_values`` keeps an omitted input as the value "", so that positions are right.
    Strings are stored with their protobuf framing; their payload is the strings back to back.

    Raises Truncated, Corrupt, Unsupported or LimitExceeded; external data that may not or cannot
    be read is a warning.
    """
    notes = Warnings(source.path)
    messages = Messages(source, limits, notes)
    messages.run()
    _check_complete(source, messages, notes)
    nodes = _nodes(messages)
    _assign_uses(messages, nodes)

    shelf = Shelf(source, messages.owners, notes, limits)
    declared = messages.tensors
    for at in sorted(range(len(declared)), key=lambda at: declared[at].head):
        shelf.place(declared[at], messages.tensor_owners[at])
    sidecars, placed = shelf.finish()
    edges = Edges(nodes, placed)
    links = quantizations(edges, messages.integers)
    tensors = marked(unpacked(edges, messages.integers), links)
    unclaimed = messages.owners.add("unclaimed", "unclaimed")
    model = File(source.path, messages.sink.finish(source.size, unclaimed))
    return Inventory(
        source.path, "onnx", (model, *sidecars), messages.owners, tuple(shelf.storages),
        tuple(tensors), nodes, quantizations=links,
        metadata=_metadata(messages), warnings=notes.lines(), limits=limits,
    )  # fmt: skip


def _check_complete(source: Source, messages: Messages, notes: Warnings) -> None:
    """A model needs a graph; one that ends before its operator sets has been cut off."""
    offsets = messages.graph_offsets
    if not offsets:
        raise Corrupt(source.path, source.origin(), "a ModelProto with a graph (field 7)", "none")
    if len(offsets) > 1:
        notes.add(
            "several graphs",
            f"the model has {len(offsets):,} graph fields, the second at "
            f"{source.origin() + offsets[1]:#x}; protobuf merges them",
        )
    version = int(messages.header.get("ir_version", "0"))
    if version >= _FIRST_WITH_OPSETS and not messages.opsets:
        raise Truncated(
            source.path, source.origin() + source.size,
            f"opset_import (field 8), which IR version {version} requires", "the end of the file",
        )


def _nodes(messages: Messages) -> Nodes:
    """The columns of all chunks as one; node numbers already count over all chunks."""
    chunks = messages.node_chunks
    empty = np.zeros(0, dtype=np.int64)
    columns = [np.concatenate([empty, *column]) for column in zip(*chunks, strict=True)]
    ops, starts, ends, graphs, *edges = columns or [empty] * 8
    return Nodes(
        messages.node_names, list(messages.ops), ops, starts, ends, messages.scopes, graphs,
        list(messages.values), *edges,
    )  # fmt: skip


def _assign_uses(messages: Messages, nodes: Nodes) -> None:
    """Say which tensors are quantisation parameters and which initializers nothing reads."""
    tensors = messages.tensors
    for tensor in tensors:
        tensor.scope = messages.scopes[tensor.graph]
    ids = dict(messages.values)
    also, named = (
        [(graph, ids.setdefault(value, len(ids))) for graph, value in pairs]
        for pairs in (messages.also_read, messages.scales)
    )
    kept = np.isin(nodes.read_values, [ids.get(tensor.name, -1) for tensor in tensors])
    reads = np.stack([nodes.scopes[nodes.read_nodes[kept]], nodes.read_values[kept]], axis=1)
    scales = reads[_reads_scale(nodes)[kept]]

    wanted = np.array(
        [(tensor.graph, ids.get(tensor.name, -1)) for tensor in tensors], dtype=np.int64
    ).reshape(-1, 2)
    depths = _depths(messages.parents)
    read = _visible(wanted, reads, also, messages.parents, depths).tolist()
    scale = _visible(wanted, scales, named, messages.parents, depths).tolist()
    for tensor, is_read, is_scale in zip(tensors, read, scale, strict=True):
        if is_scale and tensor.use in {"weight", "constant"}:
            tensor.use = "quantization-parameters"
        elif tensor.use == "weight" and not is_read:
            tensor.use = "unreferenced"


def _reads_scale(nodes: Nodes) -> npt.NDArray[np.bool_]:
    """For every read edge, whether the operator takes a scale or a zero point there."""
    found = np.zeros(len(nodes.read_nodes), dtype=np.bool_)
    ops = nodes.ops[nodes.read_nodes]
    for op, name in enumerate(nodes.op_names):
        if name in QUANTIZATION_INPUTS:
            rows = np.flatnonzero(ops == op)
            # Edges are grouped by node: the first one says where its positions count from.
            first = np.searchsorted(nodes.read_nodes, nodes.read_nodes[rows])
            found[rows] = np.isin(rows - first, QUANTIZATION_INPUTS[name])
    return found


def _visible(
    wanted: Integers, reads: Integers, more: list[tuple[int, int]], parents: list[int], depths: Integers
) -> npt.NDArray[np.bool_]:
    """Which of the ``wanted`` (graph, value) are read in their graph or in one inside it."""
    reads = np.concatenate([reads, np.array(more, dtype=np.int64).reshape(-1, 2)])
    values = int(max(wanted[:, 1].max(initial=0), reads[:, 1].max(initial=0))) + 1
    # A name that nothing mentions has no number, so no key of any graph.
    keys = np.where(wanted[:, 1] < 0, -1, wanted[:, 0] * values + wanted[:, 1])
    above = np.array(parents, dtype=np.int64)
    found = np.zeros(len(wanted), dtype=np.bool_)
    around = reads[:0]
    # From the innermost graphs outwards: what many graphs inside one read is read once in it.
    for depth in range(int(depths.max(initial=0)), -1, -1):
        here = np.concatenate([around, reads[depths[reads[:, 0]] == depth]])
        distinct = np.unique(here[:, 0] * values + here[:, 1])
        level = np.flatnonzero(depths[wanted[:, 0]] == depth)
        found[level] = np.isin(keys[level], distinct)
        around = np.stack([above[distinct // values], distinct % values], axis=1)
    return found


def _depths(parents: list[int]) -> Integers:
    """How many graphs are around each; a graph comes behind the one that it is in."""
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    return np.array(depths, dtype=np.int64)


def _metadata(messages: Messages) -> tuple[tuple[str, str], ...]:
    header = dict(messages.header)
    producer = f"{header.pop('producer_name', '')} {header.pop('producer_version', '')}".strip()
    rows: list[tuple[str, str]] = [("producer", producer)] if producer else []
    rows += [(name, header[name]) for name in sorted(header) if header[name]]
    rows += [
        (f"opset {domain or 'ai.onnx'}", str(version)) for domain, version in messages.opsets
    ]
    return (*rows, *((f"property {key}", value) for key, value in messages.properties))
