"""Which tensors a program holds as data, and whether an artifact holds a program."""

from __future__ import annotations

from sizeforensics.inventory import Inventory
from sizeforensics.spans import CODE

FEW = 4
"""Elements up to which floats are numbers that the program computes with, not a layer."""


def has_program(inventory: Inventory) -> bool:
    """Whether there is anything that computes: operators of a graph, or code."""
    return len(inventory.nodes) > 0 or int(inventory.bytes_by_role()[CODE]) > 0


def program_data(inventory: Inventory) -> set[int]:
    """Indices of the tensors that the operators of a graph hold as data: shapes, axes, scalars.

    Integers are that, unless they are the elements of a quantised weight, and so are a few numbers.
    All other floats may have been learned, whatever reads them and whatever an exporter calls them: a
    table of positions is added like a mask. Of those only what a few numbers regenerate is data.
    """
    if not len(inventory.nodes):
        return set()
    quantised = {quantization.tensor for quantization in inventory.quantizations}
    return {
        index
        for index, tensor in enumerate(inventory.tensors)
        if tensor.elements <= FEW
        or (tensor.dtype.kind in ("int", "uint", "bool") and index not in quantised)
    }
