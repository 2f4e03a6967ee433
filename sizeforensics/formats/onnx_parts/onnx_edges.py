"""Where the values of an ONNX graph come from and go to: which tensor, which node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sizeforensics.inventory import Nodes, Tensor
from sizeforensics.spans import Integers

_SAME_VALUES = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators behind which a scale has the values that were stored."""

_STEPS = 8
"""Operators between a stored tensor and the one that needs it."""

_MOST_INPUTS = 32
"""Inputs of a node that are looked at; no operator that takes scales has more."""


class Edges:
    """The edges of all graphs of a model, and the tensors it stores."""

    def __init__(self, nodes: Nodes, tensors: Sequence[Tensor]) -> None:
        self.nodes = nodes
        self.tensors = tensors
        self._factors: dict[tuple[str, int, int], list[int]] = {}

    def nodes_of(self, ops: frozenset[str]) -> list[int]:
        """The nodes with one of these operators, in the order of the file."""
        chosen = [op for op, name in enumerate(self.nodes.op_names) if name in ops]
        return np.flatnonzero(np.isin(self.nodes.ops, chosen)).tolist() if chosen else []

    def op(self, node: int) -> str:
        return self.nodes.op_names[int(self.nodes.ops[node])]

    def inputs(self, node: int) -> list[str]:
        """Names of the values that a node reads; an absent one is empty."""
        first, last = np.searchsorted(self.nodes.read_nodes, [node, node + 1])
        read = self.nodes.read_values[first : min(last, first + _MOST_INPUTS)]
        return [self.nodes.values[value] for value in read.tolist()]

    def output(self, node: int) -> str:
        """The first value that a node computes; empty where there is none."""
        first, last = np.searchsorted(self.nodes.write_nodes, [node, node + 1])
        return self.nodes.values[int(self.nodes.write_values[first])] if first < last else ""

    def stored(self, name: str, node: int) -> int | None:
        """The tensor of this name that a node of a graph reads: its graph's own, or an outer one's."""
        scope = self.nodes.scope_names[int(self.nodes.scopes[node])]
        indices = self._by_name.get(name, [])
        own = [index for index in indices if self.tensors[index].scope == scope]
        return next(iter(own or indices), None)

    def origin(self, name: str, node: int) -> int | None:
        """The stored tensor whose values a node reads under this name, cast or reshaped or not."""
        for _ in range(_STEPS):
            found = self.stored(name, node)
            above = self._writers.get(name)
            if found is not None or above is None or self.op(above) not in _SAME_VALUES:
                return found
            node, name = above, self.inputs(above)[0] if self.inputs(above) else ""
        return None

    def gathered(self, name: str) -> int | None:
        """The stored tensor of which a value is some rows."""
        above = self._writers.get(name)
        if above is None or self.op(above) != "Gather":
            return None
        return self.stored(next(iter(self.inputs(above)), ""), above)

    def factors(self, name: str, node: int, steps: int = _STEPS) -> list[int]:
        """The stored tensors that a value is the product of; what is computed is left out."""
        key = name, int(self.nodes.scopes[node]), steps
        if key not in self._factors:
            self._factors[key] = self._factors_of(name, node, steps)[:_MOST_INPUTS]
        return self._factors[key]

    def _factors_of(self, name: str, node: int, steps: int) -> list[int]:
        found = self.origin(name, node)
        if found is not None or steps == 0:
            return [] if found is None else [found]
        above = self._writers.get(name)
        if above is None or self.op(above) not in _SAME_VALUES | {"Mul"}:
            return []
        inputs = self.inputs(above)
        taken = inputs if self.op(above) == "Mul" else inputs[:1]
        return [index for other in taken for index in self.factors(other, above, steps - 1)]

    def multiplied_by(self, node: int) -> list[int]:
        """The stored tensors that the first output of a node is multiplied by, casts in between."""
        value = self.output(node)
        for _ in range(_STEPS):
            reader = self._only_reader(value)
            if reader is None or self.op(reader) not in {"Cast", "Mul"}:
                return []
            others = [name for name in self.inputs(reader) if name != value]
            if self.op(reader) == "Mul" and len(others) == 1:
                found = self.factors(others[0], reader)
                if found:
                    return found
            value = self.output(reader)
        return []

    def _only_reader(self, name: str) -> int | None:
        """The node that reads a value; None where there are more, or none."""
        value = self._numbers.get(name, -1)
        order, sorted_values = self._by_value
        first, last = np.searchsorted(sorted_values, [value, value + 1])
        return int(self.nodes.read_nodes[order[first]]) if last - first == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for index, tensor in enumerate(self.tensors):
            found[tensor.name].append(index)
        return found

    @cached_property
    def _writers(self) -> dict[str, int]:
        """The node that computes each value; values of one name in several graphs are left out."""
        numbers, counts = np.unique(self.nodes.write_values, return_counts=True)
        once = np.isin(self.nodes.write_values, numbers[counts == 1])
        values, nodes = self.nodes.write_values[once].tolist(), self.nodes.write_nodes[once].tolist()
        return {self.nodes.values[value]: node for value, node in zip(values, nodes, strict=True)}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.nodes.values)}

    @cached_property
    def _by_value(self) -> tuple[Integers, Integers]:
        """Read edges in the order of the values, and these values."""
        order = np.argsort(self.nodes.read_values, kind="stable")
        return order, self.nodes.read_values[order]
