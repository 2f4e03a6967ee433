"""Dense tensors that the other side stores as sparse values and their indices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

import numpy as np

from sizeforensics.content import decoded
from sizeforensics.inventory import Inventory
from sizeforensics.matching.arrays import MOST_ELEMENTS
from sizeforensics.matching.casts import castable, equal_after_cast
from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Dense tensors with as many elements that are not zero, those of like name first."""


def match_sparse(pairing: Pairing) -> None:
    """Match the values of a sparse tensor with a dense one whose other elements are all zero.

    Values in the order of their rows, as coalesced COO and CSR layouts have them, or of their
    columns, as CSC has.
    """
    for side in (0, 1):
        found = list(_values(pairing, side))
        counts = {values.tensor.elements for values in found}
        dense = _dense_by_count(pairing, 1 - side, counts)
        for values in found:
            rivals = sorted(
                dense.get(values.tensor.elements, ()),
                key=lambda unit: (-_alike(values, unit), unit.index),
            )
            for unit in rivals[:CANDIDATES]:
                order = _order(pairing, unit, values) if pairing.is_free(unit) else None
                if order is not None:
                    words = f"{values.tensor.elements:,} elements that are not zero{order}"
                    pairing.pair(values, unit, "proved", words)
                    break


def _values(pairing: Pairing, side: int) -> Iterator[Unit]:
    """Free tensors with as many elements as some index tensor of their side has entries."""
    entries = entries_of(pairing.inventories[side])
    for unit in pairing.free[side].values() if entries else ():
        if unit.tensor.shape in entries and unit.distinctive and castable(unit.tensor.dtype.name):
            yield unit


def entries_of(inventory: Inventory) -> set[tuple[int, ...]]:
    """The shapes that the values of a sparse tensor can have: a vector as long as its indices."""
    indices = (tensor.shape for tensor in inventory.tensors if tensor.use == "sparse-index")
    return {(size,) for size in chain.from_iterable(indices)}


def _dense_by_count(pairing: Pairing, side: int, counts: set[int]) -> dict[int, list[Unit]]:
    """The free tensors of a side by how many of their elements are not zero."""
    found: dict[int, list[Unit]] = defaultdict(list)
    least = min(counts, default=0)
    for unit in pairing.free[side].values() if counts else ():
        fits = least < unit.tensor.elements <= MOST_ELEMENTS and unit.digest is not None
        array = decoded(pairing.inventories[unit.side], unit.tensor) if fits and castable(unit.tensor.dtype.name) else None
        if array is not None and (count := int(np.count_nonzero(array))) in counts:
            found[count].append(unit)
    return found


def _alike(values: Unit, unit: Unit) -> int:
    """How many last components the names share."""
    path = components(values.tensor.name.removesuffix(".values"))
    pairs = zip(reversed(path), reversed(components(unit.tensor.name)), strict=False)
    return next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(path))


def _order(pairing: Pairing, dense: Unit, values: Unit) -> str | None:
    """In which order the values are the dense elements that are not zero, in words."""
    flat, kept = (
        decoded(pairing.inventories[unit.side], unit.tensor) for unit in (dense, values)
    )
    if flat is None or kept is None:
        return None
    names = dense.tensor.dtype.name, values.tensor.dtype.name
    whole = flat.reshape(dense.tensor.shape)
    for order, words in ((whole, ""), (whole.T, ", column by column")):
        filled = order[order != 0]
        if equal_after_cast(filled, names[0], kept, names[1]).all():
            return words
    return None
