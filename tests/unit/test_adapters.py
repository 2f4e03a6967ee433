"""A low-rank adapter that was merged is found by what it does, whatever it is called."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.matching import match
from tests.builders import artifact, diff, random, tensor_causes
from tests.work import grows_linearly

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


def fused(enabled, seed=40, height=ROWS, rank=RANK):
    """A weight of as many parts as flags, and A and B of the enabled ones, as loralib stacks them."""
    count = sum(enabled)
    weight, first = random(seed, len(enabled) * height, COLUMNS), random(seed + 1, count * rank, COLUMNS)
    second = random(seed + 2, count * height, rank)
    change, done = np.zeros_like(weight), 0
    for part, flag in enumerate(enabled):
        if flag:
            own = second[done * height :][:height] @ first[done * rank :][:rank]
            change[part * height :][:height] = own
            done += 1
    return weight, first * 0.1, second, weight + np.float32(0.4) * change


PARTS = [(1, 0, 1), (0, 1, 1), (1, 1, 0), (1, 1, 1), (0, 1, 0), (0, 0, 1), (1, 1)]


@pytest.mark.parametrize("enabled", PARTS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_adapters_of_some_parts_of_a_fused_projection(enabled, dtype):
    weight, first, second, after = fused(enabled)
    before = {"w": weight, "other": random(9, *weight.shape), "a": first, "b": second}
    causes = tensor_causes(diff(artifact(before), artifact({"x": after.astype(dtype)})))
    assert causes["folded"] == (first.nbytes + second.nbytes, 0)
    (found,) = match(artifact(before), artifact({"x": after.astype(dtype)})).matches
    assert found.evidence == "proved"
    assert found.how.startswith("4 times b @ a added")


def test_parts_in_another_order_are_no_merge():
    weight, first, second, after = fused((1, 0, 1))
    swapped = np.concatenate([second[ROWS:], second[:ROWS]])
    found = match(artifact({"w": weight, "a": first, "b": swapped}), artifact({"x": after})).matches
    assert all(one.evidence == "inferred" for one in found)


def decomposed(weight, first, second, scale, lengths):
    """Liu et al. 2024, equation 5: a row is as long as the magnitude says."""
    summed = merged(weight.astype("f8"), first, second, scale)
    norms = np.linalg.norm(summed, axis=1, keepdims=True)
    return (lengths[:, None] / norms * summed).astype("f4")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lengths_of_rows_are_absorbed_with_the_adapter(dtype):
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    lengths = np.linalg.norm(weight, axis=1) * (1 + 0.1 * random(5, ROWS))
    before = {"w": weight, "a": first, "b": second, "m": lengths}
    after = artifact({"x": decomposed(weight, first, second, 4.0, lengths).astype(dtype)})
    for names in (list(before), ["one", "two", "three", "four"]):
        matching = match(artifact(dict(zip(names, before.values(), strict=True))), after)
        (found,) = matching.matches
        assert found.evidence == "proved"
        assert found.how.startswith(f"4 times {names[2]} @ {names[1]} added, rows of the lengths {names[3]}")
        assert sorted(fold.tensor for fold in matching.folds) == [1, 2, 3]


@pytest.mark.parametrize("what", ["lengths", "no lengths", "first", "element", "no adapter"])
def test_other_lengths_are_no_merge(what):
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    lengths = np.linalg.norm(weight, axis=1) * (1 + 0.1 * random(5, ROWS))
    after = decomposed(weight, first, second, 0.0 if what == "no adapter" else 4.0, lengths)
    before = {"w": weight, "a": first, "b": second, "m": lengths}
    if what == "lengths":
        before["m"] = lengths * 1.001
    elif what == "no lengths":
        del before["m"]
    elif what == "first":
        before["a"] = random(8, *first.shape)
    elif what == "element":
        after[3, 3] += 1e-3
    matching = match(artifact(before), artifact({"x": after}))
    assert not [found for found in matching.matches if " @ " in found.how]
    assert not [fold for fold in matching.folds if fold.tensor in (1, 2)]


def test_an_adapter_that_both_sides_keep_explains_the_weight_it_was_merged_into():
    weight, (first, second) = random(0, ROWS, COLUMNS), adapter(1)
    before = {"w": weight, "a": first, "b": second}
    after = {**before, "w": merged(weight, first, second, 2)}
    matching = match(artifact(before), artifact(after))
    assert {found.evidence for found in matching.matches} == {"proved"}
    assert len(matching.matches) == 3
    assert not matching.folds


def test_adapters_beside_many_other_weights_are_not_tried_with_each_pair():
    def other(count: int) -> None:
        before = {f"w{layer}": random(layer, ROWS, COLUMNS) for layer in range(count)}
        after = {f"w{layer}": random(1000 + layer, ROWS, COLUMNS) for layer in range(count)}
        for layer in range(count):
            before[f"a{layer}"], before[f"b{layer}"] = adapter(2000 + 2 * layer)
        match(artifact(before), artifact(after))

    assert grows_linearly(other, 24)
