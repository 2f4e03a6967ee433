"""Dense tensors that the other side stores as sparse values and their indices."""

from __future__ import annotations

from collections.abc import Iterator

from sizeforensics.content import packed
from sizeforensics.dtypes import elements
from sizeforensics.matching.casts import castable, equal_after_cast
from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Dense tensors, those of like name first, that are compared with one tensor of values."""

MOST_ELEMENTS = 1 << 26
"""Elements of a dense tensor, which is held in memory as a whole."""


def match_sparse(pairing: Pairing) -> None:
    """Match the values of a sparse tensor with a dense one whose other elements are all zero.

    Values in the order of their rows, as coalesced COO and CSR layouts have them.
    """
    for side in (0, 1):
        for values in list(_values(pairing, side)):
            dense = sorted(
                (
                    unit
                    for unit in pairing.free[1 - side].values()
                    if unit.distinctive
                    and values.tensor.elements < unit.tensor.elements <= MOST_ELEMENTS
                    and castable(unit.tensor.dtype.name)
                ),
                key=lambda unit: (-_alike(values, unit), unit.index),
            )
            for unit in dense[:CANDIDATES]:
                if _holds(pairing, unit, values):
                    words = f"{values.tensor.elements:,} elements that are not zero"
                    pairing.pair(values, unit, "proved", words)
                    break


def _values(pairing: Pairing, side: int) -> Iterator[Unit]:
    indexed = {
        tensor.name.rpartition(".")[0]
        for tensor in pairing.inventories[side].tensors
        if tensor.use == "sparse-index"
    }
    for unit in pairing.free[side].values() if indexed else ():
        # torch names the values like their indices, ONNX like the whole tensor.
        stem, _, last = unit.tensor.name.rpartition(".")
        named = unit.tensor.name in indexed or (last == "values" and stem in indexed)
        if named and unit.distinctive and castable(unit.tensor.dtype.name):
            yield unit


def _alike(values: Unit, unit: Unit) -> int:
    """How many last components the names share."""
    path = components(values.tensor.name.removesuffix(".values"))
    pairs = zip(reversed(path), reversed(components(unit.tensor.name)), strict=False)
    return next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(path))


def _holds(pairing: Pairing, dense: Unit, values: Unit) -> bool:
    arrays = []
    for unit in (dense, values):
        data = packed(pairing.inventories[unit.side], unit.tensor)
        arrays.append(elements(unit.tensor.dtype, data, unit.tensor.elements))
    whole, kept = arrays
    if whole is None or kept is None:
        return False
    filled = whole[whole != 0]
    if len(filled) != len(kept):
        return False
    names = dense.tensor.dtype.name, values.tensor.dtype.name
    return bool(equal_after_cast(filled, names[0], kept, names[1]).all())
