"""What the ONNX reader says about bytes, uses and oddities of models made for the purpose."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated, Unsupported
from sizeforensics.formats import onnx as reader
from sizeforensics.inventory import Inventory
from sizeforensics.limits import Limits
from sizeforensics.source import MemorySource
from sizeforensics.spans import ROLES

FLOAT = TensorProto.FLOAT
Y = helper.make_tensor_value_info("y", FLOAT, [3])


def read(model: onnx.ModelProto | bytes, **limits: int) -> Inventory:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return reader.read(MemorySource("m.onnx", data), Limits(**limits))


def array(name: str, *shape: int, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def model(
    nodes: list[onnx.NodeProto] | None = None,
    weights: list[TensorProto] | None = None,
    **changes: object,
) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"], "same")]
    inputs = [helper.make_tensor_value_info("x", FLOAT, [3])]
    graph = helper.make_graph(nodes, "main", inputs, [Y], weights or [])
    return helper.make_model(graph, **changes)


def by_role(inventory: Inventory) -> dict[str, int]:
    roles = zip(ROLES, inventory.bytes_by_role().tolist(), strict=True)
    return {role: nbytes for role, nbytes in roles if nbytes}


def subjects(inventory: Inventory, role: str) -> dict[str, int]:
    return {
        subject: nbytes
        for (at, subject), (nbytes, _) in inventory.bytes_by_subject().items()
        if ROLES[at] == role
    }


def uses(inventory: Inventory) -> dict[str, str]:
    return {tensor.name: tensor.use for tensor in inventory.tensors}


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field."""
    size = b""
    left = len(payload)
    while left > 0x7F:
        size += bytes([left & 0x7F | 0x80])
        left >>= 7
    tag = number << 3 | 2
    head = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return head + size + bytes([left]) + payload


# -- recognition


def test_a_model_is_recognised_also_when_it_is_cut_inside_the_graph() -> None:
    data = model(weights=[array("w", 3)]).SerializeToString()
    assert reader.looks_like(MemorySource("m", data))
    assert reader.looks_like(MemorySource("m", data[: len(data) // 2]))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x08\x08", b"PK\x03\x04" + bytes(40), b"\x80\x02}q\x00.", b"<!DOCTYPE html>",
        b"version https://git-lfs.github.com/spec/v1\n", b"ir_version: 8\ngraph {\n}\n",
        array("w", 3).SerializeToString(), model().graph.SerializeToString(),
        b"\x3a\x04\x00\x00\x00\x00", bytes(64), b"\xef\xbb\xbf:\n",
    ],
    ids=[
        "empty", "magic only", "zip", "pickle", "html", "lfs", "text protobuf", "bare tensor",
        "bare graph", "graph of zeros", "zeros", "utf-8 mark",
    ],
)  # fmt: skip
def test_other_files_are_not(data: bytes) -> None:
    assert not reader.looks_like(MemorySource("f", data))


def test_a_model_without_a_graph_is_refused() -> None:
    with pytest.raises(Corrupt, match="graph"):
        read(onnx.ModelProto(ir_version=8).SerializeToString())


def test_a_model_cut_off_in_front_of_its_operator_sets_is_refused() -> None:
    whole = model()
    whole.ClearField("opset_import")
    with pytest.raises(Truncated, match="opset_import"):
        read(whole)
    whole.ir_version = 2
    assert read(whole).warnings == ()


def test_what_a_graph_names_and_nothing_defines_is_a_warning() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "lost"], ["z"])], "inner", [],
        [helper.make_tensor_value_info("z", FLOAT, None)],
    )  # fmt: skip
    whole = model([
        helper.make_node("If", ["c"], ["t"], "branch", then_branch=inner, else_branch=inner),
        helper.make_node("Clip", ["x", "", "gone"], ["y"], "clip"),
    ])  # fmt: skip
    whole.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    whole.graph.output.append(helper.make_tensor_value_info("nowhere", FLOAT, None))
    assert read(whole).warnings == (
        "m.onnx: value 'gone' is read by a node, but nothing defines it",
        "m.onnx: value 'lost' is read by a node, but nothing defines it",
        "m.onnx: value 'nowhere' is an output of its graph, but nothing defines it",
    )
    whole.graph.initializer.extend([array("lost", 1), array("gone", 1)])
    del whole.graph.output[-1]
    assert read(whole).warnings == ()


def test_initializers_of_one_graph_that_share_a_name_are_a_warning() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["z"])], "inner", [],
        [helper.make_tensor_value_info("z", FLOAT, None)], [array("w", 2)],
    )  # fmt: skip
    whole = model([helper.make_node("If", ["w"], ["y"], "branch", then_branch=inner, else_branch=inner)])
    whole.graph.initializer.append(array("w", 1))
    assert read(whole).warnings == ()  # each graph has names of its own
    whole.graph.initializer.append(array("w", 3))
    assert read(whole).warnings == (
        "m.onnx: 2 initializers are called 'w': a runtime reads one of them, or refuses the model",
    )


def test_a_model_cut_off_behind_an_operator_set_misses_what_it_calls() -> None:
    whole = model([
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("One", ["b"], ["c"], domain="local"),
        helper.make_node("Two", ["c"], ["d"], domain="local"),
        helper.make_node("aten_add", ["d"], ["y"], domain="pkg.onnxscript.torch_lib"),
    ])  # fmt: skip
    del whole.opset_import[:]
    own = [helper.make_opsetid("", 17)]
    whole.opset_import.extend([
        *own, helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("local", 1),
        helper.make_opsetid("pkg.onnxscript.torch_lib", 1),
    ])  # fmt: skip
    for domain, name in (
        ("local", "One"), ("local", "Two"), ("pkg.onnxscript.torch_lib", "aten_add"),
    ):  # fmt: skip
        node = helper.make_node("Neg", ["in"], ["out"])
        whole.functions.append(helper.make_function(domain, name, ["in"], ["out"], [node], own))
    data = whole.SerializeToString()
    assert read(data).warnings == ()
    ends = [data.index(end) + len(end) for end in (b"\x10\x11", b"microsoft\x10\x01", b"torch_lib\x10\x01")]
    domain, function = "but no opset_import names its domain", "but the model does not hold it"
    said = [read(data[:end]).warnings for end in ends]
    assert [len(lines) for lines in said] == [5, 4, 1]
    assert said[0][0] == f"m.onnx: operator 'com.microsoft.Gelu' is called, {domain}"
    assert f"m.onnx: operator 'local.One' is called, {domain}" in said[1]
    assert said[2] == (f"m.onnx: function 'pkg.onnxscript.torch_lib.aten_add' is called, {function}",)
    del whole.functions[1]
    assert read(whole).warnings == (f"m.onnx: function 'local.Two' is called, {function}",)
    whole.graph.node.append(helper.make_node("Sin", ["y"], ["s"]))
    del whole.opset_import[0]
    assert f"m.onnx: operator 'Relu' is called, {domain}" in read(whole).warnings


# -- bytes


def test_every_role_is_where_the_catalogue_says() -> None:
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], "conv", "documented", "custom", group=1
    )
    node.metadata_props.add(key="pkg.stack_trace", value="File x, line 1")
    whole = model([node], [array("w", 1000)], doc_string="about", producer_name="me")
    whole.graph.value_info.append(helper.make_tensor_value_info("v", FLOAT, [1, "n"]))
    helper.set_model_props(whole, {"stride": "32"})
    inventory = read(whole)

    props = field(9, whole.graph.node[0].metadata_props[0].SerializeToString())
    roles = by_role(inventory)
    assert roles["tensor-data"] == 4000
    assert roles["value-info"] == len(field(13, whole.graph.value_info[0].SerializeToString()))
    assert subjects(inventory, "debug-info") == {
        "pkg.stack_trace": len(props), "doc_string": len(field(6, b"documented")) + len(field(6, b"about")),
    }
    names = b"".join([field(1, b"x"), field(1, b"w"), field(2, b"y"), field(3, b"conv")])
    encoded = field(1, whole.graph.node[0].SerializeToString())
    assert subjects(inventory, "names")["custom.Conv"] == len(names)
    assert subjects(inventory, "names")["tensor names"] == len(field(8, b"w"))
    assert subjects(inventory, "graph")["custom.Conv"] == (
        len(encoded) - len(names) - len(props) - len(field(6, b"documented"))
    )
    tensor = field(5, whole.graph.initializer[0].SerializeToString())
    assert subjects(inventory, "container") == {
        "tensor headers": len(tensor) - 4000 - len(field(8, b"w"))
    }
    assert subjects(inventory, "metadata")["stride"] == len(
        field(14, whole.metadata_props[0].SerializeToString())
    )
    assert subjects(inventory, "metadata")["producer_name"] == len(field(2, b"me"))
    assert "unclaimed" not in roles
    assert dict(inventory.metadata)["property stride"] == "32"
    assert dict(inventory.metadata)["producer"] == "me"
    assert inventory.nodes.count_and_bytes_by_op() == [("custom.Conv", 1, len(encoded))]


def test_typed_elements_count_what_they_take() -> None:
    tensor = helper.make_tensor("w", TensorProto.INT8, [4], [1, -1, 5, -128])
    (storage,) = read(model([helper.make_node("Use", ["w"], ["y"])], [tensor])).storages
    assert (storage.stored_bytes, storage.nbytes, storage.encoding) == (22, 4, "typed")
    assert storage.payload is not None
    assert storage.payload.read(0, 4) == np.array([1, -1, 5, -128], np.int8).tobytes()


def test_packed_floats_are_raw_bytes() -> None:
    tensor = helper.make_tensor("w", FLOAT, [2], [1.0, 2.0])
    (storage,) = read(model([helper.make_node("Use", ["w"], ["y"])], [tensor])).storages
    assert (storage.stored_bytes, storage.nbytes, storage.encoding) == (8, 8, "raw")


@pytest.mark.parametrize("mixed", [False, True])
def test_unpacked_elements_are_stored_with_their_tags(mixed: bool) -> None:
    head = TensorProto(dims=[4], data_type=FLOAT, name="w").SerializeToString()
    values = np.arange(4, dtype="<f4")
    unpacked = b"".join(b"\x25" + value.tobytes() for value in values)
    if mixed:
        unpacked = b"\x25" + values[:1].tobytes() + field(4, values[1:].tobytes())
    graph = field(1, helper.make_node("Use", ["w"], ["y"]).SerializeToString())
    graph += field(5, head + unpacked)
    inventory = read(field(7, graph))
    (storage,) = inventory.storages
    assert storage.payload is not None
    assert storage.payload.read(0, 16) == values.tobytes()
    assert (storage.stored_bytes, storage.encoding) == (17 if mixed else 20, "typed")


# -- constants in plain attributes


def constant(*attributes: bytes) -> Inventory:
    """A model with one Constant node that writes ``c``."""
    node = helper.make_node("Constant", [], ["c"]).SerializeToString()
    return read(field(7, field(1, node + b"".join(field(5, each) for each in attributes))))


FLOATS = np.array([1.5, -2.0, 3.25], "<f4")


@pytest.mark.parametrize(
    "fields, stored, encoding",
    [
        (field(7, FLOATS.tobytes()), 12, "raw"),
        (b"".join(b"\x3d" + each.tobytes() for each in FLOATS), 15, "typed"),
        (b"\x3d" + FLOATS[:1].tobytes() + field(7, FLOATS[1:].tobytes()), 13, "typed"),
    ],
    ids=["packed", "one by one", "both"],
)
def test_floats_in_an_attribute_are_a_tensor_whose_elements_are_tensor_data(
    fields: bytes, stored: int, encoding: str
) -> None:
    inventory = constant(field(1, b"value_floats") + fields)
    (storage,) = inventory.storages
    assert [(t.name, t.dtype.name, t.shape, t.use) for t in inventory.tensors] == [
        ("c", "float32", (3,), "constant")
    ]
    assert storage.payload is not None
    assert storage.payload.read(0, 12) == FLOATS.tobytes()
    assert (storage.stored_bytes, storage.encoding) == (stored, encoding)
    assert subjects(inventory, "tensor-data") == {"c": stored}
    assert set(by_role(inventory)) == {"tensor-data", "graph", "names"}


@pytest.mark.parametrize(
    "name, fields, elements",
    [
        ("value_float", b"\x15" + FLOATS[:1].tobytes() + b"\x15" + FLOATS[1:2].tobytes(), FLOATS[1:2].tobytes()),
        ("value_int", b"\x18\x07\x18" + bytes([0xFF] * 9) + b"\x01", np.array(-1, "<i8").tobytes()),
        ("value_ints", field(8, b"\x07\x80\x01"), np.array([7, 128], "<i8").tobytes()),
        ("value_string", field(4, b"ab") + field(4, b"c"), b"c"),
        ("value_strings", field(9, b"ab") + field(1, b"value_strings") + field(9, b"c"), b"abc"),
    ],
)
def test_of_a_single_value_that_is_there_twice_the_last_counts(name: str, fields: bytes, elements: bytes) -> None:
    inventory = constant(field(1, name.encode()) + fields)
    (storage,) = inventory.storages
    assert storage.payload is not None
    assert storage.payload.read(0, storage.nbytes) == elements
    assert by_role(inventory)["tensor-data"] == storage.stored_bytes


@pytest.mark.parametrize(
    "attribute",
    [
        field(1, b"axis") + b"\x18\x07", field(1, b"value_ints") + b"\xa0\x01\x07",
        field(1, b"value_float") + b"\xaa\x01\x05alpha", field(1, b"value_int") + b"\x18\x07" * 900,
    ],
    ids=["another attribute", "an empty list", "the value of the caller", "a number 900 times"],
)
def test_an_attribute_without_a_value_is_no_tensor(attribute: bytes) -> None:
    inventory = constant(attribute)
    assert inventory.tensors == ()
    assert "tensor-data" not in by_role(inventory)


def test_floats_of_an_attribute_that_are_not_whole_are_refused() -> None:
    with pytest.raises(Corrupt, match="packed values of 4 bytes"):
        constant(field(1, b"value_floats") + field(7, bytes(7)))


def test_attributes_of_other_nodes_are_no_tensors() -> None:
    node = helper.make_node("Use", ["x"], ["y"], value_floats=[1.0, 2.0], value_int=3)
    assert read(model([node])).tensors == ()


def test_a_scale_in_a_plain_attribute_is_a_quantization_parameter() -> None:
    nodes = [
        helper.make_node("Constant", [], ["s"], value_float=0.5),
        helper.make_node("QuantizeLinear", ["x", "s"], ["y"]),
    ]
    assert uses(read(model(nodes))) == {"s": "quantization-parameters"}


# -- uses


def test_an_initializer_that_nothing_reads_is_unreferenced() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "outer"], ["y"])], "inner", [], [Y], [array("own", 3)]
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner),
        helper.make_node("Use", ["c"], ["z"]),
    ]
    weights = [array(name, 3) for name in ("outer", "dead", "result", "c")]
    whole = model(nodes, weights)
    whole.graph.output.append(helper.make_tensor_value_info("result", FLOAT, [3]))
    inventory = read(whole)
    assert uses(inventory) == {
        "outer": "weight", "dead": "unreferenced", "result": "weight", "c": "weight",
        "own": "unreferenced",
    }


def test_a_name_read_in_a_sibling_graph_does_not_count() -> None:
    reads = helper.make_graph([helper.make_node("Neg", ["own"], ["y"])], "a", [], [Y])
    owns = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "b", [], [Y], [array("own", 3)]
    )
    node = helper.make_node("If", ["x"], ["y"], "if", then_branch=reads, else_branch=owns)
    assert uses(read(model([node]))) == {"own": "unreferenced"}


@pytest.mark.parametrize(
    "domain, op, use", [("", "Mul", "weight"), ("com.microsoft", "MatMulNBits", "quantization-parameters")]
)
def test_what_nothing_reads_in_a_branch_is_not_what_another_branch_reads(domain: str, op: str, use: str) -> None:
    def branch(dead: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["x", "x", "w"], ["y"], domain=domain)
        return helper.make_graph([node], dead, [], [Y], [array(dead, 3)])

    # The first value that the model mentions is the one that both branches read.
    first = helper.make_node("Identity", ["w"], ["v"])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch("one"), else_branch=branch("two"))
    assert uses(read(model([first, node], [array("w", 3)]))) == {
        "w": use, "one": "unreferenced", "two": "unreferenced",
    }


def test_training_bindings_read_initializers() -> None:
    whole = model(weights=[array("w", 3), array("v", 3)])
    info = whole.training_info.add()
    info.update_binding.add(key="w", value="new_w")
    info.algorithm.node.append(helper.make_node("Neg", ["v"], ["new_w"]))
    assert uses(read(whole)) == {"w": "weight", "v": "weight"}


def test_scales_and_zero_points_are_quantization_parameters() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], "dq"),
        helper.make_node("Constant", [], ["k"], value=array("", 1)),
        helper.make_node("QuantizeLinear", ["x", "k"], ["q"], "q"),
        helper.make_node("QLinearConv", ["q", "k", "", "w", "s2", "z2", "s3", "z3", "b"], ["y"]),
    ]
    names = ["w", "s", "z", "s2", "z2", "s3", "z3", "b", "annotated"]
    whole = model(nodes, [array(name, 1) for name in names])
    whole.graph.quantization_annotation.add(tensor_name="y").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="annotated"
    )
    found = uses(read(whole))
    assert {name for name, use in found.items() if use == "weight"} == {"w", "b"}
    assert {use for name, use in found.items() if name not in {"w", "b"}} == {
        "quantization-parameters"
    }


def test_sparse_initializers_are_values_and_indices() -> None:
    values, indices = array("s", 2), array("", 2, dtype=np.int64)
    whole = model([helper.make_node("Use", ["s"], ["y"])])
    whole.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))
    assert uses(read(whole)) == {"s": "weight", "s.indices": "sparse-index"}


def test_an_omitted_input_keeps_the_positions_of_the_others() -> None:
    nodes = read(model([helper.make_node("Clip", ["x", "", "max"], ["y"])])).nodes
    assert [nodes.values[at] for at in nodes.read_values.tolist()] == ["x", "", "max"]


def test_operators_of_other_domains_carry_the_domain() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"], domain=each) for each in ("", "ai.onnx", "my")]
    assert read(model(nodes)).nodes.op_names == ["Neg", "my.Neg"]


def test_a_nameless_node_is_shown_by_what_it_writes() -> None:
    inventory = read(model([helper.make_node("Neg", ["x"], ["y"])]))
    assert "node Neg -> y" in inventory.owners.names
    assert inventory.nodes.names == [""]
    assert inventory.nodes.op_names == ["Neg"]


# -- oddities: every byte explained, and said


def odd(tensor: TensorProto) -> Inventory:
    return read(model([helper.make_node("Use", ["w"], ["y"])], [tensor]))


def test_a_payload_of_the_wrong_size_is_kept_without_a_view() -> None:
    for size in (11, 13):
        inventory = odd(TensorProto(name="w", data_type=FLOAT, dims=[3], raw_data=bytes(size)))
        assert inventory.tensors[0].storage is None
        assert inventory.storages[0].nbytes == size
        assert f"stores {size} bytes" in inventory.warnings[0]


def test_a_typed_payload_of_the_wrong_count_is_kept_without_a_view() -> None:
    inventory = odd(TensorProto(name="w", data_type=TensorProto.INT8, dims=[3], int32_data=[1, 2]))
    assert inventory.tensors[0].storage is None
    assert inventory.storages[0].nbytes == 2
    assert len(inventory.warnings) == 1


def test_raw_data_comes_before_a_typed_field() -> None:
    inventory = odd(
        TensorProto(name="w", data_type=FLOAT, dims=[1], raw_data=b"abcd", float_data=[1, 2])
    )
    view = inventory.tensors[0].storage
    assert view is not None
    assert inventory.storages[view].nbytes == 4
    assert sorted(storage.nbytes for storage in inventory.storages) == [4, 8]
    assert "does not count" in inventory.warnings[0]


def test_raw_data_twice_counts_once() -> None:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1]).SerializeToString()
    graph = field(5, tensor + field(9, b"1111") + field(9, b"2222"))
    inventory = read(field(7, graph))
    view = inventory.tensors[0].storage
    assert view is not None
    payload = inventory.storages[view].payload
    assert payload is not None
    assert payload.read(0, 4) == b"2222"
    assert len(inventory.storages) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dims": [-1], "raw_data": bytes(4)}, "negative dimension"),
        ({"dims": [1 << 62] * 9, "raw_data": bytes(4)}, "stores 4 bytes"),
        ({"data_type": 99, "dims": [2], "raw_data": bytes(6)}, "unknown data type 99"),
        ({"dims": [2]}, "has no data"),
        ({"dims": [1], "raw_data": bytes(4), "segment": TensorProto.Segment(begin=0, end=1)},
         "segment"),
        ({"dims": [1], "raw_data": bytes(4), "data_location": 1}, "external data"),
    ],
    ids=["negative", "overflow", "type", "no data", "segment", "external beside raw"],
)  # fmt: skip
def test_oddities_of_tensors_are_said(changes: dict[str, object], words: str) -> None:
    inventory = odd(TensorProto(**({"name": "w", "data_type": FLOAT} | changes)))
    assert any(words in warning for warning in inventory.warnings)
    assert all(warning.startswith("m.onnx: ") for warning in inventory.warnings)


def test_an_unknown_type_is_sized_by_its_payload() -> None:
    tensor = odd(TensorProto(name="w", data_type=99, dims=[2], raw_data=bytes(6))).tensors[0]
    assert (tensor.dtype.name, tensor.dtype.bits, tensor.nbytes) == ("onnx-99", 24, 6)
    assert tensor.storage is not None


def test_empty_tensors_need_no_storage() -> None:
    inventory = odd(TensorProto(name="w", data_type=FLOAT, dims=[0, 5]))
    assert inventory.tensors[0].storage is None
    assert inventory.warnings == ()


def test_unknown_fields_are_kept_and_named_once() -> None:
    node = helper.make_node("Neg", ["x"], ["y"]).SerializeToString() + field(30, b"future")
    graph = field(1, node) * 5 + field(200, b"more")
    inventory = read(field(7, graph))
    assert by_role(inventory)["metadata"] == 5 * len(field(30, b"future")) + len(field(200, b"more"))
    assert "unknown field 200 in GraphProto at 0x70" in inventory.warnings[0]
    assert "unknown field 30 in NodeProto at 0xf" in inventory.warnings[1]
    assert inventory.warnings[2] == "m.onnx: 4 more: unknown field 30 in NodeProto"


def test_a_known_number_with_another_wire_type_is_unknown() -> None:
    inventory = read(field(7, field(1, b"\x08\x07")))
    assert "unknown field 1 in NodeProto" in inventory.warnings[0]


def test_two_graphs_are_merged() -> None:
    first = field(7, field(1, helper.make_node("Neg", ["w"], ["y"]).SerializeToString()))
    second = field(7, field(5, array("w", 3).SerializeToString()))
    inventory = read(first + second)
    assert uses(inventory) == {"w": "weight"}
    assert "2 graph fields" in inventory.warnings[0]


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_long_properties_are_cut_visibly(letter: str) -> None:
    whole = model()
    helper.set_model_props(whole, {"short": letter * 1000, "long": letter * 1001})
    found = dict(read(whole).metadata)
    assert found["property short"] == letter * 1000
    assert found["property long"] == letter * 1000 + "…"


def test_names_are_kept_and_warnings_are_one_line() -> None:
    name = "../\x1b[31m\n\u202eweight"
    inventory = odd(TensorProto(name=name, data_type=FLOAT, dims=[3], raw_data=bytes(1)))
    assert inventory.tensors[0].name == name
    assert all(warning.isprintable() for warning in inventory.warnings)


# -- limits, at the limit and beyond it


def nested(levels: int) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [], [Y])
    for _ in range(levels):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [Y])
    for name in "xc":
        graph.input.append(helper.make_tensor_value_info(name, FLOAT, []))
    return helper.make_model(graph)


def test_subgraphs_thirty_deep_are_read() -> None:
    inventory = read(nested(30))
    assert len(inventory.nodes) == 31
    assert max(map(len, inventory.nodes.scope_names)) < 300


def test_nesting_is_limited_as_protobuf_limits_it() -> None:
    # Model, graph, node, attribute, value_info... the innermost message of two levels of
    # subgraphs is a dimension of an output's shape: 1 + 2 x 3 + 5 deep.
    assert read(nested(2), protobuf_nesting=12).warnings == ()
    with pytest.raises(LimitExceeded, match="protobuf_nesting"):
        read(nested(2), protobuf_nesting=11)


def test_hundreds_of_levels_are_refused() -> None:
    data = field(1, helper.make_node("Neg", ["x"], ["y"]).SerializeToString())
    for _ in range(3_000):
        data = field(1, field(5, field(6, data)))
    with pytest.raises(LimitExceeded, match="protobuf_nesting"):
        read(field(7, data))


def test_nodes_are_limited() -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])] * 5
    assert len(read(model(nodes), graph_nodes=5).nodes) == 5
    with pytest.raises(LimitExceeded, match="graph_nodes"):
        read(model(nodes), graph_nodes=4)


def test_structure_is_limited_and_payload_is_not_structure() -> None:
    whole = model([helper.make_node("Use", ["w"], ["y"])], [array("w", 1000)])
    structure = len(whole.SerializeToString()) - 4000
    assert read(whole, structure_bytes=structure).warnings == ()
    with pytest.raises(LimitExceeded, match="structure_bytes"):
        read(whole, structure_bytes=structure - 1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rank", [64, 65, 200_000])
def test_rank_is_limited(rank: int, packed: bool) -> None:
    dims = field(1, b"\1" * rank) if packed else b"\x08\1" * rank
    tensor = dims + TensorProto(name="w", data_type=FLOAT, raw_data=bytes(4)).SerializeToString()
    data = field(7, field(5, tensor))
    if rank <= 64:
        assert read(data).tensors[0].shape == (1,) * rank
    else:
        with pytest.raises(LimitExceeded, match="tensor_rank"):
            read(data)


def test_three_million_empty_nodes_are_read_in_bounded_memory() -> None:
    data = field(7, b"\x0a\x00" * 3_000_000)
    inventory = read(data)
    assert len(inventory.nodes) == 3_000_000
    assert len(inventory.files[0].spans) == 2


@pytest.mark.parametrize(
    "tensor",
    [
        b"\x08\x03" + b"\x10\x01" + field(4, bytes(13)),
        b"\x08\x01" + b"\x10\x06" + field(5, b"\x80"),
        b"\x08\x01" + b"\x10\x06" + field(5, b"\xff" * 9 + b"\x7f"),
        field(1, b"\x80") + field(8, b"w"),
    ],
    ids=["floats of 13 bytes", "varint cut off", "varint of 70 bits", "dimension cut off"],
)
def test_broken_packed_fields_are_corrupt(tensor: bytes) -> None:
    with pytest.raises(Corrupt):
        read(field(7, field(5, tensor)))


def test_elements_with_long_tags_are_unsupported() -> None:
    with pytest.raises(Unsupported):
        read(field(7, field(5, b"\x10\x01" + b"\xa5\x00" + bytes(4))))


def test_offsets_in_errors_are_those_of_the_file() -> None:
    node = helper.make_node("Neg", ["x"], ["y"]).SerializeToString() + b"\x0f"
    data = field(7, field(1, node))
    with pytest.raises(FormatError) as refused:
        read(data)
    assert refused.value.offset == len(data) - 1
