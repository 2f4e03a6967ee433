"""Casts that a reader would ask about, by name; tests/property/test_cast_laws.py has the rest."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.matching.casts import cast_sample, equal_after_cast, is_cast


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
