"""Which elements a tensor holds, in whatever order and among however many zeros, as one number.

The bag of some elements is the sum of a scrambled number for each, modulo 2**48, and nothing for a
zero. So it stays the same when axes are permuted or rows reordered, when zeros are left out or filled
in; and the bags of the parts of a tensor sum to its own. Elements count by their values: floats up to
32 bits as float32, integers as int64, so that widening them changes nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, numpy_dtype

BAG_BYTES = 6
"""Bytes of a bag: enough for a few candidates to be told apart among millions of sums."""

MODULUS = 1 << 8 * BAG_BYTES

_ODD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: multiplying by it spreads neighbouring numbers evenly."""

_HALF = np.uint64(32)
_REST = np.uint64(64 - 8 * BAG_BYTES)
BLOCK = 1 << 13
"""Elements scrambled at once: what is computed on the way stays in the processor's cache, and in
memory that the allocator keeps. Arrays that it has to ask the system for cost several times as much."""

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.uint64]


def bag_of(values: Array, name: str) -> int:
    """The bag of ``values``, shape ``(n,)``, elements of a type that can be compared with others."""
    blocks = (values[first : first + BLOCK] for first in range(0, len(values), BLOCK))
    look = _looked_up if DTYPES[name].bits <= 16 else _scrambled
    return sum(int(np.add.reduce(look(block, name))) for block in blocks) % MODULUS


def _looked_up(values: Array, name: str) -> Numbers:
    """``_scrambled`` of a type of at most 16 bits: one gather from a table beats the arithmetic."""
    codes: Array = values.view(np.uint16 if DTYPES[name].bits == 16 else np.uint8)
    # Every code has an entry; "clip" only spares the bounds check.
    return np.take(_of_every_code(name), codes, mode="clip")


@cache
def _of_every_code(name: str) -> Numbers:
    """The scrambled number of every bit pattern of a type of at most 16 bits."""
    dtype = numpy_dtype(name)
    if dtype is None:
        raise ValueError(f"type {name} has no numpy equivalent")
    codes = np.arange(1 << 8 * dtype.itemsize, dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    with np.errstate(all="ignore"):
        return _scrambled(codes.view(dtype), name)


def _scrambled(values: Array, name: str) -> Numbers:
    if DTYPES[name].kind != "float":
        found = values.astype(np.int64).view(np.uint64)
    else:
        wide = values if DTYPES[name].bits > 32 else values.astype(np.float32, copy=False)
        wide = wide + wide.dtype.type(0)  # of the two zeros the one without a sign
        found = wide.view(f"u{wide.itemsize}").astype(np.uint64)
    found *= _ODD
    found ^= found >> _HALF
    found *= found
    found >>= _REST
    return found
