"""The same elements written in another way: typed fields, deflate, sparse layouts."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Sides, Size, pick, planted, recipe


def _typed(directory: Path, array: Any, code: int, stored: int) -> Planted:
    """``array`` as raw bytes, and as the typed field that ``make_tensor`` writes without ``raw``."""
    before, after = pair(directory, "model.onnx")
    for path, raw in ((before, True), (after, False)):
        values = array.tobytes() if raw else array.ravel()
        weight = helper.make_tensor("weight", code, array.shape, values, raw=raw)
        cast = helper.make_node("Cast", ["weight"], ["wide"], to=TensorProto.DOUBLE)
        output = helper.make_tensor_value_info("wide", TensorProto.DOUBLE, array.shape)
        graph = helper.make_graph([cast], "typed", [], [output], [weight])
        opset = helper.make_opsetid("", nets.OPSET)
        onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    kept = array.nbytes
    tensors: dict[str, Sides] = {"carried": (kept, kept), "encoding": (0, stored - kept)}
    return planted(before, after, tensors)


def _varint_bytes(numbers: Sequence[int]) -> int:
    """Bytes of varints: ten where a number is negative, else one for every seven bits."""
    return sum(10 if n < 0 else max(1, -(-n.bit_length() // 7)) for n in numbers)


@recipe("typed-int8", "encoding")
def typed_int8(directory: Path, size: Size) -> Planted:
    """int8 in ``int32_data``: one byte for 0 to 127, ten for every negative number."""
    shape = 16, pick(size, 64, 4096)
    array = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    return _typed(directory, array, TensorProto.INT8, _varint_bytes(array.ravel().tolist()))


@recipe("typed-fp16", "encoding")
def typed_fp16(directory: Path, size: Size) -> Planted:
    """float16 in ``int32_data``: two or three bytes an element."""
    array = seeded(16, pick(size, 64, 4096)).half().numpy()
    stored = _varint_bytes(array.view(np.uint16).ravel().tolist())
    return _typed(directory, array, TensorProto.FLOAT16, stored)


@recipe("typed-float", "carried")
def typed_float(directory: Path, size: Size) -> Planted:
    """float32 in ``float_data``: as large as raw data."""
    array = seeded(16, pick(size, 64, 4096)).numpy()
    return _typed(directory, array, TensorProto.FLOAT, array.nbytes)


@recipe("compressed-records", "compression")
def compressed_records(directory: Path, size: Size) -> Planted:
    """A checkpoint whose records are stored, and the same records deflated by a ZIP tool."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    torch.save(model.state_dict(), before)
    saved = 0
    with zipfile.ZipFile(before) as plain, zipfile.ZipFile(after, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in plain.infolist():
            out.writestr(zipfile.ZipInfo(entry.filename), plain.read(entry), zipfile.ZIP_DEFLATED)
        for entry in out.infolist():
            if "/data/" in entry.filename:
                saved += entry.compress_size - entry.file_size
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights), "compression": (0, saved)})


@recipe("sparse-coo", "sparse-index")
def sparse_coo(directory: Path, size: Size) -> Planted:
    """A half-empty matrix, dense and as COO with two int64 indices for every value."""
    before, after = pair(directory, "model.pt")
    dense = seeded(48, pick(size, 32, 4096))
    dense[seeded(*dense.shape, seed=1) > 0] = 0
    sparse = dense.to_sparse_coo().coalesce()
    torch.save({"weight": dense}, before)
    torch.save({"weight": sparse}, after)
    held = nbytes([sparse.values()])
    return planted(before, after, {
        "carried": (held, held), "densified": (nbytes([dense]) - held, 0),
        "sparse-index": (0, nbytes([sparse.indices()])),
    })  # fmt: skip
