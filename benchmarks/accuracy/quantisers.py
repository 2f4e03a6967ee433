"""Exports as the quantisers of ONNX Runtime and torch write them, one recipe for each form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
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

ORT = ("onnxruntime",)


def parameters(path: Path) -> int:
    """Stored bytes of scales and zero points, which the quantisers of ONNX Runtime name so."""
    ends = ("_scale", "_zero_point", "_scales", "_zero_points")
    return sum(
        payload.stored for payload in structure(path).payloads if payload.name.endswith(ends)
    )


def _narrowed(
    paths: tuple[Path, Path], kind: str, bits: int, weights: Iterable[Tensor], kept: int,
    **more: Sides,
) -> Planted:
    """``weights`` of float32 became ``kind``; ``kept`` bytes of other tensors are there as before."""
    number = count(weights)
    stored = number * bits // 8
    return planted(*paths, {
        "carried": (stored + kept, stored + kept),
        f"dtype float32 -> {kind}": (4 * number - stored, 0),
        "quantization-parameters": (0, parameters(paths[1])), **more,
    })  # fmt: skip


# Weights and activations, calibrated


class Separable(nn.Module):
    """A depthwise and a pointwise convolution: nine weights a channel, and one channel's worth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(width, width, 3, groups=width)
        self.point = nn.Conv2d(width, 2 * width, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.point(self.deep(image).relu())


def _static(directory: Path, size: Size, **options: Any) -> tuple[tuple[Path, Path], Separable]:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    width = pick(size, 8, 128)

    class Reader(CalibrationDataReader):
        """Three images to calibrate with."""

        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            shape = (1, width, 8, 8)
            self.rest = [generator.normal(size=shape).astype(np.float32) for _ in range(3)]

        def get_next(self) -> dict[str, Any] | None:
            return {"image": self.rest.pop()} if self.rest else None

    before, after = pair(directory, "model.onnx")
    model = Separable(width)
    nets.fill(model)
    nets.export(model, seeded(1, width, 8, 8), before, input_names=["image"])
    kinds = {"weight_type": QuantType.QUInt8, "quant_format": QuantFormat.QDQ}
    quantize_static(
        before, after, Reader(), activation_type=QuantType.QUInt8, **{**kinds, **options}
    )
    return (before, after), model


def _separable(paths: tuple[Path, Path], model: Separable, kind: str, **more: Sides) -> Planted:
    layers = (model.deep, model.point)
    # A bias keeps its size: an integer one has 32 bits.
    biases = nbytes(layer.bias for layer in layers)
    return _narrowed(paths, kind, 8, [layer.weight for layer in layers], biases, **more)


@recipe("depthwise-int8", "dtype float32 -> int8", needs=ORT)
def depthwise(directory: Path, size: Size) -> Planted:
    """A depthwise convolution quantised per channel, nine weights to a scale."""
    from onnxruntime.quantization import QuantType

    paths, model = _static(directory, size, per_channel=True, weight_type=QuantType.QInt8)
    return _separable(paths, model, "int8")


@recipe("asymmetric-uint8", "dtype float32 -> uint8", needs=ORT)
def asymmetric(directory: Path, size: Size) -> Planted:
    """Weights in uint8 with one scale and zero point a tensor, dequantised in front of operators."""
    paths, model = _static(directory, size, extra_options={"WeightSymmetric": False})
    return _separable(paths, model, "uint8")


@recipe("asymmetric-uint8 (per channel)", "dtype float32 -> uint8", needs=ORT)
def asymmetric_channels(directory: Path, size: Size) -> Planted:
    """The same with a scale and a zero point for every channel."""
    paths, model = _static(
        directory, size, per_channel=True, extra_options={"WeightSymmetric": False}
    )
    return _separable(paths, model, "uint8")


@recipe("asymmetric-int8 (QOperator)", "dtype float32 -> int8", needs=ORT)
def asymmetric_operators(directory: Path, size: Size) -> Planted:
    """The same in int8, which is all that QLinearConv takes per channel."""
    from onnxruntime.quantization import QuantFormat, QuantType

    paths, model = _static(
        directory, size, per_channel=True, quant_format=QuantFormat.QOperator,
        weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": False},
    )  # fmt: skip
    return _separable(paths, model, "int8")


# Weights alone


@recipe("dynamic-uint8 (Conv)", "dtype float32 -> uint8", needs=ORT)
def dynamic_convolution(directory: Path, size: Size) -> Planted:
    """ConvInteger: the scale is a factor of what its result is multiplied by."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before, after = pair(directory, "model.onnx")
    width = pick(size, 8, 128)
    model = Separable(width)
    nets.fill(model)
    nets.export(model, seeded(1, width, 8, 8), before, input_names=["image"])
    quantize_dynamic(before, after, op_types_to_quantize=["Conv"], weight_type=QuantType.QUInt8)
    # A bias is added behind the multiplication, in a shape that the file stores for each.
    shapes = sum(
        payload.stored for payload in structure(after).payloads if payload.name.endswith("_shape")
    )
    return _separable((before, after), model, "uint8", constant=(0, shapes))


class Recurrent(nn.Module):
    """An LSTM, whose two weights ONNX Runtime quantises in one operator."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width)

    def forward(self, sequence: Tensor) -> Tensor:
        output: Tensor = self.lstm(sequence)[0]
        return output


@recipe("dynamic-int8 (LSTM)", "dtype float32 -> int8", needs=ORT)
def dynamic_lstm(directory: Path, size: Size) -> Planted:
    """DynamicQuantizeLSTM: int8 weights, transposed, a scale for every row of every gate."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before, after = pair(directory, "model.onnx")
    width = pick(size, 24, 256)
    model = Recurrent(width)
    nets.fill(model)
    nets.export(model, seeded(5, 1, width), before, input_names=["sequence"])
    quantize_dynamic(
        before, after, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8, per_channel=True
    )
    weights = [model.lstm.weight_ih_l0, model.lstm.weight_hh_l0]
    kept = structure(before).payload_bytes - nbytes(weights)
    return _narrowed((before, after), "int8", 8, weights, kept)


class Lookup(nn.Module):
    """An embedding and a linear layer: one Gather and one MatMul."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.last = nn.Linear(width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.embed(tokens))


def _by_blocks(
    directory: Path, size: Size, ops: tuple[str, ...], **options: Any
) -> tuple[tuple[Path, Path], Lookup]:
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
    )

    before, after = pair(directory, "model.onnx")
    model = Lookup(pick(size, 60, 8_000), pick(size, 64, 256))
    nets.fill(model)
    nets.export(model, (seeded(1, 6).abs() * 7).long(), before, input_names=["tokens"])
    config = DefaultWeightOnlyQuantConfig(block_size=16, op_types_to_quantize=ops, **options)
    quantizer = MatMulNBitsQuantizer(onnx.load(before), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(after))
    return (before, after), model


@recipe("packed-uint4", "dtype float32 -> uint4", needs=ORT)
def packed(directory: Path, size: Size) -> Planted:
    """MatMulNBits and GatherBlockQuantized: two weights a byte, packed zero points for all blocks."""
    paths, model = _by_blocks(directory, size, ("MatMul", "Gather"))
    return _narrowed(paths, "uint4", 4, model.parameters(), 0)


@recipe("packed-uint2", "dtype float32 -> uint2", needs=ORT)
def packed_tighter(directory: Path, size: Size) -> Planted:
    """MatMulNBits with four weights a byte and no zero points."""
    paths, model = _by_blocks(directory, size, ("MatMul",), bits=2, is_symmetric=True)
    return _narrowed(paths, "uint2", 2, [model.last.weight], nbytes([model.embed.weight]))


@recipe("blocked-int4 (QDQ)", "dtype float32 -> int4", needs=ORT)
def blocked_in_front(directory: Path, size: Size) -> Planted:
    """A DequantizeLinear in blocks in front of a MatMul, as ONNX Runtime writes it."""
    from onnxruntime.quantization import QuantFormat

    paths, model = _by_blocks(
        directory, size, ("MatMul",), is_symmetric=True, quant_format=QuantFormat.QDQ
    )
    return _narrowed(paths, "int4", 4, [model.last.weight], nbytes([model.embed.weight]))


# torch


class Eager(nn.Module):
    """What torch's eager mode quantises: stubs, a convolution and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.conv = nn.Conv2d(3, width, 3)
        self.last = nn.Linear(36 * width, 10)
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, image: Tensor) -> Tensor:
        return self.dequant(self.last(self.conv(self.quant(image)).flatten(1)))


_SCALED = 8 + 8
"""Bytes of the scale and the zero point of a channel: float64 and int64."""
_SHIFTED = 4 + 8
"""Bytes of the scale and the zero point of an activation where they are tensors: float32, int64."""


def _eager(
    directory: Path, size: Size, save: Callable[[nn.Module, Path], None], activations: int
) -> Planted:
    """``activations`` is how many layers keep the scale of their output in tensors."""
    before, after = pair(directory, "model.pt")
    model = Eager(pick(size, 8, 64)).eval()
    nets.fill(model)
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eager mode is deprecated, and still in use
        save(model, before)
        layers = model.conv, model.last
        weights = [layer.weight.detach().clone() for layer in layers]
        biases = [layer.bias.detach().clone() for layer in layers]
        torch.backends.quantized.engine = "fbgemm"
        try:
            model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
            prepared = torch.ao.quantization.prepare(model)
            prepared(seeded(1, 3, 8, 8))
            save(torch.ao.quantization.convert(prepared), after)
        finally:
            torch.backends.quantized.engine = engine
    number, kept = count(weights), nbytes(biases)
    channels = sum(len(weight) for weight in weights)
    return planted(before, after, {
        "carried": (number + kept, number + kept), "dtype float32 -> int8": (3 * number, 0),
        "quantization-parameters": (0, channels * _SCALED + activations * _SHIFTED),
    })  # fmt: skip


@recipe("eager-int8 (state dict)", "dtype float32 -> int8")
def eager_state_dict(directory: Path, size: Size) -> Planted:
    """torch.ao's static quantisation: packed parameters, and scales of activations as tensors."""
    return _eager(directory, size, lambda model, path: torch.save(model.state_dict(), path), 3)


@recipe("eager-int8 (module)", "dtype float32 -> int8")
def eager_module(directory: Path, size: Size) -> Planted:
    """The same as a pickled module, whose layers keep the scales of activations as numbers."""
    return _eager(directory, size, torch.save, 1)


@recipe("eager-int8 (TorchScript)", "dtype float32 -> int8")
def eager_script(directory: Path, size: Size) -> Planted:
    """The same as TorchScript, where packed parameters are the state of an object."""
    return _eager(directory, size, lambda model, path: torch.jit.script(model).save(path), 1)
