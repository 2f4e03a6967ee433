"""TorchScript archives of torch 1.0, written here as it wrote them: no torch of today reads them."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from sizeforensics.errors import Corrupt, LimitExceeded, Unrecognized
from sizeforensics.inventory import Inventory
from sizeforensics.spans import CODE, DEBUG_INFO, GRAPH, METADATA, TENSOR_DATA, UNCLAIMED
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.old_torch import model_json, zipped
from tests.torch_files import read


def tensor(dims: list[int], key: str, offset: int = 0, **more: Any) -> dict[str, Any]:
    """An entry of the table; 64-bit numbers are strings in the JSON of protobuf."""
    strides = np.cumprod([1, *dims[:0:-1]])[::-1][: len(dims)].tolist()
    return {
        "dims": [str(size) for size in dims], "offset": str(offset),
        "strides": [str(stride) for stride in strides], "requiresGrad": True, "dataType": "FLOAT",
        "data": {"key": key}, "device": "cpu",
    } | more  # fmt: skip


def parameter(name: str, number: int, *, buffer: bool = False) -> dict[str, Any]:
    return {"isBuffer": buffer, "tensorId": str(number), "name": name}


WEIGHT = np.arange(6, dtype=np.float32).tobytes()
RECORDS = model_json(
    [tensor([2, 3], "tensors/0"), tensor([2], "tensors/1"), tensor([2], "tensors/0", 3),
     tensor([], "tensors/2", dataType="INT64")],
    {"tensors/0": WEIGHT, "tensors/1": bytes(8), "tensors/2": bytes(8)},
    submodules=[{"name": "lin", "parameters": [parameter("weight", 0), parameter("bias", 1)],
                 "submodules": [{"name": "bn", "parameters": [parameter("n", 3, buffer=True)]}]}],
)  # fmt: skip
SMALL = zipped(RECORDS)


def changed(change: Any, **more: bytes) -> bytes:
    """The archive with another ``model.json``."""
    model = json.loads(RECORDS["net/model.json"])
    change(model)
    return zipped(RECORDS | {"net/model.json": json.dumps(model).encode()} | more)


def said(inventory: Inventory, words: str) -> bool:
    return any(words in warning for warning in inventory.warnings)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_modules_and_tensors(method: int) -> None:
    inventory = read(zipped(RECORDS, method))
    assert inventory.format == "torchscript"
    assert inventory.warnings == ()
    assert [(found.name, found.use, found.dtype.name, found.shape, found.storage, found.offset)
            for found in inventory.tensors] == [
        ("lin.weight", "weight", "float32", (2, 3), 0, 0),
        ("lin.bias", "weight", "float32", (2,), 1, 0),
        ("lin.bn.n", "buffer", "int64", (), 2, 0),
        ("constants.2", "constant", "float32", (2,), 0, 3),
    ]  # fmt: skip
    assert [(module.path, module.tensors) for module in inventory.modules] == [
        ("", {}), ("lin", {"weight": 0, "bias": 1}), ("lin.bn", {"n": 2}),
    ]  # fmt: skip
    subjects = {role: subject for role, subject in inventory.bytes_by_subject() if role != 8}
    assert subjects == {
        GRAPH: "model.json", CODE: "TorchScript source", METADATA: "version",
        TENSOR_DATA: "tensors",
    }  # fmt: skip
    assert ("producerVersion", "1.0") in inventory.metadata
    payload = inventory.storages[0].payload
    assert payload is not None
    assert payload.read(0, 24) == WEIGHT


def test_debug_files_and_unknown_records() -> None:
    more = {"net/code/net.debug_pkl": b"x", "net/tensors/9": b"data", "net/extra/a": b"b"}
    inventory = read(zipped(RECORDS | more))
    assert inventory.bytes_by_role()[DEBUG_INFO] == 1
    assert inventory.bytes_by_role()[UNCLAIMED] == 4
    assert said(inventory, "1 record has data that nothing in the archive refers to")


def test_what_makes_no_sense_is_flagged() -> None:
    def break_tensors(model: Any) -> None:
        model["tensors"][0]["dims"] = ["-1", "3"]
        model["tensors"][1]["data"] = {"key": "tensors/7"}
        model["tensors"][2]["offset"] = "1000"
        model["mainModule"]["submodules"][0]["submodules"][0]["parameters"][0]["tensorId"] = "99"

    inventory = read(changed(break_tensors))
    assert said(inventory, "1 tensor is described in a way that makes no sense: 'lin.weight'")
    assert said(inventory, "1 storage record is missing: 'tensors/7'")
    assert said(inventory, "1 tensor reaches past the end of the storage: 'constants.2'")
    assert said(inventory, "1 tensor is not in the table of tensors: 'lin.bn.n'")


@pytest.mark.parametrize("key, value", [
    ("tensors", {}), ("mainModule", {"submodules": [1]}), ("mainModule", {"parameters": "x"}),
    ("mainModule", {"submodules": [{"name": 1}]}),
    ("mainModule", {"parameters": [{"name": "a", "tensorId": "1.5"}]}),
])  # fmt: skip
def test_refused(key: str, value: Any) -> None:
    with pytest.raises(Corrupt, match=r"in model\.json"):
        read(changed(lambda model: model.update({key: value})))


def nested(depth: int) -> bytes:
    module = '{"submodules":[' * depth + "{}" + "]}" * depth
    return zipped(RECORDS | {"net/model.json": f'{{"mainModule":{module}}}'.encode()})


def test_modules_nested_too_deep() -> None:
    assert len(read(nested(63)).modules) == 64
    for depth in (64, 100_000):
        with pytest.raises(LimitExceeded, match="json_nesting"):
            read(nested(depth))


def test_names_that_repeat_each_other_cost_no_more_than_is_allowed() -> None:
    def widen(model: Any) -> None:
        model["mainModule"] = {"submodules": [
            {"name": "x" * 100_000, "submodules": [{"name": "y"}] * 1_000}
        ]}  # fmt: skip

    inventory = read(changed(widen))
    assert sum(len(module.path) for module in inventory.modules) < 20_000_000
    assert inventory.modules[-1].path == "….y"


@pytest.mark.parametrize("content", [b"{}", b'{"mainModule": 1}', b"[]", b'{"format": "layers"}'])
def test_other_archives_with_such_a_record(content: bytes) -> None:
    with pytest.raises(Unrecognized):
        read(zipped({"net/model.json": content}))


def test_every_truncation_is_refused() -> None:
    assert accepted_cuts(SMALL, range(0, len(SMALL), 3)) == []


@settings(max_examples=100, deadline=None)
@given(damaged(SMALL))
def test_damage_is_refused_or_explained(data: bytes) -> None:
    read_or_refuse(data)
