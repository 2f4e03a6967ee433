"""An inventory whose storages and spans disagree is never made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.dtypes import DTYPES
from sizeforensics.errors import LawBroken
from sizeforensics.inventory import Storage, Tensor, c_strides
from sizeforensics.source import MemorySource
from sizeforensics.spans import GRAPH, ROLES
from tests.builders import Piece, artifact, assemble, graph, random, view

F32 = DTYPES["float32"]


@given(st.lists(st.integers(0, 4), max_size=5))
def test_c_strides_are_those_of_numpy(shape):
    array = np.empty(shape, dtype=np.uint8)
    tensor = Tensor("t", DTYPES["uint8"], tuple(shape), c_strides(shape), 0, None, "weight")
    assert tensor.contiguous
    assert tensor.elements == array.size
    if array.size:
        assert c_strides(shape) == array.strides


@pytest.mark.parametrize(
    ("shape", "strides", "contiguous"),
    [((), (), True), ((3,), (1,), True), ((3,), (2,), False), ((3,), (0,), False),
     ((1,), (0,), True), ((2, 3), (3, 1), True), ((2, 3), (1, 2), False), ((0, 3), (9, 9), True),
     ((1, 3), (77, 1), True), ((2, 1, 3), (3, 50, 1), True), ((2, 3), (4, 1), False)],
)
def test_contiguous(shape, strides, contiguous):
    assert Tensor("t", F32, shape, strides, 0, None, "weight").contiguous is contiguous


def test_a_tensor_needs_a_stride_per_axis():
    with pytest.raises(ValueError):
        Tensor("t", F32, (2, 3), (1,), 0, None, "weight")


def test_bytes_of_a_broadcast_tensor_are_those_written_out():
    assert Tensor("t", F32, (1 << 20, 1 << 20), (0, 0), 0, None, "weight").nbytes == 1 << 42


def test_a_payload_of_another_size_is_refused():
    with pytest.raises(LawBroken):
        Storage("s", 0, 0, 4, 4, MemorySource("m", b"12345"))


def test_storages_must_be_the_tensor_data_of_the_files():
    whole = artifact({"w": random(0, 4)})
    with pytest.raises(LawBroken, match="16 bytes, storages 0"):
        type(whole)("x", "onnx", whole.files, whole.owners)


@pytest.mark.parametrize("storage", [1, -1])
def test_a_tensor_must_view_a_storage_that_exists(storage):
    with pytest.raises(LawBroken):
        artifact({"w": random(0, 4)}, views=[Tensor("t", F32, (1,), (1,), 0, storage, "weight")])


def test_totals_by_role_and_by_subject():
    base = random(0, 4)
    inventory = assemble(
        [Piece("w", base)], [view("w", base, 0)],
        others=[(GRAPH, 5, "Conv"), (GRAPH, 3, "Relu"), (GRAPH, 7, "Conv")],
    )  # fmt: skip
    assert inventory.nbytes == 16 + 16 + 15
    assert int(inventory.bytes_by_role().sum()) == inventory.nbytes
    by_subject = inventory.bytes_by_subject()
    assert by_subject[GRAPH, "Conv"] == (12, 2)
    assert by_subject[GRAPH, "Relu"] == (3, 1)
    assert sum(nbytes for nbytes, _ in by_subject.values()) == inventory.nbytes
    assert ROLES[GRAPH] == "graph"


def test_nodes_by_operator():
    nodes = graph(("Conv", ["x"], ["y"]), ("Relu", ["y"], ["z"]), ("Conv", ["z"], ["w"]))
    assert len(nodes) == 3
    assert nodes.count_and_bytes_by_op() == [("Conv", 2, 0), ("Relu", 1, 0)]
