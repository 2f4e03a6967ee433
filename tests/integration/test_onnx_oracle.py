"""Our reading of ONNX models agrees with the onnx package's, on every model that it can make."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

from sizeforensics.formats import onnx as reader
from sizeforensics.formats.onnx_parts.onnx_schema import QUANTIZATION_INPUTS
from sizeforensics.inventory import Inventory
from sizeforensics.source import FileSource, MemorySource
from sizeforensics.spans import ROLES

WHEEL = Path(onnx.__file__).parent / "backend" / "test" / "data"
FIXTURES = Path(__file__).parents[2] / "fixtures" / "models"

Described = tuple[str, str, tuple[int, ...], bytes]


# -- what the onnx package says


def dtype_name(tensor: TensorProto) -> str:
    if tensor.data_type == TensorProto.STRING:
        return "string"
    names = {TensorProto.FLOAT6E2M3: "float6_e2m3fn", TensorProto.FLOAT6E3M2: "float6_e3m2fn"}
    known = names.get(tensor.data_type)
    return known or helper.tensor_dtype_to_np_dtype(tensor.data_type).name


def content(tensor: TensorProto, directory: str) -> bytes:
    """The elements as raw_data holds them."""
    if tensor.data_type == TensorProto.STRING:
        return b"".join(tensor.string_data)
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    return numpy_helper.from_array(numpy_helper.to_array(tensor, directory)).raw_data


def described(name: str, tensor: TensorProto, directory: str) -> Described:
    return name, dtype_name(tensor), tuple(tensor.dims), content(tensor, directory)


def node_label(node: onnx.NodeProto) -> str:
    output = node.output[0] if node.output else ""
    return node.name or (f"{op_type(node)} -> {output}" if output else op_type(node))


def op_type(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type


def attribute_label(node: onnx.NodeProto, attribute: onnx.AttributeProto) -> str:
    if node.op_type == "Constant" and node.domain in {"", "ai.onnx"} and attribute.name != "g":
        return node.output[0]
    return f"{node_label(node)}.{attribute.name}"


def tensors_of_nodes(nodes: list[onnx.NodeProto], directory: str) -> Iterator[Described]:
    for node in nodes:
        for attribute in node.attribute:
            label = attribute_label(node, attribute)
            value = helper.get_attribute_value(attribute) if attribute.type else None
            if node.op_type == "Constant" and attribute.name in PLAIN and value not in (None, []):
                yield plain(label, attribute)
            if attribute.HasField("t"):
                yield described(label, attribute.t, directory)
            if attribute.HasField("sparse_tensor"):
                yield from sparse(label, attribute.sparse_tensor, directory)
            for at, tensor in enumerate(attribute.tensors):
                name = f"{node_label(node)}.{attribute.name}[{at}]"
                yield described(name, tensor, directory)
            for graph in graphs_of(attribute):
                yield from tensors_of_graph(graph, directory)


PLAIN = {
    "value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64",
    "value_string": "string", "value_strings": "string",
}  # fmt: skip


def plain(label: str, attribute: onnx.AttributeProto) -> Described:
    """The tensor that an attribute of a Constant is, as the operator's documentation says."""
    value, dtype = helper.get_attribute_value(attribute), PLAIN[attribute.name]
    if dtype == "string":
        texts = value if isinstance(value, list) else [value]
        data = b"".join(texts)
    else:
        data = np.array(value, dtype).tobytes()
    return label, dtype, (len(value),) if attribute.name.endswith("s") else (), data


def graphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def sparse(name: str, tensor: onnx.SparseTensorProto, directory: str) -> Iterator[Described]:
    yield described(name, tensor.values, directory)
    yield described(f"{name}.indices", tensor.indices, directory)


def tensors_of_graph(graph: onnx.GraphProto, directory: str) -> Iterator[Described]:
    for tensor in graph.initializer:
        yield described(tensor.name, tensor, directory)
    for tensor in graph.sparse_initializer:
        yield from sparse(tensor.values.name, tensor, directory)
    yield from tensors_of_nodes(graph.node, directory)


def every_graph(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    todo: list[Message] = [model.graph, *model.functions]
    for info in model.training_info:
        todo += [info.initialization, info.algorithm]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += graphs_of(attribute)


def oracle(model: onnx.ModelProto, directory: str = "") -> tuple[Counter, Counter]:
    """(tensors, nodes) as multisets."""
    tensors = Counter(tensors_of_graph(model.graph, directory))
    for info in model.training_info:
        tensors.update(tensors_of_graph(info.initialization, directory))
        tensors.update(tensors_of_graph(info.algorithm, directory))
    for function in model.functions:
        tensors.update(tensors_of_nodes(function.node, directory))
    nodes = Counter(
        (node.name, op_type(node), tuple(node.input), tuple(node.output))
        for graph in every_graph(model) for node in graph.node
    )
    return tensors, nodes


# -- what we say


def ours(inventory: Inventory) -> tuple[Counter, Counter]:
    tensors = Counter(
        (tensor.name, tensor.dtype.name, tensor.shape, payload(inventory, tensor.storage))
        for tensor in inventory.tensors
    )
    nodes = inventory.nodes
    edges: list[tuple[list[str], list[str]]] = [([], []) for _ in nodes.names]
    for side, owner, value in (
        (0, nodes.read_nodes, nodes.read_values), (1, nodes.write_nodes, nodes.write_values),
    ):
        for node, text in zip(owner.tolist(), value.tolist(), strict=True):
            edges[node][side].append(nodes.values[text])
    return tensors, Counter(
        (name, nodes.op_names[op], tuple(reads), tuple(writes))
        for name, op, (reads, writes) in zip(nodes.names, nodes.ops.tolist(), edges, strict=True)
    )


def payload(inventory: Inventory, storage: int | None) -> bytes:
    if storage is None:
        return b""
    source = inventory.storages[storage].payload
    assert source is not None
    return source.read(0, source.size)


def disagreements(inventory: Inventory, model: onnx.ModelProto, directory: str = "") -> list[str]:
    found = []
    for what, theirs, mine in zip(
        ("tensor", "node"), oracle(model, directory), ours(inventory), strict=True
    ):
        found += [f"{what} {row!r:.300} not read" for row in theirs - mine]
        found += [f"{what} {row!r:.300} not there" for row in mine - theirs]
    by_role = dict(zip(ROLES, inventory.bytes_by_role().tolist(), strict=True))
    if by_role["unclaimed"] or sum(by_role.values()) != inventory.nbytes:
        found.append(f"bytes by role: {by_role}")
    covered = sum(
        inventory.storages[at].nbytes
        for at in {tensor.storage for tensor in inventory.tensors} - {None}
    )
    stored = sum(storage.nbytes for storage in inventory.storages)
    if covered != stored:
        found.append(f"tensors view {covered:,} of {stored:,} bytes")
    return [*found, *inventory.warnings]


# -- that both agree


def test_every_model_of_the_backend_tests_agrees() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [case for case in collect_testcases(None) if case.model is not None]
    wrong = {}
    for case in cases:
        data = case.model.SerializeToString()
        source = MemorySource(case.name, data)
        assert reader.looks_like(source), case.name
        found = disagreements(reader.read(source), onnx.load_model_from_string(data))
        if found:
            wrong[case.name] = found[:3]
    assert wrong == {}
    assert len(cases) > 1_800


def test_every_model_file_of_the_wheel_agrees() -> None:
    paths = sorted(WHEEL.rglob("*.onnx"))
    wrong = {}
    for path in paths:
        source = FileSource(str(path))
        assert reader.looks_like(source), path.name
        found = disagreements(reader.read(source), onnx.load(path), str(path.parent))
        if found:
            wrong[str(path.relative_to(WHEEL))] = found[:3]
    assert wrong == {}
    assert len(paths) > 100


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.onnx")), ids=lambda path: path.name)
def test_exports_of_torch_agree(path: Path) -> None:
    inventory = reader.read(FileSource(str(path)))
    assert disagreements(inventory, onnx.load(path), str(path.parent)) == []


def model_of(*tensors: TensorProto) -> onnx.ModelProto:
    names = [tensor.name for tensor in tensors]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Anything", names, ["y"])
    return helper.make_model(helper.make_graph([node], "g", [], [output], tensors))


DATA_TYPES = sorted(set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED})


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("data_type", DATA_TYPES, ids=TensorProto.DataType.Name)
def test_every_data_type_agrees(data_type: int, raw: bool) -> None:
    if data_type == TensorProto.STRING:
        if raw:
            pytest.skip("strings have no raw form")
        tensor = helper.make_tensor("w", data_type, [2, 2], [b"a", b"", "é".encode(), b"long" * 50])
    else:
        tensor = numeric(data_type, (3, 5), raw)
    model = model_of(tensor)
    inventory = reader.read(MemorySource("m", model.SerializeToString()))
    assert disagreements(inventory, model) == []
    (view,) = inventory.tensors
    if data_type != TensorProto.STRING:
        assert view.nbytes == inventory.storages[0].nbytes


def numeric(data_type: int, shape: tuple[int, ...], raw: bool) -> TensorProto:
    """Random bits, so every value of the narrow types and negative integers occur."""
    rng = np.random.default_rng(data_type)
    if data_type in {TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2}:
        values = rng.integers(0, 64, prod(shape))
        if not raw:
            return TensorProto(name="w", data_type=data_type, dims=shape, int32_data=values)
        bits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1, bitorder="little")[:, :6]
        data = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
        return TensorProto(name="w", data_type=data_type, dims=shape, raw_data=data)
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    if dtype == np.bool_:
        values = rng.integers(0, 2, shape).astype(np.bool_)
    elif dtype.name in {"int4", "uint4", "int2", "uint2"}:
        info = ml_dtypes.iinfo(dtype)
        values = rng.integers(int(info.min), int(info.max) + 1, shape).astype(dtype)
    elif dtype.name == "float4_e2m1fn":
        values = rng.integers(0, 16, shape).astype(np.uint8).view(dtype)
    else:
        values = np.frombuffer(rng.bytes(prod(shape) * dtype.itemsize), dtype).reshape(shape)
        if dtype.kind in "fc":
            # A signalling NaN may be quietened on its way through Python floats.
            values = np.nan_to_num(values)
    tensor = numpy_helper.from_array(values, "w")
    if raw:
        return tensor
    return typed(tensor, values)


def typed(tensor: TensorProto, values: np.ndarray) -> TensorProto:
    """The same elements in the type's own field, as onnx.proto says they are encoded there."""
    stored = np.frombuffer(tensor.raw_data, dtype=np.uint8)
    out = TensorProto(name="w", data_type=tensor.data_type, dims=tensor.dims)
    kind = values.dtype
    if kind in (np.float32, np.complex64):
        out.float_data.extend(stored.view("<f4").tolist())
    elif kind in (np.float64, np.complex128):
        out.double_data.extend(stored.view("<f8").tolist())
    elif kind == np.int64:
        out.int64_data.extend(stored.view("<i8").tolist())
    elif kind in (np.uint32, np.uint64):
        out.uint64_data.extend(stored.view(kind).tolist())
    elif kind in (np.int8, np.int16, np.int32, np.uint16, np.uint8, np.bool_):
        out.int32_data.extend(values.reshape(-1).astype(np.int32).tolist())
    else:
        width = {2: "<u2"}.get(kind.itemsize if kind.name in ("float16", "bfloat16") else 1, "u1")
        out.int32_data.extend(stored.view(width).tolist())
    return out


@pytest.mark.parametrize("op", [op for op in QUANTIZATION_INPUTS if "." not in op])
def test_scales_and_zero_points_are_where_the_operator_takes_them(op: str) -> None:
    names = [parameter.name.lower() for parameter in onnx.defs.get_schema(op).inputs]
    expected = [at for at, name in enumerate(names) if "scale" in name or "zero_point" in name]
    assert list(QUANTIZATION_INPUTS[op]) == expected


def test_subgraphs_functions_sparse_and_training_agree() -> None:
    model = everything()
    inventory = reader.read(MemorySource("m", model.SerializeToString()))
    assert disagreements(inventory, model) == []
    scopes = {tensor.name: tensor.scope for tensor in inventory.tensors}
    assert scopes["inner_weight"] == "branch.then_branch"
    assert scopes["in_function"] == "function local::Twice"
    assert scopes["of_training"] == "training_info[0].algorithm"


VALUES = {
    "value_float": 1.5, "value_floats": [-0.0, 2.0, 3.25], "value_int": -7, "value_ints": [1, -1, 1 << 40],
    "value_string": b"one", "value_strings": [b"", b"two", b"\xff"],
}  # fmt: skip


def everything() -> onnx.ModelProto:
    """One model with every place where a tensor, a graph or a doc_string can be."""
    small = numpy_helper.from_array(np.arange(3, dtype=np.float32), "c")
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    inner = helper.make_graph(
        [helper.make_node("Add", ["w", "inner_weight"], ["y"])], "inner", [], [value],
        [numpy_helper.from_array(np.ones(3, np.float32), "inner_weight")], doc_string="inside",
    )
    other = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=small)], "other", [], [value]
    )
    sparse_tensor = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "scattered"),
        numpy_helper.from_array(np.array([1, 5], np.int64)), [8],
    )
    nodes = [
        helper.make_node("If", ["cond"], ["y"], name="branch", then_branch=inner, else_branch=other),
        helper.make_node("Constant", [], ["k"], name="k", sparse_value=sparse_tensor),
        *(helper.make_node("Constant", [], [name], **{name: value}) for name, value in VALUES.items()),
        helper.make_node("Many", ["k", ""], ["z"], "many", domain="custom", list=[small, small]),
        helper.make_node("Twice", ["z"], ["zz"], "call", domain="local", doc_string="a node"),
    ]
    graph = helper.make_graph(
        nodes, "main", [helper.make_tensor_value_info("cond", TensorProto.BOOL, ["n", 3])],
        [value], [numpy_helper.from_array(np.zeros(3, np.float32), "w")], "a graph",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3], "a value")], [sparse_tensor],
    )
    function = helper.make_function(
        "local", "Twice", ["x"], ["out"],
        [
            helper.make_node("Constant", [], ["in_function"], value=small),
            helper.make_node("Mul", ["x", "in_function"], ["out"]),
        ],
        [helper.make_opsetid("", 20)], ["a"],
    )
    opsets = [helper.make_opsetid(*imported) for imported in (("", 20), ("local", 1), ("custom", 1))]
    model = helper.make_model(
        graph, functions=[function], doc_string="a model", opset_imports=opsets
    )
    info = model.training_info.add()
    info.algorithm.node.append(helper.make_node("Constant", [], ["of_training"], value=small))
    info.initialization.name = "start"
    info.update_binding.add(key="w", value="of_training")
    helper.set_model_props(model, {"stride": "32"})
    model.graph.quantization_annotation.add(tensor_name="z").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    model.graph.node[0].metadata_props.add(key="pkg.trace", value="line 1\nline 2")
    return model
