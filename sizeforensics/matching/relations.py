"""Whether the elements of one tensor are those of another, cast or permuted, compared in full."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import blocks, packed
from sizeforensics.dtypes import elements
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.matching.casts import is_cast
from sizeforensics.matching.units import Unit

BLOCK_ELEMENTS = 1 << 17
"""Elements compared at once; two blocks of the widest type stay in the processor's cache."""

MAX_PERMUTED_RANK = 6
"""Axes longer than 1 up to which permutations are tried; no exporter permutes more."""


class Relation(NamedTuple):
    """How one unit's elements equal another's; ``order`` is None unless axes were permuted."""

    cast: bool
    order: tuple[int, ...] | None
    back: bool = False
    """Whether it is the source that is the target cast, and not the reverse."""

    def words(self, source: Tensor, target: Tensor) -> str:
        """The transformation from ``source`` to ``target`` as a phrase."""
        steps = []
        if self.order is not None:
            steps.append(f"axes permuted {self.order}")
        elif source.shape != target.shape:
            steps.append("reshaped")
        if self.cast and self.back:
            steps.append(
                f"{source.dtype.name} is what {target.dtype.name} rounds to: "
                f"cast {target.dtype.name} -> {source.dtype.name}"
            )
        elif self.cast:
            steps.append(f"cast {source.dtype.name} -> {target.dtype.name}")
        if steps:
            return ", ".join(steps)
        if 0 in source.strides or 0 in target.strides:
            return "identical elements, broadcast on one side"
        whole = source.contiguous and target.contiguous
        return "identical bytes" if whole else "identical elements in another order in memory"


def casts_to(inventories: tuple[Inventory, Inventory], source: Unit, target: Unit) -> bool:
    """Whether ``target`` is ``source`` cast to its type, element by element in C order."""
    names = source.tensor.dtype.name, target.tensor.dtype.name
    return all(
        is_cast(ours, names[0], theirs, names[1])
        for ours, theirs in zip(
            typed_blocks(inventories[source.side], source.tensor),
            typed_blocks(inventories[target.side], target.tensor),
            strict=True,
        )
    )


def permuted(
    inventories: tuple[Inventory, Inventory], source: Unit, target: Unit
) -> Relation | None:
    """The permutation of axes, with or without a cast, that makes ``target`` of ``source``."""
    shape = tuple(size for size in source.tensor.shape if size != 1)
    wanted = tuple(size for size in target.tensor.shape if size != 1)
    if len(shape) > MAX_PERMUTED_RANK or sorted(shape) != sorted(wanted):
        return None
    orders = [
        order
        for order in permutations(range(len(shape)))
        if tuple(shape[axis] for axis in order) == wanted and order != tuple(range(len(shape)))
    ]
    if not orders:
        return None
    array = _whole(inventories[source.side], source.tensor)
    if array is None:
        return None
    array = array.reshape(shape)
    for order in orders:
        relation = _verify_order(inventories[target.side], source, target, array, order)
        if relation is not None:
            return relation
    return None


def _verify_order(
    inventory: Inventory, source: Unit, target: Unit, array: npt.NDArray[Any], order: tuple[int, ...]
) -> Relation | None:
    names = source.tensor.dtype.name, target.tensor.dtype.name
    same = names[0] == names[1]
    turned = array.transpose(order)
    row = prod(turned.shape[1:])
    rows = max(BLOCK_ELEMENTS // max(row, 1), 1)
    theirs = typed_blocks(inventory, target.tensor, rows * row)
    for first, block in zip(range(0, len(turned), rows), theirs, strict=True):
        ours = np.ascontiguousarray(turned[first : first + rows]).reshape(-1)
        equal = (
            np.array_equal(ours.view(np.uint8), block.view(np.uint8))
            if same
            else is_cast(ours, names[0], block, names[1])
        )
        if not equal:
            return None
    return Relation(not same, order)


def typed_blocks(
    inventory: Inventory, tensor: Tensor, count: int = BLOCK_ELEMENTS
) -> Iterator[npt.NDArray[Any]]:
    """Blocks of exactly ``count`` elements (the last may be shorter), shape ``(count,)``."""
    if tensor.elements <= count:
        whole_tensor = _whole(inventory, tensor)
        if whole_tensor is not None:
            yield whole_tensor
        return
    held: list[npt.NDArray[Any]] = []
    waiting = 0
    left = tensor.elements
    for block in blocks(inventory, tensor, tensor.dtype.nbytes(count)):
        decoded = elements(tensor.dtype, block, min(len(block) * 8 // tensor.dtype.bits, left))
        if decoded is None:
            raise ValueError(f"type {tensor.dtype.name} has no numpy equivalent")
        left -= len(decoded)
        if not held and len(decoded) == count:
            yield decoded
            continue
        # Strided tensors come in blocks of their own size: cut them anew.
        held.append(decoded.copy())
        waiting += len(decoded)
        if waiting >= count:
            joined = np.concatenate(held)
            whole = waiting - waiting % count
            for first in range(0, whole, count):
                yield joined[first : first + count]
            held, waiting = [joined[whole:]], waiting - whole
    if waiting:
        yield np.concatenate(held)


def _whole(inventory: Inventory, tensor: Tensor) -> npt.NDArray[Any] | None:
    return elements(tensor.dtype, packed(inventory, tensor), tensor.elements)
