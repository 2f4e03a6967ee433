"""What the messages of an ONNX model mean: graphs, nodes, edges, tensors, and who owns their bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LimitExceeded
from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.onnx_parts.onnx_declared import Declared, declare
from sizeforensics.formats.onnx_parts.onnx_nodes import NodeReader
from sizeforensics.formats.onnx_parts.onnx_schema import TABLES
from sizeforensics.formats.onnx_parts.onnx_walk import Batch, Walk, Warnings
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.spans import DEBUG_INFO, METADATA, NAMES, TENSOR_DATA, Integers

_VALUE = 1_000
"""Characters of a property's value that are kept."""
_LOCATION = 5_000
"""Characters of a value about external data that are kept: more than any path may have."""
_SCOPE = 200
"""Characters of a subgraph's path that are kept; nesting would square them."""
_ENTRIES = 64
"""Key-value pairs about one tensor's external data that are kept; five are defined."""
_HOLDERS = frozenset({5, 6, 10, 11, 22, 23})
"""Fields of an attribute that hold tensors and graphs: t, g, tensors, graphs, sparse ones."""


class Messages(Walk):
    """Walks a ModelProto and gathers what it says beside its bytes."""

    def __init__(self, source: Source, limits: Limits, notes: Warnings) -> None:
        super().__init__(source, limits, notes)
        self.header: dict[str, str] = {}
        self.opsets: list[tuple[str, int]] = []
        self.properties: list[tuple[str, str]] = []

        self.graph_offsets: list[int] = []
        self.scopes = [""]
        """The path of every graph; the model's own is the first."""
        self.parents = [-1]
        """The graph whose values a graph can see; -1 for none."""
        self.functions: list[tuple[str, str]] = []
        """Domain and name of each."""
        self.inputs: list[tuple[int, str]] = []
        self.outputs: list[tuple[int, str]] = []
        """(graph, value), for functions too."""
        self.bindings: list[tuple[int, str]] = []
        """(graph, value) that training puts a new value to."""
        self.scales: list[tuple[int, str]] = []
        """(graph, value) that a quantization annotation names."""

        self.nodes = NodeReader()
        self.tensors: list[Declared] = []
        self.tensor_owners: list[int] = []
        """Who owns the payload of each tensor."""

    def run(self) -> None:
        """Walk the whole file, which is one ModelProto."""
        zero = np.zeros(1, dtype=np.int64)
        owner = np.array([self.owners.add("model", "model")], dtype=np.int64)
        size = np.array([self.source.size], dtype=np.int64)
        self.walk(Batch("ModelProto", zero, zero, size, 0, METADATA, owner, zero, zero - 1, zero))

    def handle(self, batch: Batch) -> None:
        match batch.kind:
            case "ModelProto":
                self._model(batch)
            case "GraphProto":
                self._graphs(batch)
            case "FunctionProto":
                self._functions(batch)
            case "TrainingInfoProto":
                self._training(batch)
            case "ValueInfoProto" | "ValueInfoProto.Edge":
                self._value_infos(batch)
            case "TensorAnnotation":
                self._annotations(batch)
            case "OperatorSetIdProto":
                self._opset_imports(batch)
            case "StringStringEntryProto":
                self._entries(batch)
            case "NodeProto":
                self._nodes(batch)
            case "AttributeProto":
                self._attributes(batch)
            case "SparseTensorProto":
                self._sparse_tensors(batch)
            case "TensorProto":
                self._tensors(batch)
            case _:
                for fields in self.chunks(batch):
                    self._walk_all(self.claim(batch, fields), fields)

    def _walk_all(self, below: dict[int, Batch], fields: Fields) -> None:
        """Walk what lies in some fields that are done with: their bytes go before those of the
        levels below come."""
        fields.forget()
        for child in below.values():
            self.walk(child)

    def _owners(self, names: list[str], subjects: list[str]) -> Integers:
        if len(set(names)) == len(names):
            return self.owners.extend(names, subjects)
        # Equal owners are one owner: three million nameless nodes must not be three million.
        found = [self.owners.add(*pair) for pair in zip(names, subjects, strict=True)]
        return np.array(found, dtype=np.int64)

    # The model and its graphs

    def _model(self, batch: Batch) -> None:
        by_number = np.full(32, batch.owners[0])
        for number, name in TABLES["ModelProto"].names.items():
            by_number[number] = self.owners.add(name, name)
        for fields in self.chunks(batch):
            self._read_header(fields)
            below = self.claim(batch, fields, by_number[np.minimum(fields.tags >> 3, 31)])
            for number, child in below.items():
                child.owners[:] = by_number[number]
                child.purpose = {8: "opsets", 14: "properties"}.get(number, "")
                if number == 7:
                    self.graph_offsets += child.heads.tolist()
            self._walk_all(below, fields)

    def _read_header(self, fields: Fields) -> None:
        for row in np.flatnonzero(fields.tags < 8 * 6).tolist():
            number, wire = divmod(int(fields.tags[row]), 8)
            name = {1: "ir_version", 5: "model_version"}.get(number)
            if name is not None and wire != LEN:
                self.header[name] = str(int(fields.varints(np.array([row]))[0]))
            name = {2: "producer_name", 3: "producer_version", 4: "domain"}.get(number)
            if name is not None and wire == LEN:
                self.header[name] = fields.texts(np.array([row]), 4 * _VALUE)[0][:_VALUE]

    def _graphs(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            below = self.claim(batch, fields)
            for number, purpose in (
                (5, "weight"), (15, "weight"), (11, "graph input"), (12, "graph output"),
            ):  # fmt: skip
                if number in below:
                    below[number].purpose = purpose
            self._walk_all(below, fields)

    def _new_graph(self, parent: int, name: str) -> int:
        above = self.scopes[parent] if parent >= 0 else ""
        path = f"{above}/{name}" if above else name
        self.scopes.append(path if len(path) <= _SCOPE else "…" + path[-_SCOPE:])
        self.parents.append(parent)
        return len(self.scopes) - 1

    def _functions(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            functions = list(zip(fields.singular(0x52), fields.singular(0x0A), strict=True))
            titles = [
                f"function {domain}::{name}" if domain else f"function {name}"
                for domain, name in functions
            ]
            graphs = np.array([self._new_graph(-1, title) for title in titles])
            batch.owners[fields.begun] = self._owners(titles, ["functions"] * len(titles))
            batch.graphs[fields.begun] = graphs
            self.functions += functions
            for tag, ends in ((0x22, self.inputs), (0x2A, self.outputs)):
                rows = np.flatnonzero(fields.tags == tag)
                owning = graphs[fields.message[rows] - fields.first].tolist()
                ends += zip(owning, fields.texts(rows), strict=True)
            self._walk_all(self.claim(batch, fields), fields)

    def _training(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            below = self.claim(batch, fields)
            for number, name in ((1, "initialization"), (2, "algorithm")):
                if number in below:
                    below[number].graphs[:] = [
                        self._new_graph(0, f"training_info[{at}].{name}")
                        for at in below[number].parents.tolist()
                    ]
            for number in (3, 4):
                if number in below:
                    below[number].purpose = "bindings"
            self._walk_all(below, fields)

    def _value_infos(self, batch: Batch) -> None:
        shown = batch.purpose or "value_info"
        subject = "graph inputs and outputs" if batch.purpose else "value_info"
        for fields in self.chunks(batch):
            names = fields.singular(0x0A)
            labels = [f"{shown} {name}" if name else shown for name in names]
            batch.owners[fields.begun] = self._owners(labels, [subject] * len(labels))
            if batch.purpose:
                ends = self.outputs if batch.purpose == "graph output" else self.inputs
                ends += zip(batch.graphs[fields.begun].tolist(), names, strict=True)
            self._walk_all(self.claim(batch, fields), fields)

    def _annotations(self, batch: Batch) -> None:
        batch.owners[:] = self.owners.add("quantization_annotation", "quantization_annotation")
        for fields in self.chunks(batch):
            below = self.claim(batch, fields)
            if 2 in below:
                below[2].purpose = "quantization"
            self._walk_all(below, fields)

    def _opset_imports(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            if batch.purpose:
                versions = np.zeros(fields.count, dtype=np.int64)
                rows = np.flatnonzero(fields.tags == 0x10)
                versions[fields.message[rows] - fields.first] = fields.varints(rows)
                self.opsets += zip(fields.singular(0x0A), versions.tolist(), strict=True)
            self.claim(batch, fields)

    def _entries(self, batch: Batch) -> None:
        """Key-value pairs; those that describe something are owned by their key."""
        for fields in self.chunks(batch):
            keys = fields.singular(0x0A)
            if batch.role in {METADATA, DEBUG_INFO}:
                owners = {
                    key: self.owners.add(key or "metadata_props", key or "metadata_props")
                    for key in dict.fromkeys(keys)
                }
                batch.owners[fields.begun] = [owners[key] for key in keys]
            if batch.purpose:
                self._read_pairs(batch, fields, keys)
            self.claim(batch, fields)

    def _read_pairs(self, batch: Batch, fields: Fields, keys: list[str]) -> None:
        # Four bytes make a character at most, so a cut inside one is cut off with the rest.
        most = {"properties": 4 * _VALUE + 4, "external": 4 * _LOCATION + 4}.get(batch.purpose)
        values = fields.singular(0x12, most)
        if batch.purpose == "properties":
            shown = (v if len(v) <= _VALUE else v[:_VALUE] + "…" for v in values)
            self.properties += zip(keys, shown, strict=True)
        elif batch.purpose == "bindings":
            # "A binding's key is the name of a tensor in the inference graph" (onnx.proto).
            self.bindings += [(0, key) for key in keys]
        elif batch.purpose == "quantization":
            self.scales += zip(batch.graphs[fields.begun].tolist(), values, strict=True)
        elif batch.purpose == "external":
            tensors = batch.nodes[fields.begun].tolist()
            for tensor, key, value in zip(tensors, keys, values, strict=True):
                entries = self.tensors[tensor].entries
                if len(entries) < _ENTRIES:
                    entries.append((key, value))

    # Nodes and attributes

    def _nodes(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            first = len(self.nodes)
            if first + fields.count > self.limits.graph_nodes:
                raise LimitExceeded(
                    self.source.path, self.source.origin() + int(batch.heads[fields.first]),
                    "graph_nodes", self.limits.graph_nodes, f"{first + fields.count:,} or more",
                )
            ops = self.nodes.read(batch, fields)
            owners = list(map("node ".__add__, self.nodes.labels[first:]))
            batch.owners[fields.begun] = self._owners(owners, ops)
            batch.nodes[fields.begun] = np.arange(first, first + fields.count)
            self._walk_all(self.claim(batch, fields), fields)

    def _attributes(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            owners = batch.owners[fields.message]
            elements = self._constants(batch, fields, owners)
            below = self.claim(batch, fields, owners, elements)
            holders = {number: child for number, child in below.items() if number in _HOLDERS}
            if holders:
                self._label(batch, fields, holders)
            self.nodes.read_integers(batch, fields)
            self._walk_all(below, fields)

    def _constants(self, batch: Batch, fields: Fields, owners: Integers) -> list[int]:
        """Keep the tensors that attributes of Constant nodes are; the fields that hold elements.

        These fields get the ``owners`` of their tensors.
        """
        elements: list[int] = []
        for tensor, taken in self.nodes.constants_in(batch, fields):
            shown = tensor.name or "unnamed tensor"
            owners[taken] = self.owners.add(shown, shown)
            self.tensors.append(tensor)
            self.tensor_owners.append(int(owners[taken[0]]))
            elements += taken
        return elements

    def _label(self, batch: Batch, fields: Fields, holders: dict[int, Batch]) -> None:
        """Name the tensors and graphs in attributes after the node and the attribute."""
        names = fields.singular(0x0A)
        for number, child in holders.items():
            labels = []
            before, repeated = -1, 0
            for at in child.parents.tolist():
                repeated = repeated + 1 if at == before else 0
                before = at
                label = self.nodes.attribute_label(int(batch.nodes[at]), names[at - fields.first], number)
                labels.append(f"{label}[{repeated}]" if number in {10, 11, 23} else label)
                if repeated and number in {5, 6, 22}:
                    offset = self.source.origin() + int(fields.starts[0])
                    self.notes.add(
                        "an attribute has two values", f"attribute {label} has two values at {offset:#x}"
                    )
            child.purpose, child.labels = "constant", labels
            if number in {6, 11}:
                child.graphs = np.array([
                    self._new_graph(parent, label)
                    for parent, label in zip(child.graphs.tolist(), labels, strict=True)
                ])  # fmt: skip

    # Tensors

    def _sparse_tensors(self, batch: Batch) -> None:
        batch.owners[:] = self.owners.add("sparse tensors", "tensor headers")
        for fields in self.chunks(batch):
            below = self.claim(batch, fields)
            names = dict.fromkeys(range(len(batch)), "")
            if 1 in below:
                values = below[1]
                values.purpose = batch.purpose
                if batch.labels is not None:
                    values.labels = [batch.labels[at] for at in values.parents.tolist()]
                self.walk(values)
                for at, tensor in zip(values.parents.tolist(), values.nodes.tolist(), strict=True):
                    names[at] = self.tensors[tensor].name if tensor >= 0 else ""
                    if tensor >= 0 and self.tensors[tensor].external:
                        kind = "external data of a tensor that is no dense initializer"
                        self.notes.add(kind, f"tensor {names[at]!r}: {kind}")
            if 2 in below:
                indices = below[2]
                indices.purpose = "sparse-index"
                indices.labels = [f"{names[at]}.indices" for at in indices.parents.tolist()]
                self.walk(indices)

    def _tensors(self, batch: Batch) -> None:
        for fields in self.chunks(batch):
            if len(self.tensors) + fields.count > self.limits.tensors:
                raise LimitExceeded(
                    self.source.path, self.source.origin() + int(batch.heads[fields.first]),
                    "tensors", self.limits.tensors, f"{len(self.tensors) + fields.count:,} or more",
                )
            own = fields.singular(0x42)
            names = own if batch.labels is None else batch.labels[fields.begun]
            heads, graphs = batch.heads[fields.begun].tolist(), batch.graphs[fields.begun].tolist()
            found = declare(
                fields, names, heads, graphs, use=batch.purpose, limits=self.limits
            )
            shown = [name or "unnamed tensor" for name in names]
            headers = self._owners(shown, ["tensor headers"] * len(shown))
            payloads = self._owners(shown, shown)

            present = np.array([tensor is not None for tensor in found], dtype=np.bool_)
            self._note_hollow(batch, fields, present)
            first, numbers = len(self.tensors), np.cumsum(present) - 1
            self.tensors += [tensor for tensor in found if tensor is not None]
            self.tensor_owners += payloads[present].tolist()
            batch.owners[fields.begun] = headers
            batch.nodes[fields.begun] = np.where(present, first + numbers, -1)
            below = self.claim(batch, fields, self._field_owners(fields, shown, headers, payloads))
            if 13 in below:
                below[13].purpose = "external"
            self._walk_all(below, fields)

    def _note_hollow(self, batch: Batch, fields: Fields, present: npt.NDArray[np.bool_]) -> None:
        hollow = np.flatnonzero(~present)
        if len(hollow):
            offset = self.source.origin() + int(batch.heads[fields.first + hollow[0]])
            kind = "tensor with neither a name nor data"
            self.notes.add(kind, f"{kind} at {offset:#x}", len(hollow))

    def _field_owners(
        self, fields: Fields, names: list[str], headers: Integers, payloads: Integers
    ) -> Integers:
        table = TABLES["TensorProto"]
        roles = table.roles[table.rows(fields.tags)]
        at = fields.message - fields.first
        owners = headers[at]
        if (roles == NAMES).any():
            named = self._owners(names, ["tensor names"] * len(names))
            owners[roles == NAMES] = named[at][roles == NAMES]
        owners[roles == TENSOR_DATA] = payloads[at][roles == TENSOR_DATA]
        return owners
