"""Which scale and zero point the operators of an ONNX graph give to a quantised tensor.

From onnx ``docs/Operators.md`` and ONNX Runtime ``docs/ContribOperators.md``. A convolution in
integers has an integer bias whose scale is the product of those of its input and its weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sizeforensics.inventory import Nodes, Quantization, Tensor


class _Inputs(NamedTuple):
    """Positions of inputs of an operator: the integers, their scale and zero point."""

    integers: int
    scale: int
    zero_point: int | None
    factor: int | None = None


_WEIGHT_AND_BIAS = (_Inputs(3, 4, 5), _Inputs(8, 4, None, factor=1))

_INPUTS: dict[str, tuple[_Inputs, ...]] = {
    "DequantizeLinear": (_Inputs(0, 1, 2),),
    "QLinearConv": _WEIGHT_AND_BIAS,
    "QLinearMatMul": (_Inputs(0, 1, 2), _Inputs(3, 4, 5)),
    "com.microsoft.DequantizeLinear": (_Inputs(0, 1, 2),),
    "com.microsoft.DynamicQuantizeMatMul": (_Inputs(1, 2, 3),),
    "com.microsoft.GatherBlockQuantized": (_Inputs(0, 2, 3),),
    "com.microsoft.MatMulIntegerToFloat": (_Inputs(0, 2, 4), _Inputs(1, 3, 5)),
    "com.microsoft.QAttention": (_Inputs(1, 4, 7),),
    "com.microsoft.QGemm": (_Inputs(3, 4, 5), _Inputs(6, 4, None, factor=1)),
    "com.microsoft.QLinearAdd": (_Inputs(0, 1, 2), _Inputs(3, 4, 5)),
    "com.microsoft.QLinearConv": _WEIGHT_AND_BIAS,
    "com.microsoft.QLinearMatMul": (_Inputs(0, 1, 2), _Inputs(3, 4, 5)),
    "com.microsoft.QLinearMul": (_Inputs(0, 1, 2), _Inputs(3, 4, 5)),
}


def quantizations(nodes: Nodes, tensors: Sequence[Tensor]) -> tuple[Quantization, ...]:
    """What the graph says about tensors it stores, in the order of the nodes, once each."""
    chosen = [op for op, name in enumerate(nodes.op_names) if name in _INPUTS]
    wanted = np.flatnonzero(np.isin(nodes.ops, chosen))
    if not len(wanted):
        return ()
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        by_name[tensor.name].append(index)
    found: dict[int, Quantization] = {}
    starts = np.searchsorted(nodes.read_nodes, wanted).tolist()
    ends = np.searchsorted(nodes.read_nodes, wanted, side="right").tolist()
    for node, start, end in zip(wanted.tolist(), starts, ends, strict=True):
        scope = nodes.scope_names[nodes.scopes[node]]
        names = [nodes.values[value] for value in nodes.read_values[start:end].tolist()]
        for inputs in _INPUTS[nodes.op_names[nodes.ops[node]]]:
            # Absent inputs at the end are left out, others are empty.
            taken = [
                None if at is None or at >= len(names) or not names[at] else names[at] for at in inputs
            ]
            indices = [
                None if name is None else _stored(name, scope, by_name, tensors) for name in taken
            ]
            # What an operator computes, or a graph is given, is not in the file.
            if any(name is not None and index is None for name, index in zip(taken, indices, strict=True)):
                continue
            integers, scale, zero_point, factor = indices
            if integers is not None and scale is not None and (factor is None) == (inputs.factor is None):
                found.setdefault(integers, Quantization(integers, scale, zero_point, factor))
    return tuple(found.values())


def _stored(
    name: str, scope: str, by_name: dict[str, list[int]], tensors: Sequence[Tensor]
) -> int | None:
    """The tensor of this name that a node of a graph reads: its graph's own, or an outer one's."""
    indices = by_name.get(name, [])
    own = [index for index in indices if tensors[index].scope == scope]
    return next(iter(own or indices), None)
