"""What a recipe is: the words and the numbers that regenerate an array, and when it is the same.

A recipe is proved by running it: the function that finds one returns it only when what it computes
equals the stored elements, all of them. What is computed in floating point may differ by roundings:
those of the computation, which is done in single precision or better, and that of the result to a
type of fewer bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

ROUNDINGS = 16
"""Units of roundoff by which the numbers of a computation may differ: a few products and sums."""

SINGLE = 2.0**-24
"""Unit of roundoff of single precision, the least in which libraries compute tables."""

COUNT = 8
"""Bytes that say how often a number is repeated, or where a part begins."""


class Recipe(NamedTuple):
    """What regenerates a tensor, in words, and how many bytes of numbers that takes."""

    words: str
    nbytes: int


def bits(array: Array) -> Array:
    """Elements as integers, so that equal means equal bit for bit."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def is_float(array: Array) -> bool:
    """Whether the elements are floats, those of ``ml_dtypes`` included."""
    return array.dtype.kind == "f" or (array.dtype.kind == "V" and "float" in array.dtype.name)


def slack(array: Array) -> tuple[float, float]:
    """(roundings of the computation, rounding to the stored type), both relative."""
    if not is_float(array):
        return 2.0**-40, 0.0
    if array.dtype.kind == "f" and array.dtype.itemsize >= 4:
        return ROUNDINGS * float(np.finfo(array.dtype).eps) / 2, 0.0
    # The distance from 1 to the next number, whatever the type: that of ml_dtypes has no numpy finfo.
    one = np.ones(1, dtype=array.dtype)
    following = (bits(one) + np.uint8(1)).astype(bits(one).dtype).view(array.dtype)
    return ROUNDINGS * SINGLE, float(following[0].astype(np.float64) - 1) / 2


def _least(array: Array) -> float:
    """The least positive number of a type, to a multiple of which small ones are rounded."""
    if not is_float(array):
        return 0.0
    one = np.ones(1, dtype=f"u{array.dtype.itemsize}")
    return float(one.view(array.dtype)[0].astype(np.float64))


def same(
    expected: Doubles, stored: Array, peak: Doubles | float, more: Doubles | float = 0.0
) -> bool:
    """Whether a computation gives the stored elements within rounding.

    ``peak`` is the size of the numbers it computes with, ``more`` an error that it has beside that of
    rounding them; both broadcast. The numbers of a recipe are read off rounded elements, so the
    rounding to the stored type counts once for them as well.
    """
    computed, rounded = slack(stored)
    # What is not finite fails the comparison.
    bound = more + computed * peak + rounded * (np.abs(expected) + peak) + _least(stored)
    return bool(np.all(np.abs(expected - stored.astype(np.float64)) <= bound))
