"""Which initializers of a graph are data of the program, by how its operators read them."""

from __future__ import annotations

import numpy as np

from sizeforensics.inventory import Inventory, Tensor

FEW = 4
"""Elements up to which floats are numbers that the program computes with, not a layer."""

ELEMENTWISE = frozenset((
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "Where", "Clip", "Equal",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "Neg", "Abs", "Sqrt",
    "Exp", "Log", "Sin", "Cos", "Concat", "Expand", "Tile", "Pad", "Resize", "Range", "ScatterND",
    "ScatterElements", "BitShift",
))  # fmt: skip
"""Operators that layers are not made of: they work on one element at a time, or move it. The
exception, a vector that is added or multiplied, is the bias or the scale of a layer."""


def program_data(inventory: Inventory) -> set[int]:
    """Indices of the tensors that the graph holds as data: shapes, scalars, grids, masks.

    Integers are shapes, axes and indices. Floats are data when only element-wise operators read
    them and they are no vectors. Names do not matter: exporters give the same ones to weights.
    """
    nodes = inventory.nodes
    if not len(nodes):
        return set()
    elementwise = np.array([name in ELEMENTWISE for name in nodes.op_names], dtype=bool)
    kinds = elementwise[nodes.ops[nodes.read_nodes]]
    count = len(nodes.values)
    read = np.bincount(nodes.read_values, minlength=count) > 0
    read_as_weight = np.bincount(nodes.read_values[~kinds], minlength=count) > 0
    only_elementwise = {
        nodes.values[value] for value in np.flatnonzero(read & ~read_as_weight).tolist()
    }
    return {
        index
        for index, tensor in enumerate(inventory.tensors)
        if _is_data(tensor, tensor.name in only_elementwise)
    }


def _is_data(tensor: Tensor, only_elementwise: bool) -> bool:
    if tensor.dtype.kind in ("int", "uint", "bool") or tensor.elements <= FEW:
        return True
    return only_elementwise and sum(size != 1 for size in tensor.shape) > 1
