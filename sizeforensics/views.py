"""Which bytes of a storage each tensor is the first to view, and which bytes no tensor views."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from sizeforensics.inventory import Inventory, Storage, Tensor
from sizeforensics.spans import Integers


@dataclass(frozen=True, slots=True)
class Coverage:
    """How the tensors of an inventory share its storages, in decoded bytes.

    ``claimed[i]`` are the bytes that tensor ``i`` is the first to view, in the order of the
    inventory: 0 for a tied weight. ``slack[j]`` are the bytes of storage ``j`` nobody views. For
    every storage the claims of its tensors and its slack sum to ``nbytes``.
    """

    claimed: Integers
    slack: Integers


def cover(inventory: Inventory) -> Coverage:
    """Count every stored byte once, for the first tensor that views it."""
    if inventory.excerpts is not None:
        return _counted(inventory, [excerpt.claimed for excerpt in inventory.excerpts])
    # Lists: numpy takes longer than all the rest to change one number at a time.
    claimed = [0] * len(inventory.tensors)
    slack = [storage.nbytes for storage in inventory.storages]
    viewers: dict[int, list[int]] = {}
    for index, tensor in enumerate(inventory.tensors):
        if tensor.storage is not None and tensor.elements:
            viewers.setdefault(tensor.storage, []).append(index)
    for number, indices in viewers.items():
        storage = inventory.storages[number]
        tensors = [inventory.tensors[index] for index in indices]
        if len(tensors) == 1 and tensors[0].contiguous:
            start, end = _inside(storage, tensors[0])
            claimed[indices[0]] = end - start
            slack[number] -= end - start
            continue
        if all(tensor.contiguous or tensor.dtype.bits < 8 for tensor in tensors):
            shares = _claim_intervals(storage, tensors)
        else:
            shares = _claim_elements(storage, tensors)
        for index, share in zip(indices, shares, strict=True):
            claimed[index] = share
            slack[number] -= share
    return Coverage(np.array(claimed, dtype=np.int64), np.array(slack, dtype=np.int64))


def _counted(inventory: Inventory, claimed: list[int]) -> Coverage:
    """The coverage of an artifact of which the claims are known."""
    slack = [storage.nbytes for storage in inventory.storages]
    for tensor, share in zip(inventory.tensors, claimed, strict=True):
        if tensor.storage is not None:
            slack[tensor.storage] -= share
    return Coverage(np.array(claimed, dtype=np.int64), np.array(slack, dtype=np.int64))


def extent(tensor: Tensor) -> tuple[int, int]:
    """First and one-past-last byte of its storage that a tensor reaches; (0, 0) when empty."""
    if not tensor.elements:
        return 0, 0
    if tensor.dtype.total is not None:
        return 0, tensor.dtype.total
    if tensor.contiguous:
        reach = tensor.elements
    else:
        reach = 1 + sum(
            (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
    bits = tensor.dtype.bits
    return tensor.offset * bits // 8, ((tensor.offset + reach) * bits + 7) // 8


def _inside(storage: Storage, tensor: Tensor) -> tuple[int, int]:
    """The part of a tensor's extent that the storage has."""
    start, end = extent(tensor)
    return min(start, storage.nbytes), min(end, storage.nbytes)


def _claim_intervals(storage: Storage, tensors: list[Tensor]) -> list[int]:
    """Claims of contiguous views: each is one interval, and ``taken`` stays sorted and disjoint.

    Types narrower than a byte are taken for contiguous: what lies between their elements is in
    the same bytes.
    """
    taken: list[tuple[int, int]] = []
    shares = []
    for tensor in tensors:
        start, end = _inside(storage, tensor)
        # The first interval that could touch [start, end) may begin before it.
        at = bisect_left(taken, (start, start))
        if at and taken[at - 1][1] > start:
            at -= 1
        last = at
        overlap = 0
        low, high = start, end
        while last < len(taken) and taken[last][0] < end:
            overlap += min(end, taken[last][1]) - max(start, taken[last][0])
            low, high = min(low, taken[last][0]), max(high, taken[last][1])
            last += 1
        taken[at:last] = [(low, high)]
        shares.append(end - start - overlap)
    return shares


def _claim_elements(storage: Storage, tensors: list[Tensor]) -> list[int]:
    """Claims of strided views, on a mask with one entry per element.

    The unit is the largest that divides every view's element size and byte position.
    """
    unit = gcd(storage.nbytes, *(max(tensor.dtype.bits // 8, 1) for tensor in tensors))
    mask = np.zeros(storage.nbytes // unit, dtype=bool)
    shares = []
    for tensor in tensors:
        start, end = (position // unit for position in extent(tensor))
        window = mask[start:end]
        seen = int(np.count_nonzero(window))
        window |= _touched(tensor, max(tensor.dtype.bits // 8, 1) // unit, len(window))
        shares.append((int(np.count_nonzero(window)) - seen) * unit)
    return shares


def _touched(tensor: Tensor, units: int, length: int) -> npt.NDArray[np.bool_]:
    """Which of ``length`` units, from the tensor's first, its view reaches.

    The set is built one dimension at a time by doubling, so a hostile shape of 2**62 elements
    over a small storage costs only ``length`` x log2(size) for each dimension.
    """
    reached = np.zeros(length, dtype=bool)
    reached[:units] = True
    for size, stride in zip(tensor.shape, tensor.strides, strict=True):
        done = 1
        while stride and done < size:
            step = min(done, size - done)
            shift = step * stride * units
            if shift < length:
                reached[shift:] |= reached[: length - shift].copy()
            done += step
    return reached
