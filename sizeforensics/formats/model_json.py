"""TorchScript archives of PyTorch 1.0 to 1.3: modules and tensors listed in ``model.json``.

The layout is that of ``ModelDef`` in ``caffe2/proto/torch.proto`` of version 1.0, written as JSON, and
of its reader, ``torch/csrc/jit/serialization/import_legacy.cpp``: a tensor is an entry of a table with
the record ``tensors/<n>`` of its storage, and modules refer to entries by their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sizeforensics.dtypes import DTYPES, opaque
from sizeforensics.errors import Corrupt
from sizeforensics.formats.encodings import bounded_json
from sizeforensics.formats.torch_parts.torch_archive import TorchArchive, script_record
from sizeforensics.formats.torch_parts.torch_inventory import Assembly, Part
from sizeforensics.formats.torch_parts.torch_rebuild import check
from sizeforensics.formats.torch_parts.torch_values import PickledTensor
from sizeforensics.inventory import Inventory, Module
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.spans import GRAPH

MODEL = "model.json"
"""The record, and the subject of its owner."""

# TensorProto.DataType of caffe2.proto.
_DTYPES = {
    "FLOAT": "float32", "INT32": "int32", "BYTE": "uint8", "BOOL": "bool", "UINT8": "uint8",
    "INT8": "int8", "UINT16": "uint16", "INT16": "int16", "INT64": "int64", "FLOAT16": "float16",
    "DOUBLE": "float64",
}  # fmt: skip
_UNKNOWN = opaque("unknown", 8)


class _Use(NamedTuple):
    """A tensor of the table under one of its names; ``module`` counts modules."""

    name: str
    attribute: str
    number: int
    use: str
    module: int


def read(torch: TorchArchive, limits: Limits = DEFAULT_LIMITS) -> Inventory | None:
    """The inventory; None when ``model.json`` describes no TorchScript module."""
    assembly = Assembly(torch, limits)
    content = assembly.content(MODEL)
    index = torch.find(MODEL)
    if content is None or index is None:
        return None
    model = bounded_json.loads(content, 0, content.size, limits)
    if not isinstance(model, dict) or not isinstance(model.get("mainModule"), dict):
        return None
    assembly.claim(index, GRAPH, MODEL)
    modules: list[Module] = []
    uses = list(_walk(model["mainModule"], modules, torch))
    table = model.get("tensors", [])
    if not isinstance(table, list):
        raise _wrong(torch, "a list of tensors", table)
    _add_tensors(assembly, limits, table, uses, modules)
    for module in modules:
        assembly.add_module(module)
    # Attributes that are no tensors; those that are, are numbers of the table.
    assembly.add_pickle(Part("attributes.pkl", "attributes/", _only_own))
    for key in ("producerName", "producerVersion", "protoVersion"):
        if isinstance(model.get(key), str):
            assembly.add_fact(key, model[key])
    assembly.claim_metadata()
    for record, name in assembly.unclaimed():
        role = script_record(name)
        if role is not None:
            assembly.claim(record, *role)
    return assembly.finish("torchscript")


def _walk(main: dict[str, Any], modules: list[Module], torch: TorchArchive) -> Iterator[_Use]:
    """Every parameter and buffer, and every module on the way, outermost first."""
    tasks: list[tuple[dict[str, Any], str]] = [(main, "")]
    join = _Names(16 << 20).join
    while tasks:
        definition, path = tasks.pop()
        modules.append(Module(path, str(definition.get("name", ""))[:200], {}, {}))
        for parameter in _dicts(definition, "parameters", torch):
            name = _name(parameter, torch)
            number = _integer(parameter.get("tensorId", 0))
            if number is None:
                raise _wrong(torch, "the number of a tensor", parameter.get("tensorId"))
            use = "buffer" if parameter.get("isBuffer") else "weight"
            yield _Use(join(path, name), name, number, use, len(modules) - 1)
        children = [
            (child, join(path, _name(child, torch)))
            for child in _dicts(definition, "submodules", torch)
        ]
        tasks += reversed(children)


def _dicts(definition: dict[str, Any], key: str, torch: TorchArchive) -> list[dict[str, Any]]:
    values = definition.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise _wrong(torch, f"a list of {key}", values)
    return values


def _name(definition: dict[str, Any], torch: TorchArchive) -> str:
    name = definition.get("name", "")
    if not isinstance(name, str):
        raise _wrong(torch, "a name", name)
    return name


class _Names:
    """Dotted names; they repeat the names of what they are in, so what that costs is bounded."""

    def __init__(self, letters: int) -> None:
        self.letters = letters

    def join(self, path: str, name: str) -> str:
        self.letters -= len(path)
        if not path:
            return name
        return f"{path}.{name}" if self.letters >= 0 else f"….{name}"


def _wrong(torch: TorchArchive, expected: str, got: object) -> Corrupt:
    shown = type(got).__name__ if isinstance(got, (dict, list)) else repr(got)[:100]
    index = torch.find(MODEL) or 0
    source = torch.source
    return Corrupt(source.path, source.origin() + torch.archive.entries[index].start,
                   f"{expected} in {MODEL}", shown)  # fmt: skip


# Tensors


def _add_tensors(
    assembly: Assembly, limits: Limits, table: list[Any], uses: list[_Use], modules: list[Module]
) -> None:
    """One tensor for each name; those of the table without a name are constants of the code."""
    named = {use.number for use in uses}
    constants = [
        _Use(f"constants.{number}", "", number, "constant", -1)
        for number in range(len(table))
        if number not in named
    ]
    for use in (*uses, *constants):
        if not 0 <= use.number < len(table):
            assembly.notes.count("are not in the table of tensors", use.name, "tensor")
            continue
        found, key = _described(table[use.number], use, limits)
        if found.problem or key is None:
            assembly.notes.count("are described in a way that makes no sense", use.name, "tensor")
        dtype = None if found.dtype is _UNKNOWN else found.dtype
        storage = None if key is None else assembly.add_storage(key, dtype)
        place = assembly.add_tensor(found, storage)
        if use.module >= 0:
            modules[use.module].tensors[use.attribute] = place


def _described(value: Any, use: _Use, limits: Limits) -> tuple[PickledTensor, str | None]:
    """A ``TensorDef`` and the record of its storage; 64-bit numbers are strings in its JSON."""
    value = value if isinstance(value, dict) else {}
    kind = value.get("dataType")
    dtype = DTYPES.get(_DTYPES.get(kind, "") if isinstance(kind, str) else "", _UNKNOWN)
    shape, strides = _integers(value.get("dims", [])), _integers(value.get("strides", []))
    offset = _integer(value.get("offset", 0))
    if (
        dtype is _UNKNOWN or shape is None or strides is None or offset is None
        or len(shape) > limits.tensor_rank
    ):  # fmt: skip
        problem = "its description makes no sense"
    else:
        problem = check(shape, strides, offset, dtype, -1)
    data = value.get("data")
    key = data.get("key") if isinstance(data, dict) else None
    scope = "constants" if use.use == "constant" else ""
    tensor = PickledTensor(
        use.name, use.use, dtype, shape or (), strides or (), offset or 0, storage=None,
        requires_grad=value.get("requiresGrad") is True, quantizer=None, problem=problem, scope=scope,
    )  # fmt: skip
    return tensor, key if isinstance(key, str) else None


def _integer(value: Any) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdecimal():
        return int(value)
    return None


def _integers(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, list):
        return None
    found = [number for number in map(_integer, values) if number is not None]
    return tuple(found) if len(found) == len(values) else None


def _only_own(_: object, tensors: list[PickledTensor]) -> list[PickledTensor]:
    """Without what is only a number of the table."""
    return [tensor for tensor in tensors if not tensor.problem]
