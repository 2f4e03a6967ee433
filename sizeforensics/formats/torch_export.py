"""Archives of ``torch.export.save`` (.pt2), and of AOTInductor packages of the same layout.

The layout since torch 2.8 is that of ``torch/export/pt2_archive/_package.py`` and
``torch/csrc/export/pt2_archive_constants.h``: programs as JSON under ``models/``, each tensor's
storage a record under ``data/weights/`` or ``data/constants/``, their names, types and shapes in a
JSON file beside them (``PayloadConfig`` in ``torch/_export/serde/schema.py``). Older versions put
checkpoints of ``torch.save`` into the archive as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sizeforensics.dtypes import DTYPES, opaque
from sizeforensics.formats.encodings import bounded_json
from sizeforensics.formats.torch_parts.torch_archive import TorchArchive
from sizeforensics.formats.torch_parts.torch_inventory import Assembly, Assign
from sizeforensics.formats.torch_parts.torch_rebuild import check
from sizeforensics.formats.torch_parts.torch_values import PickledTensor
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import CODE, DEBUG_INFO, GRAPH, METADATA, PICKLE

PROGRAM = "exported program"
NODE_METADATA = "node metadata"
SAMPLE_INPUTS = "sample inputs"
CUSTOM_OBJECTS = "custom objects"
COMPILED = "AOTInductor"
"""Subjects of owners."""

_WEIGHTS, _CONSTANTS, _INDUCTOR = "data/weights/", "data/constants/", "data/aotinductor/"
_INDUCTOR_CONFIG = "/weights_config.json"
_OLD_PROGRAM = "serialized_exported_program.json"
_MOST_STRINGS = 2_000_000
_LONGEST_SCOPE = 100

# ScalarType of the schema.
_DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
_STRIDED = 7  # Layout of the schema
_UNKNOWN = opaque("unknown", 8)


class _Tree(NamedTuple):
    """A directory of storages and the JSON file with the names of those of one model."""

    directory: str
    config: str
    scope: str
    constant: bool


def looks_like(torch: TorchArchive) -> bool:
    return torch.find("archive_format") is not None or torch.find(_OLD_PROGRAM) is not None


def read(torch: TorchArchive, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of an archive for which ``looks_like`` is true."""
    assembly = Assembly(torch, limits)
    _claim_programs(assembly)
    models = [
        name.removeprefix("models/").removesuffix(".json")
        for _, name in list(_records(assembly))
        if name.startswith("models/") and name.endswith(".json")
    ]
    for model in models or ["model"]:
        # Every name of its tensors repeats it.
        scope = model[:_LONGEST_SCOPE] if len(models) > 1 else ""
        _add_payloads(assembly, limits, _Tree(
            _WEIGHTS, f"{_WEIGHTS}{model}_weights_config.json", scope, constant=False
        ))  # fmt: skip
        _add_payloads(assembly, limits, _Tree(
            _CONSTANTS, f"{_CONSTANTS}{model}_constants_config.json", scope, constant=True
        ))  # fmt: skip
    _add_inductor_weights(assembly, limits)
    _add_old_payloads(assembly)
    assembly.claim_metadata()
    for index, name in assembly.unclaimed():
        role = _role(name)
        if role is not None:
            assembly.claim(index, *role)
            if role[0] == METADATA and name.startswith("archive_"):
                assembly.add_fact(name, assembly.text(name) or "")
    return assembly.finish("torch-export")


def _records(assembly: Assembly) -> Iterator[tuple[int, str]]:
    """(index, name) of every record that PyTorch can find, claimed or not."""
    torch = assembly.torch
    for index, entry in enumerate(torch.archive.entries):
        name = torch.local_name(entry)
        if name is not None and torch.find(name) == index:
            yield index, name


def _role(name: str) -> tuple[int, str] | None:
    """Role and subject of a record that holds no tensors we read; None for an unknown one."""
    if name in ("archive_format", "archive_version"):
        return METADATA, name
    if name.endswith(_INDUCTOR_CONFIG) and name.startswith(_INDUCTOR):
        return METADATA, "weights_config.json"
    if name.startswith((f"{_WEIGHTS}", f"{_CONSTANTS}")) and name.endswith("_config.json"):
        return METADATA, name.rpartition("/")[2]
    if name.startswith((f"{_CONSTANTS}custom_obj_", f"{_CONSTANTS}opaque_obj_")):
        return PICKLE, CUSTOM_OBJECTS
    if name.startswith("data/sample_inputs/") or name == "serialized_example_inputs.pt":
        return METADATA, SAMPLE_INPUTS
    if name.startswith(_INDUCTOR):
        return CODE, COMPILED
    for extra in ("extra/", "extra_files/"):
        if name.startswith(extra):
            return METADATA, name.removeprefix(extra)
    return None


# Programs


def _claim_programs(assembly: Assembly) -> None:
    """A program is ``graph``, what exporters note about the origin of its nodes ``debug-info``."""
    for index, name in assembly.unclaimed():
        if name == _OLD_PROGRAM or (name.startswith("models/") and name.endswith(".json")):
            content = assembly.content(name)
            pieces: Sequence[tuple[int, int]] = ()
            if content is not None and content.size <= assembly.limits.json_bytes:
                pieces = list(_node_metadata(content.read(0, content.size)))
            assembly.claim_within(index, (GRAPH, PROGRAM), (DEBUG_INFO, NODE_METADATA), pieces)


def _node_metadata(data: bytes) -> Iterator[tuple[int, int]]:
    """Every ``"metadata": {...}`` of strings alone: stack traces, scopes (``Node`` of the schema).

    The quote that closes the key tells it from the same letters inside a string, where a quote has
    a backslash before it.
    """
    key = b'"metadata": {'
    position = strings = 0
    while (start := data.find(key, position)) >= 0:
        position = start + len(key)
        end = position
        while strings < _MOST_STRINGS and data[end : end + 1] in (b'"', b",", b":", b" "):
            if data[end] == 0x22:
                strings += 1
                end = _after_string(data, end)
            else:
                end += 1
        if data[end : end + 1] == b"}" and end > position:
            yield start, end + 1
            position = end + 1


def _after_string(data: bytes, start: int) -> int:
    """Where the JSON string that begins at ``start`` ends; the end of the data if it does not."""
    end = start
    while True:
        end = data.find(b'"', end + 1)
        if end < 0:
            return len(data)
        backslash = end - 1
        while data[backslash] == 0x5C:
            backslash -= 1
        if (end - backslash) % 2:
            return end + 1


# Storages


def _add_payloads(assembly: Assembly, limits: Limits, tree: _Tree) -> None:
    """The tensors of one ``PayloadConfig``."""
    config = _json(assembly.content(tree.config), limits)
    payloads = config.get("config") if isinstance(config, dict) else None
    if not isinstance(payloads, dict):
        return
    for name, meta in payloads.items():
        path = meta.get("path_name") if isinstance(meta, dict) else None
        if not isinstance(path, str):
            assembly.notes.count("are described in a way that makes no sense", name, "payload")
            continue
        full_name = f"{tree.scope}.{name}" if tree.scope else name
        use = "constant" if tree.constant else "weight" if meta.get("is_param") else "buffer"
        if meta.get("use_pickle"):
            if meta.get("tensor_meta") is not None:
                assembly.graft(f"{tree.directory}{path}", _renamed(full_name, use, tree.scope))
            continue
        found = _described(full_name, use, tree.scope, meta.get("tensor_meta"), limits)
        if found.problem:
            assembly.notes.count("are described in a way that makes no sense", name, "payload")
        dtype = None if found.dtype is _UNKNOWN else found.dtype
        assembly.add_tensor(found, assembly.add_storage(f"{tree.directory}{path}", dtype))


def _json(content: Source | None, limits: Limits) -> Any:
    return None if content is None else bounded_json.loads(content, 0, content.size, limits)


def _described(name: str, use: str, scope: str, meta: Any, limits: Limits) -> PickledTensor:
    """A ``TensorMeta``; not valid where sizes are no numbers or the layout is not strided."""
    meta = meta if isinstance(meta, dict) else {}
    kind = meta.get("dtype")
    dtype = DTYPES.get(_DTYPES.get(kind, "") if type(kind) is int else "", _UNKNOWN)
    shape, strides = _sizes(meta.get("sizes")), _sizes(meta.get("strides"))
    offset = _size(meta.get("storage_offset"))
    if (
        dtype is _UNKNOWN or shape is None or strides is None or offset is None
        or len(shape) > limits.tensor_rank or meta.get("layout") != _STRIDED
    ):  # fmt: skip
        problem = "its description makes no sense"
    else:
        problem = check(shape, strides, offset, dtype, -1)
    return PickledTensor(
        name, use, dtype, shape or (), strides or (), offset or 0, storage=None,
        requires_grad=False, quantizer=None, problem=problem, scope=scope,
    )  # fmt: skip


def _size(value: Any) -> int | None:
    """A ``SymInt`` of the schema that is a number."""
    number = value.get("as_int") if isinstance(value, dict) else None
    return number if type(number) is int else None


def _sizes(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, list):
        return None
    sizes = [_size(value) for value in values]
    found = [size for size in sizes if size is not None]
    return tuple(found) if len(found) == len(sizes) else None


def _renamed(name: str, use: str, scope: str) -> Assign:
    """The tensors of a checkpoint of one object, under that object's name."""

    def assign(_: object, tensors: list[PickledTensor]) -> list[PickledTensor]:
        return [
            tensor._replace(
                name=name + tensor.name.removeprefix("tensor")
                if tensor.name.split(".", 1)[0] == "tensor"
                else f"{name}.{tensor.name}",
                use=use if tensor.use in ("weight", "buffer") else tensor.use, scope=scope,
            )
            for tensor in tensors
        ]

    return assign


def _add_inductor_weights(assembly: Assembly, limits: Limits) -> None:
    """Weights beside compiled code: checkpoints of one tensor, of which the config lists views."""
    views: dict[str, dict[str, list[Any]]] = {}
    for _, name in list(_records(assembly)):
        if not (name.startswith(_INDUCTOR) and name.endswith(_INDUCTOR_CONFIG)):
            continue
        config = _json(assembly.content(name), limits)
        for weight, row in config.items() if isinstance(config, dict) else ():
            if isinstance(row, list) and len(row) == 4 and isinstance(row[0], str):
                views.setdefault(row[0], {})[weight] = row[1:]
    for file, named in views.items():
        assembly.graft(f"{_WEIGHTS}{file}", _listed(named, limits))


def _listed(named: dict[str, list[Any]], limits: Limits) -> Assign:
    def assign(_: object, tensors: list[PickledTensor]) -> list[PickledTensor]:
        if not tensors:
            return tensors
        found = []
        for name, (shape, strides, offset) in named.items():
            view = tensors[0]._replace(name=name)
            if not (_are_ints(shape) and _are_ints(strides) and _are_ints([offset])) or len(
                shape
            ) > limits.tensor_rank or check(tuple(shape), tuple(strides), offset, view.dtype, -1):
                found.append(view._replace(problem="its description makes no sense"))
            else:
                found.append(
                    view._replace(shape=tuple(shape), strides=tuple(strides), offset=offset)
                )
        return found

    return assign


def _are_ints(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _add_old_payloads(assembly: Assembly) -> None:
    """The checkpoints of the layout before torch 2.8 (``load`` in ``torch/export/__init__.py``)."""
    for stem, use in (("serialized_state_dict", "weight"), ("serialized_constants", "constant")):
        for suffix in (".pt", ".json"):
            assembly.graft(f"{stem}{suffix}", _with_use(use))


def _with_use(use: str) -> Assign:
    def assign(_: object, tensors: list[PickledTensor]) -> list[PickledTensor]:
        if use == "weight":
            return tensors
        return [tensor._replace(use=use, scope="") for tensor in tensors]

    return assign
