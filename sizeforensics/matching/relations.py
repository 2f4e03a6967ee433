"""Whether the elements of one tensor are those of another, cast or permuted, compared in full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import blocks, decoded
from sizeforensics.dtypes import elements
from sizeforensics.excerpts import MOST_AXES, Excerpt, grid_shape
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.matching.casts import equal_after_cast, is_cast
from sizeforensics.matching.units import Unit

BLOCK_ELEMENTS = 1 << 17
"""Elements compared at once; two blocks of the widest type stay in the processor's cache."""

MAX_PERMUTED_RANK = 6
"""Axes longer than 1 up to which permutations are tried; no exporter permutes more."""


UNKNOWN: tuple[int, ...] = ()
"""The order of axes that were permuted in a way that excerpts do not tell."""


LEAST_BITS = 64
"""Information in integers, as far as a sample tells, from which equality is no chance."""


class Relation(NamedTuple):
    """How one unit's elements equal another's; ``order`` is None unless axes were permuted."""

    cast: bool
    order: tuple[int, ...] | None
    back: bool = False
    """Whether it is the source that is the target cast, and not the reverse."""
    reshaped: str = ""
    """Whether the axes permuted are those of the source, reshaped ``after``, or the target's,
    reshaped ``before``; empty where the permutation alone makes the target's shape."""
    evidence: str = "proved"
    """``inferred`` where only excerpts were compared and no digest tells."""

    @property
    def inverse(self) -> Relation:
        """The same relation seen from the target."""
        order = None if self.order is None else tuple(np.argsort(self.order).tolist())
        reshaped = {"after": "before", "before": "after"}.get(self.reshaped, "")
        return Relation(self.cast, order, self.cast and not self.back, reshaped, self.evidence)

    def words(self, source: Tensor, target: Tensor) -> str:
        """The transformation from ``source`` to ``target`` as a phrase."""
        steps = []
        if self.reshaped == "before":
            steps.append("reshaped")
        if self.order == UNKNOWN:
            steps.append("the same elements in another order")
        elif self.order is not None:
            steps.append(f"axes permuted {self.order}")
            if self.reshaped == "after":
                steps.append("reshaped")
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
        whole = (source.contiguous and target.contiguous) or source.strides == target.strides
        return "identical bytes" if whole else "identical elements in another order in memory"


def casts_to(inventories: tuple[Inventory, Inventory], source: Unit, target: Unit) -> bool:
    """Whether ``target`` is ``source`` cast to its type, element by element in C order."""
    names = source.tensor.dtype.name, target.tensor.dtype.name
    if _truncated_by_chance(source, target):
        return False
    samples = _all_of(source), _all_of(target)
    if samples[0] is not None and samples[1] is not None:
        return is_cast(samples[0], names[0], samples[1], names[1])
    if source.excerpt is not None and target.excerpt is not None:
        key = target.excerpt.key
        return key is not None and source.excerpt.casts.get(names[1]) == key
    return all(
        is_cast(ours, names[0], theirs, names[1])
        for ours, theirs in zip(
            typed_blocks(inventories[source.side], source.tensor),
            typed_blocks(inventories[target.side], target.tensor),
            strict=True,
        )
    )


def _all_of(unit: Unit) -> npt.NDArray[Any] | None:
    """The elements of a unit where its sample holds all of them: they were read once already."""
    sample = unit.sample
    return sample if sample is not None and len(sample) == unit.tensor.elements else None


def _truncated_by_chance(source: Unit, target: Unit) -> bool:
    """Whether integers say too little to be called floats without their fractions.

    Of weights between -1 and 1 these are zeros with a few ones, as the padding of some operator is.
    """
    kinds = source.tensor.dtype.kind, target.tensor.dtype.kind
    if kinds[0] != "float" or kinds[1] not in ("int", "uint") or target.sample is None:
        return False
    _, counts = np.unique(target.sample, return_counts=True)
    shares = counts / counts.sum()
    return bool(-np.sum(shares * np.log2(shares)) * target.tensor.elements < LEAST_BITS)


def permuted(
    inventories: tuple[Inventory, Inventory], source: Unit, target: Unit
) -> Relation | None:
    """The permutation of axes, with or without reshape and cast, that makes ``target`` of ``source``."""
    shape, wanted = (
        tuple(size for size in unit.tensor.shape if size != 1) for unit in (source, target)
    )
    names = source.tensor.dtype.name, target.tensor.dtype.name
    if _truncated_by_chance(source, target):
        return None
    if source.excerpt is not None and target.excerpt is not None:
        return _permuted_excerpt(source, source.excerpt, target, target.excerpt)
    ours, theirs = (
        decoded(inventories[unit.side], unit.tensor) if (sample := _all_of(unit)) is None else sample
        for unit in (source, target)
    )
    if ours is None or theirs is None:
        return None
    for order, reshaped in _turnings(shape, wanted):
        if reshaped == "before":
            turned = theirs.reshape(wanted).transpose(np.argsort(order))
            equal = _equal_blocks(_rows_of(ours, turned), names[0], _blocks_of(turned), names[1])
        else:
            turned = ours.reshape(shape).transpose(order)
            equal = _equal_blocks(_blocks_of(turned), names[0], _rows_of(theirs, turned), names[1])
        if equal:
            return Relation(names[0] != names[1], order, reshaped=reshaped)
    return None


def _permuted_excerpt(
    source: Unit, ours: Excerpt, target: Unit, theirs: Excerpt
) -> Relation | None:
    """``permuted`` of two excerpts. Of a matrix the digest of its transpose tells, else the bags do;
    the grids say which axes were permuted, unless the shape was changed too."""
    shape, wanted = (
        tuple(size for size in unit.tensor.shape if size != 1) for unit in (source, target)
    )
    names = source.tensor.dtype.name, target.tensor.dtype.name
    cast, plain = names[0] != names[1], shape[::-1] == wanted
    directions = (("before", ours, names[1], theirs), ("after", theirs, names[0], ours))
    for reshaped, one, name, other in directions:
        # One is the other transposed and cast if, cast alone, it is the transpose of the other.
        key = one.casts.get(name) if cast else one.key
        if key is not None and key == other.transposed:
            return Relation(cast, (1, 0), cast and one is theirs, "" if plain else reshaped)
    if plain and not cast and ours.transposed is not None:
        return None
    if not same_bag(source, target) or ours.grid is None or theirs.grid is None:
        return None
    kept, flat = ours.grid.reshape(grid_shape(shape)), theirs.grid.reshape(-1)
    found: tuple[int, ...] = UNKNOWN
    for order in _orders(shape) if len(shape) <= MOST_AXES else ():
        moved = np.ascontiguousarray(kept.transpose(order)).reshape(-1)
        fits = tuple(shape[axis] for axis in order) == wanted
        if fits and equal_after_cast(moved, names[0], flat, names[1]).all():
            found = order
            break
    return Relation(cast, found, evidence="inferred")


def same_bag(one: Unit, other: Unit) -> bool:
    """Whether two excerpts hold the same elements, or one the other's rounded to its type."""
    if one.excerpt is None or other.excerpt is None:
        return False
    names = one.tensor.dtype.name, other.tensor.dtype.name
    ours, theirs = one.excerpt.bags, other.excerpt.bags
    own, wanted = ours.get(names[0]), theirs.get(names[1])
    if own is None or wanted is None:
        return False
    return own in (wanted, theirs.get(names[0])) or wanted == ours.get(names[1])


def _turnings(
    shape: tuple[int, ...], wanted: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Orders of axes and where a reshape comes in, permutations without one first."""
    orders, back = _orders(shape), _orders(wanted)
    plain = [order for order in orders if tuple(shape[axis] for axis in order) == wanted]
    yield from ((order, "") for order in plain)
    yield from ((order, "after") for order in orders if order not in plain)
    for order in back:
        if tuple(wanted[axis] for axis in np.argsort(order)) != shape:
            yield order, "before"


def _orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every order of the axes but their own; none where there are more than any exporter permutes."""
    if len(shape) > MAX_PERMUTED_RANK:
        return []
    return list(permutations(range(len(shape))))[1:]


def _blocks_of(turned: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The elements of an array in C order, some rows at a time."""
    rows = _rows_at_once(turned)
    for first in range(0, len(turned), rows):
        yield np.ascontiguousarray(turned[first : first + rows]).reshape(-1)


def _rows_of(flat: npt.NDArray[Any], turned: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The elements of a flat array in blocks as long as those of ``turned``."""
    count = _rows_at_once(turned) * prod(turned.shape[1:])
    return (flat[first : first + count] for first in range(0, len(flat), count))


def _rows_at_once(turned: npt.NDArray[Any]) -> int:
    return max(BLOCK_ELEMENTS // max(prod(turned.shape[1:]), 1), 1)


def _equal_blocks(
    ours: Iterable[npt.NDArray[Any]], source: str, theirs: Iterable[npt.NDArray[Any]], target: str
) -> bool:
    return all(
        np.array_equal(one.view(np.uint8), other.view(np.uint8))
        if source == target
        else is_cast(one, source, other, target)
        for one, other in zip(ours, theirs, strict=True)
    )


def typed_blocks(
    inventory: Inventory, tensor: Tensor, count: int = BLOCK_ELEMENTS
) -> Iterator[npt.NDArray[Any]]:
    """Blocks of exactly ``count`` elements (the last may be shorter), shape ``(count,)``."""
    if tensor.elements <= count:
        whole_tensor = decoded(inventory, tensor)
        if whole_tensor is not None:
            yield whole_tensor
        return
    held: list[npt.NDArray[Any]] = []
    waiting = 0
    left = tensor.elements
    for block in blocks(inventory, tensor, tensor.dtype.nbytes(count)):
        part = elements(tensor.dtype, block, min(len(block) * 8 // tensor.dtype.bits, left))
        if part is None:
            raise ValueError(f"type {tensor.dtype.name} has no numpy equivalent")
        left -= len(part)
        if not held and len(part) == count:
            yield part
            continue
        # Strided tensors come in blocks of their own size: cut them anew.
        held.append(part.copy())
        waiting += len(part)
        if waiting >= count:
            joined = np.concatenate(held)
            whole = waiting - waiting % count
            for first in range(0, whole, count):
                yield joined[first : first + count]
            held, waiting = [joined[whole:]], waiting - whole
    if waiting:
        yield np.concatenate(held)
