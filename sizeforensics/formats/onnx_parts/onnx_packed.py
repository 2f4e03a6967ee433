"""Tensors that hold several codes in a byte, seen as the codes that their operators find in them.

MatMulNBits and GatherBlockQuantized (ONNX Runtime ``docs/ContribOperators.md``) read 2 and 4-bit
numbers from tensors of bytes, the first in the low bits, as ``DType`` has it. The weight of a
MatMulNBits is a matrix of ``N`` rows with the ``K`` columns filled up to whole blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from sizeforensics.dtypes import DTYPES
from sizeforensics.formats.onnx_parts.onnx_edges import Edges
from sizeforensics.inventory import Tensor, c_strides

Attributes = Mapping[str, int | None]

MOST = (1 << 31) - 1
"""Rows, columns and elements of a block beyond which a file says nonsense."""

MATMUL, GATHER = "com.microsoft.MatMulNBits", "com.microsoft.GatherBlockQuantized"


def unpacked(edges: Edges, integers: Mapping[int, Attributes]) -> list[Tensor]:
    """All tensors of a model, the packed ones as codes; what does not fit its operator as it is."""
    tensors = list(edges.tensors)
    for node in edges.nodes_of(frozenset({MATMUL, GATHER})):
        names, attributes = edges.inputs(node), integers.get(node, {})
        bits = bits_of(attributes)
        for position in (0 if edges.op(node) == GATHER else 1, 3):
            index = edges.stored(names[position], node) if position < len(names) else None
            # A tensor that two operators read is seen as the first one sees it.
            if index is None or tensors[index] is not edges.tensors[index] or not bits:
                continue
            tensor = tensors[index]
            if edges.op(node) == GATHER:
                shape = (*tensor.shape[:-1], *(size * 8 // bits for size in tensor.shape[-1:]))
            else:
                shape = _matrix(tensor, attributes, codes=position == 1)
            tensors[index] = _seen_as(tensor, bits, shape)
    return tensors


def bits_of(attributes: Attributes) -> int:
    """Bits of a code; 0 where a function's caller decides, or codes are not packed in whole bytes."""
    bits = attributes.get("bits", 4)
    return bits if bits in {2, 4, 8} else 0


def blocks_of(attributes: Attributes) -> tuple[int, int, int] | None:
    """Rows, columns and elements that share a scale, of the weight of a MatMulNBits."""
    rows, columns, block = (attributes.get(key) or 0 for key in ("N", "K", "block_size"))
    if attributes.get("weight_prepacked", 0) != 0:
        return None
    if not all(0 < count <= MOST for count in (rows, columns, block)):
        return None
    return rows, columns, block


def _matrix(tensor: Tensor, attributes: Attributes, *, codes: bool) -> tuple[int, ...]:
    """The codes or the zero points of a MatMulNBits as rows; without axes where neither fits."""
    known, bits = blocks_of(attributes), bits_of(attributes)
    if known is None:
        return ()
    rows, columns, block = known
    blocks, width = -(-columns // block), tensor.elements // rows * 8 // bits
    return (rows, width) if width == blocks * block or (not codes and width >= blocks) else ()


def _seen_as(tensor: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The same bytes as unsigned codes of this shape; the tensor itself where they do not fit."""
    if tensor.dtype.name != "uint8" or not tensor.contiguous:
        return tensor
    if not shape or prod(shape) * bits != tensor.elements * 8:
        return tensor
    return replace(
        tensor, dtype=DTYPES[f"uint{bits}"], shape=shape, strides=c_strides(shape),
        offset=tensor.offset * 8 // bits,
    )
