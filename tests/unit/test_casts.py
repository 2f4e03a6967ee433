"""Casts that a reader would ask about, by name; tests/property/test_cast_laws.py has the rest."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.dtypes import DTYPES, numpy_dtype
from sizeforensics.matching.casts import cast_into, cast_sample, castable, equal_after_cast, is_cast


@pytest.mark.parametrize(
    ("value", "result", "is_one"),
    [
        (1 + 2.0**-11, 1.0, True),  # a tie goes to the even neighbour
        (1 + 2.0**-11, 1 + 2.0**-10, False),
        (1 + 3 * 2.0**-11, 1 + 2.0**-9, True),
        (65_519.99, 65_504.0, True),
        (65_520.0, np.inf, True),
        (65_520.0, 65_504.0, False),
        (-65_520.0, -np.inf, True),
        (2.0**-25, 0.0, True),
        (2.0**-25 * 1.0001, 2.0**-24, True),
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (np.inf, np.nan, False),
        (np.inf, 65_504.0, False),
        (0.0, 0.0, True),
    ],
)
def test_single_to_half(value, result, is_one):
    values, results = np.array([value], dtype="<f4"), np.array([result], dtype="<f2")
    assert is_cast(values, "float32", results, "float16") is is_one


def test_float8_overflow_is_saturated_or_nan():
    values = np.array([1e6, -1e6], dtype="<f4")
    for result in ([448, -448], [np.nan, np.nan]):
        results = np.array(result).astype(ml_dtypes.float8_e4m3fn)
        assert is_cast(values, "float32", results, "float8_e4m3fn")
    wrong = np.array([448, 448]).astype(ml_dtypes.float8_e4m3fn)
    assert equal_after_cast(values, "float32", wrong, "float8_e4m3fn").tolist() == [True, False]


def test_empty_arrays_are_casts_of_each_other():
    assert is_cast(np.zeros(0, "<f4"), "float32", np.zeros(0, "<f2"), "float16")


def test_a_sample_is_cast_as_numpy_casts_it():
    values = np.array([1.25, -3.5], dtype="<f4")
    assert cast_sample(values, "float32", "float16").tolist() == [1.25, -3.5]
    assert cast_sample(values, "float32", "bool").tolist() == [1, 1]
    with pytest.raises(ValueError, match="string"):
        cast_sample(values, "float32", "string")


def test_every_type_casts_to_every_other():
    """numpy refuses to cast the integers of 2 and 4 bits to each other."""
    types = [name for name in DTYPES if castable(name)]
    assert {"int2", "uint2", "int4", "uint4", "float4_e2m1fn"} <= set(types)
    for source in types:
        values = np.array([0, 1, 1, 0, 1], "f4").astype(numpy_dtype(source))
        for target in types:
            assert is_cast(values, source, cast_sample(values, source, target), target), (source, target)


PAIRS = [("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32"), ("float64", "float16")]


def test_casting_into_an_array_gives_what_numpy_gives():
    """All float16 codes, what lies halfway between two of them, and the float32 numbers beside it."""
    codes = np.arange(1 << 16, dtype=np.uint16)
    anything = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint32)
    with np.errstate(all="ignore"):
        values = codes.view(np.float16).astype(np.float32)
        middles = ((values[1:].astype("f8") + values[:-1]) / 2).astype("f4")
        around = [np.nextafter(middles, np.float32(end)) for end in (-np.inf, np.inf)]
        everything = np.concatenate([values, middles, *around, anything.view(np.float32)])
        for source, target in PAIRS:
            given = everything.astype(numpy_dtype(source))
            found = np.empty(len(given), numpy_dtype(target))
            cast_into(found, given, source, target)
            expected = cast_sample(given, source, target)
            same = found.view(f"u{found.itemsize}") == expected.view(f"u{found.itemsize}")
            assert np.all(same | (np.isnan(found) & np.isnan(expected)))
