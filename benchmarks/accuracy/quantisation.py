"""Quantised exports, and exports that are quantised in name only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
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

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
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
