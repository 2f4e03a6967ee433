"""Bags: sums that say which elements there are, in whatever order."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sizeforensics.bags import MODULUS, bag_of

FLOATS = arrays.arrays(
    np.float32, st.integers(0, 40), elements=st.floats(-1e6, 1e6, width=32, allow_nan=False)
)


@given(FLOATS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    assert bag_of(values[order], "float32") == bag_of(values, "float32")


@given(FLOATS, st.integers(0, 40))
def test_parts_sum_to_the_whole(values, cut):
    parts = bag_of(values[:cut], "float32") + bag_of(values[cut:], "float32")
    assert parts % MODULUS == bag_of(values, "float32")


@given(FLOATS, st.integers(0, 10))
def test_zeros_of_either_sign_do_not_count(values, zeros):
    filled = np.concatenate([values, np.zeros(zeros, np.float32), -np.zeros(zeros, np.float32)])
    assert bag_of(filled, "float32") == bag_of(values, "float32")


@given(FLOATS.filter(len), st.data())
def test_one_other_element_makes_another_bag(values, data):
    at = data.draw(st.integers(0, len(values) - 1))
    changed = values.copy()
    changed[at] = np.nextafter(values[at], np.float32(np.inf)) if values[at] else np.float32(1)
    assert bag_of(changed, "float32") != bag_of(values, "float32")


def test_the_sum_of_the_elements_is_not_enough():
    assert bag_of(np.array([1, 3]), "int64") != bag_of(np.array([2, 2]), "int64")
    assert bag_of(np.array([0.5, 1.5]), "float64") != bag_of(np.array([1.0, 1.0]), "float64")


@pytest.mark.parametrize(
    ("name", "narrow", "wide"),
    [
        ("float16", np.float16, "float32"), ("bfloat16", ml_dtypes.bfloat16, "float32"),
        ("float8_e4m3fn", ml_dtypes.float8_e4m3fn, "float32"), ("int8", np.int8, "int64"),
        ("uint8", np.uint8, "int64"), ("int32", np.int32, "int64"), ("bool", np.uint8, "int64"),
    ],
)  # fmt: skip
def test_widening_changes_nothing(name, narrow, wide):
    values = np.arange(-9 if "u" not in np.dtype(narrow).name[:1] else 0, 9).astype(narrow)
    assert bag_of(values, name) == bag_of(values.astype(wide), wide)


def test_large_arrays_are_summed_block_by_block():
    values = np.random.default_rng(0).standard_normal(100_000, dtype=np.float32)
    parts = sum(bag_of(values[at : at + 777], "float32") for at in range(0, len(values), 777))
    assert parts % MODULUS == bag_of(values, "float32")
