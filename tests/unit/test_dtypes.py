"""Element types: widths, packing and what numpy makes of stored bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.dtypes import DTYPES, elements, numpy_dtype, opaque

TYPED = [name for name in DTYPES if numpy_dtype(name) is not None]


@pytest.mark.parametrize("name", TYPED)
def test_width_agrees_with_numpy(name):
    dtype = DTYPES[name]
    if dtype.bits >= 8:
        assert numpy_dtype(name).itemsize * 8 == dtype.bits


@pytest.mark.parametrize(
    ("name", "count", "nbytes"),
    [("float32", 3, 12), ("int4", 3, 2), ("int4", 4, 2), ("uint2", 5, 2), ("int1", 9, 2),
     ("float4_e2m1fn", 1, 1), ("bool", 7, 7), ("complex128", 2, 32), ("int4", 0, 0)],
)
def test_packed_bytes(name, count, nbytes):
    assert DTYPES[name].nbytes(count) == nbytes


@pytest.mark.parametrize("name", ["string", "complex32", "int1", "uint1", "bits16", "no such type"])
def test_types_that_are_sized_but_not_computed_with(name):
    assert numpy_dtype(name) is None
    assert elements(DTYPES.get(name) or opaque(name, 16), np.zeros(4, dtype=np.uint8), 1) is None


@given(st.sampled_from([name for name in TYPED if DTYPES[name].bits >= 8]), st.binary(max_size=64))
def test_whole_bytes_are_viewed_little_endian(name, data):
    dtype = DTYPES[name]
    count = len(data) * 8 // dtype.bits
    got = elements(dtype, np.frombuffer(data, dtype=np.uint8), count)
    assert got.shape == (count,)
    assert got.tobytes() == data[: dtype.nbytes(count)]


def test_byte_order_does_not_depend_on_the_machine():
    data = np.array([0x00, 0x01, 0x00, 0x00], dtype=np.uint8)
    assert elements(DTYPES["int32"], data, 1).tolist() == [256]
    assert elements(DTYPES["uint16"], data, 2).tolist() == [256, 0]


@given(st.sampled_from(["int4", "uint4", "int2", "uint2", "float4_e2m1fn"]), st.data())
def test_narrow_types_are_unpacked_from_the_low_bits(name, data):
    dtype = DTYPES[name]
    codes = data.draw(st.lists(st.integers(0, (1 << dtype.bits) - 1), max_size=20))
    packed = bytearray(dtype.nbytes(len(codes)))
    for at, code in enumerate(codes):
        packed[at * dtype.bits // 8] |= code << (at * dtype.bits % 8)
    got = elements(dtype, np.frombuffer(bytes(packed), dtype=np.uint8), len(codes))
    if dtype.kind == "int":
        half = 1 << (dtype.bits - 1)
        assert got.astype(np.int64).tolist() == [(code ^ half) - half for code in codes]
    elif dtype.kind == "uint":
        assert got.astype(np.int64).tolist() == codes
    else:
        table = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
        values = [(-1 if code >> 3 else 1) * table[code & 7] for code in codes]
        assert got.astype(np.float32).tolist() == values


def test_a_stored_bool_keeps_its_byte():
    assert elements(DTYPES["bool"], np.array([0, 1, 2], dtype=np.uint8), 3).tolist() == [0, 1, 2]


def test_brain_floats_are_those_of_ml_dtypes():
    values = np.array([1.5, -2, np.inf], dtype=ml_dtypes.bfloat16)
    assert elements(DTYPES["bfloat16"], values.view(np.uint8), 3).tolist() == values.tolist()
