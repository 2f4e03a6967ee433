"""Casts by a detour: through a narrower type and back, and as converters to float16 clamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sizeforensics import formats
from sizeforensics.matching import Match, match
from tests.builders import artifact, diff, tensor_causes
from tests.renaming import changed_by_renaming

WEIGHT = torch.randn(40, 30, generator=torch.Generator().manual_seed(5))
WIDE = WEIGHT.double() * 1.1


def files(directory: Path, before: torch.Tensor, after: torch.Tensor) -> tuple[Path, Path]:
    paths = directory / "before.pt", directory / "after.pt"
    for path, tensor in zip(paths, (before, after), strict=True):
        torch.save({"w": tensor}, path)
    return paths


def only(directory: Path, before: torch.Tensor, after: torch.Tensor) -> Match:
    """The one match, the same from the other side and under other names."""
    one, two = (formats.read(str(path)) for path in files(directory, before, after))
    assert not changed_by_renaming(one, two)
    (found,), (mirrored,) = match(one, two).matches, match(two, one).matches
    assert (found.evidence, found.how) == (mirrored.evidence, mirrored.how)
    return found


WAYS = {
    "half": (WEIGHT, WEIGHT.half().float(), "rounded through float16, nearest-even, and widened"),
    "bfloat16": (WEIGHT, WEIGHT.bfloat16().float(), "rounded through bfloat16, nearest-even, and widened"),
    "single": (WIDE, WIDE.float().double(), "rounded through float32, nearest-even, and widened"),
    "double to single": (WIDE, WIDE.bfloat16().float(), "rounded through bfloat16, nearest-even, then cast to float32"),
    "half to bfloat16": (WEIGHT, WEIGHT.half().bfloat16(), "rounded through float16, nearest-even, then cast to bfloat16"),
    "bfloat16 in half": (WEIGHT.half(), WEIGHT.half().bfloat16().half(), "rounded through bfloat16, nearest-even, and widened"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_a_narrower_type_left(tmp_path: Path, way: str) -> None:
    before, after, words = WAYS[way]
    found = only(tmp_path, before, after)
    assert (found.evidence, found.how) == ("proved", words)


def test_types_of_one_size_carry_every_byte() -> None:
    before, after = (artifact({"w": one.numpy()}) for one in (WEIGHT, WEIGHT.half().float()))
    assert tensor_causes(diff(before, after)) == {"carried": (WEIGHT.nbytes, WEIGHT.nbytes)}


@pytest.mark.parametrize("way", WAYS)
def test_one_other_element_is_another_tensor(tmp_path: Path, way: str) -> None:
    before, after, _ = WAYS[way]
    changed = after.clone()
    changed[17, 3] *= 1.0625
    assert only(tmp_path, before, changed).evidence == "inferred"


def test_rounding_toward_zero_is_another_way(tmp_path: Path) -> None:
    truncated = (WEIGHT.view(torch.int32) & -65536).view(torch.float32)
    assert only(tmp_path, WEIGHT, truncated).evidence == "inferred"


@pytest.mark.parametrize(("least", "most"), [(5.96e-08, 65504.0), (1e-07, 1e4)])
def test_as_converters_to_float16_clamp(tmp_path: Path, least: float, most: float) -> None:
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    values = WEIGHT.numpy().copy()
    values[0, :4] = 3e-8, -2e-9, 2e4, -7e4
    values[33, 7] = -1e-12
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 30])],
        [numpy_helper.from_array(values, "w")],
    )  # fmt: skip
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(plain, tmp_path / "plain.onnx")
    narrow = float16.convert_float_to_float16(plain, min_positive_val=least, max_finite_val=most)
    onnx.save(narrow, tmp_path / "narrow.onnx")
    one, two = (formats.read(str(tmp_path / name)) for name in ("plain.onnx", "narrow.onnx"))
    for found in (*match(one, two).matches, *match(two, one).matches):
        assert found.evidence == "proved"
        assert found.how == f"sizes clamped to [{least:g}, {most:g}], cast float32 -> float16"
    values[33, 7] = 1e-12
    assert [found.evidence for found in match(artifact({"w": values}), two).matches] == ["inferred"]
    assert np.isfinite(numpy_helper.to_array(narrow.graph.initializer[0])).all()
