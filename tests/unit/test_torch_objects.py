"""Tensors, modules and owners found in real pickles, against what torch itself loads."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import io
import pathlib
import pickle
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from sizeforensics import collector
from sizeforensics.dtypes import DTYPES
from sizeforensics.formats.encodings.pickle_stream import load
from sizeforensics.formats.encodings.pickle_values import Pickle, unescape
from sizeforensics.formats.torch_parts.torch_objects import read_objects
from sizeforensics.formats.torch_parts.torch_values import (
    Objects,
    Payload,
    PickledTensor,
    StorageRef,
)
from sizeforensics.limits import DEFAULT_LIMITS
from sizeforensics.source import MemorySource
from sizeforensics.spans import NAMES, PICKLE, ROLES, TENSOR_DATA
from tests.work import grows_linearly, lines_run


def read(data: bytes) -> tuple[Pickle, Objects]:
    with collector.paused():  # as when a file is read
        found = load(MemorySource("a.pkl", data), 0, len(data))
        objects = read_objects(found)
    check_tiling(found, objects)
    return found, objects


def check_tiling(found: Pickle, objects: Objects) -> None:
    starts, ends = objects.starts.tolist(), objects.ends.tolist()
    assert starts[0] == 0
    assert ends[-1] == found.size
    assert starts[1:] == ends[:-1]
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    assert len(objects.roles) == len(objects.owners) == len(starts)
    assert set(objects.roles.tolist()) <= {PICKLE, NAMES, TENSOR_DATA}
    assert 0 <= objects.owners.min() <= objects.owners.max() < len(objects.owner_names)
    assert len(objects.owner_names) == len(objects.owner_subjects)
    for text in (*objects.owner_names, *objects.owner_subjects, *objects.warnings):
        text.encode()


class Saved:
    """A ZIP checkpoint made by torch.save or torch.jit.save, read by us."""

    def __init__(self, value: Any, record: str = "data.pkl", save: Any = torch.save) -> None:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            save(value, stream)
        stream.seek(0)
        self.stream = stream
        self.records = zipfile.ZipFile(stream)
        self.prefix = self.records.namelist()[0].split("/")[0]
        self.data = self.records.read(f"{self.prefix}/{record}")
        self.folder = "constants" if record == "constants.pkl" else "data"
        self.pickle, self.objects = read(self.data)
        self.tensors = {tensor.name: tensor for tensor in self.objects.tensors}

    def elements(self, tensor: PickledTensor) -> torch.Tensor:
        """The tensor as the description says, from the bytes of its storage."""
        assert not tensor.problem
        assert isinstance(tensor.storage, StorageRef)
        payload = self.records.read(f"{self.prefix}/{self.folder}/{tensor.storage.key}")
        assert len(payload) == tensor.storage.nbytes
        dtype = getattr(torch, tensor.dtype.name)
        flat = torch.frombuffer(bytearray(payload), dtype=dtype) if payload else torch.empty(0)
        return flat.as_strided(tensor.shape, tensor.strides, tensor.offset)

    def owner_of(self, offset: int) -> tuple[str, str, str]:
        """Role, name and subject of the owner of one byte of the pickle."""
        at = int(np.searchsorted(self.objects.starts, offset, side="right")) - 1
        owner = int(self.objects.owners[at])
        return (
            ROLES[int(self.objects.roles[at])], self.objects.owner_names[owner],
            self.objects.owner_subjects[owner],
        )  # fmt: skip

    def owner_of_text(self, text: str) -> tuple[str, str, str]:
        return self.owner_of(self.data.index(text.encode()))

    def bytes_by_subject(self) -> dict[tuple[str, str], int]:
        total: dict[tuple[str, str], int] = collections.Counter()
        for start, end, role, owner in zip(
            self.objects.starts.tolist(), self.objects.ends.tolist(), self.objects.roles.tolist(),
            self.objects.owners.tolist(), strict=True,
        ):  # fmt: skip
            total[ROLES[role], self.objects.owner_subjects[owner]] += end - start
        return dict(total)


def agree(saved: Saved, expected: dict[str, torch.Tensor]) -> None:
    assert list(saved.tensors) == list(expected)
    for name, tensor in expected.items():
        found = saved.tensors[name]
        assert found.shape == tuple(tensor.shape)
        assert found.strides == tensor.stride()
        assert found.offset == tensor.storage_offset()
        assert torch.equal(saved.elements(found), tensor.detach())


# -- tensors ---------------------------------------------------------------------------------------


def test_a_bare_tensor() -> None:
    value = torch.arange(6.0).reshape(2, 3)
    saved = Saved(value)
    agree(saved, {"tensor": value})
    assert saved.tensors["tensor"].scope == ""


DTYPE_NAMES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "complex64", "complex128", "complex32", "uint16", "uint32", "uint64", "float8_e4m3fn",
    "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip


@pytest.mark.parametrize("name", DTYPE_NAMES)
def test_element_types(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex32 is experimental, torch says
        value = torch.zeros(3, dtype=torch.uint8).to(getattr(torch, name))
    saved = Saved({"x": value})
    found = saved.tensors["x"]
    assert found.dtype == DTYPES[name]
    assert not found.problem
    assert isinstance(found.storage, StorageRef)
    assert found.storage.nbytes == value.untyped_storage().nbytes()
    assert saved.elements(found).dtype == value.dtype
    assert saved.objects.warnings == []


def test_a_state_dict_with_views() -> None:
    base = torch.arange(24.0)
    value = collections.OrderedDict([
        ("a.weight", base.reshape(4, 6)),
        ("a.part", base[4:10]),
        ("a.transposed", base.reshape(4, 6).t()),
        ("a.every_other", base[1::2]),
        ("expanded", torch.tensor([1.0, 2.0])[:, None].expand(2, 5)),
        ("scalar", torch.tensor(3)),
        ("empty", torch.zeros(0, 4)),
        ("none", torch.zeros(())),
    ])
    saved = Saved(value)
    agree(saved, value)
    keys = {saved.tensors[name].storage.key for name in value if name.startswith("a.")}
    assert len(keys) == 1
    assert saved.tensors["expanded"].strides == (1, 0)
    assert [storage.key for storage in saved.objects.storages] == ["0", "1", "2", "3", "4"]
    assert {tensor.use for tensor in saved.objects.tensors} == {"weight"}
    assert {tensor.scope for tensor in saved.objects.tensors} == {""}


def test_nested_checkpoints_are_named_by_their_path() -> None:
    value = {
        "model": {"conv.weight": torch.ones(2)},
        "optimizer": {
            "state": {0: {"step": 3, "momentum_buffer": torch.zeros(2)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "list": [torch.zeros(1), (torch.zeros(2), {"deep": torch.zeros(3)})],
        "epoch": 7,
    }
    saved = Saved(value)
    assert list(saved.tensors) == [
        "model.conv.weight", "optimizer.state.0.momentum_buffer", "list.0", "list.1.0",
        "list.1.1.deep",
    ]  # fmt: skip
    assert [tensor.scope for tensor in saved.objects.tensors] == [
        "model", "optimizer", "list", "list", "list",
    ]  # fmt: skip


def test_parameters_and_attributes_on_them() -> None:
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=True)
    parameter.acc_grad = torch.full((3,), 2.0)  # type: ignore[attr-defined]
    saved = Saved({"w": parameter, "frozen": torch.nn.Parameter(torch.ones(1), requires_grad=False)})
    assert list(saved.tensors) == ["w", "w.acc_grad", "frozen"]
    assert [saved.tensors[name].requires_grad for name in saved.tensors] == [True, False, False]
    assert [saved.tensors[name].use for name in saved.tensors] == ["weight", "buffer", "weight"]
    assert torch.equal(saved.elements(saved.tensors["w.acc_grad"]), parameter.acc_grad)


def test_a_tensor_with_attributes() -> None:
    value = torch.ones(2)
    value.note = torch.zeros(3)  # type: ignore[attr-defined]
    saved = Saved([value])
    assert list(saved.tensors) == ["0", "0.note"]


class Special(torch.Tensor):
    pass


def test_a_tensor_subclass_inside_a_parameter() -> None:
    value = torch.ones(2).as_subclass(Special)
    value.scale = torch.zeros(1)
    saved = Saved({"x": value})
    assert list(saved.tensors) == ["x", "x.scale"]
    assert saved.tensors["x"].shape == (2,)


def test_tied_parameters_are_two_names_of_one_storage() -> None:
    tied = torch.nn.Parameter(torch.ones(4))
    saved = Saved({"embed.weight": tied, "head.weight": tied})
    assert list(saved.tensors) == ["embed.weight", "head.weight"]
    first, second = saved.objects.tensors
    assert first.storage.key == second.storage.key
    entry = saved.data.index(b"head.weight")
    assert saved.owner_of(entry) == ("names", "head.weight", "state-dict keys")


def test_quantised_per_tensor() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [
            torch.quantize_per_tensor(torch.randn(2, 3), 0.5, 3, getattr(torch, name))
            for name in ("qint8", "quint8", "qint32")
        ]
    saved = Saved(values)
    assert [tensor.dtype.name for tensor in saved.objects.tensors] == ["int8", "uint8", "int32"]
    for found, value in zip(saved.objects.tensors, values, strict=True):
        assert found.quantizer == ("per_tensor_affine", 0.5, 3, None)
        assert torch.equal(saved.elements(found), value.int_repr())


def test_quantised_per_channel() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = torch.quantize_per_channel(
            torch.randn(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([1, 2]), 0, torch.qint8
        )
    saved = Saved({"q": value})
    assert list(saved.tensors) == ["q", "q.scales", "q.zero_points"]
    assert saved.tensors["q"].quantizer == ("per_channel_affine", None, None, 0)
    assert [tensor.use for tensor in saved.objects.tensors] == [
        "weight", "quantization-parameters", "quantization-parameters",
    ]  # fmt: skip
    assert torch.equal(saved.elements(saved.tensors["q.scales"]), value.q_per_channel_scales())


def test_sub_byte_quantised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = torch.quantize_per_channel(
            torch.randn(4, 6), torch.ones(4), torch.zeros(4), 0, torch.quint4x2
        )
    saved = Saved({"q": value})
    found = saved.tensors["q"]
    assert found.dtype == DTYPES["uint4"]
    assert not found.problem
    assert isinstance(found.storage, StorageRef)
    payload = saved.records.read(f"{saved.prefix}/data/{found.storage.key}")
    assert len(payload) == found.storage.nbytes == 12


def test_sparse_coo() -> None:
    dense = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    saved = Saved({"s": dense.to_sparse()})
    assert list(saved.tensors) == ["s.indices", "s.values"]
    assert [tensor.use for tensor in saved.objects.tensors] == ["sparse-index", "weight"]
    assert saved.elements(saved.tensors["s.indices"]).tolist() == [[0, 1, 1], [1, 0, 2]]
    assert saved.elements(saved.tensors["s.values"]).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("layout, first, second", [
    ("csr", "crow_indices", "col_indices"), ("csc", "ccol_indices", "row_indices"),
    ("bsr", "crow_indices", "col_indices"), ("bsc", "ccol_indices", "row_indices"),
])  # fmt: skip
def test_compressed_sparse(layout: str, first: str, second: str) -> None:
    dense = torch.eye(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        block = {"blocksize": (2, 2)} if layout[0] == "b" else {}
        value = dense.to_sparse(layout=getattr(torch, f"sparse_{layout}"), **block)
        saved = Saved({"s": value})
    assert list(saved.tensors) == [f"s.{first}", f"s.{second}", "s.values"]
    assert torch.equal(saved.elements(saved.tensors[f"s.{first}"]), getattr(value, first)())
    assert saved.tensors[f"s.{second}"].use == "sparse-index"


def test_nested_tensors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    saved = Saved({"n": value})
    assert list(saved.tensors) == ["n.values", "n.sizes", "n.strides", "n.offsets"]
    assert saved.tensors["n.values"].shape == (5,)


def test_jagged_nested_tensors() -> None:
    parts = [torch.ones(2, 3), torch.ones(4, 3)]
    saved = Saved({"n": torch.nested.nested_tensor(parts, layout=torch.jagged)})
    assert saved.objects.warnings == []
    values, offsets = saved.tensors["n.values"], saved.tensors["n.offsets"]
    assert (values.shape, values.dtype.name, values.use) == ((6, 3), "float32", "weight")
    assert saved.elements(offsets).tolist() == [0, 2, 6]
    assert offsets.use == "sparse-index"


def test_meta_tensors_have_no_storage() -> None:
    saved = Saved({"m": torch.empty(2, 3, device="meta", dtype=torch.float16)})
    found = saved.tensors["m"]
    assert (found.storage, found.problem, found.shape, found.dtype.name) == (
        None, "", (2, 3), "float16",
    )  # fmt: skip


def test_tensors_of_other_devices_are_what_is_stored() -> None:
    from_cpu = b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n(" + rebuild(storage())
    from_numpy = b"ctorch._utils\n_rebuild_xla_tensor\n(" + pickle.dumps(np.zeros(3, "<f4"), 0)[:-1]
    rest = b"ctorch\nfloat64\nX\x03\x00\x00\x00xla\x88tR"
    _, objects = read(b"\x80\x02](" + from_cpu + rest + from_numpy + rest + b"e.")
    assert [(t.shape, t.dtype.name, t.requires_grad) for t in objects.tensors] == [
        ((4,), "float32", True), ((3,), "float32", True),
    ]  # fmt: skip


def test_wrapper_subclasses_have_no_bytes_of_their_own() -> None:
    wrapper = (
        b"ctorch._utils\n_rebuild_wrapper_subclass\n(cmod\nWrapper\nctorch\nbfloat16\nK\x02\x85"
        b"K\x01\x85K\x00NNN\x89tR"
    )
    inner = b"N}X\x05\x00\x00\x00inner" + rebuild(storage()) + b"s\x86"  # in slots, as DTensor has it
    whole = (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_wrapper_subclass\n"
        b"cmod\nWrapper\n(cmod\nWrapper\nctorch\nbfloat16\nK\x02\x85K\x01\x85K\x00NN\x89t" + inner + b"tR"
    )
    _, objects = read(b"\x80\x02}X\x01\x00\x00\x00w" + whole + b"s.")
    assert [(t.name, t.shape, t.storage is None, not t.problem) for t in objects.tensors] == [
        ("w", (2,), True, True), ("w.inner", (4,), False, True),
    ]  # fmt: skip
    _, objects = read(b"\x80\x02" + wrapper + b".")
    assert objects.tensors[0].problem  # one argument too many


def test_entries_of_tensor_tables_are_elsewhere() -> None:
    _, objects = read(b"\x80\x02}X\x01\x00\x00\x00wctorch.jit._pickle\nbuild_tensor_from_id\nK\x05\x85Rs.")
    assert objects.tensors[0].name == "w"
    assert "entry 5 of a tensor table" in objects.warnings[0]


def test_typed_lists_of_torchscript_are_transparent() -> None:
    tagged = (
        b"ctorch.jit._pickle\nrestore_type_tag\n](" + rebuild(storage()) * 2 + b"e"
        b"X\x0c\x00\x00\x00List[Tensor]\x86R"
    )
    old = b"ctorch.jit._pickle\nbuild_tensorlist\n](" + rebuild(storage()) + b"e\x85R"
    _, objects = read(b"\x80\x02}(X\x01\x00\x00\x00a" + tagged + b"X\x01\x00\x00\x00b" + old + b"u.")
    assert [tensor.name for tensor in objects.tensors] == ["a.0", "a.1", "b.0"]


def test_storages_saved_on_their_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = Saved({"u": torch.ones(3).untyped_storage(), "t": torch.ones(3).storage()})
    assert [(t.name, t.dtype.name, t.shape) for t in saved.objects.tensors] == [
        ("u", "uint8", (12,)), ("t", "float32", (3,)),
    ]  # fmt: skip


# -- numpy -----------------------------------------------------------------------------------------


ARRAYS = [
    np.arange(3, dtype="<f4"), np.arange(300, dtype="<f8"), np.arange(6, dtype=">i2").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3)), np.zeros((), "u1"),
    np.zeros((0, 3), "f4"), np.array([True, False]), np.array([1 + 2j], "c8"), np.full(70_000, 255, "u1"),
    np.arange(5, dtype="f2"), np.array([0, 10, 13, 26, 92, 39, 128, 255], "u1"),
]  # fmt: skip


def payload_of(found: Pickle, payload: Payload) -> bytes:
    stored = found.data[payload.start : payload.end]
    if payload.codec == "raw":
        return stored
    if payload.codec == "string-escape":
        return unescape(stored)
    text = stored.decode(payload.codec.replace("utf-8", "utf8").replace("raw-", "raw_"))
    return text.encode("latin1")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}-{array.shape}")
def test_numpy_arrays(array: np.ndarray, protocol: int) -> None:
    found, objects = read(pickle.dumps({"a": array, "n": 1}, protocol))
    (tensor,) = objects.tensors
    assert tensor.name == "a"
    assert not tensor.problem
    assert isinstance(tensor.storage, Payload)
    assert tensor.shape == array.shape
    payload = payload_of(found, tensor.storage)
    assert len(payload) == array.nbytes
    assert tensor.storage.nbytes in (array.nbytes, -1)
    order = ">" if tensor.storage.big_endian else "<"
    flat = np.frombuffer(payload, np.dtype(tensor.dtype.name).newbyteorder(order))
    strides = [stride * flat.itemsize for stride in tensor.strides]
    rebuilt = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides)
    assert np.array_equal(rebuilt, array)
    spans = [
        (int(start), int(end)) for start, end, role in
        zip(objects.starts, objects.ends, objects.roles, strict=True) if role == TENSOR_DATA
    ]  # fmt: skip
    stored = (tensor.storage.start, tensor.storage.end)
    assert spans == ([stored] if stored[0] < stored[1] else [])


@pytest.mark.parametrize("protocol", range(6))
def test_an_array_named_twice_is_one_payload(protocol: int) -> None:
    array = np.arange(3.0)
    _, objects = read(pickle.dumps([array, array], protocol))
    first, second = objects.tensors
    assert (first.name, second.name) == ("0", "1")
    assert first.storage == second.storage


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_scalars_are_plain_values(protocol: int) -> None:
    _, objects = read(pickle.dumps({"fitness": np.float64(0.5)}, protocol))
    assert objects.tensors == []
    assert objects.warnings == []


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_objects_and_records(protocol: int) -> None:
    objects = np.array([None, {"x": np.zeros(2)}], dtype=object)
    _, found = read(pickle.dumps({"o": objects}, protocol))
    assert [tensor.shape for tensor in found.tensors] == [(2,)]
    record = np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")])
    _, found = read(pickle.dumps({"r": record}, protocol))
    (tensor,) = found.tensors
    assert (tensor.dtype.kind, tensor.dtype.bits, tensor.problem) == ("opaque", 96, "")
    _, found = read(pickle.dumps({"s": np.array(["ab", "c"])}, protocol))
    assert found.tensors[0].dtype.bits == 64


def test_arrays_of_python_2() -> None:
    data = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs."
    )
    found, objects = read(data)
    (tensor,) = objects.tensors
    assert np.frombuffer(payload_of(found, tensor.storage), "<f4").tolist() == [1.0, 2.0]


def test_out_of_band_arrays_are_not_there() -> None:
    data = pickle.dumps(np.arange(3), 5, buffer_callback=lambda _: None)
    _, objects = read(data)
    assert objects.tensors[0].problem
    assert "outside of the pickle" in objects.warnings[0]


# -- modules ---------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.BatchNorm2d(2, eps=0.123)
        )
        self.head = torch.nn.Linear(2, 2)
        self.register_buffer("grid", torch.zeros(5), persistent=False)
        self.register_buffer("anchor", torch.zeros(6))
        self.cache = torch.ones(7)
        self.names = {0: "cat", 1: "dog"}
        self.extra = [torch.zeros(1), {"inner": torch.zeros(2)}]
        self.layers = [torch.nn.Linear(1, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.anchor[0]


def _hook(*_: object) -> None:
    pass


def test_a_whole_module() -> None:
    net = Net()
    net.head.register_forward_hook(_hook)
    saved = Saved({"epoch": 1, "model": net})
    expected = {
        **dict(net.named_parameters(prefix="model")), **dict(net.named_buffers(prefix="model")),
        "model.cache": net.cache, "model.extra.0": net.extra[0],
        "model.extra.1.inner": net.extra[1]["inner"],
        "model.layers.0.weight": net.layers[0].weight, "model.layers.0.bias": net.layers[0].bias,
    }  # fmt: skip
    assert set(saved.tensors) == set(expected)
    for name, tensor in expected.items():
        found = saved.tensors[name]
        assert torch.equal(saved.elements(found), tensor.detach())
        assert found.use == ("weight" if isinstance(tensor, torch.nn.Parameter) else "buffer")
        assert found.scope == "model"
    modules = {module.path: module for module in saved.objects.modules}
    assert set(modules) == {
        *(f"model.{name}" if name else "model" for name, _ in net.named_modules()),
        "model.layers.0",
    }  # fmt: skip
    for name, module in net.named_modules(prefix="model"):
        found = modules[name]
        cls = type(module)
        assert found.class_path == f"{cls.__module__}.{cls.__qualname__}"
        own = {**module._parameters, **module._buffers}
        assert set(found.tensors) == {key for key, value in own.items() if value is not None}
        for key, index in found.tensors.items():
            assert saved.objects.tensors[index].name == f"{name}.{key}"
    norm = modules["model.features.1"]
    assert norm.attributes["eps"] == 0.123
    assert norm.attributes["track_running_stats"] is True
    assert modules["model"].non_persistent == ["grid"]
    assert modules["model.head"].hooks == {"_forward_hooks": 1}
    assert modules["model.head"].attributes["in_features"] == 2


def test_who_owns_what_in_a_module() -> None:
    saved = Saved({"epoch": 1, "model": Net(), "opt": argparse.Namespace(lr=0.1, data="coco.yaml")})
    assert saved.owner_of_text("epoch") == ("pickle", "epoch", "epoch")
    assert saved.owner_of_text("coco.yaml") == ("pickle", "opt", "opt")
    assert saved.owner_of_text("dog") == ("pickle", "model.names", "model.names")
    assert saved.owner_of_text("track_running_stats") == (
        "pickle", "model.features._modules['1']", "model._modules",
    )  # fmt: skip
    assert saved.owner_of_text("running_mean") == (
        "names", "model.features.1.running_mean", "state-dict keys",
    )  # fmt: skip
    assert saved.owner_of_text("_rebuild_parameter") == (
        "pickle", "model.features.0.weight", "tensor descriptions",
    )  # fmt: skip
    assert saved.owner_of_text("in_features") == ("pickle", "model.head", "model._modules")
    assert saved.owner_of(0) == ("pickle", "pickle framing", "pickle framing")
    assert saved.owner_of(len(saved.data) - 1) == ("pickle", "pickle framing", "pickle framing")


def test_a_module_as_the_root() -> None:
    saved = Saved(Net())
    assert "features.0.weight" in saved.tensors
    assert saved.objects.modules[0].path == ""
    assert saved.owner_of_text("track_running_stats") == (
        "pickle", "features._modules['1']", "_modules",
    )  # fmt: skip
    assert saved.owner_of_text("dog") == ("pickle", "names", "names")


def test_a_module_shared_twelve_times_is_walked_once() -> None:
    layer = torch.nn.Linear(2, 2)
    saved = Saved(torch.nn.ModuleList([layer] * 12))
    assert list(saved.tensors) == ["0.weight", "0.bias"]
    assert [module.path for module in saved.objects.modules] == ["", "0"]


def test_ordered_dict_metadata_has_an_owner() -> None:
    saved = Saved({"model": Net().state_dict()})
    assert saved.owner_of_text("_metadata") == ("pickle", "model._metadata", "model._metadata")
    assert saved.owner_of_text("anchor") == ("names", "model.anchor", "state-dict keys")


def test_histories_are_one_owner() -> None:
    history = [(i, i * 0.5, {"loss": [0.1]}) for i in range(1000)]
    saved = Saved({"w": torch.zeros(1), "results": history})
    subjects = saved.bytes_by_subject()
    assert subjects["pickle", "results"] > 20_000
    assert len(saved.objects.owner_names) < 10


def test_root_lists_and_optimizers() -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    saved = Saved((model.state_dict(), optimizer.state_dict(), 5))
    assert set(saved.tensors) >= {"0.weight", "1.state.0.exp_avg", "1.state.1.exp_avg_sq"}
    assert saved.owner_of_text("param_groups")[1:] == ("[1]['param_groups']", "[1]['param_groups']")
    saved = Saved({"optimizer": optimizer.state_dict()})
    assert saved.owner_of_text("betas")[2] == "optimizer['param_groups']"


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(protocol: int) -> None:
    value = {
        "opt": argparse.Namespace(lr=0.1), "date": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
        "path": pathlib.PurePosixPath("a/b"), "set": {1, 2}, "frozen": frozenset({3}),
        "defaults": collections.defaultdict(list, a=[1]), ("tuple", "key"): [1],
    }  # fmt: skip
    _, objects = read(pickle.dumps(value, protocol))
    assert objects.warnings == []
    assert {"opt", "date", "path", "set", "defaults"} <= set(objects.owner_subjects)


# -- TorchScript -----------------------------------------------------------------------------------


class Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 2, 3)
        self.norm = torch.nn.BatchNorm2d(2, eps=0.5)
        self.sizes = [1, 2]
        self.plain = torch.ones(3)
        self.table = {"a": torch.zeros(2)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.first(x)) + self.plain[0] + self.table["a"][0] + len(self.sizes)


def script(traced: bool) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Scripted().eval()
        return torch.jit.trace(net, torch.zeros(1, 1, 5, 5)) if traced else torch.jit.script(net)


@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_objects(traced: bool) -> None:
    module = script(traced)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = Saved(module, save=torch.jit.save)
    state = dict(module.state_dict())
    for name, tensor in state.items():
        assert torch.equal(saved.elements(saved.tensors[name]), tensor)
    paths = {found.path: found for found in saved.objects.modules}
    assert set(paths) == {"", "first", "norm"}
    assert paths["norm"].class_path.startswith("__torch__.")
    assert set(paths["norm"].tensors) >= {"weight", "bias", "running_mean", "running_var"}
    assert saved.objects.warnings == []
    if not traced:
        assert saved.tensors["table.a"].shape == (2,)
        assert "plain" in saved.tensors


def test_torchscript_constants() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = Saved(script(traced=True), "constants.pkl", torch.jit.save)
    assert saved.objects.tensors
    for tensor in saved.objects.tensors:
        saved.elements(tensor)


# -- old formats -----------------------------------------------------------------------------------


def test_legacy_checkpoints() -> None:
    stream = io.BytesIO()
    base = torch.arange(10.0)
    torch.save({"a": base, "b": base[3:5]}, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    source, at = MemorySource("a", data), 0
    for _ in range(3):  # magic number, protocol, system information
        at = load(source, at, len(data)).end
    found = load(source, at, len(data))
    objects = read_objects(found)
    check_tiling(found, objects)
    assert [(t.name, t.offset, t.shape) for t in objects.tensors] == [("a", 0, (10,)), ("b", 3, (2,))]
    assert objects.tensors[0].storage == objects.tensors[1].storage
    assert objects.tensors[0].storage.numel == 10


def storage(key: bytes = b"0", numel: int = 4, kind: bytes = b"Float", view: bytes = b"") -> bytes:
    return (
        b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"Storage\nX" + len(key).to_bytes(4, "little")
        + key + b"X\x03\x00\x00\x00cpuJ" + numel.to_bytes(4, "little", signed=True) + view + b"tQ"
    )  # fmt: skip


def number(value: int) -> bytes:
    return b"L%dL\n" % value


def rebuild(
    persistent: bytes, offset: int = 0, shape: bytes = b"K\x04\x85", strides: bytes = b"K\x01\x85"
) -> bytes:
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + number(offset) + shape + strides
        + b"\x89)tR"
    )  # fmt: skip


def test_views_of_legacy_storages() -> None:
    view = b"(X\x01\x00\x00\x00vK\x02K\x02t"
    _, objects = read(b"\x80\x02" + rebuild(storage(view=view), 1, b"K\x01\x85") + b".")
    assert objects.tensors[0].offset == 3
    assert not objects.tensors[0].problem


def test_tensors_of_torch_0_1() -> None:
    data = b"\x80\x02ctorch\nFloatTensor\n)R(" + storage() + b"K\x01](K\x03e](K\x01etb."
    _, objects = read(data)
    (tensor,) = objects.tensors
    assert (tensor.shape, tensor.offset, tensor.dtype.name, tensor.problem) == ((3,), 1, "float32", "")
    tensor_call = data[2:-1]
    parameter = b"ctorch.nn.parameter\nParameter\n)R(" + tensor_call + b"\x88\x89)Nt" + b"b"
    _, objects = read(b"\x80\x02}X\x01\x00\x00\x00w" + parameter + b"s.")
    assert [(t.name, t.shape) for t in objects.tensors] == [("w", (3,))]


def test_ordered_dicts_of_python_2() -> None:
    pairs = b"](](U\x01a" + rebuild(storage()) + b"e](U\x01b" + rebuild(storage(b"1")) + b"ee\x85R"
    _, objects = read(b"\x80\x02ccollections\nOrderedDict\n" + pairs + b".")
    assert [tensor.name for tensor in objects.tensors] == ["a", "b"]


def test_persistent_ids_of_tar_files() -> None:
    data = b"ctorch._utils\n_rebuild_tensor\n(P94\nI0\n(I2\nt(I1\nttR."
    _, objects = read(data)
    assert objects.tensors[0].problem  # nothing says what its elements are
    assert objects.storages == [StorageRef("94", None, -1, -1, "")]


def test_a_persistent_id_that_is_a_number_holds_nothing() -> None:
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x05QK\x00K\x02\x85K\x01\x85\x89NtR."
    _, objects = read(data)
    assert all(tensor.problem for tensor in objects.tensors)


def test_legacy_container_sources() -> None:
    cls = b"(X\x06\x00\x00\x00modulecmodels\nNet\nX\x04\x00\x00\x00n.pyX\x09\x00\x00\x00class NettQ"
    state = b"}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_buffers}X\x08\x00\x00\x00_modules}u"
    _, objects = read(b"\x80\x02" + cls + b")\x81" + state + b"b.")
    assert objects.modules[0].class_path == "models.Net"
    assert objects.storages == []


# -- hostile ---------------------------------------------------------------------------------------


BAD = {
    "outside": (rebuild(storage(), 1), "it ends at byte 20 of a storage of 16 bytes"),
    "negative shape": (rebuild(storage(), 0, b"J\xff\xff\xff\xff\x85"), "negative or absurd"),
    "negative offset": (rebuild(storage(), -1), "negative or absurd offset"),
    "negative stride": (rebuild(storage(), 0, b"K\x01\x85", b"J\xff\xff\xff\xff\x85"), "negative"),
    "product": (
        rebuild(storage(), 0, (b"(" + number(2**40) * 2 + b"t"), b"(K\x00K\x00t"),
        "more elements than can be addressed",
    ),
    "absurd size": (rebuild(storage(), 0, number(2**62 * 4) + b"\x85"), "absurd"),
    "absurd stride": (rebuild(storage(), 0, b"K\x02\x85", number(2**70) + b"\x85"), "absurd"),
    "shape of text": (rebuild(storage(), 0, b"X\x01\x00\x00\x00a\x85"), "not integers"),
    "shape of a call": (rebuild(storage(), 0, b"cos\nsystem\n)R"), "not integers"),
    "fewer strides": (rebuild(storage(), 0, b"K\x01K\x02\x86"), "2 sizes and 1 strides"),
    "unknown storage": (rebuild(storage(kind=b"Odd")), "unknown type"),
    "negative count": (rebuild(storage(numel=-1)), "persistent id"),
    "no storage": (rebuild(b"N"), "persistent id"),
    "too few arguments": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "arguments it does not take"),
    "rank": (
        rebuild(storage(), 0, b"(" + b"K\x01" * 65 + b"t", b"(" + b"K\x01" * 65 + b"t"),
        "not integers, or too many",
    ),
    "v3 of no type": (
        b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage(kind=b"Untyped")
        + b"K\x00K\x04\x85K\x01\x85\x89)K\x07tR", "unknown element type",
    ),
    "computed arguments": (
        b"ctorch._utils\n_rebuild_tensor_v2\ncbuiltins\ntuple\n)RR", "computed arguments",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, problem", BAD.values(), ids=BAD)
def test_descriptions_that_make_no_sense_are_flagged(call: bytes, problem: str) -> None:
    _, objects = read(b"\x80\x02}X\x01\x00\x00\x00w" + call + b"s.")
    (tensor,) = objects.tensors
    assert (tensor.name, bool(tensor.problem), tensor.storage) == ("w", True, None)
    assert problem in objects.warnings[-1]
    assert "tensor w" in objects.warnings[-1]


def test_limits_of_rank_are_exact() -> None:
    ones = b"(" + b"K\x01" * 64 + b"t"
    _, objects = read(b"\x80\x02" + rebuild(storage(), 0, ones, ones) + b".")
    assert not objects.tensors[0].problem


@pytest.mark.parametrize("name", [
    "os.system", "posix.system", "nt.system", "subprocess.Popen", "builtins.eval", "builtins.exec",
    "builtins.getattr", "builtins.__import__", "builtins.open", "__builtin__.eval", "sys.exit",
    "shutil.rmtree", "socket.socket", "runpy.run_path", "importlib.import_module", "torch.load",
    "webbrowser.open", "pty.spawn", "pickle.loads", "marshal.loads", "ctypes.CDLL", "code.interact",
    "numpy.testing._private.utils.runstring", "numpy.os.system", "operator.attrgetter",
    "torch.hub.load", "functools.reduce", "asyncio.run", "types.CodeType", "_pickle.loads",
])  # fmt: skip
def test_dangerous_callables_are_flagged_and_not_called(name: str) -> None:
    module, function = name.rsplit(".", 1)
    body = f"c{module}\n{function}\n(S'x'\ntR.".encode()
    _, objects = read(body)
    assert objects.warnings == [f"pickle refers to callable {name} (shown as data, never called)"]
    # also where the walk never comes: popped, in a key, in an unused memo
    for data in (body[:-1] + b"0N.", b"}" + body[:-1] + b"Ns."):
        assert name in read(data)[1].warnings[0]


@pytest.mark.parametrize("name", [
    "torch._utils._rebuild_tensor_v2", "collections.OrderedDict", "numpy.dtype", "numpy.ndarray",
    "argparse.Namespace", "pathlib.PosixPath", "datetime.datetime", "models.yolo.DetectionModel",
    "builtins.set", "__builtin__.set", "_codecs.encode", "copyreg._reconstructor", "torch.Size",
    "torch.device", "functools.partial", "fractions.Fraction", "__torch__.Net",
])  # fmt: skip
def test_usual_globals_are_not_flagged(name: str) -> None:
    module, function = name.rsplit(".", 1)
    assert read(f"c{module}\n{function}\n.".encode())[1].warnings == []


def test_warnings_are_bounded_and_on_one_line() -> None:
    data = b"](" + b"".join(b"cos\nf%d\n" % i for i in range(500)) + b"e."
    _, objects = read(data)
    assert len(objects.warnings) == 101
    assert objects.warnings[-1] == "pickle has 400 more oddities that are not listed"
    _, objects = read(b"cos\n\x1b[31m\xff" + b"x" * 100_000 + b"\n.")
    assert all(len(text) < 400 and text.isprintable() for text in objects.warnings)


def test_duplicate_keys_are_flagged_and_both_shown() -> None:
    entry = b"X\x01\x00\x00\x00w" + rebuild(storage())
    _, objects = read(b"\x80\x02}(" + entry * 2 + b"u.")
    assert [tensor.name for tensor in objects.tensors] == ["w", "w"]
    assert "stores key w of a dict more than once" in objects.warnings[0]
    _, objects = read(b"\x80\x02}(K\x01NK\x02NK\x01Nu.")
    assert "key 1 " in objects.warnings[0]


KEYS = {
    "surrogate": (b"X\x03\x00\x00\x00\xed\xa0\x80", "\\ud800"),
    "not UTF-8": (b"X\x02\x00\x00\x00\xff\xfe", "\\udcff\\udcfe"),
    "ANSI": (b"X\x04\x00\x00\x00\x1b[0m", "\x1b[0m"),
    "empty": (b"X\x00\x00\x00\x00", ""),
    "integer": (b"K\x07", "7"),
    "huge integer": (b"\x8b\x00\x04\x00\x00" + b"\x01" * 1024, "<integer of 8,185 bits>"),
    "float": (b"G?\xf0\x00\x00\x00\x00\x00\x00", "1.0"),
    "none": (b"N", "None"),
    "bool": (b"\x88", "True"),
    "tuple": (b"K\x01K\x02\x86", "(1, 2)"),
    "tuple of one": (b"X\x01\x00\x00\x00a\x85", "('a',)"),
    "tuple of five": (b"(K\x01K\x02NK\x04K\x05t", "(1, 2, None, 4, …)"),
    "enumeration": (b"cmod\nKind\nK\x01\x85R", "Kind(1)"),
    "list": (b"]", "<ListValue>"),
    "bytes": (b"C\x01a", "<Bytes>"),
    "class": (b"cmod\nCls\n", "mod.Cls"),
    "laughs": (b")" + b"2\x86" * 200, "((<tuple>, <tuple>), (<tuple>, <tuple>))"),
}


@pytest.mark.parametrize("key, name", KEYS.values(), ids=KEYS)
def test_keys_of_every_kind_have_a_bounded_name(key: bytes, name: str) -> None:
    _, objects = read(b"\x80\x02}X\x01\x00\x00\x00m}" + key + rebuild(storage()) + b"ss.")
    assert [tensor.name for tensor in objects.tensors] == [f"m.{name}"]
    _, objects = read(b"\x80\x02}" + key + b"Ns.")


def test_long_names_are_kept_once_and_not_repeated() -> None:
    long = b"k" * 1_000_000
    tensors = b"".join(
        b"X\x04\x00\x00\x00%04d" % i + rebuild(storage()) for i in range(200)
    )
    data = b"\x80\x02}X" + len(long).to_bytes(4, "little") + long + b"}(" + tensors + b"us."
    _, objects = read(data)
    assert len(objects.tensors) == 200
    assert all(len(tensor.name) < 300 for tensor in objects.tensors)
    data = b"\x80\x02}X" + len(long).to_bytes(4, "little") + long + rebuild(storage()) + b"s."
    _, objects = read(data)
    assert objects.tensors[0].name == long.decode()


DEEP = 100_000


@pytest.mark.parametrize("opening, closing", [
    (b"]", b"a"), (b"}K\x01", b"s"), (b"cm\nC\n", b"\x85R"), (b"(", b"t"), (b"}X\x01\x00\x00\x00k", b"s"),
    (b"cm\nC\n)\x81}X\x01\x00\x00\x00k", b"sb"),
], ids=["lists", "dicts", "calls", "tuples", "named dicts", "objects"])  # fmt: skip
def test_deep_nesting_is_no_recursion_and_no_square(opening: bytes, closing: bytes) -> None:
    def deep(levels: int) -> None:
        data = b"\x80\x02" + opening * levels + rebuild(storage()) + closing * levels + b"."
        _, objects = read(data)
        assert [tensor.problem for tensor in objects.tensors] == [""]
        assert len(objects.tensors[0].name) < 4_000

    deep(DEEP)
    assert grows_linearly(deep, 5_000)


def test_a_parameter_of_a_parameter_of_a_parameter() -> None:
    opening = b"ctorch._utils\n_rebuild_parameter\n("
    data = b"\x80\x02" + opening * 5_000 + rebuild(storage()) + b"\x88)tR" * 5_000 + b"."
    _, objects = read(data)
    assert objects.tensors[0].problem
    assert "nested too deep" in objects.warnings[0]


def test_sparse_tensors_of_the_same_sparse_tensor() -> None:
    """Each is made of the one before twice: 2**60 parts, unless they are described once."""
    data = b"\x80\x02" + rebuild(storage()) + b"q\x01"
    for _ in range(60):
        data += (
            b"0ctorch._utils\n_rebuild_sparse_tensor\nctorch\nsparse_coo\n(h\x01h\x01K\x01\x85\x88t\x86Rq\x01"
        )
    assert lines_run(lambda: read(data + b".")) < 50 * len(data)
    _, objects = read(data + b".")
    assert len(objects.tensors) <= 100


def test_cycles_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    table: dict[str, Any] = {"self": loop}
    table["table"] = table
    _, objects = read(pickle.dumps(table, 2))
    assert objects.warnings == ["pickle has containers that hold themselves"]


def test_a_state_shared_by_many_objects_is_walked_once() -> None:
    def shared(count: int) -> None:
        state = b"}(" + b"".join(b"X\x05\x00\x00\x00%05d]" % i for i in range(count)) + b"uq\x01"
        many = b"](" + b"h\x02)\x81h\x01b" * count + b"e"
        read(b"\x80\x02cm\nC\nq\x02" + state + many + b"\x86.")

    shared(20_000)
    assert grows_linearly(shared, 1_000)


def test_a_shape_shared_by_many_tensors_is_bounded() -> None:
    ones = b"(" + b"K\x01" * DEFAULT_LIMITS.tensor_rank + b"tq\x05"
    call = b"h\x06(h\x07K\x00h\x05h\x05\x89)tR"

    def shared(count: int) -> None:
        data = (
            b"\x80\x02" + ones + b"0ctorch._utils\n_rebuild_tensor_v2\nq\x060" + storage()
            + b"q\x070](" + call * count + b"e."
        )  # fmt: skip
        _, objects = read(data)
        assert len(objects.tensors) == count

    shared(20_000)
    assert grows_linearly(shared, 1_000)


def test_many_names_of_one_tensor_are_bounded() -> None:
    data = b"\x80\x02" + rebuild(storage()) + b"q\x01](" + b"h\x01" * 150_000 + b"e\x86."
    _, objects = read(data)
    assert len(objects.tensors) == 100_001
    assert objects.warnings == ["pickle refers to tensors more often than is listed"]


def test_the_package_never_imports_pickle() -> None:
    import sizeforensics.formats

    for file in pathlib.Path(sizeforensics.formats.__path__[0]).glob("*.py"):
        for line in file.read_text().splitlines():
            assert not line.strip().startswith(("import pickle", "from pickle "))


def test_linear_in_the_number_of_tensors() -> None:
    def walk(count: int) -> None:
        entries = b"".join(
            b"X\x08\x00\x00\x00%08d" % i + rebuild(storage()) for i in range(count)
        )
        data = b"\x80\x02}(" + entries + b"u."
        read_objects(load(MemorySource("a", data), 0, len(data)))

    assert grows_linearly(walk, 1_000)
