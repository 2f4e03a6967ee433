"""The nodes of an ONNX model and what their attributes say, gathered as columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import compress, count
from typing import NamedTuple

import numpy as np

from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.onnx_parts.onnx_constants import ELEMENTS, declare_constant
from sizeforensics.formats.onnx_parts.onnx_declared import Declared
from sizeforensics.formats.onnx_parts.onnx_schema import COUNTED_OPERATORS, TAGS
from sizeforensics.formats.onnx_parts.onnx_walk import Batch
from sizeforensics.inventory import Nodes
from sizeforensics.spans import Integers

_INTEGER, _REFERENCE = 0x18, 21 << 3 | LEN
"""Tags of an attribute's integer, and of the name of a function's attribute that holds the value."""

_NODE_TEXTS = np.isin(np.arange(0x80), [0x0A, 0x12, 0x1A, 0x22, 0x3A])
"""Tags of the texts of a node that are read: inputs, outputs, name, operator and domain."""


class _Chunk(NamedTuple):
    """Columns of consecutive nodes and of their edges."""

    ops: Integers
    starts: Integers
    ends: Integers
    graphs: Integers
    read_nodes: Integers
    read_values: Integers
    write_nodes: Integers
    write_values: Integers


class NodeReader:
    """Reads nodes batch by batch; their numbers count over all graphs, in the order of reading."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.labels: list[str] = []
        """The names, or where a node has none, its operator and the first value it computes."""
        self.constants: dict[int, str] = {}
        """The first output of every Constant node."""
        self.integers: dict[int, dict[str, int | None]] = {}
        """Integer attributes of the nodes that need them; None for what a function's caller says."""
        # An unknown key gets the next number: interning without a line of Python per edge.
        self.ops: dict[str, int] = defaultdict(count().__next__)
        self.values: dict[str, int] = defaultdict(count().__next__)
        self._chunks: list[_Chunk] = []

    def __len__(self) -> int:
        return len(self.names)

    def read(self, batch: Batch, fields: Fields) -> list[str]:
        """Add the nodes that begin in a chunk; their operators."""
        first = len(self.names)
        names, ops, outputs = self._read_texts(batch, fields)
        self.names += names
        self.labels += names if all(names) else [
            name or (f"{op} -> {outputs[at]}" if outputs.get(at) else op)
            for at, (name, op) in enumerate(zip(names, ops, strict=True))
        ]
        self.constants |= {
            first + at: text for at, text in outputs.items() if ops[at] == "Constant"
        }
        self.integers |= {first + at: {} for at, op in enumerate(ops) if op in COUNTED_OPERATORS}
        return ops

    def _read_texts(
        self, batch: Batch, fields: Fields
    ) -> tuple[list[str], list[str], dict[int, str]]:
        """Names and operators of the nodes, and the first output of those that need it for a name.

        Adds their columns.
        """
        rows = np.flatnonzero(_NODE_TEXTS[np.minimum(fields.tags, len(_NODE_TEXTS) - 1)])
        tags, texts = fields.tags[rows], fields.texts(rows)
        edge = (tags == 0x0A) | (tags == 0x12)
        names, ops = _names_and_ops(fields, rows[~edge], list(compress(texts, (~edge).tolist())))
        op_ids = np.fromiter(map(self.ops.__getitem__, ops), np.int64, len(ops))
        ends = list(compress(texts, edge.tolist()))
        values = np.fromiter(map(self.values.__getitem__, ends), np.int64, len(ends))
        message, read = fields.message[rows[edge]] - fields.first, tags[edge] == 0x0A
        nodes = message + len(self.names)
        self._chunks.append(_Chunk(
            op_ids, batch.heads[fields.begun], batch.ends[fields.begun], batch.graphs[fields.begun],
            nodes[read], values[read], nodes[~read], values[~read],
        ))  # fmt: skip

        wanted = op_ids == self.ops.get("Constant", -1)
        if not all(names):
            wanted |= [not name for name in names]
        written = np.flatnonzero(~read & wanted[message])
        # Backwards, so that the first output stays.
        outputs = {
            node: ends[at]
            for node, at in zip(
                message[written][::-1].tolist(), written[::-1].tolist(), strict=True
            )
        }
        return names, ops, outputs

    def constants_in(self, batch: Batch, fields: Fields) -> Iterator[tuple[Declared, list[int]]]:
        """The tensors that attributes of Constant nodes are, and the fields with their elements."""
        if not self.constants:
            return
        rows = np.flatnonzero(ELEMENTS[np.minimum(fields.tags, TAGS)])
        messages = fields.message[rows]
        of_attribute: dict[int, list[int]] = defaultdict(list)
        columns = (rows.tolist(), messages.tolist(), batch.nodes[messages].tolist())
        for row, at, node in zip(*columns, strict=True):
            if node in self.constants:
                of_attribute[at].append(row)
        attributes = fields.singular(0x0A) if of_attribute else []
        for at, held in of_attribute.items():
            found = declare_constant(
                fields, held, attributes[at - fields.first], head=int(batch.heads[at]),
                name=self.constants[int(batch.nodes[at])], graph=int(batch.graphs[at]),
            )
            if found is not None:
                yield found

    def read_integers(self, batch: Batch, fields: Fields) -> None:
        """Keep what the integer attributes of the nodes in ``integers`` say."""
        if not self.integers:
            return
        rows = np.flatnonzero((fields.tags == _INTEGER) | (fields.tags == _REFERENCE))
        nodes = batch.nodes[fields.message[rows]].tolist()
        wanted = [row for row, node in zip(rows.tolist(), nodes, strict=True) if node in self.integers]
        if not wanted:
            return
        names = fields.singular(0x0A)
        values = fields.varints(np.array(wanted)).tolist()
        for row, value in zip(wanted, values, strict=True):
            at = int(fields.message[row])
            said = self.integers[int(batch.nodes[at])]
            said[names[at - fields.first]] = value if fields.tags[row] == _INTEGER else None

    def attribute_label(self, node: int, name: str, number: int) -> str:
        """What a tensor or graph in an attribute is called."""
        if node < 0:
            return name  # the default of a function's attribute
        if number in {5, 22} and self.constants.get(node):
            return self.constants[node]
        return f"{self.labels[node]}.{name}"

    def finish(self, scopes: list[str]) -> Nodes:
        """The columns of all chunks as one; ``scopes`` are the paths of the graphs."""
        empty = np.zeros(0, dtype=np.int64)
        columns = [np.concatenate([empty, *column]) for column in zip(*self._chunks, strict=True)]
        ops, starts, ends, graphs, *edges = columns or [empty] * 8
        return Nodes(
            self.names, list(self.ops), ops, starts, ends, scopes, graphs, list(self.values), *edges
        )


def _names_and_ops(
    fields: Fields, rows: Integers, texts: list[str]
) -> tuple[list[str], list[str]]:
    """The name and the operator of every node, from the rows that say either or the domain."""
    tags, message = fields.tags[rows], fields.message[rows] - fields.first
    if (
        len(rows) == 2 * fields.count
        and (tags.reshape(-1, 2) == (0x1A, 0x22)).all()
        and (message.reshape(-1, 2) == np.arange(fields.count)[:, None]).all()
    ):
        # Every node says its name and then its operator, as exporters write it.
        return texts[::2], texts[1::2]

    def singular(tag: int) -> list[str]:
        wanted = tags == tag
        return fields.one_each(rows[wanted], list(compress(texts, wanted.tolist())))

    names, ops, domains = singular(0x1A), singular(0x22), singular(0x3A)
    return names, [
        f"{domain}.{op}" if domain not in {"", "ai.onnx"} else op
        for domain, op in zip(domains, ops, strict=True)
    ]
