"""Cut and altered ONNX files: a full account of every byte, or one FormatError. Nothing else."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sizeforensics.errors import FormatError
from sizeforensics.formats import onnx as reader
from sizeforensics.inventory import Inventory
from sizeforensics.source import MemorySource

FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"


@cache
def small() -> bytes:
    """Every kind of message in two kilobytes, so that most flips hit structure."""
    rng = np.random.default_rng(0)
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3], "documented")
    weights = [
        numpy_helper.from_array(rng.random((2, 3)).astype(np.float32), "w"),
        helper.make_tensor("typed", TensorProto.INT8, [5], [1, -2, 3, -4, 5]),
        helper.make_tensor("halves", TensorProto.FLOAT16, [3], [1.0, 2.0, 0.5]),
        helper.make_tensor("nibbles", TensorProto.INT4, [3], [1, -2, 3]),
        helper.make_tensor("strings", TensorProto.STRING, [2], [b"a", b"bc"]),
    ]
    branch = helper.make_graph([helper.make_node("Neg", ["w"], ["y"])], "b", [], [value])
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.arange(3), "v")),
        helper.make_node("Pad", ["k"], ["p"], "pad", "doc", "custom", pads=[1] * 30, mode="edge"),
    ]
    nodes[2].metadata_props.add(key="trace", value="line 1")
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "s"),
        numpy_helper.from_array(np.array([1, 2])), [9],
    )
    graph = helper.make_graph(
        nodes, "g", [value], [value], weights, "graph", [value], [sparse]
    )
    graph.quantization_annotation.add(tensor_name="k").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    function = helper.make_function(
        "local", "F", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_opsetid("", 20)],
    )
    model = helper.make_model(graph, functions=[function], producer_name="p", doc_string="m")
    helper.set_model_props(model, {"stride": "32"})
    return model.SerializeToString()


@cache
def exported() -> bytes:
    """A real export with external data and per-node metadata, the weights being beside it."""
    return (FIXTURES / "tied-dynamo.onnx").read_bytes()


def check_refusal(refused: FormatError, size: int) -> None:
    assert "\n" not in str(refused)
    assert 0 <= refused.offset <= size


def read(data: bytes) -> Inventory | None:
    """The inventory, whose laws its constructor checks; None where the file is refused."""
    source = MemorySource("m.onnx", data)
    assert reader.looks_like(source) in {True, False}
    try:
        inventory = reader.read(source)
    except FormatError as refused:
        check_refusal(refused, len(data))
        return None
    assert inventory.nbytes == len(data)
    for storage in inventory.storages:
        assert storage.payload is not None
        assert len(storage.payload.array(0, storage.nbytes)) == storage.nbytes
    for tensor in inventory.tensors:
        if tensor.storage is not None and tensor.dtype.name != "string":
            assert tensor.nbytes == inventory.storages[tensor.storage].nbytes
    return inventory


def test_a_model_cut_anywhere_is_refused() -> None:
    data = small()
    model = onnx.load_model_from_string(data)
    model.ClearField("metadata_props")
    model.ClearField("functions")
    complete = len(model.SerializeToString())  # graph and opsets are there: a whole model
    for cut in range(len(data)):
        if read(data[:cut]) is not None:
            # What is missing are whole optional fields of the model; nothing says they were there.
            assert cut >= complete
            onnx.load_model_from_string(data[:cut])


def test_an_export_cut_anywhere_is_refused() -> None:
    data = exported()
    graph_end = data.rindex(b"B\x04\n\x00\x10")  # the operator set, behind the graph
    middle = len(data) // 2
    for cut in [*range(200), *range(middle, middle + 99), *range(graph_end - 9, graph_end + 1)]:
        assert read(data[:cut]) is None


@given(at=st.integers(0, 1 << 20), value=st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_an_altered_byte_is_accounted_or_refused(at: int, value: int) -> None:
    data = bytearray(small())
    data[at % len(data)] = value
    read(bytes(data))


@given(
    edits=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 60), st.binary(max_size=60)),
        min_size=1, max_size=4,
    )
)
@settings(max_examples=300, deadline=None)
def test_spliced_bytes_are_accounted_or_refused(edits: list[tuple[int, int, bytes]]) -> None:
    data = small()
    for at, removed, added in edits:
        at %= len(data) + 1
        data = data[:at] + added + data[at + removed :]
        if not data:
            return
    read(data)


@given(at=st.integers(0, 1 << 24), value=st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_an_altered_export_is_accounted_or_refused(at: int, value: int) -> None:
    data = bytearray(exported())
    data[at % len(data)] = value
    read(bytes(data))


@given(data=st.binary(max_size=60))
@example(b"")
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_accounted_or_refused(data: bytes) -> None:
    read(data)
    read(b"\x3a" + bytes([len(data)]) + data)


@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_what_protobuf_refuses_is_refused(at: int, bit: int) -> None:
    """Not the other way round: a model needs a graph, and a varint at most 64 bits."""
    data = bytearray(small())
    data[at % len(data)] ^= 1 << bit
    try:
        onnx.load_model_from_string(bytes(data))
    except DecodeError:
        theirs = False
    else:
        theirs = True
    ours = read(bytes(data)) is not None
    if ours and not theirs:
        pytest.fail(f"byte {at % len(data)} bit {bit}: protobuf refuses what we accept")
