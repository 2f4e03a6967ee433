"""torch and zipfile are the oracles: whatever they read from a file, we read the same."""

from __future__ import annotations

import collections
import dataclasses
import io
import random
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from sizeforensics import formats
from sizeforensics.errors import FormatError
from sizeforensics.formats.encodings import zip_archive
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.source import MemorySource
from sizeforensics.spans import CODE, DEBUG_INFO, METADATA, UNCLAIMED
from tests.torch_files import read, repacked, saved, scripted

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
REAL = sorted([*MODELS.glob("*.pt"), *MODELS.glob("*.torchscript")])

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"
)


def elements(inventory: Inventory, tensor: Tensor) -> np.ndarray:
    """A tensor's elements as bytes, shape (*shape, itemsize), through its strides."""
    assert tensor.storage is not None
    payload = inventory.storages[tensor.storage].payload
    assert payload is not None
    width = tensor.dtype.bits // 8
    data = payload.array(0, payload.size)[tensor.offset * width :]
    strides = (*(stride * width for stride in tensor.strides), 1)
    return np.lib.stride_tricks.as_strided(data, (*tensor.shape, width), strides)


def same(inventory: Inventory, ours: Tensor, theirs: torch.Tensor) -> None:
    theirs = theirs.detach()
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert ours.shape == tuple(theirs.shape)
    assert ours.strides == tuple(theirs.stride())
    assert ours.offset == theirs.storage_offset()
    if not theirs.numel():
        return
    storage = inventory.storages[ours.storage]  # type: ignore[index]
    assert storage.nbytes == theirs.untyped_storage().nbytes()
    flat = theirs.contiguous().reshape(-1).view(torch.uint8).numpy().reshape(*ours.shape, -1)
    np.testing.assert_array_equal(elements(inventory, ours), flat)


def flat(value: object, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of nested dicts, collections and objects with the names we give them."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for number, (key, item) in enumerate(value.items()):
            yield from flat(key, f"{name}.<key {number}>".lstrip("."))
            text = f"<value {number}>" if isinstance(key, torch.Tensor) else key
            yield from flat(item, f"{name}.{text}".lstrip("."))
    elif isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}.{index}".lstrip("."))
    elif dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace):
        names = getattr(value, "__slots__", None) or vars(value)
        yield from flat({key: getattr(value, key) for key in names}, name)


def agree(data: bytes) -> Inventory:
    """Our inventory of a checkpoint, after comparing every tensor with torch's."""
    inventory = read(data)
    theirs = dict(flat(torch.load(io.BytesIO(data), weights_only=False)))
    ours = {tensor.name: tensor for tensor in inventory.tensors}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        same(inventory, ours[name], tensor)
    return inventory


# --- the container --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_records_agree_with_zipfile(path: Path) -> None:
    archive = zip_archive.read(MemorySource("x", path.read_bytes()))
    with zipfile.ZipFile(path) as theirs:
        infos = theirs.infolist()
        assert len(infos) == len(archive.entries)
        for info, entry in zip(infos, archive.entries, strict=True):
            assert (info.filename, info.compress_type, info.CRC, info.header_offset) == (
                entry.name, entry.method, entry.crc, entry.header
            )  # fmt: skip
            assert (info.file_size, info.compress_size) == (entry.nbytes, entry.stored_bytes)
            content = archive.content(entry)
            assert content.read(0, content.size) == theirs.read(info)


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_are_explained_to_the_byte_without_a_warning(path: Path) -> None:
    inventory = formats.read(str(path))
    assert inventory.warnings == ()
    assert inventory.nbytes == path.stat().st_size
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


@pytest.mark.parametrize("stem", ["a", "x" * 100])
def test_the_size_of_a_checkpoint_is_what_its_records_add_up_to(stem: str, tmp_path: Path) -> None:
    path = tmp_path / f"{stem}.pt"
    torch.save({str(index): torch.zeros(index) for index in range(50)}, path)
    with zipfile.ZipFile(path) as theirs:
        infos = theirs.infolist()
    archive = zip_archive.read(MemorySource("x", path.read_bytes()))
    assert archive.warnings == ()
    total = 98
    for info, entry in zip(infos, archive.entries, strict=True):
        extra = entry.start - entry.header - 30 - len(entry.raw_name)
        # miniz writes no descriptor behind nothing.
        total += 30 + len(entry.raw_name) + extra + info.file_size + (16 if info.file_size else 0)
        total += 46 + len(entry.raw_name)
    assert total == path.stat().st_size


def test_every_truncation_of_a_checkpoint_is_refused() -> None:
    data = saved({"weight": torch.arange(4.0)})
    for cut in range(len(data)):
        with pytest.raises(FormatError) as caught:
            read(data[:cut])
        assert "\n" not in str(caught.value)


def test_every_truncation_of_torchscript_is_refused() -> None:
    data = scripted(torch.jit.script(nn.Linear(2, 2)))
    for cut in [*range(0, len(data), 37), len(data) - 1]:
        with pytest.raises(FormatError):
            read(data[:cut])


def test_pages_of_alignment_are_alignment() -> None:
    from torch.utils.serialization import config

    with config.patch("save.storage_alignment", 4096):
        data = saved([torch.zeros(1) for _ in range(9)])
    inventory = agree(data)
    assert inventory.warnings == ()
    assert all(storage.offset % 4096 == 0 for storage in inventory.storages)
    total = inventory.bytes_by_subject()
    assert sum(nbytes for (_, name), (nbytes, _) in total.items() if name == "record padding") > 30_000
    assert ("storage_alignment", "4096") in inventory.metadata


def test_checkpoints_without_checksums_are_flagged() -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        data = saved({"a": torch.ones(3), "b": torch.ones(4)})
    finally:
        torch.serialization.set_crc32_options(before)
    assert any("zero CRC" in warning for warning in agree(data).warnings)


def test_of_records_with_one_name_we_read_the_one_that_torch_reads() -> None:
    chance = random.Random(5)
    data = saved({"a": torch.zeros(4)})
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        records = [(name, old.read(name)) for name in old.namelist() if "data/0" not in name]
    for _ in range(60):
        several = [
            (chance.choice(["archive/data/0", "archive/DATA/0"]),
             np.full(4, index, np.float32).tobytes())
            for index in range(chance.randint(2, 7))
        ]  # fmt: skip
        others = [(f"archive/{chance.choice('abcxyz')}{i}", b"x") for i in range(chance.randint(0, 9))]
        everything = [*records, *several, *others]
        chance.shuffle(everything)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as new, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            for name, content in everything:
                new.writestr(name, content)
        inventory = read(out.getvalue())
        theirs = torch.load(io.BytesIO(out.getvalue()))["a"]
        same(inventory, inventory.tensors[0], theirs)
        assert any("PyTorch reads one of them" in line for line in inventory.warnings)


# --- checkpoints ----------------------------------------------------------------------------------

@dataclasses.dataclass
class Attributes:
    weight: torch.Tensor
    rest: object


@dataclasses.dataclass(slots=True)
class Slots:
    weight: torch.Tensor
    rest: object


class Fields(NamedTuple):
    weight: torch.Tensor
    rest: object


EIGHTH = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def typed(name: str) -> torch.Tensor:
    return torch.arange(24, dtype=torch.uint8).view(getattr(torch, name))


BASE = torch.arange(24.0)
CHECKPOINTS: dict[str, Callable[[], object]] = {
    "state dict": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict(),
    "several types": lambda: {
        name: typed(name)
        for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
                     "uint8", "uint16", "uint32", "uint64", "complex64", "bool", *EIGHTH)
    },
    "rare types": lambda: {
        name: typed(name)
        for name in ("complex32", "float8_e8m0fnu", "float4_e2m1fn_x2", "bits8", "bits16",
                     "bits1x8", "bits2x4", "bits4x2")
    },
    "scalars and nothing": lambda: {"a": torch.tensor(1.5), "b": torch.empty(0, 3)},
    "a list": lambda: [torch.zeros(2), torch.ones(3)],
    "views of one storage": lambda: {
        "whole": BASE, "slice": BASE[3:7], "transposed": BASE.reshape(4, 6).t(),
        "every third": BASE[::3], "broadcast": BASE[:4].expand(5, 4),
    },
    "saved view": lambda: {"x": torch.arange(1000.0)[:10]},
    "tied": lambda: {"a": (tied := torch.arange(6.0)), "b": tied},
    "parameters": lambda: {"p": nn.Parameter(torch.ones(2)), "n": nn.Parameter(torch.ones(3), False)},
    "tensors as keys": lambda: {
        (key := torch.arange(5.0)): 1, "again": key, (torch.ones(3), 1): 2, nn.Parameter(BASE): BASE[1:],
        frozenset([torch.zeros(2)]): 3, torch.ones(4): {"deeper": {torch.ones(6): torch.ones(7)}},
    },
    "collections": lambda: {
        "set": {torch.ones(2)}, "frozen": frozenset([torch.ones(3)]),
        "deque": collections.deque([torch.ones(4), torch.ones(5)], maxlen=3),
        "default": collections.defaultdict(list, {"a": [torch.ones(6)]}),
        "ordered": collections.OrderedDict(b=torch.ones(7)), "fields": Fields(torch.ones(8), [BASE]),
    },
    "objects": lambda: [
        kind(torch.ones(2), {"a": torch.ones(3)})
        for kind in (Attributes, Slots, lambda a, b: types.SimpleNamespace(weight=a, rest=b))
    ],
    "nested": lambda: {"a": {"b": [torch.ones(1), {"c": torch.ones(2)}]}, "n": 3, "s": "text"},
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_agree_with_torch(kind: str, protocol: int) -> None:
    inventory = agree(saved(CHECKPOINTS[kind](), pickle_protocol=protocol))
    assert inventory.warnings == ()
    assert inventory.format == "pytorch-zip"


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_deflated_checkpoints_agree_too(kind: str) -> None:
    inventory = agree(repacked(saved(CHECKPOINTS[kind]()), zipfile.ZIP_DEFLATED))
    assert {storage.encoding for storage in inventory.storages} == {"deflate"}
    assert any(record.compressed for record in inventory.records)


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_big_endian_checkpoints_agree_too(kind: str) -> None:
    value = CHECKPOINTS[kind]()
    widths = {str(tensor.dtype): tensor.dtype.itemsize for _, tensor in flat(value)}
    for tensor_name, width in widths.items():
        if tensor_name not in map(str, torch.storage._dtype_to_storage_type_map()):
            continue  # saved as untyped storages, which torch forgets to swap
        part = {name: tensor for name, tensor in flat(value) if str(tensor.dtype) == tensor_name}
        if "complex" in tensor_name:
            width //= 2

        def swap(name: str, content: bytes, width: int = width) -> bytes:
            if name.endswith("byteorder"):
                return b"big"
            if "/data/" in name and content:
                return np.frombuffer(content, np.uint8).reshape(-1, width)[:, ::-1].tobytes()
            return content

        inventory = agree(repacked(saved(part), change=swap))
        assert any("big-endian" in warning for warning in inventory.warnings)


def test_a_bare_tensor_is_a_checkpoint() -> None:
    inventory = read(saved(torch.arange(5.0)))
    assert len(inventory.tensors) == 1
    same(inventory, inventory.tensors[0], torch.arange(5.0))


class Importable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.note = "hello"


def test_whole_modules_are_read_without_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Importable()
    data = saved(model)
    monkeypatch.delattr("test_torch_oracle.Importable")
    inventory = read(data)
    ours = {tensor.name: tensor for tensor in inventory.tensors}
    theirs = model.state_dict(keep_vars=True)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        same(inventory, ours[name], tensor)
        assert ours[name].use == ("weight" if isinstance(tensor, nn.Parameter) else "buffer")
    root = next(module for module in inventory.modules if module.class_path.endswith("Importable"))
    assert root.attributes["note"] == "hello"
    conv = next(module for module in inventory.modules if module.path.endswith("conv"))
    assert inventory.tensors[conv.tensors["weight"]].name == "conv.weight"


def test_numpy_arrays_are_storages_inside_the_pickle() -> None:
    arrays = {
        "f4": np.arange(6, dtype="<f4").reshape(2, 3), "big": np.arange(5, dtype=">i4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "bytes": np.arange(256, dtype="u1"),
    }  # fmt: skip
    for protocol in (2, 4):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            data = repacked(saved(arrays, pickle_protocol=protocol), method)
            inventory = read(data)
            ours = {tensor.name: tensor for tensor in inventory.tensors}
            assert ours.keys() == arrays.keys()
            for name, array in arrays.items():
                want = np.array(array.astype(array.dtype.newbyteorder("<")), order="C")
                got = elements(inventory, ours[name])
                assert got.tobytes() == want.tobytes(), name


def test_masked_arrays_and_records_are_storages_too() -> None:
    fields = np.dtype([("a", "<i4"), ("b", "<f8")])
    arrays = {
        "c": np.ma.masked_array(np.arange(6.0), mask=[0, 1, 0, 0, 1, 1], fill_value=7),
        "big": np.ma.masked_array(np.arange(6, dtype=">i4").reshape(2, 3, order="F"), mask=True),
        "fields": np.ma.masked_array(np.zeros(2, fields), mask=[(0, 1), (1, 1)]),
        "record": np.zeros(3, fields).view(np.recarray),
    }  # fmt: skip
    for protocol in (2, 4, 5):
        inventory = read(saved(arrays, pickle_protocol=protocol))
        assert inventory.warnings == ()
        ours = {tensor.name: tensor for tensor in inventory.tensors}
        assert ours.keys() == {
            *arrays, "c.mask", "c.fill_value", "big.mask", "fields.mask", "fields.fill_value",
        }  # fmt: skip
        for name, array in arrays.items():
            plain = np.asarray(array)
            want = plain.astype(plain.dtype.newbyteorder("<")).tobytes()
            assert elements(inventory, ours[name]).tobytes() == want, name
            if np.ma.isMaskedArray(array):
                mask = np.ma.getmaskarray(array)
                assert elements(inventory, ours[f"{name}.mask"]).tobytes() == mask.tobytes(), name
        assert elements(inventory, ours["c.fill_value"]).view("<f8") == [7]
        assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_sparse_and_quantised_parts_are_tensors() -> None:
    coo = torch.eye(4).to_sparse()
    quantised = torch.quantize_per_channel(
        torch.ones(2, 3), torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 2]), 0,
        torch.qint8,
    )  # fmt: skip
    inventory = read(saved({"coo": coo, "q": quantised}))
    uses = {tensor.name: tensor.use for tensor in inventory.tensors}
    assert uses["coo.indices"] == "sparse-index"
    assert uses["coo.values"] == "weight"
    assert uses["q.scales"] == uses["q.zero_points"] == "quantization-parameters"
    by_name = {tensor.name: tensor for tensor in inventory.tensors}
    same(inventory, by_name["coo.values"], torch.ones(4))
    np.testing.assert_array_equal(
        elements(inventory, by_name["q"]).view(np.int8).reshape(2, 3), quantised.int_repr().numpy()
    )


def test_float8_is_what_ml_dtypes_calls_it() -> None:
    for name in EIGHTH:
        assert getattr(ml_dtypes, name)(1.0) == 1.0


@pytest.mark.parametrize("kind", ["SGD", "Adam", "list"])
def test_training_checkpoints_know_their_optimizer(kind: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        if kind == "SGD"
        else torch.optim.Adam(model.parameters())
    )
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    key, value = ("optimizer_states", [state]) if kind == "list" else ("optimizer", state)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict()
    data = saved({"model": model.state_dict(), key: value, "lr_scheduler": scheduler, "epoch": 3})
    inventory = agree(data)
    assert {tensor.use for tensor in inventory.tensors if tensor.scope == "model"} == {"weight"}
    assert {tensor.use for tensor in inventory.tensors if tensor.scope == key} == {"optimizer-state"}
    assert {tensor.use for tensor in read(saved(state)).tensors} == {"optimizer-state"}


# --- TorchScript ----------------------------------------------------------------------------------


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.table = torch.arange(6.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(x)) + torch.tensor([1.0, 2.0, 3.0, 4.0]) + self.table[:4]


@pytest.fixture(scope="module")
def traced() -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(Scripted().eval(), torch.zeros(2, 4))


@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_torchscript_agrees_with_torch(traced: torch.jit.ScriptModule, method: int | None) -> None:
    data = scripted(traced)
    if method is not None:
        data = repacked(data, method)
    inventory = read(data)
    assert inventory.format == "torchscript"
    assert inventory.warnings == ()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    theirs = torch.jit.load(io.BytesIO(data)).state_dict()
    ours = {tensor.name: tensor for tensor in inventory.tensors if not tensor.scope}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        same(inventory, ours[name], tensor)
    assert {name for name, tensor in ours.items() if tensor.use == "buffer"} == {
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip


def test_constants_of_torchscript_are_constants(traced: torch.jit.ScriptModule) -> None:
    inventory = read(scripted(traced))
    constants = [tensor for tensor in inventory.tensors if tensor.use == "constant"]
    assert [tensor.name for tensor in constants] == ["constants.0", "constants.1"]
    values = [elements(inventory, tensor).view("<f4").reshape(-1).tolist() for tensor in constants]
    assert sorted(values, key=len) == [[1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]


def test_parts_of_torchscript_have_their_roles(traced: torch.jit.ScriptModule) -> None:
    data = scripted(traced, _extra_files={"labels.txt": "cat\ndog", "deep/x": "y"})
    inventory = read(data)
    by_subject = inventory.bytes_by_subject()
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        infos = theirs.infolist()
    code = sum(info.compress_size for info in infos if info.filename.endswith(".py"))
    debug = sum(info.compress_size for info in infos if info.filename.endswith(".debug_pkl"))
    assert by_subject[CODE, "TorchScript source"][0] == code > 0
    assert by_subject[DEBUG_INFO, "TorchScript debug files"][0] == debug > 0
    assert by_subject[METADATA, "labels.txt"][0] == 7
    assert by_subject[METADATA, "deep/x"][0] == 1


def test_archives_for_the_mobile_interpreter(
    traced: torch.jit.ScriptModule, tmp_path: Path
) -> None:
    path = tmp_path / "model.ptl"
    traced._save_for_lite_interpreter(str(path))
    inventory = formats.read(str(path))
    assert inventory.warnings == ()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    assert (CODE, "bytecode") in inventory.bytes_by_subject()
    assert len(inventory.tensors) == 9


def test_the_module_tree_of_torchscript() -> None:
    inventory = read(scripted(torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)))))
    paths = {module.path: module.class_path for module in inventory.modules}
    assert paths.keys() == {"", "0", "1"}
    assert "Linear" in paths["0"]
    assert [tensor.name for tensor in inventory.tensors] == ["0.weight", "0.bias", "1.weight", "1.bias"]
