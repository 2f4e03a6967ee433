"""Read an ONNX model and its external data: every byte of its files, tensors, nodes and metadata.

Source: ``onnx/onnx.proto``; the fields of each message are listed in ``onnx_schema``.
"""

from __future__ import annotations

from sizeforensics.errors import Corrupt, Truncated
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.encodings.protobuf_wire import peek
from sizeforensics.formats.onnx_parts.onnx_edges import Edges
from sizeforensics.formats.onnx_parts.onnx_holders import holders
from sizeforensics.formats.onnx_parts.onnx_messages import Messages
from sizeforensics.formats.onnx_parts.onnx_packed import unpacked
from sizeforensics.formats.onnx_parts.onnx_quantization import marked, quantizations
from sizeforensics.formats.onnx_parts.onnx_schema import TABLES, TAGS
from sizeforensics.formats.onnx_parts.onnx_scopes import Scopes
from sizeforensics.formats.onnx_parts.onnx_storages import Shelf
from sizeforensics.formats.onnx_parts.onnx_walk import Warnings
from sizeforensics.inventory import File, Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source

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
    nodes = messages.nodes.finish(messages.scopes)
    in_nodes = [tensor.use == "constant" for tensor in messages.tensors]
    scopes = Scopes(messages, nodes)
    scopes.assign_uses()
    scopes.note_missing()
    scopes.note_repeated()

    shelf = Shelf(source, messages.owners, notes, limits)
    declared = messages.tensors
    order = sorted(range(len(declared)), key=lambda at: declared[at].head)
    for at in order:
        shelf.place(declared[at], messages.tensor_owners[at])
    sidecars, placed = shelf.finish()
    edges = Edges(nodes, placed)
    links = quantizations(edges, messages.nodes.integers)
    tensors = marked(unpacked(edges, messages.nodes.integers), links)
    layout = messages.layout()
    heads, constant = [declared[at].head for at in order], [in_nodes[at] for at in order]
    unclaimed = messages.owners.add("unclaimed", "unclaimed")
    model = File(source.path, messages.sink.finish(source.size, unclaimed))
    return Inventory(
        source.path, "onnx", (model, *sidecars), messages.owners, tuple(shelf.storages),
        tuple(tensors), nodes, quantizations=links,
        metadata=_metadata(messages), warnings=notes.lines(), limits=limits,
        layouts=(layout,), holders=holders(nodes, layout, heads, constant),
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


def _metadata(messages: Messages) -> tuple[tuple[str, str], ...]:
    header = dict(messages.header)
    producer = f"{header.pop('producer_name', '')} {header.pop('producer_version', '')}".strip()
    rows: list[tuple[str, str]] = [("producer", producer)] if producer else []
    rows += [(name, header[name]) for name in sorted(header) if header[name]]
    rows += [
        (f"opset {domain or 'ai.onnx'}", str(version)) for domain, version in messages.opsets
    ]
    return (*rows, *((f"property {key}", value) for key, value in messages.properties))
