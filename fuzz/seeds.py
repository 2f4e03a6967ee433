"""First inputs: small files of every format by the writers of torch and onnx, and parts of the fixtures."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from fuzz.framings import pair

SIDECAR = "beside.safetensors"
"""The name of what lies beside the model."""

_FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "models"
_LONGEST = 20_000
"""Bytes; a longer input makes a fuzzer slow."""


@cache
def _net() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.BatchNorm2d(2)).eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    with _quiet():
        write(out)
    return out.getvalue()


@cache
def _values() -> list[Any]:
    import torch

    net = _net()
    tied = torch.arange(12.0)
    with _quiet():
        quantised = torch.quantize_per_channel(
            torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8
        )
        sparse = torch.eye(2).to_sparse()
    optimizer = torch.optim.Adam(net.parameters())
    net[0].weight.sum().backward()
    optimizer.step()
    return [
        net.state_dict(), OrderedDict(a=tied, b=tied[::2], c=tied.reshape(3, 4).t()),
        {"model": net, "optimizer": optimizer.state_dict(), "epoch": 3, "history": [0.5, 0.25]},
        {"q": quantised, "s": sparse, "h": torch.ones(3, dtype=torch.bfloat16), "n": None},
        {"complex": torch.ones(2, dtype=torch.complex64).conj(), "meta": torch.empty(2, device="meta")},
    ]  # fmt: skip


def checkpoints() -> list[bytes]:
    import torch

    return [_written(lambda out, value=value: torch.save(value, out)) for value in _values()]  # type: ignore[misc]


def legacy() -> list[bytes]:
    import torch

    return [
        _written(lambda out, value=value: torch.save(value, out, _use_new_zipfile_serialization=False))  # type: ignore[misc]
        for value in _values()
    ]


def archives() -> list[bytes]:
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1000))
        archive.writestr("a/ü", b"text" * 9)
        archive.comment = b"comment"
    streamed = io.BytesIO()
    streamed.seekable = lambda: False  # type: ignore[method-assign]
    with zipfile.ZipFile(streamed, "w") as archive:
        archive.writestr("a", b"behind it follows a descriptor")
    return [deflated.getvalue(), streamed.getvalue(), *checkpoints()[:2], *torchscripts()[:1]]


def pickles() -> list[bytes]:
    """Of every protocol, and those of the fixtures that are short."""
    plain = {"a": [1, 2.5, None, True, b"x", "y", 1 << 70], "t": (1, (2,)), "s": {1}, "f": frozenset("a")}
    found = [*(pickle.dumps(plain, number) for number in range(6)), *bare_pickles()]
    for archive in (*checkpoints(), *torchscripts(), *_committed("*.pt"), *_committed("*.torchscript")):
        with zipfile.ZipFile(io.BytesIO(archive)) as records:
            found += [records.read(name) for name in records.namelist() if name.endswith(".pkl")]
    return _short(found)


def bare_pickles() -> list[bytes]:
    """Pickles that are models: they hold arrays."""
    import numpy as np

    arrays = {"c": np.arange(4.0), "f": np.asfortranarray(np.eye(2)), "s": np.float64(1)}
    return [pickle.dumps(arrays, number) for number in range(6)]


def tars() -> list[bytes]:
    import torch

    from tests import old_torch

    values = {"w": torch.arange(6.0).reshape(2, 3), "h": torch.ones(2)}
    return [old_torch.old(values), old_torch.old([values["w"], 7], protocol=0)]


def jsons() -> list[bytes]:
    texts = [b'{"a": [1, -2.5e3, null, true, "\\ud83d\\ude00\\n"], "b": {}}', b"[[[]]]", b"-0", b'"x"']
    texts += [json.dumps(_index()).encode()]
    for archive in (*exports(), *model_jsons()):
        with zipfile.ZipFile(io.BytesIO(archive)) as records:
            texts += [records.read(name) for name in records.namelist() if name.endswith(".json")]
    return _short(texts)


def torchscripts() -> list[bytes]:
    import torch

    with _quiet():
        scripted = torch.jit.script(_net())
        traced = torch.jit.trace(_net(), torch.ones(1, 1, 3, 3))
        mobile = bytes(scripted._save_to_buffer_for_lite_interpreter())  # noqa: SLF001
    return [_written(lambda out, kind=kind: torch.jit.save(kind, out)) for kind in (scripted, traced)] + [mobile]  # type: ignore[misc]


def model_jsons() -> list[bytes]:
    from tests import old_torch

    def entry(*dims: int) -> dict[str, Any]:
        return {
            "dims": [str(size) for size in dims], "offset": "0", "strides": ["1"] * len(dims),
            "dataType": "FLOAT", "data": {"key": "tensors/0"}, "device": "cpu",
        }  # fmt: skip

    parameters = [{"isBuffer": False, "tensorId": "0", "name": "weight"}]
    records = old_torch.model_json(
        [entry(6), entry(2)], {"tensors/0": bytes(24)},
        submodules=[{"name": "lin", "parameters": parameters, "submodules": []}],
    )  # fmt: skip
    return [old_torch.zipped(records)]


def exports() -> list[bytes]:
    import torch

    with _quiet():
        program = torch.export.export(_net(), (torch.ones(1, 1, 3, 3),))
    return [_written(lambda out: torch.export.save(program, out))]


def safetensors() -> list[bytes]:
    return [_shard(), _safetensors(), pair(json.dumps(_index()).encode(), _shard())]


def _safetensors(**tensors: tuple[str, list[int], int]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(end))


def _index() -> dict[str, Any]:
    return {"metadata": {"total_size": 28}, "weight_map": {"a": SIDECAR, "b": SIDECAR}}


def _shard() -> bytes:
    return _safetensors(a=("F32", [2, 3], 24), b=("BF16", [2], 4))


def onnx_models() -> list[bytes]:
    import onnx
    from onnx import TensorProto, helper

    raw = helper.make_tensor("raw", TensorProto.FLOAT, [2, 2], bytes(range(16)), raw=True)
    typed = helper.make_tensor("typed", TensorProto.INT8, [3], [1, -2, 3])
    half = helper.make_tensor("half", TensorProto.FLOAT16, [2], [1.0, 2.0])
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "typed"], ["z"])], "inner", [], [_value("z")], [half]
    )
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Constant", [], ["c"], value=typed),
        helper.make_node("MatMul", ["x", "raw"], ["w"], "mm", doc_string="why"),
        helper.make_node("Mine", ["w"], ["v"], domain="own"),
    ]
    graph = helper.make_graph(nodes, "g", [_value("x")], [_value("y")], [raw, typed], value_info=[_value("w")])
    function = helper.make_function(
        "own", "Mine", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model = helper.make_model(graph, functions=[function], producer_name="seed")
    helper.set_model_props(model, {"key": "value"})
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("sp", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("", TensorProto.INT64, [1], [2]), [4],
    )  # fmt: skip
    second = onnx.ModelProto()
    second.CopyFrom(model)
    second.graph.sparse_initializer.append(sparse)
    second.graph.quantization_annotation.add(tensor_name="raw")
    return [bytes(item.SerializeToString()) for item in (model, second)]


def _value(name: str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "n"])


def external() -> list[bytes]:
    """A model and the file its tensors are in."""
    from onnx import TensorProto, helper

    tensors = []
    for number, (offset, length) in enumerate([(0, 16), (16, 16), (24, 8)]):
        tensor = TensorProto(
            name=f"t{number}", data_type=TensorProto.FLOAT, dims=[length // 4],
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        for key, value in (("location", SIDECAR), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    graph = helper.make_graph(
        [helper.make_node("Add", ["t0", "t1"], ["y"])], "g", [], [_value("y")], tensors
    )
    return [pair(bytes(helper.make_model(graph).SerializeToString()), bytes(range(40)))]


def everything() -> list[bytes]:
    return [
        *checkpoints(), *legacy()[:2], *tars()[:1], *torchscripts(), *model_jsons(), *exports(),
        *safetensors(), *onnx_models(), *external(), *bare_pickles()[-2:],
    ]  # fmt: skip


def snapshots() -> list[bytes]:
    """Snapshots of what every writer writes, the first of them compressed as well."""
    from sizeforensics import api, formats
    from sizeforensics.report import snapshots
    from sizeforensics.source import MemorySource

    texts = [
        "".join(snapshots.text(api.take_snapshot(formats.read_source(MemorySource("seed", data)))))
        for data in (*checkpoints(), *onnx_models(), _shard())
    ]
    plain = [text.encode() for text in texts]
    return [*_short(plain), gzip.compress(plain[0], mtime=0)]


def pairs() -> list[bytes]:
    """Every model against the checkpoint it could have come from, and against its neighbour."""
    files = [*checkpoints(), *torchscripts()[:1], _shard(), *onnx_models(), *exports()]
    return [pair(files[0], other) for other in files] + [pair(*both) for both in pairwise(files)]


def _committed(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(_FIXTURES.glob(pattern))]


def _short(inputs: list[bytes]) -> list[bytes]:
    return [data for data in inputs if 0 < len(data) <= _LONGEST]
