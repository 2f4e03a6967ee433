"""Quantised exports, and exports that are quantised in name only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import count, nbytes, pair, seeded
from benchmarks.accuracy.oracle import structure
from benchmarks.accuracy.planted import Planted, Sides, Size, pick, planted, recipe


class Lookup(nn.Module):
    """An embedding and two linear layers without bias: one Gather and two MatMuls."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.first = nn.Linear(width, 2 * width, bias=False)
        self.last = nn.Linear(2 * width, 10, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.first(self.embed(tokens)).relu())


def _exported(directory: Path, size: Size) -> tuple[Path, Path, Lookup]:
    before, after = pair(directory, "model.onnx")
    model = Lookup(pick(size, 60, 8_000), pick(size, 32, 256))
    nets.fill(model)
    tokens = (seeded(1, 6).abs() * 7).long()
    nets.export(model, tokens, before, input_names=["tokens"])
    return before, after, model


def _parameters(path: Path) -> int:
    """Stored bytes of scales and zero points, which every quantiser of ONNX Runtime names so."""
    return sum(
        payload.stored
        for payload in structure(path).payloads
        if payload.name.endswith(("_scale", "_zero_point"))
    )


def _quantised(paths: tuple[Path, Path], narrow: dict[str, Tensor], wide: list[Tensor]) -> Planted:
    """``narrow`` are the float32 weights by the name that the quantised ones have."""
    kept = count(narrow.values()) + nbytes(wide)
    tensors: dict[str, Sides] = {
        "carried": (kept, kept), "quantization-parameters": (0, _parameters(paths[1])),
    }  # fmt: skip
    for tensor in onnx.load(paths[1]).graph.initializer:
        if tensor.name in narrow:
            # The quantiser chooses between int8 and uint8: a byte for four of float32 either way.
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
            cause = f"dtype float32 -> {kind}"
            saved, _ = tensors.get(cause, (0, 0))
            tensors[cause] = saved + 3 * narrow[tensor.name].numel(), 0
    return planted(*paths, tensors)


@recipe("dynamic-int8 (MatMul)", "dtype float32 -> int8", needs=("onnxruntime",))
def dynamic_matmul(directory: Path, size: Size) -> Planted:
    """Dynamic quantisation of MatMul alone: the embedding stays float32."""
    return _dynamic(directory, size, ["MatMul"])


@recipe("dynamic-int8 (with Gather)", "dtype float32 -> int8", needs=("onnxruntime",))
def dynamic_gather(directory: Path, size: Size) -> Planted:
    """Dynamic quantisation of MatMul and Gather."""
    return _dynamic(directory, size, ["MatMul", "Gather"])


def _dynamic(directory: Path, size: Size, ops: list[str], **options: Any) -> Planted:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before, after, model = _exported(directory, size)
    quantize_dynamic(
        before, after, op_types_to_quantize=ops, weight_type=QuantType.QInt8, **options
    )
    narrow = {
        "onnx::MatMul_10_quantized": model.first.weight,
        "onnx::MatMul_11_quantized": model.last.weight,
    }
    if "Gather" not in ops:
        return _quantised((before, after), narrow, [model.embed.weight])
    return _quantised((before, after), {**narrow, "embed.weight_quantized": model.embed.weight}, [])


@recipe("per-channel-int8", "quantization-parameters", needs=("onnxruntime",))
def per_channel(directory: Path, size: Size) -> Planted:
    """A scale and a zero point for every output channel."""
    return _dynamic(directory, size, ["MatMul"], per_channel=True)


@recipe("qdq-float-weights", "quantization-parameters", needs=("onnxruntime",))
def qdq_float_weights(directory: Path, size: Size) -> Planted:
    """QuantizeLinear on float weights, which so stay in the file as they were."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Three sentences to calibrate with."""

        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self.rest = [generator.integers(0, 60, (1, 6)) for _ in range(3)]

        def get_next(self) -> dict[str, Any] | None:
            return {"tokens": self.rest.pop()} if self.rest else None

    before, after, model = _exported(directory, size)
    quantize_static(
        before, after, Reader(), op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8,
        extra_options={"AddQDQPairToWeight": True},
    )  # fmt: skip
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "quantization-parameters": (0, _parameters(after)),
    })  # fmt: skip


@recipe("quantised-in-name-only", "carried", needs=("onnxruntime",))
def in_name_only(directory: Path, size: Size) -> Planted:
    """A quantiser that finds nothing it may quantise and leaves every weight float32."""
    from onnxruntime.quantization import quantize_dynamic

    before, after, model = _exported(directory, size)
    quantize_dynamic(before, after, op_types_to_quantize=["Conv"])
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("static-int8-operators", "dtype float32 -> int8", needs=("onnxruntime",))
def operators(directory: Path, size: Size) -> Planted:
    """QLinearConv: int8 weights per channel, and int32 biases with the product of two scales."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Three images to calibrate with."""

        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            shape = (1, 3, 16, 16)
            self.rest = [generator.normal(size=shape).astype(np.float32) for _ in range(3)]

        def get_next(self) -> dict[str, Any] | None:
            return {"image": self.rest.pop()} if self.rest else None

    before, after = pair(directory, "model.onnx")
    width = pick(size, 8, 128)
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 2 * width, 3))
    nets.fill(model)
    nets.export(model, seeded(1, 3, 16, 16), before, input_names=["image"])
    quantize_static(
        before, after, Reader(), quant_format=QuantFormat.QOperator, per_channel=True,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
    )  # fmt: skip
    weights = count(layer.weight for layer in (model[0], model[2]))
    biases = nbytes(layer.bias for layer in (model[0], model[2]))
    return planted(before, after, {
        "carried": (weights + biases, weights + biases), "dtype float32 -> int8": (3 * weights, 0),
        "quantization-parameters": (0, _parameters(after)),
    })  # fmt: skip


@recipe("float8-weights", "dtype float32 -> float8_e4m3fn")
def float8(directory: Path, size: Size) -> Planted:
    """An 8-bit float weight behind a DequantizeLinear."""
    weight = seeded(pick(size, 24, 512), pick(size, 40, 512))
    codes = (weight / 0.02).clamp(-448, 448).to(torch.float8_e4m3fn)
    scale = np.array(0.02, dtype=np.float32)
    tensor = onnx.helper.make_tensor(
        "codes", onnx.TensorProto.FLOAT8E4M3FN, codes.shape,
        codes.view(torch.uint8).numpy().tobytes(), raw=True,
    )
    before, after = _dequantized(directory, weight, tensor, scale)
    number = weight.numel()
    return planted(before, after, {
        "carried": (number, number), "dtype float32 -> float8_e4m3fn": (3 * number, 0),
        "quantization-parameters": (0, scale.nbytes),
    })  # fmt: skip


@recipe("blocked-int4", "dtype float32 -> int4")
def blocked(directory: Path, size: Size) -> Planted:
    """Two weights a byte, a scale for every 32 of a row, the last block short."""
    rows, columns, block = pick(size, 24, 512), pick(size, 80, 528), 32
    weight = seeded(rows, columns)
    blocks = -(-columns // block)
    scale = np.random.default_rng(2).uniform(0.3, 0.6, (rows, blocks)).astype(np.float32)
    spread = np.repeat(scale, block, axis=1)[:, :columns]
    codes = np.clip(np.rint(weight.numpy() / spread), -8, 7).astype(np.int8).reshape(-1) & 15
    raw = (codes[::2] | codes[1::2] << 4).astype(np.uint8).tobytes()
    tensor = onnx.helper.make_tensor("codes", onnx.TensorProto.INT4, (rows, columns), raw, raw=True)
    before, after = _dequantized(directory, weight, tensor, scale, axis=1, block_size=block)
    stored = weight.numel() // 2
    return planted(before, after, {
        "carried": (stored, stored), "dtype float32 -> int4": (nbytes([weight]) - stored, 0),
        "quantization-parameters": (0, scale.nbytes),
    })  # fmt: skip


def _dequantized(
    directory: Path, weight: Tensor, codes: onnx.TensorProto, scale: np.ndarray[Any, Any], **how: Any
) -> tuple[Path, Path]:
    """A state dict, and a graph whose DequantizeLinear makes the weight again."""
    before, after = directory / "before.pt", directory / "after.onnx"
    torch.save({"weight": weight}, before)
    node = onnx.helper.make_node("DequantizeLinear", ["codes", "scale"], ["weight"], **how)
    stored = [codes, onnx.numpy_helper.from_array(scale, "scale")]
    graph = onnx.helper.make_graph([node], "graph", [], [], stored)
    opset = onnx.helper.make_opsetid("", 21)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), after)
    return before, after


@recipe("quantised-by-torch", "dtype float32 -> int8")
def by_torch(directory: Path, size: Size) -> Planted:
    """A tensor that torch quantised per channel: scales and zero points are tensors beside it."""
    weight = seeded(pick(size, 24, 512), pick(size, 40, 512))
    channels = len(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are deprecated, and still in use
        scales = seeded(channels, dtype=torch.float64).abs() / 50 + 0.01
        zero_points = torch.zeros(channels, dtype=torch.int64)
        quantised = torch.quantize_per_channel(weight, scales, zero_points, 0, torch.qint8)
        before, after = pair(directory, "model.pt")
        torch.save({"weight": weight}, before)
        torch.save({"weight": quantised}, after)
    number = weight.numel()
    return planted(before, after, {
        "carried": (number, number), "dtype float32 -> int8": (3 * number, 0),
        "quantization-parameters": (0, nbytes([scales]) + nbytes([zero_points])),
    })  # fmt: skip


def _beside(directory: Path, weight: Tensor, codes: Tensor, scale: Tensor) -> Planted:
    """A weight, and its codes with their scale beside them, in state dicts."""
    before, after = pair(directory, "model.pt")
    torch.save({"weight": weight}, before)
    torch.save({"weight": codes, "number": scale}, after)
    number, kind = weight.numel(), str(codes.dtype).removeprefix("torch.")
    return planted(before, after, {
        "carried": (number, number), f"dtype bfloat16 -> {kind}": (number, 0),
        "quantization-parameters": (0, nbytes([scale])),
    })  # fmt: skip


@recipe("float8-squares", "dtype bfloat16 -> float8_e4m3fn")
def squares(directory: Path, size: Size) -> Planted:
    """Weights in float8 with a scale for every 128 x 128 of them, the last ones cut off."""
    shape, side = (pick(size, 144, 1088), pick(size, 272, 2048)), 128
    weight = seeded(*shape, dtype=torch.bfloat16)
    filled = nn.functional.pad(weight.float(), (0, -shape[1] % side, 0, -shape[0] % side))
    parts = filled.unflatten(0, (-1, side)).unflatten(2, (-1, side))
    scale = parts.abs().amax(dim=(1, 3)) / torch.finfo(torch.float8_e4m3fn).max
    codes = (parts / scale[:, None, :, None]).reshape(filled.shape)[: shape[0], : shape[1]]
    return _beside(directory, weight, codes.to(torch.float8_e4m3fn).contiguous(), scale)


@recipe("int8-largest", "dtype bfloat16 -> int8")
def largest(directory: Path, size: Size) -> Planted:
    """Weights in int8, and the largest of every row in place of a scale."""
    weight = seeded(pick(size, 24, 1024), pick(size, 40, 1024), dtype=torch.bfloat16)
    most = weight.float().abs().amax(dim=1)
    return _beside(directory, weight, (weight.float() * 127 / most[:, None]).round().to(torch.int8), most)


@recipe("words-of-gptq", "dtype float16 -> uint4")
def words(directory: Path, size: Size) -> Planted:
    """Eight codes in each int32, scales in half precision, packed zero points that are less by one."""
    before, after = pair(directory, "model.pt")
    rows, columns, group = pick(size, 32, 1024), pick(size, 128, 1024), 64
    weight = seeded(rows, columns, dtype=torch.float16)
    parts = weight.float().unflatten(1, (-1, group))
    low, high = parts.amin(dim=2), parts.amax(dim=2)
    scales = ((high - low) / 15).half()
    zeros = (-low / scales.float()).round().clamp(1, 15)
    codes = (parts / scales.float()[:, :, None]).round() + zeros[:, :, None]
    torch.save({"weight": weight}, before)
    stored = {
        "qweight": _words(codes.clamp(0, 15).flatten(1)).T.contiguous(),
        "qzeros": _words(zeros.T - 1), "scales": scales.T.contiguous(),
    }  # fmt: skip
    torch.save(stored, after)
    kept = weight.numel() // 2
    return planted(before, after, {
        "carried": (kept, kept), "dtype float16 -> uint4": (3 * kept, 0),
        "quantization-parameters": (0, nbytes([stored["qzeros"], stored["scales"]])),
    })  # fmt: skip


def _words(codes: Tensor) -> Tensor:
    """Eight columns in each word, the first in the low bits."""
    places = torch.arange(8) * 4
    words = (codes.long().unflatten(1, (-1, 8)) << places).sum(dim=2)
    return torch.where(words < 1 << 31, words, words - (1 << 32)).int()
