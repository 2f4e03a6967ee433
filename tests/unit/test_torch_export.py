"""Archives of torch.export: weights with their names, and every other record as what it is."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from sizeforensics.formats.torch_export import _node_metadata
from sizeforensics.inventory import Inventory
from sizeforensics.spans import (
    CODE,
    DEBUG_INFO,
    GRAPH,
    METADATA,
    PICKLE,
    TENSOR_DATA,
    UNCLAIMED,
)
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.old_torch import zipped
from tests.torch_files import read, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.table = torch.arange(3.0)
        self.register_buffer("hidden", torch.ones(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(self.first(x))) + self.table * self.hidden


def exported(module: nn.Module, *inputs: torch.Tensor, **options: Any) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module.eval(), inputs), out, **options)
    return out.getvalue()


NET = exported(Net(), torch.ones(2, 3), extra_files={"note.txt": "hello"})


def records(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


STEM = next(iter(records(NET))).partition("/")[0]


def said(inventory: Inventory, words: str) -> bool:
    return any(words in warning for warning in inventory.warnings)


# --- the layout of today --------------------------------------------------------------------------


def test_every_record_is_what_it_is() -> None:
    inventory = read(NET)
    assert inventory.format == "torch-export"
    assert inventory.warnings == ()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    by_subject = inventory.bytes_by_subject()
    program = len(records(NET)[f"{STEM}/models/model.json"])
    assert by_subject[GRAPH, "exported program"][0] + by_subject[DEBUG_INFO, "node metadata"][0] == (
        program
    )
    inputs = len(records(NET)[f"{STEM}/data/sample_inputs/model.pt"])
    assert by_subject[METADATA, "sample inputs"] == (inputs, 1)
    assert by_subject[METADATA, "note.txt"] == (5, 1)
    assert (METADATA, "model_weights_config.json") in by_subject
    assert (METADATA, "model_constants_config.json") in by_subject
    facts = dict(inventory.metadata)
    assert (facts["archive_format"], facts["byteorder"]) == ("pt2", "little")


def test_tensors_have_names_uses_and_shared_storages() -> None:
    inventory = read(NET)
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    assert {name: tensor.use for name, tensor in tensors.items()} == {
        "first.weight": "weight", "first.bias": "weight", "second.weight": "weight",
        "second.bias": "weight", "norm.weight": "weight", "norm.bias": "weight",
        "norm.running_mean": "buffer", "norm.running_var": "buffer",
        "norm.num_batches_tracked": "buffer", "table": "constant", "hidden": "constant",
    }  # fmt: skip
    assert tensors["first.weight"].storage == tensors["second.weight"].storage
    assert tensors["norm.num_batches_tracked"].dtype.name == "int64"
    assert inventory.bytes_by_role()[TENSOR_DATA] == 36 + 4 * 12 + 2 * 12 + 8 + 12 + 12


def test_deflated_archives_keep_their_tensors() -> None:
    inventory = read(zipped(records(NET), zipfile.ZIP_DEFLATED))
    assert inventory.warnings == ()
    assert len(inventory.tensors) == 11
    assert inventory.bytes_by_role()[DEBUG_INFO] == 0


def changed(**more: bytes | None) -> bytes:
    found = records(NET)
    for name, data in more.items():
        full = f"{STEM}/{name}"
        if data is None:
            del found[full]
        else:
            found[full] = data
    return zipped(found)


WEIGHTS = "data/weights/model_weights_config.json"


def config(change: Any) -> bytes:
    found = json.loads(records(NET)[f"{STEM}/{WEIGHTS}"])
    change(found["config"])
    return json.dumps(found).encode()


def test_unknown_and_missing_records_are_flagged() -> None:
    inventory = read(changed(**{"data/weights/weight_0": None, "data/else": b"what"}))
    assert said(inventory, "1 storage record is missing: 'data/weights/weight_0'")
    assert inventory.bytes_by_role()[UNCLAIMED] == 4


def test_descriptions_that_make_no_sense_are_flagged() -> None:
    def spoil(weights: Any) -> None:
        weights["first.bias"]["tensor_meta"]["dtype"] = 99
        weights["second.bias"]["tensor_meta"]["sizes"] = [{"as_expr": "s0"}]
        weights["norm.bias"]["tensor_meta"]["layout"] = 1
        weights["norm.weight"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 62}]
        weights["x"] = 1

    inventory = read(changed(**{WEIGHTS: config(spoil)}))
    assert said(inventory, "4 payloads are described in a way that makes no sense")
    assert said(inventory, "1 tensor reaches past the end of the storage: 'norm.weight'")
    bad = {tensor.name for tensor in inventory.tensors if tensor.elements == 0}
    assert bad == {"first.bias", "second.bias", "norm.bias"}


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"config": []}', b"null"])
def test_a_config_without_payloads(content: bytes) -> None:
    inventory = read(changed(**{WEIGHTS: content}))
    assert inventory.bytes_by_role()[UNCLAIMED] > 0


def test_payloads_that_are_pickled() -> None:
    """Tensors of a subclass are checkpoints of their own, custom objects stay closed."""

    def pickle_it(weights: Any) -> None:
        weights["first.bias"] = weights["first.bias"] | {"use_pickle": True, "path_name": "weight_99"}
        weights["engine"] = {"path_name": "custom_obj_0", "is_param": False, "use_pickle": True,
                             "tensor_meta": None}  # fmt: skip

    inventory = read(changed(**{
        WEIGHTS: config(pickle_it), "data/weights/weight_99": saved(torch.ones(3)),
        "data/constants/custom_obj_0": b"object", "data/constants/opaque_obj_0": b"another",
    }))  # fmt: skip
    tensor = next(found for found in inventory.tensors if found.name == "first.bias")
    assert (tensor.shape, tensor.use) == ((3,), "weight")
    assert tensor.storage is not None
    storage = inventory.storages[tensor.storage]
    assert storage.payload is not None
    assert storage.payload.read(0, 12) == torch.ones(3).numpy().tobytes()
    assert inventory.bytes_by_subject()[PICKLE, "custom objects"] == (13, 2)


def test_several_models_keep_their_names_apart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))
        from torch.export.pt2_archive._package import package_pt2

        out = io.BytesIO()
        package_pt2(out, exported_programs={"one": program, "two": program})
    inventory = read(out.getvalue())
    assert inventory.warnings == ()
    assert [(tensor.name, tensor.scope) for tensor in inventory.tensors] == [
        ("one.weight", "one"), ("one.bias", "one"), ("two.weight", "two"), ("two.bias", "two"),
    ]  # fmt: skip


def test_packages_of_compiled_code() -> None:
    """``_package_aoti_files``: libraries, and weights as checkpoints of one tensor each."""
    views = {
        "a": ["weight_0", [2, 2], [2, 1], 0], "b": ["weight_0", [2], [1], 2],
        "c": ["weight_0", [-1], [1], 0], "d": [1], "e": ["weight_7", [1], [1], 0],
    }  # fmt: skip
    inventory = read(zipped({
        "m/archive_format": b"pt2", "m/archive_version": b"0",
        "m/data/aotinductor/model/x.wrapper.so": b"\x7fELF", "m/data/aotinductor/model/x.cpp": b"//",
        "m/data/aotinductor/model/weights_config.json": json.dumps(views).encode(),
        "m/data/weights/weight_0": saved(torch.arange(4.0)),
    }))  # fmt: skip
    assert [(tensor.name, tensor.shape, tensor.offset) for tensor in inventory.tensors] == [
        ("a", (2, 2), 0), ("b", (2,), 2), ("c", (0,), 0),
    ]  # fmt: skip
    assert inventory.bytes_by_subject()[CODE, "AOTInductor"] == (6, 2)
    assert inventory.bytes_by_role()[TENSOR_DATA] == 16
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


# --- the layout before torch 2.8 ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_the_older_layout(suffix: str) -> None:
    state, constants = {"a.weight": torch.ones(2, 3)}, {"table": torch.arange(4)}
    inventory = read(zipped({
        "version": b"8.3", "serialized_exported_program.json": b'{"graph_module": {}}',
        f"serialized_state_dict{suffix}": saved(state),
        f"serialized_constants{suffix}": saved(constants),
        "serialized_example_inputs.pt": saved((torch.ones(2),)), "extra_files/note": b"hi",
    }))  # fmt: skip
    assert inventory.format == "torch-export"
    assert inventory.warnings == ()
    assert [(tensor.name, tensor.use) for tensor in inventory.tensors] == [
        ("a.weight", "weight"), ("table", "constant"),
    ]  # fmt: skip
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    assert inventory.bytes_by_role()[TENSOR_DATA] == 24 + 32
    assert inventory.bytes_by_subject()[METADATA, "note"] == (2, 1)


def test_older_archives_that_are_deflated() -> None:
    inventory = read(zipped({
        "serialized_exported_program.json": b"{}", "serialized_state_dict.pt": saved({}),
    }, zipfile.ZIP_DEFLATED))  # fmt: skip
    assert said(inventory, "1 record holds a deflated checkpoint, whose tensors are not read")


# --- node metadata --------------------------------------------------------------------------------


@pytest.mark.parametrize("text, found", [
    ('{"metadata": {"a": "b"}}', ['"metadata": {"a": "b"}']),
    ('{"metadata": {"a": "\\\\"}, "x": "}"}', ['"metadata": {"a": "\\\\"}']),
    ('{"metadata": {"a": "\\"}"}}', ['"metadata": {"a": "\\"}"}']),
    ('{"a": "\\"metadata\\": {\\"b\\": \\"c\\"}"}', []),
    ('{"metadata": {"a": 1}, "metadata": {"b": "c"}}', ['"metadata": {"b": "c"}']),
    ('{"metadata": {}}', []), ('{"metadata": {"a', []), ('{"metadata": {"a\\"', []),
    ('{"metadata": {', []), ('{"metadata": {"metadata": {"a": "b"}}}', ['"metadata": {"a": "b"}']),
])  # fmt: skip
def test_where_node_metadata_are(text: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in _node_metadata(text.encode())] == found


def test_what_every_node_keeps() -> None:
    program = records(NET)[f"{STEM}/models/model.json"]
    pieces = [json.loads(b"{%s}" % program[start:end]) for start, end in _node_metadata(program)]
    nodes = json.loads(program)["graph_module"]["graph"]["nodes"]
    assert [piece["metadata"] for piece in pieces] == [
        node["metadata"] for node in nodes if node["metadata"]
    ]


def test_truncations_are_refused() -> None:
    assert accepted_cuts(NET, range(0, len(NET), 211)) == []


@settings(max_examples=60, deadline=None)
@given(damaged(NET))
def test_damage_is_refused_or_explained(data: bytes) -> None:
    read_or_refuse(data)
