"""One computation done twice, in another order, is the same values to a few roundings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.matching import Match, match
from tests.builders import artifact

Array = npt.NDArray[Any]

RNG = np.random.default_rng(7)
WEIGHT = RNG.normal(size=(16, 3, 3, 3)).astype(np.float32)
GAMMA, MEAN, BETA = RNG.normal(size=(3, 16)).astype(np.float32)
VARIANCE = RNG.uniform(0.5, 2, size=16).astype(np.float32)
WORDS = "equal but for roundings"


def folded(dtype: type, gamma: Array = GAMMA) -> dict[str, Array]:
    """A batch-norm folded in single or in double precision."""
    scale = (gamma.astype(dtype) / np.sqrt(VARIANCE.astype(dtype) + dtype(1e-5))).astype(dtype)
    weight = WEIGHT.astype(dtype) * scale[:, None, None, None]
    bias = BETA.astype(dtype) - MEAN.astype(dtype) * scale
    return {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}


def matches(before: Inventory, after: Inventory) -> list[Match]:
    return list(match(before, after).matches)


def test_two_folds_of_one_layer_whatever_they_are_called() -> None:
    before, after = folded(np.float32), folded(np.float64)
    assert not np.array_equal(before["w"], after["w"])
    found = matches(
        artifact({"onnx::Conv_1": before["w"], "onnx::Conv_2": before["b"]}),
        artifact({"other.bias": after["b"], "other.weight": after["w"]}),
    )
    assert [(pair.before, pair.after, pair.evidence, pair.how) for pair in found] == [
        (0, 1, "inferred", WORDS), (1, 0, "inferred", WORDS),
    ]  # fmt: skip
    assert found[0].difference == np.max(np.abs(before["w"] - after["w"]))


def test_the_closest_of_several_are_paired() -> None:
    near, nearer = WEIGHT * np.float32(1 + 2**-22), WEIGHT * np.float32(1 + 2**-23)
    found = matches(artifact({"a": WEIGHT}), artifact({"x": near, "y": nearer}))
    assert [(pair.before, pair.after) for pair in found] == [(0, 1)]


@pytest.mark.parametrize(
    "other",
    [folded(np.float64, GAMMA * np.float32(1.001))["w"], folded(np.float64)["w"] + np.float32(1e-3),
     np.where(np.arange(WEIGHT.size).reshape(WEIGHT.shape) == 300, np.nan, folded(np.float64)["w"])
     .astype(np.float32)],
    ids=["another scale", "an offset", "NaN"],
)  # fmt: skip
def test_more_than_roundings(other: Array) -> None:
    found = matches(artifact({"a": folded(np.float32)["w"]}), artifact({"b": other}))
    assert WORDS not in [pair.how for pair in found]


def test_a_half_precision_weight_that_moved_by_its_last_bit_was_trained() -> None:
    weight = WEIGHT.astype(np.float16)
    moved = np.nextafter(weight, np.float16(9))
    found = matches(artifact({"a": weight}), artifact({"a": moved}))
    assert [pair.how for pair in found] == ["same name and shape, other values"]


def test_strided_views_are_left_to_their_names() -> None:
    flat = np.zeros(2 * WEIGHT.size, dtype=np.float32)
    flat[::2] = folded(np.float32)["w"].reshape(-1)
    whole = artifact({"flat": flat})
    view = Tensor("w", whole.tensors[0].dtype, (WEIGHT.size,), (2,), 0, 0, "weight")
    strided = replace(whole, tensors=(view,))
    found = matches(strided, artifact({"w": folded(np.float64)["w"].reshape(-1)}))
    assert [pair.how for pair in found] == ["same name and shape, other values"]
