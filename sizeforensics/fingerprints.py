"""One pass over all tensor payload: a digest and a few sampled elements of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from sizeforensics.content import Bytes, blocks, packed, readable
from sizeforensics.dtypes import elements, numpy_dtype
from sizeforensics.excerpts import Excerpt
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.views import Coverage

SAMPLE = 64
"""Elements in a sample, spread evenly over the tensor: first, last and between."""

THREADS = 2
"""Reading and hashing release the interpreter lock; memory bandwidth is the limit beyond two."""

LARGE = 1 << 16
"""Bytes from which handing a tensor to a thread costs less than it gains."""

Advance = Callable[[int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """``digest`` is xxh3-128 of a tensor's packed elements in C order.

    ``sample`` holds up to ``SAMPLE`` elements, shape ``(k,)``; None where the element type has no
    numpy equivalent.
    """

    digest: bytes
    sample: npt.NDArray[Any] | None


def silent(_done: int) -> None:
    """The progress callback of a caller who does not want to know."""


def fingerprints(
    inventory: Inventory, coverage: Coverage, advance: Advance = silent
) -> list[Fingerprint | None]:
    """The fingerprint of each tensor; None where its payload is missing or out of bounds.

    Views of the same bytes are read once. ``advance`` is called with the number of bytes done. What
    a snapshot keeps of a tensor was read when it was taken.
    """
    if inventory.excerpts is not None:
        return [_kept(excerpt) for excerpt in inventory.excerpts]
    can_read = readable(inventory, coverage)
    distinct: dict[object, Tensor] = {}
    for tensor, ok in zip(inventory.tensors, can_read, strict=True):
        if ok:
            distinct.setdefault(_view_key(tensor), tensor)

    def look(tensor: Tensor) -> Fingerprint:
        fingerprint = _fingerprint(inventory, tensor)
        advance(tensor.nbytes)
        return fingerprint

    tensors = list(distinct.values())
    looked = on_threads(look, tensors, [tensor.nbytes for tensor in tensors])
    found = dict(zip(distinct, looked, strict=True))
    return [
        found[_view_key(tensor)] if ok else None
        for tensor, ok in zip(inventory.tensors, can_read, strict=True)
    ]


def _kept(excerpt: Excerpt) -> Fingerprint | None:
    if excerpt.digest is None:
        return None
    return Fingerprint(excerpt.digest, None if excerpt.grid is None else excerpt.grid.reshape(-1))


def on_threads(
    work: Callable[[Item], Result], items: Sequence[Item], nbytes: Sequence[int]
) -> list[Result]:
    """``work`` on every item, the large ones on threads; results in the order of ``items``."""
    # A thread does not inherit how numpy treats what is not finite.
    with ThreadPoolExecutor(THREADS, initializer=partial(np.seterr, **np.geterr())) as pool:
        started = [
            pool.submit(work, item) if size >= LARGE else None
            for item, size in zip(items, nbytes, strict=True)
        ]
        return [
            work(item) if future is None else future.result()
            for item, future in zip(items, started, strict=True)
        ]


def _fingerprint(inventory: Inventory, tensor: Tensor) -> Fingerprint:
    count = tensor.elements
    positions = _positions(count)
    typed = numpy_dtype(tensor.dtype.name) is not None
    if tensor.nbytes < LARGE:
        whole = packed(inventory, tensor)
        sample = _elements_at(tensor, whole, count, positions) if typed else None
        return Fingerprint(xxhash.xxh3_128_digest(whole.data), sample)
    state = xxhash.xxh3_128()
    parts: list[npt.NDArray[Any]] = []
    first = 0
    for block in blocks(inventory, tensor):
        state.update(block.data)
        last = min(first + len(block) * 8 // tensor.dtype.bits, count)
        if typed:
            parts.append(_elements_at(tensor, block, last - first, _between(positions, first, last)))
        first = last
    sample = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None
    return Fingerprint(state.digest(), sample)


@lru_cache(maxsize=1024)
def _positions(count: int) -> npt.NDArray[np.int64]:
    """Indices of the sampled elements of ``count``, ascending."""
    taken = min(SAMPLE, count)
    return np.arange(taken) * (count - 1) // max(taken - 1, 1)


def _between(positions: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.int64]:
    """The positions in ``[first, last)``, counted from ``first``."""
    if first == 0 and (not len(positions) or positions[-1] < last):
        return positions
    here = slice(*np.searchsorted(positions, (first, last)))
    return positions[here] - first


def _elements_at(
    tensor: Tensor, block: Bytes, count: int, positions: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    decoded = elements(tensor.dtype, block, count)
    if decoded is None:
        raise ValueError(f"type {tensor.dtype.name} has no numpy equivalent")
    return decoded if len(positions) == count else decoded[positions]


def _view_key(tensor: Tensor) -> object:
    """Equal for tensors that view the same bytes in the same way."""
    if tensor.contiguous:
        return tensor.storage, tensor.offset, tensor.dtype.name, tensor.elements
    return tensor.storage, tensor.offset, tensor.dtype.name, tensor.shape, tensor.strides
