"""A batch-norm folded into a layer is proved from its own parameters, or not claimed at all."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.inventory import Module
from sizeforensics.matching import match
from tests.builders import artifact, diff, graph, random, tensor_causes

OUT, IN = 8, 6
LAYERS = {
    # shape of the weight, axis of the output channels
    "conv": ((OUT, IN, 3, 3), 0),
    "depthwise": ((OUT, 1, 3, 3), 0),
    "depthwise, one element each": ((OUT, 1, 1, 1), 0),
    "grouped": ((OUT, IN // 2, 3, 3), 0),
    "conv transposed": ((IN, OUT, 3, 3), 1),
    "linear": ((OUT, IN), 0),
    "linear stored transposed": ((IN, OUT), 1),
    "conv1d": ((OUT, IN, 5), 0),
    "conv3d": ((OUT, IN, 2, 2, 2), 0),
}


def norm(channels, seed=50):
    rng = np.random.default_rng(seed)
    return {
        "bn.weight": rng.uniform(0.5, 2, channels).astype(np.float32),
        "bn.bias": rng.standard_normal(channels).astype(np.float32),
        "bn.running_mean": rng.standard_normal(channels).astype(np.float32),
        "bn.running_var": rng.uniform(0.2, 3, channels).astype(np.float32),
        "bn.num_batches_tracked": np.array(77, dtype=np.int64),
    }


def scale_and_shift(vectors, eps):
    wide = {name: array.astype(np.float64) for name, array in vectors.items()}
    scale = wide["bn.weight"] / np.sqrt(wide["bn.running_var"] + eps)
    return scale, wide["bn.bias"] - scale * wide["bn.running_mean"]


def spread(vector, axis, rank):
    return vector.reshape([-1 if at == axis else 1 for at in range(rank)])


def behind(weight, axis, vectors, eps, own=None):
    """Weight and bias of a layer that a batch-norm behind it was folded into."""
    scale, shift = scale_and_shift(vectors, eps)
    folded = weight.astype(np.float64) * spread(scale, axis, weight.ndim)
    bias = shift if own is None else shift + scale * own.astype(np.float64)
    return {"w": folded.astype(np.float32), "b": bias.astype(np.float32)}


def in_front(weight, axis, vectors, eps, own=None):
    """The same for a batch-norm in front: ``axis`` is that of the input channels."""
    scale, shift = scale_and_shift(vectors, eps)
    wide = weight.astype(np.float64)
    bias = np.moveaxis(wide, axis, 1).reshape(OUT, len(shift), -1).sum(axis=2) @ shift
    if own is not None:
        bias = bias + own
    folded = wide * spread(scale, axis, weight.ndim)
    return {"w": folded.astype(np.float32), "b": bias.astype(np.float32)}


def module(eps):
    return Module("model.bn", "BatchNorm2d", {"eps": eps}, {
        "weight": 1, "bias": 2, "running_mean": 3, "running_var": 4, "num_batches_tracked": 5,
    })  # fmt: skip


def as_type(arrays, dtype):
    return {
        name: array.astype(dtype) if array.dtype == np.float32 else array
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("layer", LAYERS)
def test_behind_a_layer_without_a_bias(layer):
    shape, axis = LAYERS[layer]
    weight, vectors = random(1, *shape), norm(OUT)
    before = {"conv.weight": weight, **vectors}
    found = diff(artifact(before), artifact(behind(weight, axis, vectors, 1e-5)))
    # The new bias is the batch-norm's; scale, mean, variance and counter are absorbed.
    assert tensor_causes(found) == {
        "carried": (weight.nbytes + 4 * OUT, weight.nbytes + 4 * OUT),
        "folded": (3 * 4 * OUT + 8, 0),
    }
    assert {row.evidence for row in found.rows if row.cause != "container"} == {"proved"}


@pytest.mark.parametrize("layer", LAYERS)
def test_behind_a_layer_with_a_bias_of_its_own(layer):
    shape, axis = LAYERS[layer]
    weight, vectors, own = random(2, *shape), norm(OUT), random(3, OUT)
    before = {"conv.weight": weight, **vectors, "conv.bias": own}
    found = diff(artifact(before), artifact(behind(weight, axis, vectors, 1e-5, own)))
    assert tensor_causes(found) == {
        "carried": (weight.nbytes + 4 * OUT, weight.nbytes + 4 * OUT),
        "folded": (4 * 4 * OUT + 8, 0),
    }
    (bias,) = [row for row in found.rows if row.cause == "carried" and row.subject == "b"]
    assert bias.before.name == "conv.bias"


@pytest.mark.parametrize(("shape", "axis"), [((OUT, IN, 3, 3), 1), ((OUT, IN), 1)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_in_front_of_a_layer(shape, axis, has_bias):
    weight, vectors, own = random(4, *shape), norm(IN), random(5, OUT) if has_bias else None
    before = {"conv.weight": weight, **vectors}
    if has_bias:
        before["conv.bias"] = own
    found = diff(artifact(before), artifact(in_front(weight, axis, vectors, 1e-5, own)))
    causes = tensor_causes(found)
    # Where the layer had no bias the batch-norm's, of another length, became one.
    assert causes["folded"][0] == (4 if has_bias else 3) * 4 * IN + 8
    assert causes.get("shape") == (None if has_bias else (0, 4 * (OUT - IN)))
    assert set(causes) <= {"carried", "folded", "shape"}
    assert {row.evidence for row in found.rows if row.cause != "container"} == {"proved"}


@pytest.mark.parametrize("layer", ["conv", "depthwise", "conv transposed", "linear"])
@pytest.mark.parametrize(("source", "target"), [("float16", "float32"), ("float32", "float16")])
def test_folded_and_cast(layer, source, target):
    shape, axis = LAYERS[layer]
    before = as_type({"conv.weight": random(6, *shape), **norm(OUT)}, source)
    exact = {name: array.astype(np.float32) for name, array in before.items()}
    after = as_type(behind(exact["conv.weight"], axis, exact, 1e-3), target)
    causes = tensor_causes(diff(artifact(before, modules=[module(1e-3)]), artifact(after)))
    count = before["conv.weight"].size + OUT
    width = np.dtype(source).itemsize
    more = 2 * count
    assert causes == {
        "carried": (2 * count, 2 * count),
        "dtype": (0, more) if target == "float32" else (more, 0),
        "folded": (3 * width * OUT + 8, 0),
    }


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-4, 1e-6])
def test_an_epsilon_the_file_does_not_say_is_found(eps):
    weight, vectors = random(7, OUT, IN, 3, 3), norm(OUT)
    matching = match(artifact({"conv.weight": weight, **vectors}),
                     artifact(behind(weight, 0, vectors, eps)))  # fmt: skip
    assert len(matching.folds) == 4
    assert any(f"eps {eps:g}" in found.how for found in matching.matches)


@pytest.mark.parametrize("eps", [0.0123, 7e-4, 0.00246, 3e-2])
@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize("layer", ["conv", "depthwise", "conv transposed", "linear"])
def test_an_unusual_epsilon_is_that_of_the_module_or_the_one_all_channels_allow(layer, says, eps):
    shape, axis = LAYERS[layer]
    weight, vectors = random(8, *shape), norm(OUT)
    before = artifact({"conv.weight": weight, **vectors}, modules=[module(eps)] if says else [])
    matching = match(before, artifact(behind(weight, axis, vectors, eps)))
    assert len(matching.folds) == 4
    assert any(f"(eps {eps:g})" in found.how for found in matching.matches)


def test_an_epsilon_above_all_sense_is_not_found():
    weight, vectors = random(8, OUT, IN, 3, 3), norm(OUT)
    after = artifact(behind(weight, 0, vectors, 0.5))
    assert match(artifact({"conv.weight": weight, **vectors}), after).folds == ()


def test_one_factor_for_all_channels_is_not_the_work_of_a_norm_that_was_never_trained():
    weight, vectors = random(8, OUT, IN, 3, 3), norm(OUT)
    vectors |= {"bn.weight": np.ones(OUT, np.float32), "bn.running_var": np.ones(OUT, np.float32)}
    matching = match(
        artifact({"conv.weight": weight, **vectors}), artifact({"w": weight * np.float32(0.97)})
    )
    assert matching.folds == ()
    assert [found.how for found in matching.matches] == ["scaled per channel of axis 0"]


@pytest.mark.parametrize("layer", ["conv", "conv transposed", "linear"])
def test_a_channel_of_zeros_says_nothing_of_its_scale(layer):
    shape, axis = LAYERS[layer]
    weight, vectors = random(8, *shape), norm(OUT)
    np.moveaxis(weight, axis, 0)[[0, 3]] = 0
    before = artifact({"conv.weight": weight, **vectors})
    after = behind(weight, axis, vectors, 1e-3)
    assert len(match(before, artifact(after)).folds) == 4
    np.moveaxis(after["w"], axis, 0)[1] = 0  # cleared after the fold: that is no fold
    assert match(before, artifact(after)).folds == ()


def test_channels_that_are_subnormal_in_half_precision_are_folds_still():
    weight, vectors = random(8, OUT, IN, 3, 3), norm(OUT)
    vectors["bn.weight"][:3] = [1e-4, 3e-7, 1e-12]
    before = artifact({"conv.weight": weight, **vectors})
    folded = behind(weight, 0, vectors, 1e-5)
    assert len(match(before, artifact(as_type(folded, "float16"))).folds) == 4
    folded["w"][0] *= np.float32(1.1)
    assert match(before, artifact(as_type(folded, "float16"))).folds == ()


def test_a_batch_norm_without_scale_and_shift_whose_counter_is_stored_elsewhere():
    weight, own, vectors = random(8, OUT, IN, 3, 3), random(9, OUT), norm(OUT)
    vectors |= {"bn.weight": np.ones(OUT, np.float32), "bn.bias": np.zeros(OUT, np.float32)}
    stored = ("bn.num_batches_tracked", "conv.bias", "conv.weight", "bn.running_mean", "bn.running_var")
    arrays = vectors | {"conv.bias": own, "conv.weight": weight}
    matching = match(
        artifact({name: arrays[name] for name in stored}),
        artifact(behind(weight, 0, vectors, 1e-5, own)),
    )
    assert len(matching.folds) == 3
    assert {found.evidence for found in matching.matches} == {"proved"}


def test_the_wrong_epsilon_of_a_module_proves_nothing():
    weight, vectors = random(9, OUT, IN, 3, 3), norm(OUT)
    vectors["bn.running_var"] *= np.float32(0.01)
    # In another order than a state dict's, so that the module alone says what is what.
    before = {"conv.weight": weight}
    for name in ("bn.running_var", "bn.num_batches_tracked", "bn.weight", "bn.bias",
                 "bn.running_mean"):  # fmt: skip
        before[name] = vectors[name]
    index = {name: at for at, name in enumerate(before)}
    wrong = Module("bn", "BatchNorm2d", {"eps": 1e-1}, {
        name: index[f"bn.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
    })  # fmt: skip
    right = Module("bn", "BatchNorm2d", {"eps": 1e-5}, wrong.tensors)
    after = artifact(behind(weight, 0, vectors, 1e-5))
    assert match(artifact(before, modules=[wrong]), after).folds == ()
    assert len(match(artifact(before, modules=[right]), after).folds) >= 3


@pytest.mark.parametrize("element", [(0, 0, 0, 0), (3, 2, 1, 1), (7, 5, 2, 2)])
def test_one_changed_element_proves_nothing(element):
    weight, vectors = random(10, OUT, IN, 3, 3), norm(OUT)
    after = behind(weight, 0, vectors, 1e-5)
    after["w"][element] += np.float32(0.01)
    matching = match(artifact({"conv.weight": weight, **vectors}), artifact(after))
    assert matching.folds == ()
    assert [found for found in matching.matches if found.evidence == "proved"] == []


def test_without_the_bias_that_they_make_mean_and_shift_are_inferred():
    weight, vectors = random(10, OUT, IN, 3, 3), norm(OUT)
    after = behind(weight, 0, vectors, 1e-5)
    after["b"] += np.float32(0.01)
    before = artifact({"conv.weight": weight, **vectors})
    folds = {
        before.tensors[fold.tensor].name: fold.evidence
        for fold in match(before, artifact(after)).folds
    }
    assert folds == {
        "bn.weight": "proved", "bn.bias": "inferred", "bn.running_mean": "inferred",
        "bn.running_var": "proved", "bn.num_batches_tracked": "proved",
    }  # fmt: skip


def test_one_channel_of_another_scale_is_not_the_batch_norm():
    weight, vectors = random(11, OUT, IN, 3, 3), norm(OUT)
    after = behind(weight, 0, vectors, 1e-5)
    after["w"][OUT - 1] *= np.float32(1.01)
    matching = match(artifact({"conv.weight": weight, **vectors}), artifact(after))
    assert matching.folds == ()
    assert [found.how for found in matching.matches if found.evidence == "proved"] == [
        "scaled per channel of axis 0"
    ]


def test_scaled_per_channel_without_a_batch_norm():
    weight = random(12, OUT, IN, 3, 3)
    factors = np.random.default_rng(0).uniform(0.5, 2, OUT).astype(np.float32)
    found = match(artifact({"a": weight}), artifact({"b": weight * spread(factors, 0, 4)}))
    (pair,) = found.matches
    assert (pair.evidence, pair.how) == ("proved", "scaled per channel of axis 0")
    assert found.folds == ()


def test_among_layers_of_one_element_per_channel_each_finds_its_batch_norm():
    before, after = {}, {}
    for layer in range(4):
        weight, vectors = random(layer, OUT, 1, 1, 1), norm(OUT, seed=60 + layer)
        before |= {f"{layer}.{name}": array for name, array in {"w": weight, **vectors}.items()}
        folded = behind(weight, 0, vectors, 1e-5)
        after |= {f"{9 - layer}.{name}": array for name, array in folded.items()}
    matching = match(artifact(before), artifact(after))
    assert len(matching.folds) == 4 * 4
    assert {found.evidence for found in matching.matches} == {"proved"}


def test_other_values_of_one_element_per_channel_prove_nothing():
    before = {"w": random(1, OUT, 1, 1, 1), **norm(OUT)}
    matching = match(artifact(before), artifact({"v": random(2, OUT, 1, 1, 1)}))
    assert [found.evidence for found in matching.matches] == ["inferred"]


def test_every_batch_norm_goes_to_its_own_layer():
    before, after = {}, {}
    for layer in range(5):
        weight, vectors = random(20 + layer, OUT, IN, 3, 3), norm(OUT, 30 + layer)
        before[f"{layer}.conv.weight"] = weight
        before |= {f"{layer}.{name}": array for name, array in vectors.items()}
        folded = behind(weight, 0, vectors, 1e-5)
        after |= {f"x{9 - layer}.{name}": array for name, array in folded.items()}
    before, after = artifact(before), artifact(after)
    matching = match(before, after)
    for found in matching.matches:
        layer = before.tensors[found.before].name[0]
        assert after.tensors[found.after].name[1] == str(9 - int(layer))
    assert len(matching.matches) == 10
    assert len(matching.folds) == 20


def test_batch_norms_of_a_graph_are_found_by_their_node():
    weight, vectors = random(13, OUT, IN, 3, 3), norm(OUT)
    names = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    before = {name: vectors[name] for name in reversed(names)} | {"conv.weight": weight}
    nodes = graph(("Conv", ["x", "conv.weight"], ["y"]), ("BatchNormalization", ["y", *names], ["z"]))
    after = artifact(behind(weight, 0, vectors, 1e-5))
    assert match(artifact(before), after).folds == ()
    assert len(match(artifact(before, nodes=nodes), after).folds) == 3


def test_folding_is_seen_in_both_directions():
    weight, vectors = random(14, OUT, IN, 3, 3), norm(OUT)
    one = artifact({"conv.weight": weight, **vectors})
    two = artifact(behind(weight, 0, vectors, 1e-5))
    there, back = tensor_causes(diff(one, two)), tensor_causes(diff(two, one))
    assert back == {cause: (after, before) for cause, (before, after) in there.items()}
    assert back["folded"] == (0, 3 * 4 * OUT + 8)


def test_two_batch_norms_that_undo_each_other_are_seen_the_same_from_both_sides():
    weight, vectors = random(1, OUT, IN), norm(OUT)
    scale, _ = scale_and_shift(vectors, 1e-5)
    back = norm(OUT, seed=51) | {
        "bn.weight": (np.sqrt(1 + 1e-5) / scale).astype(np.float32),
        "bn.running_var": np.ones(OUT, dtype=np.float32),
    }
    before = artifact({"w": weight, **vectors})
    after = artifact({"v": behind(weight, 0, vectors, 1e-5)["w"], **back})
    there, and_back = match(before, after), match(after, before)
    assert there.folds
    assert {(fold.side, fold.tensor) for fold in there.folds} == {
        (1 - fold.side, fold.tensor) for fold in and_back.folds
    }


def test_other_weights_with_the_axes_exchanged_are_no_transposed_convolution_in_groups() -> None:
    ours = {"conv.weight": random(40, 8, 12, 3), **norm(24)}
    found = diff(artifact(ours), artifact({"other.weight": random(41, 12, 8, 3)}))
    assert "folded" not in tensor_causes(found)


def folded_network(layers, order):
    """Convolutions with batch-norms in an order of the file, and what they are folded into."""
    before, after = {}, {}
    for layer in range(layers):
        before[f"{layer}.conv.weight"] = random(20 + layer, OUT, IN, 3, 3)
        before |= {f"{layer}.{name}": array for name, array in norm(OUT, 30 + layer).items()}
        folded = behind(before[f"{layer}.conv.weight"], 0, norm(OUT, 30 + layer), 1e-5)
        after |= {f"x{layer}.{name}": array for name, array in folded.items()}
    return {name: before[name] for name in sorted(before, key=order)}, after


def by_width_then_name(name):
    return not name.endswith("num_batches_tracked"), name


def test_counters_that_are_stored_in_front_of_everything_go_with_their_batch_norms():
    before, after = folded_network(4, by_width_then_name)
    for names in (list(before), [f"n{at:03}" for at in range(len(before))]):
        found = artifact(dict(zip(names, before.values(), strict=True)))
        matching = match(found, artifact(after))
        assert len(matching.matches) == 8
        assert [fold.evidence for fold in matching.folds].count("inferred") == 4
        assert len(matching.folds) == 16


def test_a_number_that_is_no_counter_of_a_batch_norm_is_left():
    before, after = folded_network(3, by_width_then_name)
    before = {"epoch": np.array(5, dtype=np.int64), **before}
    found = artifact(before)
    folded = {found.tensors[fold.tensor].name for fold in match(found, artifact(after)).folds}
    assert "epoch" not in folded
    assert sum(name.endswith("num_batches_tracked") for name in folded) == 3
    names = [f"n{at:03}" for at in range(len(before))]
    unnamed = artifact(dict(zip(names, before.values(), strict=True)))
    assert all(fold.evidence == "proved" for fold in match(unnamed, artifact(after)).folds)


@pytest.mark.parametrize("factored", ["batch-norm", "nothing"])
def test_many_weights_of_one_shape_with_peaks_at_the_same_places(factored):
    count, rng = 100, np.random.default_rng(4)
    weights = np.sort(np.abs(rng.standard_normal((count, OUT, 3))), axis=2).astype(np.float32)
    before, after = {}, {}
    for at, weight in enumerate(weights):
        vectors = norm(OUT, seed=at)
        before |= {f"{at}.weight": weight}
        if factored == "batch-norm":
            before |= {f"{at}.{name}": vector for name, vector in vectors.items()}
        scale, _ = scale_and_shift(vectors, 1e-5)
        after[f"{count - at}.w"] = (weight * scale[:, None]).astype(np.float32)
    each = len(before) // count
    found = match(artifact(before), artifact(dict(reversed(after.items())))).matches
    assert [(pair.before // each, count - 1 - pair.after) for pair in found] == [
        (at, at) for at in range(count)
    ]
    assert {pair.evidence for pair in found} == {"proved"}


@pytest.mark.parametrize("layer", ["conv transposed", "linear stored transposed"])
def test_many_weights_scaled_along_another_axis_whatever_their_names_and_order(layer):
    count, (shape, axis) = 20, LAYERS[layer]
    before, after = {}, {}
    for at in range(count):
        weight, vectors = random(at, *shape), norm(OUT, seed=100 + at)
        before |= {f"{at}.w": weight} | {f"{at}.{name}": vector for name, vector in vectors.items()}
        folded = behind(weight, axis, vectors, 1e-5)
        after |= {f"x{7 * at % count:02}.{name}": vector for name, vector in folded.items()}
    after = dict(sorted(after.items()))
    ours, theirs = list(before), list(after)
    found = {
        (ours[pair.before], theirs[pair.after])
        for pair in match(artifact(before), artifact(after)).matches if pair.evidence == "proved"
    }
    assert {(f"{at}.w", f"x{7 * at % count:02}.w") for at in range(count)} <= found
