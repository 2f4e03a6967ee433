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

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio: multiplying by it spreads neighbouring numbers evenly."""

_HALF = np.uint64(32)
_REST = np.uint64(64 - 8 * BAG_BYTES)
BLOCK = 1 << 14
"""Elements scrambled at once: what is computed on the way stays in the processor's cache."""

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.uint64]


def bag_of(values: Array, name: str) -> int:
    """The bag of ``values``, shape ``(n,)``, elements of a type that can be compared with others."""
    size = min(len(values), BLOCK)
    # Allocated once: memory that the system has to give anew costs more than the arithmetic.
    found, spare = np.empty((2, size), dtype=np.uint64)
    table = _of_every_code(name) if DTYPES[name].bits <= 16 else None
    total = 0
    for first in range(0, len(values), BLOCK):
        block = values[first : first + BLOCK]
        numbers = found[: len(block)]
        if table is None:
            _scramble(block, name, numbers, spare[: len(block)])
        else:
            # One gather beats the arithmetic. Every code has an entry; "clip" spares the bounds check.
            codes: Array = block.view(np.uint16 if DTYPES[name].bits == 16 else np.uint8)
            np.take(table, codes, mode="clip", out=numbers)
        total += int(np.add.reduce(numbers))
    return total % MODULUS


@cache
def _of_every_code(name: str) -> Numbers:
    """The scrambled number of every bit pattern of a type of at most 16 bits."""
    dtype = numpy_dtype(name)
    if dtype is None:
        raise ValueError(f"type {name} has no numpy equivalent")
    codes = np.arange(1 << 8 * dtype.itemsize, dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    found, spare = np.empty((2, len(codes)), dtype=np.uint64)
    with np.errstate(all="ignore"):
        floats = DTYPES[name].kind == "float"
        values = codes.view(dtype).astype(np.float32) if floats else codes.view(dtype)
        _scramble(values, "float32" if floats else name, found, spare)
    return found


def _scramble(values: Array, name: str, found: Numbers, spare: Numbers) -> None:
    """Put the scrambled number of each value, floats of at least 32 bits, into ``found``."""
    if DTYPES[name].kind != "float":
        np.copyto(found.view(np.int64), values, casting="unsafe")
    else:
        wide = spare.view(values.dtype)[: len(values)]
        np.add(values, values.dtype.type(0), out=wide)  # of the two zeros the one without a sign
        np.copyto(found, wide.view(f"u{wide.itemsize}"))
    found *= GOLDEN
    np.right_shift(found, _HALF, out=spare)
    found ^= spare
    found *= found
    found >>= _REST
