"""Batch-norms that an export folds into weights which it then quantises: two changes in one step."""

from __future__ import annotations

import warnings
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from benchmarks.accuracy import nets
from benchmarks.accuracy.folds import statistics
from benchmarks.accuracy.nets import nbytes, pair, seeded
from benchmarks.accuracy.oracle import structure
from benchmarks.accuracy.planted import Planted, Sides, Size, pick, planted, recipe
from benchmarks.accuracy.quantisers import ORT, parameters

SIDE = 8
"""Pixels of an image along each axis."""


class Normed(nn.Module):
    """A plain and a depthwise convolution and a linear layer, a batch-norm behind each.

    The depthwise one has a bias of its own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.deep, self.deep_norm = nn.Conv2d(width, width, 3, groups=width), nn.BatchNorm2d(width)
        self.last, self.last_norm = nn.Linear(36 * width, 12, bias=False), nn.BatchNorm1d(12)
        self.quant = torch.ao.quantization.QuantStub()
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, image: Tensor) -> Tensor:
        image = self.norm(self.conv(self.quant(image))).relu()
        features = self.deep_norm(self.deep(image)).flatten(1)
        return self.dequant(self.last_norm(self.last(features)))


LAYERS = (("conv", "norm"), ("deep", "deep_norm"), ("last", "last_norm"))


def _model(size: Size) -> Normed:
    model = Normed(pick(size, 8, 64))
    nets.fill(model)
    return model


def _folded_linear(model: Normed) -> Normed:
    """The same with the last batch-norm folded, which the exporter leaves behind a linear layer."""
    fused = deepcopy(model)
    fused.last = fusion.fuse_linear_bn_eval(model.last, model.last_norm)
    fused.last_norm = nn.Identity()
    return fused


def _planted(
    paths: tuple[Path, Path], model: Normed, kind: str, bias: str, scales: int, **more: Sides
) -> Planted:
    """``model`` as it was saved before; its weights became ``kind`` of a byte, its biases ``bias``."""
    causes: Counter[str] = Counter()
    folded = 0
    for layer, norm in ((getattr(model, one), getattr(model, two)) for one, two in LAYERS):
        weight = layer.weight
        # The bias after is the layer's own, moved; without one the batch-norm's shift became it.
        own = norm.bias if layer.bias is None else layer.bias
        name = str(weight.dtype).removeprefix("torch.")
        causes["carried"] += weight.numel() + nbytes([own])
        causes[f"dtype {name} -> {kind}"] -= nbytes([weight]) - weight.numel()
        if bias != name:
            causes[f"dtype {name} -> {bias}"] += own.numel() * (4 - own.itemsize)
        folded += statistics(norm) + (0 if layer.bias is None else nbytes([norm.bias]))
    kept = causes.pop("carried")
    sides = {cause: (max(-change, 0), max(change, 0)) for cause, change in causes.items() if change}
    return planted(*paths, {
        "carried": (kept, kept), "folded": (folded, 0), **sides,
        "quantization-parameters": (0, scales), **more,
    })  # fmt: skip


def _static(directory: Path, size: Size, *, half: bool, kind: str, **options: Any) -> Planted:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Three images to calibrate with."""

        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            shape = (1, 3, SIDE, SIDE)
            self.rest = [generator.normal(size=shape).astype(np.float32) for _ in range(3)]

        def get_next(self) -> dict[str, Any] | None:
            return {"image": self.rest.pop()} if self.rest else None

    before, after = pair(directory, "model.pt", "model.onnx")
    model = _model(size)
    if half:
        model.half()
    torch.save(model.state_dict(), before)
    plain = directory / "plain.onnx"
    nets.export(_folded_linear(deepcopy(model).float()), seeded(1, 3, SIDE, SIDE), plain, input_names=["image"])
    types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    form = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, **options}
    quantize_static(plain, after, Reader(), weight_type=types[kind], **form)
    return _planted((before, after), model, kind, "int32", parameters(after))


@recipe("half -> folded-int8 (QDQ)", "dtype float16 -> int8", needs=ORT)
def half_in_front(directory: Path, size: Size) -> Planted:
    """A float16 checkpoint; its export folds the batch-norms, then every channel gets its scale."""
    return _static(directory, size, half=True, kind="int8", per_channel=True)


@recipe("folded-int8 (QOperator)", "dtype float32 -> int8", needs=ORT)
def operators(directory: Path, size: Size) -> Planted:
    """The same of float32, where the operators have the scales."""
    from onnxruntime.quantization import QuantFormat

    return _static(
        directory, size, half=False, kind="int8", per_channel=True, quant_format=QuantFormat.QOperator
    )


@recipe("folded-uint8 (asymmetric)", "dtype float32 -> uint8", needs=ORT)
def asymmetric(directory: Path, size: Size) -> Planted:
    """One scale and one zero point for all channels, whatever the batch-norm multiplied them by."""
    return _static(
        directory, size, half=False, kind="uint8", extra_options={"WeightSymmetric": False}
    )


@recipe("half -> folded-uint8 (dynamic)", "dtype float16 -> uint8", needs=ORT)
def dynamic(directory: Path, size: Size) -> Planted:
    """ConvInteger and MatMulInteger, which leave the biases in float32."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before, after = pair(directory, "model.pt", "model.onnx")
    model = _model(size).half()
    torch.save(model.state_dict(), before)
    plain = directory / "plain.onnx"
    nets.export(_folded_linear(deepcopy(model).float()), seeded(1, 3, SIDE, SIDE), plain)
    quantize_dynamic(plain, after, weight_type=QuantType.QUInt8)
    # A bias is added behind the multiplication, in a shape that the file stores for each.
    shapes = sum(
        payload.stored for payload in structure(after).payloads if payload.name.endswith("_shape")
    )
    return _planted(
        (before, after), model, "uint8", "float32", parameters(after), constant=(0, shapes)
    )


_SCALED = 8 + 8
"""Bytes of the scale and the zero point of a channel: float64 and int64."""
_SHIFTED = 4 + 8
"""Bytes of the scale and the zero point of an activation: float32, int64."""


@recipe("folded-int8 (eager)", "dtype float32 -> int8")
def eager(directory: Path, size: Size) -> Planted:
    """Torch fuses convolutions with batch-norms, then quantises: packed parameters per channel."""
    before, after = pair(directory, "model.pt")
    model = _model(size)
    torch.save(model.state_dict(), before)
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eager mode is deprecated, and still in use
        fused = torch.ao.quantization.fuse_modules(_folded_linear(model), [["conv", "norm"], ["deep", "deep_norm"]])
        torch.backends.quantized.engine = "fbgemm"
        try:
            fused.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
            prepared = torch.ao.quantization.prepare(fused)
            prepared(seeded(1, 3, SIDE, SIDE))
            torch.save(torch.ao.quantization.convert(prepared).state_dict(), after)
        finally:
            torch.backends.quantized.engine = engine
    layers = [getattr(model, name) for name, _ in LAYERS]
    scales = sum(len(layer.weight) for layer in layers) * _SCALED + (len(layers) + 1) * _SHIFTED
    return _planted((before, after), model, "int8", "float32", scales)
