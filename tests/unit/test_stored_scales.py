"""Quantised tensors are proved under the scale and zero point that the file stores, or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sizeforensics import formats
from sizeforensics.inventory import Inventory
from sizeforensics.matching import Match, match
from sizeforensics.source import MemorySource
from tests.builders import artifact

Array = npt.NDArray[Any]
RNG = np.random.default_rng(11)
WEIGHT = RNG.normal(size=(24, 40)).astype(np.float32)
FLOAT8 = {"float8_e4m3fn": TensorProto.FLOAT8E4M3FN, "float8_e5m2": TensorProto.FLOAT8E5M2}


def initializer(name: str, array: Array, kind: int | None = None) -> TensorProto:
    if kind is None:
        return numpy_helper.from_array(array, name)
    if array.dtype.name in ("int4", "uint4"):
        flat = array.reshape(-1).astype(np.uint8) & 15
        raw = (flat[::2] | flat[1::2] << 4).tobytes()
    else:
        raw = array.tobytes()
    return helper.make_tensor(name, kind, array.shape, raw, raw=True)


def model(node: onnx.NodeProto, *initializers: TensorProto) -> Inventory:
    graph = helper.make_graph([node], "g", [], [], list(initializers))
    opset = helper.make_opsetid("", 21)
    proto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return formats.read_source(MemorySource("q.onnx", proto.SerializeToString()))


def dequantize(
    codes: Array, scale: Array, zero: Array | None = None, kind: int | None = None, **attributes: Any
) -> Inventory:
    inputs = ["q", "s"] if zero is None else ["q", "s", "z"]
    given = [initializer("q", codes, kind), initializer("s", scale)]
    given += [] if zero is None else [initializer("z", zero, kind)]
    return model(helper.make_node("DequantizeLinear", inputs, ["y"], **attributes), *given)


def found(weight: Array, quantized: Inventory) -> Match:
    before = artifact({"weight": weight})
    (only,) = match(before, quantized).matches
    (mirrored,) = match(quantized, before).matches
    assert (only.evidence, only.how) == (mirrored.evidence, mirrored.how)
    return only


def rounded(weight: Array, scale: Array, zero: Array | float, low: int, high: int) -> Array:
    return np.clip(np.rint(weight / scale) + zero, low, high)


SCALE = np.float32(0.02)
CHANNELS = np.linspace(0.01, 0.05, 24, dtype=np.float32)
ROWS = CHANNELS[:, None]
ZEROS = np.arange(24, dtype=np.uint8) + 100
BLOCKS = np.linspace(0.2, 0.5, 24 * 3, dtype=np.float32).reshape(24, 3)
SPREAD = np.repeat(BLOCKS, 16, axis=1)[:, :40]
COLUMNS = np.linspace(0.01, 0.05, 40, dtype=np.float32)

CASES: dict[str, tuple[Inventory, str]] = {
    "per tensor": (
        dequantize(rounded(WEIGHT, SCALE, 0, -128, 127).astype(np.int8), SCALE.reshape(())),
        "quantised per tensor: within half a step of the stored scale s",
    ),
    "per tensor, asymmetric": (
        dequantize(
            rounded(WEIGHT, SCALE, 120, 0, 255).astype(np.uint8), SCALE.reshape(()),
            np.array(120, dtype=np.uint8),
        ),
        "quantised per tensor, with zero points: within half a step of the stored scale s",
    ),
    "per channel of axis 0": (
        dequantize(rounded(WEIGHT, ROWS, 0, -128, 127).astype(np.int8), CHANNELS, axis=0),
        "quantised per channel of axis 0: within half a step of the stored scale s",
    ),
    "per channel of axis 1, zero points": (
        dequantize(
            rounded(WEIGHT, COLUMNS, 7, -128, 127).astype(np.int8), COLUMNS,
            np.full(40, 7, dtype=np.int8), axis=1,
        ),
        "quantised per channel of axis 1, with zero points: within half a step of the stored scale s",
    ),
    "blocks, the last one short": (
        dequantize(
            rounded(WEIGHT, SPREAD, 0, -8, 7).astype(ml_dtypes.int4), BLOCKS,
            kind=TensorProto.INT4, axis=1, block_size=16,
        ),
        "quantised in blocks of 16 along axis 1: within half a step of the stored scale s",
    ),
    "transposed": (
        dequantize(
            np.ascontiguousarray(rounded(WEIGHT, ROWS, 0, -128, 127).T).astype(np.int8), CHANNELS,
            axis=1,
        ),
        "quantised per channel of axis 1: within half a step of the stored scale s",
    ),
    **{
        name: (
            dequantize(
                (WEIGHT / SCALE).clip(-400, 400).astype(getattr(ml_dtypes, name)),
                SCALE.reshape(()), kind=kind,
            ),
            "quantised per tensor: within half a step of the stored scale s",
        )
        for name, kind in FLOAT8.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_under_the_stored_scale(case: str) -> None:
    quantized, how = CASES[case]
    only = found(WEIGHT, quantized)
    assert (only.evidence, only.how) == ("proved", how)
    assert only.difference > 0


@pytest.mark.parametrize("case", CASES)
def test_other_values_are_not_what_it_stands_for(case: str) -> None:
    changed = WEIGHT.copy()
    changed[5, 5] += 1
    matching = match(artifact({"weight": changed}), CASES[case][0])
    assert "proved" not in [pair.evidence for pair in matching.matches]


def test_a_wrong_stored_scale_proves_nothing() -> None:
    codes = rounded(WEIGHT, SCALE, 0, -128, 127).astype(np.int8)
    quantized = dequantize(codes, np.float32(0.021).reshape(()))
    assert found(WEIGHT, quantized).evidence == "inferred"


def test_a_wrong_stored_zero_point_proves_nothing() -> None:
    codes = rounded(WEIGHT, ROWS, ZEROS[:, None], 0, 255).astype(np.uint8)
    assert found(WEIGHT, dequantize(codes, CHANNELS, ZEROS, axis=0)).evidence == "proved"
    assert found(WEIGHT, dequantize(codes, CHANNELS, ZEROS + 2, axis=0)).evidence == "inferred"


def test_depthwise_kernels_have_nine_elements_a_channel() -> None:
    weight = RNG.normal(size=(24, 1, 3, 3)).astype(np.float32)
    codes = rounded(weight, CHANNELS[:, None, None, None], 0, -128, 127).astype(np.int8)
    assert found(weight, dequantize(codes, CHANNELS, axis=0)).evidence == "proved"


def test_the_integer_bias_of_a_convolution_has_the_product_of_two_scales() -> None:
    weight = RNG.normal(size=(24, 3, 3, 3)).astype(np.float32)
    bias = RNG.normal(size=24).astype(np.float32)
    step = np.float32(0.03)
    codes = rounded(weight, CHANNELS[:, None, None, None], 0, -128, 127).astype(np.int8)
    wide = np.rint(bias / (step * CHANNELS)).astype(np.int32)
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"])
    quantized = model(
        node, initializer("xs", step.reshape(())), initializer("w", codes),
        initializer("ws", CHANNELS), initializer("wz", np.zeros(24, dtype=np.int8)),
        initializer("b", wide),
    )  # fmt: skip
    before = artifact({"conv.weight": weight, "conv.bias": bias})
    assert [pair.evidence for pair in match(before, quantized).matches] == ["proved", "proved"]


@pytest.mark.parametrize("legacy", [False, True])
def test_quantised_tensors_of_torch(tmp_path: Path, legacy: bool) -> None:
    weight = torch.from_numpy(WEIGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = {
            "tensor": torch.quantize_per_tensor(weight, 0.03, 4, torch.qint8),
            "channel": torch.quantize_per_channel(
                weight, torch.from_numpy(CHANNELS.astype(np.float64)), torch.zeros(24), 0, torch.qint8
            ),
        }
        for name, value in values.items():
            torch.save({"q": value}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    for name in values:
        only = found(WEIGHT, formats.read(str(tmp_path / name)))
        assert (only.evidence, "stored scale" in only.how) == ("proved", True)


@pytest.mark.parametrize("script", [True, False], ids=["TorchScript", "state dict"])
def test_packed_parameters_of_torch(tmp_path: Path, script: bool) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(40, 24))
    path = tmp_path / "quantised"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(layer)
        if script:
            torch.jit.script(quantised).save(path)
        else:
            torch.save(quantised.state_dict(), path)
    after = formats.read(str(path))
    packed = [tensor for tensor in after.tensors if "packed" in tensor.name]
    assert [(tensor.dtype.name, tensor.shape) for tensor in packed] == [("int8", (24, 40)), ("float32", (24,))]
    values = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    matching = match(artifact(values), after)
    assert [pair.evidence for pair in matching.matches] == ["proved", "proved"]
    assert "stored scale" in matching.matches[0].how


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_was_quantised_is_proved_under_its_own_numbers_alone(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = data.draw(st.tuples(st.integers(3, 12), st.integers(5, 20)))
    weight = rng.normal(size=shape).astype(np.float32)
    axis = data.draw(st.sampled_from([None, 0, 1]))
    size = () if axis is None else (shape[axis],)
    scale = rng.uniform(0.01, 0.1, size=size).astype(np.float32)
    zero = rng.integers(-20, 20, size=size).astype(np.int8)
    along = [1, 1]
    if axis is not None:
        along[axis] = -1
    spread = [np.reshape(numbers, along) for numbers in (scale, zero)]
    codes = rounded(weight, spread[0], spread[1].astype(np.float32), -128, 127).astype(np.int8)
    attributes = {} if axis is None else {"axis": axis}
    own = dequantize(codes, np.asarray(scale), np.asarray(zero), **attributes)
    assert found(weight, own).evidence == "proved"
    other = dequantize(codes, np.asarray(scale * np.float32(1.5)), np.asarray(zero), **attributes)
    assert found(weight, other).evidence == "inferred"
