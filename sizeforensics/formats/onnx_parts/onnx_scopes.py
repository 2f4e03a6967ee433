"""Which values the graphs of a model define and read, each seen in its graph and those inside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from sizeforensics.formats.onnx_parts.onnx_messages import Messages
from sizeforensics.formats.onnx_parts.onnx_schema import QUANTIZATION_INPUTS
from sizeforensics.inventory import Nodes
from sizeforensics.spans import Integers

_ONNX = frozenset({"", "ai.onnx"})
"""Names of the domain whose operators are called without one."""
_OPERATORS = ("ai.onnx", "com.microsoft")
"""How domains begin in which runtimes have operators of their own beside the functions of a model."""
_PACKAGE = "pkg."
"""How domains begin that the exporters of torch give to the functions of a Python package."""


class Scopes:
    """The graphs of a model that was read. A value is a pair: its graph, and the number of its name."""

    def __init__(self, messages: Messages, nodes: Nodes) -> None:
        self.messages = messages
        self.nodes = nodes
        self._parents = np.array(messages.parents, dtype=np.int64)
        self._depths = _depths(messages.parents)
        self._numbers = dict(messages.nodes.values)
        self._reads = np.stack([nodes.scopes[nodes.read_nodes], nodes.read_values], axis=1)

    def assign_uses(self) -> None:
        """Say which tensors are quantisation parameters and which initializers nothing reads."""
        messages, tensors = self.messages, self.messages.tensors
        for tensor in tensors:
            tensor.scope = messages.scopes[tensor.graph]
        also, named = self._pairs(messages.outputs + messages.bindings), self._pairs(messages.scales)
        wanted = self._pairs([(tensor.graph, tensor.name) for tensor in tensors])
        kept = np.isin(self.nodes.read_values, wanted[:, 1])
        reads = self._reads[kept]
        scales = reads[_reads_scale(self.nodes)[kept]]
        read = self._read(wanted, np.concatenate([reads, also])).tolist()
        scale = self._read(wanted, np.concatenate([scales, named])).tolist()
        for tensor, is_read, is_scale in zip(tensors, read, scale, strict=True):
            if is_scale and tensor.use in {"weight", "constant"}:
                tensor.use = "quantization-parameters"
            elif tensor.use == "weight" and not is_read:
                tensor.use = "unreferenced"

    def note_missing(self) -> None:
        """Warn of values, operator sets and functions that the model names and does not hold.

        A file that ends between two fields of its ModelProto is valid protobuf; where what is gone
        is missed, this says so.
        """
        messages, nodes = self.messages, self.nodes
        defined = np.concatenate([
            np.stack([nodes.scopes[nodes.write_nodes], nodes.write_values], axis=1),
            self._pairs(messages.inputs),
            self._pairs([(tensor.graph, tensor.name) for tensor in messages.tensors]),
        ])  # fmt: skip
        for what, pairs in (
            ("read by a node", self._reads), ("an output of its graph", self._pairs(messages.outputs)),
        ):  # fmt: skip
            for name in self._undefined(pairs, defined):
                kind = f"a value is {what}, but nothing defines it"
                messages.notes.add(kind, f"value {name!r} is {what}, but nothing defines it")
        self._note_operators()

    def note_repeated(self) -> None:
        """Warn of initializers of one graph that share a name: no more than one of them is read."""
        messages = self.messages
        initializers = [tensor for tensor in messages.tensors if tensor.use not in {"constant", "sparse-index"}]
        counts = Counter((tensor.graph, tensor.name) for tensor in initializers)
        for (_, name), count in sorted(counts.items()):
            if count > 1:
                messages.notes.add("initializers of one graph share a name",
                                   f"{count} initializers are called {name!r}: a runtime reads one of them, or refuses the model")  # fmt: skip

    def _note_operators(self) -> None:
        """Warn of operators whose domain is not imported, or whose function is not there."""
        messages, nodes = self.messages, self.nodes
        imported = {domain for domain, _ in messages.opsets}
        if imported:  # before IR version 3 a model does not say
            own = np.flatnonzero(_roots(messages.parents) == 0)  # functions import for themselves
            for op in _called(nodes, np.isin(nodes.scopes, own)):
                if not (imported & _ONNX if "." not in op else _within(op, imported)):
                    messages.notes.add("operators are called whose domain no opset_import names",
                                       f"operator {op!r} is called, but no opset_import names its domain")  # fmt: skip
        known = {f"{domain}.{name}" for domain, name in messages.functions}
        packages = {domain for domain, _ in messages.functions if not domain.startswith(_OPERATORS)}
        for op in _called(nodes, np.ones(len(nodes), dtype=np.bool_)):
            if op not in known and (op.startswith(_PACKAGE) or _within(op, packages)):
                messages.notes.add("functions are called that the model does not hold",
                                   f"function {op!r} is called, but the model does not hold it")  # fmt: skip
        self._note_recursive()

    def _note_recursive(self) -> None:
        """Warn of a function that calls itself: written out it would never end.

        Of functions of one name, which differ by their overload, nobody knows here which is called.
        """
        messages, nodes = self.messages, self.nodes
        graphs = [graph for graph, parent in enumerate(messages.parents) if parent < 0 and graph]
        titles = [name if domain in _ONNX else f"{domain}.{name}" for domain, name in messages.functions]
        once = Counter(titles)
        function_of = {title: at for at, title in enumerate(titles) if once[title] == 1}
        if not function_of:
            return
        callees = np.array([function_of.get(op, -1) for op in nodes.op_names], dtype=np.int64)[nodes.ops]
        callers = np.searchsorted(graphs, _roots(messages.parents)[nodes.scopes])
        inside = (callees >= 0) & np.isin(_roots(messages.parents)[nodes.scopes], graphs)
        calls = np.unique(np.stack([callers[inside], callees[inside]], axis=1), axis=0).tolist()
        recursive = _on_a_cycle(len(titles), calls)
        if recursive is not None:
            messages.notes.add("functions call themselves", f"function {titles[recursive]!r} calls itself, "
                               "directly or through others (listed, never expanded)")  # fmt: skip

    def _pairs(self, named: list[tuple[int, str]]) -> Integers:
        """(graph, name) as values; a name that nothing else mentions gets a number of its own."""
        numbers = self._numbers
        return np.array(
            [(graph, numbers.setdefault(name, len(numbers))) for graph, name in named], dtype=np.int64
        ).reshape(-1, 2)

    def _read(self, wanted: Integers, reads: Integers) -> npt.NDArray[np.bool_]:
        """Which of the ``wanted`` values are read in their graph or in one inside it."""
        count = len(self._numbers) + 1
        keys = wanted[:, 0] * count + wanted[:, 1]
        found = np.zeros(len(wanted), dtype=np.bool_)
        around = reads[:0]
        # From the innermost graphs outwards: what many graphs inside one read is read once in it.
        for depth in range(int(self._depths.max(initial=0)), -1, -1):
            here = np.concatenate([around, reads[self._depths[reads[:, 0]] == depth]])
            distinct = np.unique(here[:, 0] * count + here[:, 1])
            level = np.flatnonzero(self._depths[wanted[:, 0]] == depth)
            found[level] = np.isin(keys[level], distinct)
            around = np.stack([self._parents[distinct // count], distinct % count], axis=1)
        return found

    def _undefined(self, reads: Integers, defined: Integers) -> list[str]:
        """The names that are read and defined neither in the same graph nor in one around it."""
        count = len(self._numbers) + 1
        defined_keys = defined[:, 0] * count + defined[:, 1]
        reads = reads[reads[:, 1] != self._numbers.get("", -1)]  # an input that is left out
        around = reads[:0]
        for depth in range(int(self._depths.max(initial=0)), -1, -1):
            here = np.concatenate([around, reads[self._depths[reads[:, 0]] == depth]])
            keys = here[:, 0] * count + here[:, 1]
            missing = np.unique(keys[~np.isin(keys, defined_keys)])
            around = np.stack([self._parents[missing // count], missing % count], axis=1)
        if not len(around):
            return []
        names = list(self._numbers)
        return [names[number] for number in np.unique(around[:, 1]).tolist()]


def _on_a_cycle(count: int, edges: list[list[int]]) -> int | None:
    """One of ``count`` things from which ``edges`` lead back to itself; None without any."""
    towards: list[list[int]] = [[] for _ in range(count)]
    onwards = [0] * count
    for start, end in edges:
        towards[end].append(start)
        onwards[start] += 1
    ends = [at for at, left in enumerate(onwards) if not left]
    for end in ends:
        for start in towards[end]:
            onwards[start] -= 1
            if not onwards[start]:
                ends.append(start)
    # Whatever is left leads to something that is left, and so sooner or later in a circle.
    leads = {start: end for start, end in edges if onwards[start] and onwards[end]}
    at, seen = next(iter(leads), None), set[int]()
    while at is not None and at not in seen:
        seen.add(at)
        at = leads[at]
    return at


def _called(nodes: Nodes, chosen: npt.NDArray[np.bool_]) -> list[str]:
    """The operators of the ``chosen`` nodes, once each."""
    return [nodes.op_names[op] for op in np.unique(nodes.ops[chosen]).tolist()]


def _within(op: str, domains: set[str]) -> bool:
    return any(op.startswith(f"{domain}.") for domain in domains if domain)


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


def _depths(parents: list[int]) -> Integers:
    """How many graphs are around each; a graph comes behind the one that it is in."""
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + 1 if parent >= 0 else 0)
    return np.array(depths, dtype=np.int64)


def _roots(parents: list[int]) -> Integers:
    """The outermost graph around each."""
    roots: list[int] = []
    for graph, parent in enumerate(parents):
        roots.append(roots[parent] if parent >= 0 else graph)
    return np.array(roots, dtype=np.int64)
