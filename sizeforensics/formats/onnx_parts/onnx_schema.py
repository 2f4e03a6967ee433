"""The messages of ONNX as tables: field numbers, wire types, nested messages and roles of bytes.

Source: ``onnx/onnx.proto`` (IR version 14). A field that is not listed, or that is listed with
another wire type, is an unknown field, as it is for every protobuf runtime.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.formats.encodings.protobuf_scalars import I32, I64, LEN, VARINT
from sizeforensics.spans import (
    CONTAINER,
    DEBUG_INFO,
    GRAPH,
    METADATA,
    NAMES,
    TENSOR_DATA,
    VALUE_INFO,
)

INHERIT = 255
"""The role of a field that has the role of the message around it."""

Row = tuple[int, str, tuple[int, ...], "str | None", int]
_INTS = (VARINT, LEN)  # a repeated scalar may be packed or not, whatever the schema says
_FLOATS = (I32, LEN)
_DOUBLES = (I64, LEN)


def _number(number: int, name: str, role: int = INHERIT, wires: tuple[int, ...] = (VARINT,)) -> Row:
    return number, name, wires, None, role


def _bytes(number: int, name: str, role: int = INHERIT) -> Row:
    return number, name, (LEN,), None, role


def _message(number: int, name: str, kind: str, role: int = INHERIT) -> Row:
    return number, name, (LEN,), kind, role


_ENTRY = "StringStringEntryProto"

_SCHEMA: dict[str, tuple[Row, ...]] = {
    "ModelProto": (
        _number(1, "ir_version", METADATA),
        _bytes(2, "producer_name", METADATA),
        _bytes(3, "producer_version", METADATA),
        _bytes(4, "domain", METADATA),
        _number(5, "model_version", METADATA),
        _bytes(6, "doc_string", DEBUG_INFO),
        _message(7, "graph", "GraphProto", GRAPH),
        _message(8, "opset_import", "OperatorSetIdProto", GRAPH),
        _message(14, "metadata_props", _ENTRY, METADATA),
        _message(20, "training_info", "TrainingInfoProto", GRAPH),
        _message(25, "functions", "FunctionProto", GRAPH),
        _message(26, "configuration", "DeviceConfigurationProto", GRAPH),
    ),
    "GraphProto": (
        _message(1, "node", "NodeProto", GRAPH),
        _bytes(2, "name", NAMES),
        _message(5, "initializer", "TensorProto", CONTAINER),
        _bytes(10, "doc_string", DEBUG_INFO),
        _message(11, "input", "ValueInfoProto.Edge", GRAPH),
        _message(12, "output", "ValueInfoProto.Edge", GRAPH),
        _message(13, "value_info", "ValueInfoProto", VALUE_INFO),
        _message(14, "quantization_annotation", "TensorAnnotation", GRAPH),
        _message(15, "sparse_initializer", "SparseTensorProto", CONTAINER),
        _message(16, "metadata_props", _ENTRY, METADATA),
    ),
    "NodeProto": (
        _bytes(1, "input", NAMES),
        _bytes(2, "output", NAMES),
        _bytes(3, "name", NAMES),
        _bytes(4, "op_type"),
        _message(5, "attribute", "AttributeProto"),
        _bytes(6, "doc_string", DEBUG_INFO),
        _bytes(7, "domain"),
        _bytes(8, "overload"),
        _message(9, "metadata_props", _ENTRY, DEBUG_INFO),
        _message(10, "device_configurations", "NodeDeviceConfigurationProto"),
    ),
    "AttributeProto": (
        _bytes(1, "name"),
        _number(2, "f", wires=(I32,)),
        _number(3, "i"),
        _bytes(4, "s"),
        _message(5, "t", "TensorProto", CONTAINER),
        _message(6, "g", "GraphProto", GRAPH),
        _number(7, "floats", wires=_FLOATS),
        _number(8, "ints", wires=_INTS),
        _bytes(9, "strings"),
        _message(10, "tensors", "TensorProto", CONTAINER),
        _message(11, "graphs", "GraphProto", GRAPH),
        _bytes(13, "doc_string", DEBUG_INFO),
        _message(14, "tp", "TypeProto"),
        _message(15, "type_protos", "TypeProto"),
        _number(20, "type"),
        _bytes(21, "ref_attr_name"),
        _message(22, "sparse_tensor", "SparseTensorProto", CONTAINER),
        _message(23, "sparse_tensors", "SparseTensorProto", CONTAINER),
    ),
    "TensorProto": (
        _number(1, "dims", wires=_INTS),
        _number(2, "data_type"),
        _message(3, "segment", "TensorProto.Segment"),
        _number(4, "float_data", TENSOR_DATA, _FLOATS),
        _number(5, "int32_data", TENSOR_DATA, _INTS),
        _bytes(6, "string_data", TENSOR_DATA),
        _number(7, "int64_data", TENSOR_DATA, _INTS),
        _bytes(8, "name", NAMES),
        _bytes(9, "raw_data", TENSOR_DATA),
        _number(10, "double_data", TENSOR_DATA, _DOUBLES),
        _number(11, "uint64_data", TENSOR_DATA, _INTS),
        _bytes(12, "doc_string", DEBUG_INFO),
        _message(13, "external_data", _ENTRY),
        _number(14, "data_location"),
        _message(16, "metadata_props", _ENTRY, METADATA),
    ),
    "TensorProto.Segment": (_number(1, "begin"), _number(2, "end")),
    "SparseTensorProto": (
        _message(1, "values", "TensorProto"),
        _message(2, "indices", "TensorProto"),
        _number(3, "dims", wires=_INTS),
    ),
    "ValueInfoProto": (
        _bytes(1, "name"),
        _message(2, "type", "TypeProto"),
        _bytes(3, "doc_string", DEBUG_INFO),
        _message(4, "metadata_props", _ENTRY),
    ),
    # The same message where it is an input or an output of a graph, part of the program.
    "ValueInfoProto.Edge": (
        _bytes(1, "name", NAMES),
        _message(2, "type", "TypeProto"),
        _bytes(3, "doc_string", DEBUG_INFO),
        _message(4, "metadata_props", _ENTRY, METADATA),
    ),
    "TypeProto": (
        _message(1, "tensor_type", "TypeProto.Tensor"),
        _message(4, "sequence_type", "TypeProto.Nested"),
        _message(5, "map_type", "TypeProto.Map"),
        _bytes(6, "denotation"),
        _message(7, "opaque_type", "TypeProto.Opaque"),
        _message(8, "sparse_tensor_type", "TypeProto.Tensor"),
        _message(9, "optional_type", "TypeProto.Nested"),
    ),
    "TypeProto.Tensor": (_number(1, "elem_type"), _message(2, "shape", "TensorShapeProto")),
    "TypeProto.Nested": (_message(1, "elem_type", "TypeProto"),),
    "TypeProto.Map": (_number(1, "key_type"), _message(2, "value_type", "TypeProto")),
    "TypeProto.Opaque": (_bytes(1, "domain"), _bytes(2, "name")),
    "TensorShapeProto": (_message(1, "dim", "TensorShapeProto.Dimension"),),
    "TensorShapeProto.Dimension": (
        _number(1, "dim_value"),
        _bytes(2, "dim_param"),
        _bytes(3, "denotation"),
    ),
    "TensorAnnotation": (
        _bytes(1, "tensor_name"),
        _message(2, "quant_parameter_tensor_names", _ENTRY),
    ),
    _ENTRY: (_bytes(1, "key"), _bytes(2, "value")),
    "OperatorSetIdProto": (_bytes(1, "domain"), _number(2, "version")),
    "FunctionProto": (
        _bytes(1, "name", NAMES),
        _bytes(4, "input", NAMES),
        _bytes(5, "output", NAMES),
        _bytes(6, "attribute", NAMES),
        _message(7, "node", "NodeProto"),
        _bytes(8, "doc_string", DEBUG_INFO),
        _message(9, "opset_import", "OperatorSetIdProto"),
        _bytes(10, "domain"),
        _message(11, "attribute_proto", "AttributeProto"),
        _message(12, "value_info", "ValueInfoProto", VALUE_INFO),
        _bytes(13, "overload"),
        _message(14, "metadata_props", _ENTRY, METADATA),
    ),
    "TrainingInfoProto": (
        _message(1, "initialization", "GraphProto"),
        _message(2, "algorithm", "GraphProto"),
        _message(3, "initialization_binding", _ENTRY),
        _message(4, "update_binding", _ENTRY),
    ),
    "DeviceConfigurationProto": (
        _bytes(1, "name"),
        _number(2, "num_devices"),
        _bytes(3, "device"),
    ),
    "NodeDeviceConfigurationProto": (
        _bytes(1, "configuration_id"),
        _message(2, "sharding_spec", "ShardingSpecProto"),
        _number(3, "pipeline_stage"),
    ),
    "ShardingSpecProto": (
        _bytes(1, "tensor_name"),
        _number(2, "device", wires=_INTS),
        _message(3, "index_to_device_group_map", "IntIntListEntryProto"),
        _message(4, "sharded_dim", "ShardedDimProto"),
    ),
    "IntIntListEntryProto": (_number(1, "key"), _number(2, "value", wires=_INTS)),
    "ShardedDimProto": (_number(1, "axis"), _message(2, "simple_sharding", "SimpleShardedDimProto")),
    "SimpleShardedDimProto": (
        _number(1, "dim_value"),
        _bytes(2, "dim_param"),
        _number(3, "num_shards"),
    ),
}

TAGS = 256
"""Tags are looked up in tables of this size; every field of ONNX has a number below 32."""


class Table(NamedTuple):
    """One message, ready for lookups by tag (``number << 3 | wire type``).

    The arrays have ``TAGS + 1`` entries, the last one for every larger tag.
    """

    known: npt.NDArray[np.bool_]
    nested: npt.NDArray[np.bool_]
    """Whether the field is a message."""
    roles: npt.NDArray[np.uint8]
    packed: npt.NDArray[np.bool_]
    """Whether the field is scalars packed together."""
    children: dict[int, str]
    """Field number to the kind of the nested message."""
    names: dict[int, str]

    def rows(self, tags: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where these tags are in the arrays."""
        return np.minimum(tags, TAGS)


def _table(rows: tuple[Row, ...]) -> Table:
    known, nested, packed = np.zeros((3, TAGS + 1), dtype=np.bool_)
    roles = np.full(TAGS + 1, METADATA, dtype=np.uint8)
    for number, _, wires, _, role in rows:
        packed[number << 3 | LEN] = len(wires) > 1
        for wire in wires:
            known[number << 3 | wire] = True
            roles[number << 3 | wire] = role
    children = {number: kind for number, _, _, kind, _ in rows if kind is not None}
    for number in children:
        nested[number << 3 | LEN] = True
    names = {number: name for number, name, *_ in rows}
    return Table(known, nested, roles, packed, children, names)


TABLES = {kind: _table(rows) for kind, rows in _SCHEMA.items()}

RAW_DATA = 9
STRING_DATA = 6
FLOAT_DATA, INT64_DATA = 4, 7
_INT32_DATA, _DOUBLE_DATA, _UINT64_DATA = 5, 10, 11

_DATA_TYPES: dict[int, tuple[DType, int]] = {
    1: (DTYPES["float32"], FLOAT_DATA),
    2: (DTYPES["uint8"], _INT32_DATA),
    3: (DTYPES["int8"], _INT32_DATA),
    4: (DTYPES["uint16"], _INT32_DATA),
    5: (DTYPES["int16"], _INT32_DATA),
    6: (DTYPES["int32"], _INT32_DATA),
    7: (DTYPES["int64"], INT64_DATA),
    8: (DTYPES["string"], STRING_DATA),
    9: (DTYPES["bool"], _INT32_DATA),
    10: (DTYPES["float16"], _INT32_DATA),
    11: (DTYPES["float64"], _DOUBLE_DATA),
    12: (DTYPES["uint32"], _UINT64_DATA),
    13: (DTYPES["uint64"], _UINT64_DATA),
    14: (DTYPES["complex64"], FLOAT_DATA),
    15: (DTYPES["complex128"], _DOUBLE_DATA),
    16: (DTYPES["bfloat16"], _INT32_DATA),
    17: (DTYPES["float8_e4m3fn"], _INT32_DATA),
    18: (DTYPES["float8_e4m3fnuz"], _INT32_DATA),
    19: (DTYPES["float8_e5m2"], _INT32_DATA),
    20: (DTYPES["float8_e5m2fnuz"], _INT32_DATA),
    21: (DTYPES["uint4"], _INT32_DATA),
    22: (DTYPES["int4"], _INT32_DATA),
    23: (DTYPES["float4_e2m1fn"], _INT32_DATA),
    24: (DTYPES["float8_e8m0fnu"], _INT32_DATA),
    25: (DTYPES["uint2"], _INT32_DATA),
    26: (DTYPES["int2"], _INT32_DATA),
    # Six bits do not divide a byte: sized and compared as bytes, never computed with.
    27: (opaque("float6_e2m3fn", 6), _INT32_DATA),
    28: (opaque("float6_e3m2fn", 6), _INT32_DATA),
}


def data_type(code: int) -> tuple[DType, int] | None:
    """The element type of ``TensorProto.DataType`` and the number of its typed field."""
    return _DATA_TYPES.get(code)


_CONCATENATED = 1024
"""Inputs of a concatenation whose scales are recognised; none has more."""

_SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
}
_CONTRIBUTED_SCALES: dict[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "GatherBlockQuantized": (2, 3),
    "GemmFloat8": (3, 4, 5),
    "MatMulBnb4": (2,),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "MulInteger": (1, 3),
    "QAttention": (3, 4, 6, 7),
    "QEmbedLayerNormalization": tuple(range(8, 18)),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearAveragePool": (1, 2, 3, 4),
    # Scale and zero point of the output, then every input with its own two.
    "QLinearConcat": (0, 1, *(at for at in range(2, 3 * _CONCATENATED) if at % 3 != 2)),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearReduceMean": (1, 2, 3, 4),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QLinearWhere": (2, 3, 5, 6, 7, 8),
    "QMoE": (3, 6, 9, 11, 12, 13, 15, 16, 17, 18, 19, 20),
}

QUANTIZATION_INPUTS = _SCALES | {
    f"com.microsoft.{op}": inputs for op, inputs in _CONTRIBUTED_SCALES.items()
}
"""Operator to the positions of its inputs that are scales or zero points.

From onnx ``docs/Operators.md`` and ONNX Runtime ``docs/ContribOperators.md``.
"""

COUNTED_OPERATORS = frozenset({
    "DequantizeLinear", "com.microsoft.DequantizeLinear", "com.microsoft.GatherBlockQuantized",
    "com.microsoft.MatMulNBits", "com.microsoft.QGemm",
})  # fmt: skip
"""Operators whose integer attributes are read: they say how tensors are packed and scaled."""
