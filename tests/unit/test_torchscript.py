"""TorchScript archives: every kind of record has its role, whoever wrote the archive."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile

import pytest
import torch
from torch import nn

from sizeforensics.spans import CODE, DEBUG_INFO, METADATA, ROLES, TENSOR_DATA, UNCLAIMED
from tests.torch_files import read, repacked, saved, scripted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.table = torch.arange(8.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x + self.table[:4]


@pytest.fixture(scope="module")
def traced() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scripted(
            torch.jit.trace(Model().eval(), torch.zeros(2, 4)), _extra_files={"note.txt": "hello"}
        )


def test_records_have_roles(traced: bytes) -> None:
    inventory = read(traced)
    assert inventory.format == "torchscript"
    assert inventory.warnings == ()
    for record in inventory.records:
        name = record.name.partition("/")[2]
        expected = (
            "debug-info" if name.endswith(".debug_pkl")
            else "code" if name.startswith("code/")
            else "pickle" if name in ("data.pkl", "constants.pkl", "traced_inputs.pkl")
            else "container" if name == "traced_inputs/0"
            else "tensor-data" if name.startswith(("data/", "constants/"))
            else "metadata"
        )  # fmt: skip
        assert ROLES[record.role] == expected, name


def test_a_trace_has_a_class_for_each_instance_and_says_so(traced: bytes) -> None:
    inventory = read(traced)
    blocks = [module for module in inventory.modules if module.path.startswith("blocks.")]
    assert [module.path for module in blocks] == ["blocks.0", "blocks.1", "blocks.2"]
    classes = {module.class_path for module in blocks}
    assert len(classes) == 3
    assert any("___torch_mangle_" in name for name in classes)
    scripts = read(scripted(torch.jit.script(Model())))
    assert len({module.class_path for module in scripts.modules if "blocks." in module.path}) == 1


def test_constants_do_not_collide_with_tensors_of_the_module(traced: bytes) -> None:
    inventory = read(traced)
    names = [tensor.name for tensor in inventory.tensors]
    assert len(names) == len(set(names)) == 7
    table = next(tensor for tensor in inventory.tensors if tensor.use == "constant")
    assert table.name == "constants.0"
    assert inventory.storages[table.storage].name.endswith("constants/0")  # type: ignore[index]


def test_traced_inputs_without_elements_are_no_tensors(traced: bytes) -> None:
    inventory = read(traced)
    assert not any("traced" in tensor.name for tensor in inventory.tensors)
    filled = repacked(traced, change=lambda name, content: (
        bytes(32) if name.endswith("traced_inputs/0") else content
    ))  # fmt: skip
    inventory = read(filled)
    assert any(tensor.scope == "traced_inputs" for tensor in inventory.tensors)
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_compressed_records_are_counted_as_stored(traced: bytes) -> None:
    inventory = read(traced)
    with zipfile.ZipFile(io.BytesIO(traced)) as theirs:
        infos = {info.filename: info for info in theirs.infolist()}
    for record in inventory.records:
        assert record.stored_bytes == infos[record.name].compress_size
        assert record.nbytes == infos[record.name].file_size
    roles = inventory.bytes_by_role()
    assert roles[CODE] == sum(
        info.compress_size for name, info in infos.items() if name.endswith(".py")
    )
    assert roles[DEBUG_INFO] == sum(
        info.compress_size for name, info in infos.items() if name.endswith(".debug_pkl")
    )


def test_unknown_records_are_unclaimed(traced: bytes) -> None:
    stem = next(iter(zipfile.ZipFile(io.BytesIO(traced)).namelist())).partition("/")[0]
    extra = {
        f"{stem}/code/evil.bin": b"1234", f"{stem}/other.pkl": b"12", f"{stem}/constants/77": b"1",
        f"{stem}/extra/deep/more.json": b"{}", "outside/code/x.py": b"x",
    }  # fmt: skip
    inventory = read(repacked(traced, extra=extra))
    assert inventory.bytes_by_subject()[UNCLAIMED, "records nothing refers to"] == (8, 4)
    assert inventory.bytes_by_subject()[METADATA, "deep/more.json"] == (2, 1)
    assert any("4 records have data that nothing" in warning for warning in inventory.warnings)


def test_an_archive_without_constants_is_still_torchscript(traced: bytes) -> None:
    without = repacked(traced, change=lambda name, content: (
        None if "/constants" in name else content
    ))  # fmt: skip
    assert read(without).format == "torchscript"


def test_a_checkpoint_is_no_torchscript() -> None:
    assert read(saved({"code": torch.ones(2)})).format == "pytorch-zip"


def test_mobile_archives_share_constants_between_source_and_bytecode(traced: bytes) -> None:
    stem = next(iter(zipfile.ZipFile(io.BytesIO(traced)).namelist())).partition("/")[0]

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def persistent_id(self, value: object) -> object:
            if isinstance(value, torch.storage.TypedStorage):
                return ("storage", torch.FloatStorage, keys.pop(0), "cpu", 8)
            return None

    keys = ["0", "5"]
    out = io.BytesIO()
    Pickler(out, protocol=2).dump((torch.ones(8), torch.zeros(8)))
    extra = {
        f"{stem}/bytecode.pkl": out.getvalue(), f"{stem}/constants/5": bytes(32),
        f"{stem}/mobile_debug_handles.pkl": b"12345",
    }  # fmt: skip
    inventory = read(repacked(traced, extra=extra))
    assert inventory.bytes_by_subject()[CODE, "bytecode"] == (len(out.getvalue()), 1)
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    added = [tensor for tensor in inventory.tensors if tensor.scope == "bytecode"]
    assert len(added) == 1
    assert added[0].use == "constant"
    assert inventory.warnings == ()


def test_code_is_never_looked_into(traced: bytes) -> None:
    evil = repacked(traced, change=lambda name, content: (
        b"import os; os.abort()" if name.endswith((".py", ".debug_pkl")) else content
    ))  # fmt: skip
    assert read(evil).bytes_by_role()[TENSOR_DATA] == read(traced).bytes_by_role()[TENSOR_DATA]
