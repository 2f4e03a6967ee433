"""The miniature YOLOv5 in half precision against exports that were folded and quantised in one step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sizeforensics
from benchmarks.accuracy import nets
from fixtures.build import MODELS
from sizeforensics import api, formats
from sizeforensics.matching import match
from tests.ledgers import ledger
from tests.renaming import changed_by_renaming

pytest.importorskip("onnxruntime")

CHECKPOINT, EXPORT = MODELS / "yolov5-mini.pt", MODELS / "yolov5-mini.onnx"
WEIGHTS = 60
"""Convolutions: 57 with a batch-norm behind each, and one at each of three scales."""


def static(path: Path, **options: Any) -> None:
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        """One image to calibrate with."""

        def __init__(self) -> None:
            image = np.random.default_rng(0).uniform(size=(1, 3, 160, 160)).astype(np.float32)
            self.rest = [{"images": image}]

        def get_next(self) -> dict[str, Any] | None:
            return self.rest.pop() if self.rest else None

    quantize_static(
        EXPORT, path, Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, **options
    )


def operators(path: Path) -> None:
    from onnxruntime.quantization import QuantFormat

    static(path, quant_format=QuantFormat.QOperator)


def dynamic(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(EXPORT, path, weight_type=QuantType.QUInt8)


WAYS: dict[str, Callable[[Path], None]] = {
    "QDQ, per channel": partial(static, per_channel=True), "QOperator": operators, "dynamic": dynamic,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_weight_and_bias_is_proved(tmp_path: Path, way: str) -> None:
    path = tmp_path / "yolov5-mini-int8.onnx"
    with nets.quiet():
        WAYS[way](path)
    for before, after in ((CHECKPOINT, path), (path, CHECKPOINT)):
        diff = sizeforensics.diff(before, after)
        assert diff.report.tensor_evidence.inferred == diff.report.tensor_evidence.unexplained == 0
    one, two = formats.read(str(CHECKPOINT)), formats.read(str(path))
    found = match(one, two).matches
    weights = [pair for pair in found if len(one.tensors[pair.before].shape) == 4]
    assert len(weights) == WEIGHTS
    assert {pair.evidence for pair in found} == {"proved"}
    assert all("within half a step of the stored scale" in pair.how for pair in weights)
    assert not changed_by_renaming(one, two)
    kept = [api.take_snapshot(model) for model in (one, two)]
    for models, of_kept in (((one, two), kept), ((two, one), kept[::-1])):
        assert ledger(api.compare(*of_kept)) == ledger(api.compare(*models))
