"""The elements of a tensor in C order, in bounded blocks, within a bounded amount of reading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from sizeforensics import content
from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Tensor
from sizeforensics.views import cover
from tests.builders import Piece, artifact, assemble, random, view

BASE = np.arange(240, dtype=np.int32)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_strided_view_reads_as_numpy_reads_it(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
    strides = tuple(data.draw(st.integers(0, 12)) for _ in shape)
    offset = data.draw(st.integers(0, 50))
    tensor = view("t", BASE, 0, shape, strides, offset=offset)
    inventory = assemble([Piece("s", BASE)], [tensor])
    expected = as_strided(BASE[offset:], shape, [4 * stride for stride in strides])
    assert content.packed(inventory, tensor).tobytes() == expected.tobytes()
    size = data.draw(st.sampled_from([16, 32, 64, 1 << 20]))
    parts = [block.tobytes() for block in content.blocks(inventory, tensor, size)]
    assert b"".join(parts) == expected.tobytes()
    assert all(len(part) <= size and len(part) % 4 == 0 for part in parts)


def test_a_tensor_without_payload_is_not_readable():
    tensor = view("t", BASE, 0)
    inventory = assemble([Piece("s", BASE, readable=False)], [tensor])
    assert content.readable(inventory, cover(inventory)) == [False]
    with pytest.raises(ValueError, match="no payload"):
        content.packed(inventory, tensor)


def test_meta_tensors_are_not_readable():
    inventory = assemble([], [Tensor("m", DTYPES["float32"], (4,), (1,), 0, None, "weight")])
    assert content.readable(inventory, cover(inventory)) == [False]


def test_a_view_beyond_its_storage_is_not_readable():
    inventory = assemble([Piece("s", BASE)], [view("t", BASE, 0, (240,), (1,), offset=1)])
    assert content.readable(inventory, cover(inventory)) == [False]


def test_broadcasts_without_end_are_not_written_out():
    scalar = random(0, 1)
    huge = [view("t", scalar, 0, (1 << 40,), (0,)) for _ in range(3)]
    inventory = artifact({"s": scalar}, views=huge)
    assert content.readable(inventory, cover(inventory)) == [True, False, False, False]


def test_reading_again_is_bounded_over_all_views(monkeypatch):
    monkeypatch.setattr(content, "REREAD_FLOOR", 0)
    base = random(0, 4)
    views = [view("t", base, 0) for _ in range(30)]
    inventory = artifact({"s": base}, views=views)
    assert inventory.nbytes == 32
    allowed = 8 * 32 // 16
    assert content.readable(inventory, cover(inventory)) == [True] * (1 + allowed) + [False] * (
        30 - allowed)  # fmt: skip
