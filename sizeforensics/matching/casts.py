"""Whether one array is another one cast to its type, decided element by element and bit by bit.

Rounding is to nearest, ties to even (IEEE 754-2019, 4.3.1), as torch, numpy and ONNX Runtime do.
Narrowing is never computed: numpy rounds float32 to float16 ten times slower than it widens. A
narrow value instead stands for the interval of wide values that round to it, and the test is
whether the wide value lies inside.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, numpy_dtype

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

_LEAST_NORMAL, _INFINITE = np.array([2.0**-14, 65520.0], dtype=np.float32).view(np.uint32)
"""Codes of the float32 values between which float16 has normal numbers to round to."""

_HALF_AND_BIAS = np.uint32((0xFFF - (112 << 23)) % 2**32)
"""Almost half of the last bit that float16 keeps, and the difference of the biases of exponents."""

EXACT_INTEGERS = 2.0**53
"""Below this every integer is a float64."""


def castable(name: str) -> bool:
    """Whether elements of this type can be compared with elements of another one."""
    # float8_e8m0fnu holds bare exponents: no writer agrees with another on how to round to it.
    return (
        name in DTYPES
        and DTYPES[name].kind not in ("opaque", "complex")
        and name != "float8_e8m0fnu"
        and numpy_dtype(name) is not None
    )


def cast_sample(values: Array, source: str, target: str) -> Array:
    """``values`` of type ``source`` as numpy casts them to ``target``; for fingerprints only."""
    dtype = numpy_dtype(target)
    if dtype is None:
        raise ValueError(f"type {target} has no numpy equivalent")
    with np.errstate(all="ignore"):
        if target == "bool":
            flags: Array = (values != 0).astype(np.uint8)
            return flags
        if DTYPES[source].bits < 32 and DTYPES[source].kind == "float":
            values = values.astype(np.float32)
        if DTYPES[target].bits < 32 and DTYPES[source].kind != "float":
            # Of the types of 2 and 4 bits none casts to another.
            values = values.astype(np.float64 if DTYPES[target].kind == "float" else np.int64)
        cast: Array = values.astype(dtype)
        return cast


def cast_into(found: Array, values: Array, source: str, target: str) -> None:
    """``cast_sample`` of many values, into an array that is there already."""
    if source == "float32" and target == "float16":
        _narrowed(found.view(np.uint16), values)
    elif DTYPES[source].bits == 16 and target == "float32":
        np.take(_widened(source, target), _codes(values, source), mode="clip", out=found)
    elif source == "float32" and target == "bfloat16":
        np.copyto(found, values, casting="unsafe")
    else:
        np.copyto(found, cast_sample(values, source, target))


def _narrowed(found: Array, values: Array) -> None:
    """The codes of float32 values rounded to float16.

    With integers, which is twice as fast as numpy: adding to a code half of what is cut off, and the
    last bit that is kept, rounds to nearest and ties to even, and carries into the exponent. What is
    not a normal number in both types is left to numpy.
    """
    codes = values.view(np.uint32)
    size = codes & np.uint32(0x7FFFFFFF)
    rounded = size >> np.uint32(13)
    rounded &= np.uint32(1)
    rounded += size
    rounded += _HALF_AND_BIAS
    rounded >>= np.uint32(13)
    sign = codes >> np.uint32(16)
    sign &= np.uint32(0x8000)
    rounded |= sign
    np.copyto(found, rounded, casting="unsafe")
    size -= _LEAST_NORMAL
    others = np.flatnonzero(size >= _INFINITE - _LEAST_NORMAL)
    found[others] = values[others].astype(np.float16).view(np.uint16)


def is_cast(values: Array, source: str, result: Array, target: str) -> bool:
    """Whether ``result`` (of type ``target``) is ``values`` (of type ``source``) cast to it.

    Both have shape ``(n,)``. NaNs and infinities must come out as such. Integers must keep their
    value: a cast that wraps is none.
    """
    return bool(equal_after_cast(values, source, result, target).all())


def equal_after_cast(
    values: Array, source: str, result: Array, target: str
) -> Mask:
    """Element by element, shape ``(n,)``: is ``result`` what ``values`` become when cast?"""
    if source == target:
        return _equal(_pattern(values), _pattern(result))
    from_float = DTYPES[source].kind == "float"
    with np.errstate(all="ignore"):
        if target == "bool":
            return _equal(result, (values != 0).astype(result.dtype))
        if DTYPES[target].kind == "float":
            if from_float:
                return _float_cast(values, source, result, target)
            wide = values.astype(np.float64)
            exact: Mask = np.abs(wide) < EXACT_INTEGERS
            return exact & _float_cast(wide, "float64", result, target)
        if from_float:
            whole = np.trunc(as_float(values, source, "float64"))
            exact = np.abs(whole) < EXACT_INTEGERS
            return exact & _equal(whole, result.astype(np.float64))
        return _integers_equal(values, result)


def _integers_equal(values: Array, result: Array) -> Mask:
    # numpy compares uint64 with int64 as float64, which loses the low bits: compare as int64
    # where both fit, which is the only case in which they can be equal.
    equal = _equal(values.astype(np.int64), result.astype(np.int64))
    if (values.dtype == np.uint64) != (result.dtype == np.uint64):
        equal &= values.astype(np.int64) >= 0
    return equal


def _float_cast(values: Array, source: str, result: Array, target: str) -> Mask:
    if DTYPES[target].bits >= 32:
        return _equal(_pattern(as_float(values, source, target)), _pattern(result))
    if source != "float64":
        return _rounds_to(as_float(values, source, "float32"), "float32", result, target)
    # torch narrows float64 by way of float32, which can round twice; numpy does not.
    return _rounds_to(values, source, result, target) | _rounds_to(
        values.astype(np.float32), "float32", result, target
    )


def _rounds_to(
    wide: Array, wide_name: str, result: Array, target: str
) -> Mask:
    """Whether each element of ``wide`` lies in the interval that its ``result`` stands for."""
    low, high = _rounding_intervals(target, wide_name)
    codes = _codes(result, target)
    becomes_nan = np.isnan(wide)
    if not np.isinf(high).any():
        # Overflow in a type without infinities: the largest value (ONNX Cast with saturate) or
        # NaN (torch). Both are taken.
        largest = np.nanmax(high)
        becomes_nan |= np.abs(wide) > largest
        wide = np.clip(wide, -largest, largest)
    # The sign of a zero is not compared: it carries no magnitude. A NaN lies in no interval.
    inside: Mask = (wide >= np.take(low, codes, mode="clip")) & (wide <= np.take(high, codes, mode="clip"))
    inside |= becomes_nan & np.take(np.isnan(low), codes)
    return inside


def _equal(one: Array, other: Array) -> Mask:
    equal: Mask = one == other
    return equal


def as_float(values: Array, source: str, target: str) -> Array:
    """Widen (or, from float64 to float32, round in hardware) to a numpy float type."""
    dtype = numpy_dtype(target)
    if DTYPES[source].bits <= 16:
        # One gather from a table in the processor's cache beats the conversion itself.
        # Every code has an entry, so nothing is clipped; "clip" only spares the bounds check.
        return np.take(_widened(source, target), _codes(values, source), mode="clip")
    return values.astype(dtype, copy=False)


@cache
def _widened(source: str, target: str) -> Array:
    """The value of every bit pattern of a type of at most 16 bits, in a wider numpy float type."""
    patterns = _all_patterns(source)
    with np.errstate(all="ignore"):
        return patterns.astype(np.float32).astype(numpy_dtype(target))


def _all_patterns(name: str) -> Array:
    dtype = numpy_dtype(name)
    if dtype is None:
        raise ValueError(f"type {name} has no numpy equivalent")
    bits = DTYPES[name].bits
    return np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8).view(dtype)


@cache
def _rounding_intervals(narrow: str, wide: str) -> tuple[Array, Array]:
    """For each bit pattern of ``narrow``: the least and greatest ``wide`` value rounding to it.

    NaN patterns get (NaN, NaN), which no comparison satisfies.
    """
    wide_dtype = numpy_dtype(wide)
    if wide_dtype is None:
        raise ValueError(f"type {wide} has no numpy equivalent")
    values = _widened(narrow, wide)
    finite = np.unique(values[np.isfinite(values)].astype(np.float64))
    # Beyond the largest finite value rounding behaves as if the exponent range went on.
    top = 2 * finite[-1] - finite[-2]
    middles = np.concatenate([[-top], finite]) / 2 + np.concatenate([finite, [top]]) / 2
    middles = middles.astype(wide_dtype)

    at = np.searchsorted(finite, np.where(np.isfinite(values), values, 0.0))
    low, high = middles[at], middles[at + 1]
    odd = np.arange(len(values)) % 2 == 1  # an odd significand loses its ties to its neighbours
    low[odd] = np.nextafter(low[odd], np.asarray(np.inf, dtype=wide_dtype))
    high[odd] = np.nextafter(high[odd], np.asarray(-np.inf, dtype=wide_dtype))

    low[values == np.inf], high[values == np.inf] = middles[-1], np.inf
    low[values == -np.inf], high[values == -np.inf] = -np.inf, -middles[-1]
    low[np.isnan(values)] = high[np.isnan(values)] = np.nan
    return low, high


def _codes(values: Array, name: str) -> Array:
    return values.view(np.uint16 if DTYPES[name].bits == 16 else np.uint8)


def _pattern(values: Array) -> Array:
    return values.view(f"u{values.dtype.itemsize}")
