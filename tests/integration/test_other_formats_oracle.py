"""torch and safetensors are the oracles of every other container: same tensors, same refusals."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sizeforensics as sf
from sizeforensics import formats
from sizeforensics.errors import FormatError
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.source import MemorySource
from sizeforensics.spans import UNCLAIMED
from tests.laws import damaged
from tests.old_torch import old
from tests.torch_files import read, saved
from tests.unit.test_safetensors import REFUSED, SMALL, packed
from tests.unit.test_torch_export import NET, Net, exported

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


def agree(inventory: Inventory, theirs: dict[str, torch.Tensor]) -> None:
    """Names, types, shapes and bytes of the elements."""
    assert {tensor.name for tensor in inventory.tensors} == set(theirs)
    for tensor in inventory.tensors:
        other = theirs[tensor.name].detach()
        assert tensor.dtype.name == str(other.dtype).removeprefix("torch.")
        assert tensor.shape == tuple(other.shape)
        if other.numel():
            flat = other.contiguous().reshape(-1).view(torch.uint8).numpy()
            np.testing.assert_array_equal(elements(inventory, tensor), flat)


def elements(inventory: Inventory, tensor: Tensor) -> np.ndarray:
    """The bytes of a tensor's elements in C order."""
    assert tensor.storage is not None
    payload = inventory.storages[tensor.storage].payload
    assert payload is not None
    width = tensor.dtype.bits // 8
    data = payload.array(0, payload.size)[tensor.offset * width :]
    strides = (*(stride * width for stride in tensor.strides), 1)
    view = np.lib.stride_tricks.as_strided(data, (*tensor.shape, width), strides)
    return np.ascontiguousarray(view).reshape(-1)


DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.float8_e8m0fnu, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


UNTYPED = {f"torch.{name}" for name in (
    "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "uint16", "uint32", "uint64",
)}  # fmt: skip


def state() -> dict[str, torch.Tensor]:
    """A tensor of every type, and of odd shapes."""
    ones = torch.ones(2, 3)
    return {
        **{str(dtype): ones.to(dtype) for dtype in DTYPES},
        "scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4),
    }  # fmt: skip


# --- safetensors ----------------------------------------------------------------------------------


def test_safetensors_agree() -> None:
    data = safetensors.torch.save(state(), {"format": "pt", "note": "x"})
    inventory = read(data)
    agree(inventory, state())
    theirs = dict(safetensors.deserialize(data))
    for tensor in inventory.tensors:
        assert list(tensor.shape) == theirs[tensor.name]["shape"]
        assert tensor.nbytes == len(theirs[tensor.name]["data"])
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    assert dict(inventory.metadata) == {"property format": "pt", "property note": "x"}


STRICTER = {"the same key twice", "length 0", "2**64 elements", "a million dimensions"}
"""What the crate reads and we refuse."""


@pytest.mark.parametrize("kind", sorted(set(REFUSED) - STRICTER))
def test_what_we_refuse_the_crate_refuses(kind: str) -> None:
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(REFUSED[kind])


def crate_reads(data: bytes) -> dict[str, Any] | None:
    try:
        return dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        return None


@settings(max_examples=400, deadline=None)
@given(damaged(SMALL))
def test_damage_is_refused_by_both_or_read_by_both(data: bytes) -> None:
    theirs = crate_reads(data)
    try:
        inventory = formats.read_source(MemorySource("x", data))
    except FormatError:
        # Blanks before the header and equal keys are what we refuse alone.
        if theirs is not None:
            assert data[8:9] != b"{" or equal_keys(data)
        return
    assert theirs is not None
    assert {tensor.name for tensor in inventory.tensors} == set(theirs)
    for tensor in inventory.tensors:
        assert list(tensor.shape) == theirs[tensor.name]["shape"]
        assert bytes(elements(inventory, tensor)) == bytes(theirs[tensor.name]["data"])


def equal_keys(data: bytes) -> bool:
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    pairs: list[bool] = []

    def collect(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(len(dict(found)) < len(found))
        return dict(found)

    json.loads(header, object_pairs_hook=collect)
    return any(pairs)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=3), st.integers(0, 4))
def test_layouts_are_read_by_both_or_by_none(offsets: list[tuple[int, int]], size: int) -> None:
    header = {
        str(number): {"dtype": "U8", "shape": [abs(end - start)], "data_offsets": [start, end]}
        for number, (start, end) in enumerate(offsets)
    }
    data = packed(header, bytes(size))
    try:
        ours = len(read(data).tensors)
    except FormatError:
        ours = -1
    theirs = crate_reads(data)
    assert ours == (-1 if theirs is None else len(theirs))


def test_shards_agree(tmp_path: Path) -> None:
    tensors = state()
    weight_map = {}
    for number, names in enumerate((list(tensors)[:9], list(tensors)[9:])):
        shard = f"model-{number}.safetensors"
        safetensors.torch.save_file({name: tensors[name] for name in names}, tmp_path / shard)
        weight_map |= dict.fromkeys(names, shard)
    index = tmp_path / "model.safetensors.index.json"
    total = sum(tensor.nbytes for tensor in tensors.values())
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    inventory = formats.read(str(index))
    agree(inventory, tensors)
    assert inventory.warnings == ()
    assert len(inventory.files) == 3


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_legacy_checkpoints_agree(protocol: int) -> None:
    whole = torch.arange(24.0)
    # torch writes the types of version 3 into this format but cannot read them back.
    typed = {name: tensor for name, tensor in state().items() if name not in UNTYPED}
    value = typed | {"whole": whole, "view": whole[2:8].reshape(2, 3), "step": whole[::5]}
    data = saved(value, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    inventory = read(data)
    agree(inventory, torch.load(io.BytesIO(data), weights_only=False))
    assert inventory.warnings == ()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_torch_ignores_the_byte_order_of_legacy_checkpoints() -> None:
    data = saved({"a": torch.arange(4.0)}, _use_new_zipfile_serialization=False)
    flipped = re.sub(rb"(little_endianq.)\x88", b"\\1\x89", data, flags=re.DOTALL)
    assert flipped != data
    inventory = read(flipped)
    agree(inventory, torch.load(io.BytesIO(flipped)))
    assert any("little-endian" in warning for warning in inventory.warnings)


def test_types_that_torch_cannot_read_back() -> None:
    tensors = {name: tensor for name, tensor in state().items() if name in UNTYPED}
    data = saved(tensors, _use_new_zipfile_serialization=False)
    with pytest.raises(AttributeError, match="UntypedStorage"):
        torch.load(io.BytesIO(data), weights_only=False)
    agree(read(data), tensors)


@pytest.mark.parametrize("protocol", [1, 2])
def test_tar_files_agree(protocol: int, tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    value = {
        "whole": whole, "view": whole[2:8].reshape(2, 3), "step": whole[::5],
        "counter": torch.tensor([1, 2]), "half": torch.ones(3).half(), "note": ["x"],
    }  # fmt: skip
    path = tmp_path / "old.pt"
    path.write_bytes(old(value, protocol))
    theirs = torch.load(path, weights_only=False)
    inventory = formats.read(str(path))
    agree(inventory, {name: item for name, item in theirs.items() if name != "note"})
    assert inventory.warnings == ()


def test_exported_programs_agree() -> None:
    program = torch.export.load(io.BytesIO(NET))
    theirs = {**program.state_dict, **program.constants}
    inventory = read(NET)
    agree(inventory, {name: tensor for name, tensor in theirs.items()
                      if isinstance(tensor, torch.Tensor)})  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_exported_programs_of_other_types_agree(dtype: torch.dtype) -> None:
    data = exported(nn.Linear(3, 2).to(dtype), torch.ones(1, 3, dtype=dtype))
    agree(read(data), dict(torch.export.load(io.BytesIO(data)).state_dict))


def test_arrays_of_bare_pickles_agree() -> None:
    value = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.ones(3, np.int8), "c": np.float32(2) * np.ones(1)}
    for protocol in range(6):
        inventory = read(pickle.dumps(value, protocol))
        agree(inventory, {name: torch.from_numpy(array) for name, array in value.items()})


def test_pickled_tensors_agree() -> None:
    typed = {name: tensor for name, tensor in state().items() if name not in UNTYPED}
    value = typed | {"view": torch.arange(9.0)[1:4]}
    for protocol in (3, 4, 5):
        data = pickle.dumps(value, protocol)
        agree(read(data), pickle.loads(data))


# --- one model in every container -----------------------------------------------------------------


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same weights, as each container holds them."""
    folder = tmp_path_factory.mktemp("containers")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(module)
    contents = {
        "zip.pt": saved(tensors),
        "legacy.pt": saved(tensors, _use_new_zipfile_serialization=False),
        "tar.pt": old(tensors),
        "weights.safetensors": safetensors.torch.save(tensors),
        "arrays.pkl": pickle.dumps({name: tensor.numpy() for name, tensor in tensors.items()}, 4),
        "program.pt2": exported(module, torch.ones(1, 3, 8, 8)),
        "mobile.ptl": bytes(scripted._save_to_buffer_for_lite_interpreter()),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


NAMES = ["zip.pt", "legacy.pt", "tar.pt", "weights.safetensors", "arrays.pkl", "program.pt2", "mobile.ptl"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_are_carried(containers: dict[str, Path], name: str) -> None:
    """Only what is around the weights differs between containers."""
    there = sf.diff(str(containers["weights.safetensors"]), str(containers[name]))
    assert there.delta_bytes == (
        containers[name].stat().st_size - containers["weights.safetensors"].stat().st_size
    )
    around = {"container", "alignment", "metadata", "pickle", "names", "graph", "code", "debug-info"}
    moved = {entry.cause for entry in there.causes if entry.delta_bytes}
    assert moved <= around, moved
    assert sum(row.before_bytes for row in there.rows if row.cause == "carried") == (
        8 * 27 * 4 + 5 * 8 * 4 + 8
    )
    assert not any(entry.delta_bytes for entry in sf.diff(str(containers[name]), str(containers[name])).causes)
    back = sf.diff(str(containers[name]), str(containers["weights.safetensors"]))
    assert {entry.cause: entry.delta_bytes for entry in back.causes} == {
        entry.cause: -entry.delta_bytes for entry in there.causes
    }


def test_the_network_of_the_oracle_is_the_one_of_the_unit_tests() -> None:
    assert set(Net().state_dict()) <= {tensor.name for tensor in read(NET).tensors}
