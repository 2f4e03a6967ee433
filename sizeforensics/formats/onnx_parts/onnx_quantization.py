"""Which scale and zero point the operators of an ONNX graph give to a quantised tensor.

From onnx ``docs/Operators.md`` and ONNX Runtime ``docs/ContribOperators.md``. A convolution in
integers has an integer bias whose scale is the product of those of its input and its weight. A product
of integers (MatMulInteger, ConvInteger) says zero points alone: its result is multiplied by the scales
further down. An embedding may be dequantised after some of its rows were gathered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sizeforensics.formats.onnx_parts.onnx_edges import Edges
from sizeforensics.formats.onnx_parts.onnx_packed import (
    GATHER,
    MATMUL,
    MOST,
    Attributes,
    bits_of,
    blocks_of,
)
from sizeforensics.inventory import Quantization, Tensor

Axes = tuple[int, ...]


class _Inputs(NamedTuple):
    """Positions of inputs of an operator: the integers, their scale and zero point.

    ``axes`` of the integers are those along which a scale that is no scalar counts; negative ones
    count from the last, None where the operator does not say.
    """

    integers: int
    scale: int | None
    zero_point: int | None
    axes: Axes | None = None
    factor: int | None = None


_ROWS, _COLUMNS = (-2,), (-1,)
_CONVOLUTION = (_Inputs(3, 4, 5, (0,)), _Inputs(8, 4, None, (0,), factor=1))
_PRODUCT = (_Inputs(0, 1, 2, _ROWS), _Inputs(3, 4, 5, _COLUMNS))
_PAIR = (_Inputs(0, 1, 2), _Inputs(3, 4, 5))

_INPUTS: dict[str, tuple[_Inputs, ...]] = {
    "ConvInteger": (_Inputs(1, None, 3, (0,)),),
    "DequantizeLinear": (_Inputs(0, 1, 2),),
    "MatMulInteger": (_Inputs(0, None, 2, _ROWS), _Inputs(1, None, 3, _COLUMNS)),
    "QLinearConv": _CONVOLUTION,
    "QLinearMatMul": _PRODUCT,
    "com.microsoft.DequantizeLinear": (_Inputs(0, 1, 2),),
    "com.microsoft.DynamicQuantizeLSTM": (_Inputs(1, 8, 9, (0, 2)), _Inputs(2, 10, 11, (0, 2))),
    "com.microsoft.DynamicQuantizeMatMul": (_Inputs(1, 2, 3, _COLUMNS),),
    "com.microsoft.GemmFloat8": (_Inputs(0, 3, None), _Inputs(1, 4, None)),
    "com.microsoft.MatMulIntegerToFloat": (
        _Inputs(0, 2, 4, _ROWS), _Inputs(1, 3, 5, _COLUMNS),
    ),
    "com.microsoft.QAttention": (_Inputs(1, 4, 7, _COLUMNS),),
    "com.microsoft.QEmbedLayerNormalization": tuple(
        _Inputs(2 + at, 8 + at, 13 + at) for at in range(5)
    ),
    "com.microsoft.QGemm": (_Inputs(3, 4, 5, _COLUMNS), _Inputs(6, 4, None, _COLUMNS, factor=1)),
    "com.microsoft.QLinearAdd": _PAIR,
    "com.microsoft.QLinearConv": _CONVOLUTION,
    "com.microsoft.QLinearMatMul": _PRODUCT,
    "com.microsoft.QLinearMul": _PAIR,
    GATHER: (_Inputs(0, 2, 3),),
    MATMUL: (_Inputs(1, 2, 3),),
}  # fmt: skip


def quantizations(edges: Edges, integers: Mapping[int, Attributes]) -> tuple[Quantization, ...]:
    """What the graph says about tensors it stores, in the order of the nodes, once each.

    ``integers`` are the integer attributes of the nodes that say more by them.
    """
    found: dict[int, Quantization] = {}
    for node in edges.nodes_of(frozenset(_INPUTS)):
        for inputs in _INPUTS[edges.op(node)]:
            said = _said(edges, node, inputs, integers.get(node, {}))
            known = None if said is None else found.get(said.tensor)
            if said is not None and (known is None or known.scale is None):
                found[said.tensor] = said
    return tuple(found.values())


def _said(
    edges: Edges, node: int, inputs: _Inputs, attributes: Attributes
) -> Quantization | None:
    """The stored tensors at these inputs; None where one of them is not in the file."""
    names = edges.inputs(node)
    if inputs.integers >= len(names):
        return None
    own = edges.stored(names[inputs.integers], node)
    integers = edges.gathered(names[inputs.integers]) if own is None else own

    def stored(at: int | None) -> tuple[bool, int | None]:
        # Absent inputs at the end are left out, others are empty.
        if at is None or at >= len(names) or not names[at]:
            return True, None
        index = edges.origin(names[at], node)
        return index is not None, index

    parts = [stored(at) for at in (inputs.scale, inputs.zero_point, inputs.factor)]
    # What an operator computes, or a graph is given, is not in the file.
    if integers is None or not all(there for there, _ in parts):
        return None
    scale, zero_point, factor = (index for _, index in parts)
    if inputs.scale is None:
        behind = edges.multiplied_by(node)
        # Both operands can have a scale that is stored; quantisers multiply them in this order.
        operand = inputs.integers if len(behind) == 2 else 0
        scale = behind[operand] if len(behind) in {1, 2} else None
    elif scale is None or (factor is None) != (inputs.factor is None):
        return None
    said = Quantization(integers, scale, zero_point, factor)
    # Rows that were gathered have other axes than the tensor.
    return said if own is None else _detailed(edges, node, inputs, said, attributes)


def _detailed(
    edges: Edges, node: int, inputs: _Inputs, said: Quantization, attributes: Attributes
) -> Quantization:
    """The same with what the attributes of the node say about it."""
    tensor = edges.tensors[said.tensor]
    every = tuple(range(len(tensor.shape)))
    op = edges.op(node).rpartition(".")[2]
    if op == "DequantizeLinear":
        axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
        if block != 0:
            return said._replace(axes=every, block=_sensible(block))
        if axis is None or not -len(every) <= axis < len(every):
            return said
        return said._replace(axes=(every[axis],))
    if op == "GatherBlockQuantized":
        middle = 1 << max(bits_of(attributes) - 1, 0) if tensor.dtype.name == "uint8" else 0
        block = attributes.get("block_size", 128)
        return said._replace(axes=every, block=_sensible(block), zero=middle)
    if op == "MatMulNBits":
        shared = blocks_of(attributes)
        if shared is None:
            return said._replace(scale=None)
        names = edges.inputs(node)
        groups = edges.stored(names[4], node) if len(names) > 4 and names[4] else None
        middle = 1 << max(bits_of(attributes) - 1, 0)
        return said._replace(
            axes=(0, 1), block=shared[2], width=shared[1], groups=groups, zero=middle
        )
    if op == "QGemm" and inputs.integers == 3 and attributes.get("transB", 0):
        return said._replace(axes=(0,))
    if inputs.axes is None or any(not -len(every) <= axis < len(every) for axis in inputs.axes):
        return said
    return said._replace(axes=tuple(every[axis] for axis in inputs.axes))


def _sensible(block: int | None) -> int | None:
    """The size of a block; None where the file leaves it to the shapes, or says nonsense."""
    return block if block is not None and 0 < block <= MOST else None


def marked(tensors: Sequence[Tensor], links: Sequence[Quantization]) -> list[Tensor]:
    """The tensors, those that scale or shift others with the use that says so."""
    parameters = {
        index for link in links for index in (link.scale, link.zero_point, link.factor, link.groups)
    }
    return [
        replace(tensor, use="quantization-parameters")
        if index in parameters and tensor.use in {"weight", "constant"} else tensor
        for index, tensor in enumerate(tensors)
    ]  # fmt: skip
