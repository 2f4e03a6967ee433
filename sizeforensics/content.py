"""The elements of a tensor in C order, streamed from its storage in bounded blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from sizeforensics.dtypes import elements
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.source import BLOCK, Source
from sizeforensics.views import Coverage, extent

Bytes = npt.NDArray[np.uint8]

REREAD_FACTOR = 8
"""How many times the size of an artifact may be read again through views that share bytes.

Without it a file of 100 kB could ask for petabytes: a thousand tensors, each a broadcast to 2**40
elements of one stored number."""

REREAD_FLOOR = 32 << 20
"""Bytes that even the smallest artifact may be read again: matching looks at each of them in dozens of
ways, so that they are seconds."""


def readable(inventory: Inventory, coverage: Coverage) -> list[bool]:
    """Whether each tensor's elements can be read, within a bound linear in the artifact's size.

    Strided elements narrower than a byte are not: no writer stores them.
    """
    budget = REREAD_FACTOR * inventory.nbytes + REREAD_FLOOR
    verdicts = []
    for tensor, claimed in zip(inventory.tensors, coverage.claimed.tolist(), strict=True):
        payload = None if tensor.storage is None else inventory.storages[tensor.storage].payload
        again = max(tensor.nbytes - claimed, 0)
        whole = tensor.contiguous or tensor.dtype.bits >= 8
        verdict = (
            payload is not None
            and whole
            and again <= budget
            and extent(tensor)[1] <= payload.size
        )
        if verdict:
            budget -= again
        verdicts.append(verdict)
    return verdicts


def payload_of(inventory: Inventory, tensor: Tensor) -> Source:
    """The payload behind a tensor that ``readable`` said can be read."""
    payload = None if tensor.storage is None else inventory.storages[tensor.storage].payload
    if payload is None:
        raise ValueError(f"tensor {tensor.name!r} has no payload")
    return payload


def blocks(inventory: Inventory, tensor: Tensor, size: int = BLOCK) -> Iterator[Bytes]:
    """The packed elements in C order, at most about ``size`` bytes at a time.

    A block is valid until the next one; it holds whole elements when ``size`` is a multiple of 16.
    """
    payload = payload_of(inventory, tensor)
    start, end = extent(tensor)
    if tensor.contiguous:
        if end - start <= size:
            yield payload.array(start, end)  # most tensors: one read, no buffer to share
        else:
            yield from payload.blocks(start, end, size)
    else:
        yield from _pieces(_strided(payload, tensor, start, end), size)


def packed(inventory: Inventory, tensor: Tensor) -> Bytes:
    """All packed elements in C order as one uint8 array."""
    payload = payload_of(inventory, tensor)
    start, end = extent(tensor)
    if tensor.contiguous:
        return payload.array(start, end)
    return np.ascontiguousarray(_strided(payload, tensor, start, end)).reshape(-1).view(np.uint8)


def decoded(inventory: Inventory, tensor: Tensor) -> npt.NDArray[Any] | None:
    """All elements in C order, shape ``(elements,)``; None where the type has no numpy equivalent."""
    return elements(tensor.dtype, packed(inventory, tensor), tensor.elements)


def _strided(payload: Source, tensor: Tensor, start: int, end: int) -> npt.NDArray[np.void]:
    raw = np.dtype((np.void, tensor.dtype.bits // 8))
    flat = payload.array(start, end).view(raw)
    return as_strided(
        flat, tensor.shape, [stride * raw.itemsize for stride in tensor.strides], writeable=False
    )


def _pieces(array: npt.NDArray[np.void], size: int) -> Iterator[Bytes]:
    if array.nbytes <= size or array.ndim == 0:
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return
    row = array[0].nbytes
    if row > size:
        for part in array:
            yield from _pieces(part, size)
        return
    rows = max(size // max(row, 1), 1)
    for first in range(0, len(array), rows):
        yield np.ascontiguousarray(array[first : first + rows]).reshape(-1).view(np.uint8)


