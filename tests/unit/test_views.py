"""Which bytes of a storage views reach, against a set of bytes made the slow way."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Tensor, c_strides
from sizeforensics.views import cover, extent
from tests.builders import Piece, assemble
from tests.work import grows_linearly, lines_run


def touched(tensor):
    size = tensor.dtype.bits // 8
    found = set()
    for index in product(*map(range, tensor.shape)):
        at = tensor.offset + sum(i * s for i, s in zip(index, tensor.strides, strict=True))
        found.update(range(at * size, (at + 1) * size))
    return found


@st.composite
def views(draw, nbytes):
    """Tensors that stay inside a storage of ``nbytes``."""
    tensors = []
    for number in range(draw(st.integers(1, 5))):
        dtype = DTYPES[draw(st.sampled_from(["uint8", "float16", "float32", "float64"]))]
        room = nbytes * 8 // dtype.bits
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        if draw(st.booleans()):
            strides = c_strides(shape)
        else:
            strides = tuple(draw(st.integers(0, 9)) for _ in shape)
        reach = 0
        if 0 not in shape:
            reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if reach < room:
            offset = draw(st.integers(0, room - 1 - reach))
            tensors.append(Tensor(f"t{number}", dtype, shape, strides, offset, 0, "weight"))
    return tensors


@given(st.data(), st.integers(0, 90))
@settings(max_examples=200, deadline=None)
def test_first_come_first_claimed_byte_by_byte(data, nbytes):
    tensors = data.draw(views(nbytes))
    coverage = cover(assemble([Piece("s", np.zeros(nbytes, dtype=np.uint8))], tensors))
    seen: set[int] = set()
    expected = []
    for tensor in tensors:
        reached = touched(tensor)
        expected.append(len(reached - seen))
        seen |= reached
        assert not reached or (min(reached), max(reached) + 1) == extent(tensor)
    assert coverage.claimed.tolist() == expected
    assert coverage.slack.tolist() == [nbytes - len(seen)]


def one(shape, strides, nbytes, dtype="float32", offset=0):
    tensor = Tensor("t", DTYPES[dtype], shape, strides, offset, 0, "weight")
    return cover(assemble([Piece("s", np.zeros(nbytes, dtype=np.uint8))], [tensor]))


@pytest.mark.parametrize(
    ("shape", "strides", "claimed"),
    [
        ((1 << 40,), (0,), 4),
        ((1 << 40, 1 << 40), (0, 0), 4),
        ((1 << 40, 10), (0, 1), 40),
        ((10, 1 << 62), (1, 0), 40),
        ((1 << 40, 5, 1 << 40), (0, 2, 0), 20),
        ((1 << 40, 0), (0, 1), 0),
    ],
)
def test_hostile_shapes_cost_nothing(shape, strides, claimed):
    coverage = one(shape, strides, 1_000)
    assert coverage.claimed.tolist() == [claimed]
    assert coverage.slack.tolist() == [1_000 - claimed]
    assert lines_run(lambda: one(shape, strides, 1_000)) < 1_000


def test_many_slices_of_one_buffer_stay_linear():
    def slices(count):
        tensors = [Tensor("t", DTYPES["float32"], (2,), (1,), 2 * (at * 7919 % count), 0, "weight")
                   for at in range(count)]  # fmt: skip
        coverage = cover(assemble([Piece("s", np.zeros(8 * count, dtype=np.uint8))], tensors))
        assert set(coverage.claimed.tolist()) == {8}
        assert coverage.slack.tolist() == [0]

    slices(20_000)
    assert grows_linearly(slices, 1_000)


def test_packed_types_round_up_to_a_byte():
    assert one((3,), (1,), 2, "int4").claimed.tolist() == [2]


def test_a_tied_weight_claims_nothing():
    f32 = DTYPES["float32"]
    tensors = [Tensor(name, f32, (5,), (1,), 0, 0, "weight") for name in ("embed", "head")]
    coverage = cover(assemble([Piece("s", np.zeros(20, dtype=np.uint8))], tensors))
    assert coverage.claimed.tolist() == [20, 0]


def test_a_tensor_without_storage_and_a_storage_without_tensor():
    meta = Tensor("meta", DTYPES["float32"], (5,), (1,), 0, None, "weight")
    coverage = cover(assemble([Piece("s", np.zeros(20, dtype=np.uint8))], [meta]))
    assert coverage.claimed.tolist() == [0]
    assert coverage.slack.tolist() == [20]
