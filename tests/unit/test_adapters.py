"""A low-rank adapter that was merged is found by what it does, whatever it is called."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.matching import match
from tests.builders import artifact, diff, random, tensor_causes

ROWS, COLUMNS, RANK = 24, 20, 3
LAYERS = 6


def adapter(seed, rows=ROWS, columns=COLUMNS, rank=RANK):
    return random(seed, rank, columns) * 0.1, random(seed + 1, rows, rank)


def merged(weight, first, second, scale):
    product = second.reshape(len(second), -1) @ first.reshape(len(first), -1)
    return weight + np.float32(scale) * product.reshape(weight.shape)


def evidence(before, after):
    return sorted(found.evidence for found in match(artifact(before), artifact(after)).matches)


@pytest.mark.parametrize("scale", [2.0, 0.25, -1.0])
@pytest.mark.parametrize("after_type", ["float32", "float16", ml_dtypes.bfloat16])
def test_merged_adapters_of_many_layers_alike(scale, after_type):
    before, after, absorbed, kept = {}, {}, 0, 0
    for layer in range(LAYERS):
        weight = random(layer, ROWS, COLUMNS)
        first, second = adapter(100 + 2 * layer)
        # The order of the other side is another one.
        after[f"x{(5 * layer) % 7}"] = merged(weight, first, second, scale).astype(after_type)
        before |= {f"w{layer}": weight, f"a{layer}": first, f"b{layer}": second}
        absorbed += first.nbytes + second.nbytes
        kept += after[f"x{(5 * layer) % 7}"].nbytes
    causes = tensor_causes(diff(artifact(before), artifact(dict(sorted(after.items())))))
    assert causes["folded"] == (absorbed, 0)
    assert causes["carried"] == (kept, kept)
    assert evidence(before, after) == ["proved"] * LAYERS
    back = tensor_causes(diff(artifact(after), artifact(before)))
    assert back["folded"] == (0, absorbed)


def test_the_scale_that_was_stored_is_absorbed_too():
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    alpha = np.array(6, dtype="f4")
    before = {"w": weight, "alpha": alpha, "down": first, "up": second}
    after = {"w": merged(weight, first, second, 6 / RANK)}
    matching = match(artifact(before), artifact(after))
    assert "2 times up @ down added" in matching.matches[0].how
    assert 0 < matching.matches[0].difference < 1e-6
    assert sorted(fold.tensor for fold in matching.folds) == [1, 2, 3]


def test_a_convolution_and_a_transposed_weight():
    weight = random(0, ROWS, 5, 3, 3)
    down, up = random(1, RANK, 5, 3, 3) * 0.1, random(2, ROWS, RANK, 1, 1)
    before, after = {"w": weight, "d": down, "u": up}, {"w": merged(weight, down, up, 0.5)}
    assert (
        tensor_causes(diff(artifact(before), artifact(after)))["folded"][0]
        == down.nbytes + up.nbytes
    )
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    before = {"w": weight, "a": first, "b": second}
    after = {"w": np.ascontiguousarray(merged(weight, first, second, 2).T)}
    matching = match(artifact(before), artifact(after))
    assert "axes permuted (1, 0)" in matching.matches[0].how


@pytest.mark.parametrize("what", ["weight", "first", "second", "noise"])
def test_anything_else_is_no_merge(what):
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    after = merged(weight, first, second, 2)
    if what == "weight":
        after[ROWS // 2, 3] += 1e-3
    elif what == "first":
        first = first + 1e-3 * random(7, *first.shape)
    elif what == "second":
        second = random(9, *second.shape)
    else:
        after = weight + 0.1 * random(8, *weight.shape)
    before = {"w": weight, "a": first, "b": second}
    assert evidence(before, {"w": after}) == ["inferred"]


def test_an_adapter_that_is_not_merged_is_on_its_own():
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    before = {"w": weight, "a": first, "b": second}
    causes = tensor_causes(diff(artifact(before), artifact({"w": weight})))
    assert causes["unmatched"] == (first.nbytes + second.nbytes, 0)


def test_numbers_that_are_not_finite_are_no_adapter():
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    after = merged(weight, first, second, 2)
    first[0, 0] = np.nan
    assert evidence({"w": weight, "a": first, "b": second}, {"w": after}) == ["inferred"]
