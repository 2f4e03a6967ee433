"""Weights computed from others are proved by computing them: torch parametrises, names are random."""

from __future__ import annotations

import warnings
from copy import deepcopy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, prune  # noqa: E402

from sizeforensics.matching import match  # noqa: E402
from tests.builders import artifact, diff, tensor_causes  # noqa: E402
from tests.renaming import renamed  # noqa: E402


def state(model):
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def filled(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def layers():
    return filled(nn.Sequential(nn.Linear(24, 40), nn.Conv1d(40, 20, 3), nn.Linear(40, 40)))


def without(model, module, name="weight"):
    plain = deepcopy(model)
    parametrize.remove_parametrizations(plain.get_submodule(module), name)
    return plain


def both_ways(plain, parametrised):
    """The matching of the parametrised state with the plain one, all names random."""
    with_it, without_it = (
        renamed(artifact(state(model)), seed) for seed, model in enumerate((parametrised, plain))
    )
    there = tensor_causes(diff(with_it, without_it))
    back = tensor_causes(diff(without_it, with_it))
    assert back == {cause: (after, before) for cause, (before, after) in there.items()}
    assert {row.evidence for row in diff(with_it, without_it).rows} <= {"proved", "parsed"}
    return match(with_it, without_it), there


def nbytes(*tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def randomised(tensor, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tensor.mul_(1.5 + torch.rand(tensor.shape, generator=generator))


@pytest.mark.parametrize("amount", [0.01, 0.05, 0.5, 0.9, 0.97, 0.99])
def test_pruning_masks(amount):
    torch.manual_seed(0)
    model = layers()
    with torch.no_grad():  # so that the pruned weights can be copied
        for number in (0, 1, 2):
            prune.random_unstructured(model[number], "weight", amount)
    masks = nbytes(*(model[number].weight_mask for number in (0, 1, 2)))
    plain = deepcopy(model)
    for number in (0, 1, 2):
        prune.remove(plain[number], "weight")
    matching, causes = both_ways(plain, model)
    assert causes["folded"] == (masks, 0)
    assert all(found.evidence == "proved" for found in matching.matches)
    assert sum("pruning mask" in found.how for found in matching.matches) == 3


def test_a_pruned_weight_that_was_halved():
    model = layers()
    with torch.no_grad():
        prune.random_unstructured(model[0], "weight", 0.5)
    plain = deepcopy(model)
    prune.remove(plain[0], "weight")
    _, causes = both_ways(plain.half(), model)
    assert causes["folded"][0] == nbytes(model[0].weight_mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_each_of_many_sparse_weights_of_one_shape_finds_its_mask(dtype):
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(60, 32, 48)).astype(np.float32)
    masks = (rng.random(weights.shape) < 0.02).astype(np.float32)
    masks[::5] = 0
    masks[::5, 30] = 1  # rows pruned as a whole: where ones are does not tell these apart
    before = artifact(
        {f"o{at}": weights[at] for at in rng.permutation(60)}
        | {f"m{at}": masks[at] for at in rng.permutation(60)}
    )
    pruned = (weights * masks).astype(dtype)
    after = artifact({f"w{at}": pruned[at] for at in rng.permutation(60)})
    matching = match(before, after)
    assert len(matching.matches) == len(matching.folds) == 60
    for found in matching.matches:
        assert found.evidence == "proved"
        assert before.tensors[found.before].name[1:] == after.tensors[found.after].name[1:]


def test_a_sparse_weight_with_one_element_off_is_not_what_a_mask_makes():
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(32, 48)).astype(np.float32)
    mask = (rng.random(weight.shape) < 0.02).astype(np.float32)
    for place in (np.argmax(mask), np.flatnonzero(mask)[-1], np.flatnonzero(mask == 0)[-1]):
        changed = weight * mask
        changed.reshape(-1)[place] += 0.5
        matching = match(artifact({"a": weight, "b": mask}), artifact({"c": changed}))
        assert not matching.folds
        assert "proved" not in [found.evidence for found in matching.matches]


def test_a_mask_of_another_weight_absorbs_nothing():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 16)).astype(np.float32)
    masks = rng.integers(0, 2, (2, 16, 16)).astype(np.float32)
    before = artifact({"a": weight, "b": masks[0]})
    after = artifact({"c": weight * masks[1]})
    assert "folded" not in tensor_causes(diff(before, after))
    one_off = weight * masks[0]
    one_off[3, 3] += 1
    assert "folded" not in tensor_causes(diff(before, artifact({"c": one_off})))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("module", ["0", "1"])
def test_weight_norm(module, dim):
    model = layers()
    parametrizations.weight_norm(model.get_submodule(module), dim=dim)
    magnitude = model.get_submodule(module).parametrizations.weight.original0
    randomised(magnitude)
    matching, causes = both_ways(without(model, module), model)
    assert causes["folded"] == (nbytes(magnitude), 0)
    assert [fold.evidence for fold in matching.folds] == ["proved"]


def test_weight_norm_of_the_whole_tensor():
    model = layers()
    parametrizations.weight_norm(model[0], dim=None)
    magnitude = model[0].parametrizations.weight.original0
    randomised(magnitude)
    matching, causes = both_ways(without(model, "0"), model)
    assert causes["folded"] == (nbytes(magnitude), 0)
    assert "whole tensor" in matching.folds[0].how


def test_weight_norm_before_training_is_the_norm_of_its_direction():
    model = layers()
    plain = state(model)
    parametrizations.weight_norm(model[0])
    before, after = renamed(artifact(state(model)), 1), renamed(artifact(plain), 2)
    magnitude = model[0].parametrizations.weight.original0
    assert tensor_causes(diff(before, after))["folded"] == (nbytes(magnitude), 0)


def test_old_weight_norm_hooks():
    model = layers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model[0])
        randomised(model[0].weight_g)
        plain = layers()
        plain[0].weight = nn.Parameter(torch._weight_norm(model[0].weight_v, model[0].weight_g, 0))
    _, causes = both_ways(plain, model)
    assert causes["folded"] == (nbytes(model[0].weight_g), 0)


@pytest.mark.parametrize("module", ["0", "1", "2"])
def test_spectral_norm(module):
    model = layers().eval()
    parametrizations.spectral_norm(model.get_submodule(module))
    model.eval()
    vectors = [tensor for name, tensor in model.named_buffers() if name.startswith(module)]
    matching, causes = both_ways(without(model, module), model)
    assert causes["folded"] == (nbytes(*vectors), 0)
    assert len(vectors) == 2 == len(matching.folds)


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("module", ["0", "2", "tall"])
def test_orthogonal(module, orthogonal_map, base):
    model = layers()
    model.add_module("tall", filled(nn.Linear(17, 33), 3))
    target = model.get_submodule(module)
    parametrizations.orthogonal(target, orthogonal_map=orthogonal_map, use_trivialization=base)
    original = target.parametrizations.weight.original
    if orthogonal_map != "householder":
        filled(target.parametrizations, seed=9)
    elif base:
        with torch.no_grad():
            original.tril_(-1).add_(0.3 * torch.randn(original.shape)).fill_diagonal_(1)
    matching, causes = both_ways(without(model, module), model)
    proofs = [found for found in matching.matches if "orthogonal map" in found.how]
    assert [found.evidence for found in proofs] == ["proved"]
    if base:
        assert causes["folded"] == (nbytes(*target.parametrizations.weight.buffers()), 0)


def test_another_parameter_of_the_same_shape_is_not_what_made_an_orthogonal_weight():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((16, 16)))[0].astype(np.float32)
    parameter = rng.standard_normal((16, 16)).astype(np.float32)
    found = match(artifact({"a": parameter}), artifact({"b": rotation}))
    assert [pair.evidence for pair in found.matches] == ["inferred"]


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * torch.tanh(x)


class LowRank(nn.Module):
    """Two factors in place of a matrix, and a gain of its own."""

    def __init__(self, rows):
        super().__init__()
        self.gain = nn.Parameter(torch.full((rows, 1), 1.5))

    def forward(self, left, right):
        return self.gain * (left @ right)

    def right_inverse(self, weight):
        left, values, right = torch.linalg.svd(weight)
        return left[:, :4] * values[:4], right[:4]


def test_a_users_own_parametrisation_is_described_with_its_name():
    model = layers()
    parametrize.register_parametrization(model[0], "weight", Doubled())
    parametrize.register_parametrization(model[2], "weight", LowRank(40), unsafe=True)
    plain = without(without(model, "0"), "2")
    with_it, without_it = artifact(state(model)), artifact(state(plain))
    found = match(with_it, without_it)
    said = {
        without_it.tensors[pair.after].name: pair.how
        for pair in found.matches
        if pair.evidence == "inferred"
    }
    assert said == {
        f"{module}.weight": f"made by the parametrisation {module}.parametrizations.weight of what is stored"
        for module in (0, 2)
    }
    parameters = model[2].parametrizations.weight
    causes = tensor_causes(diff(with_it, without_it))
    smaller = nbytes(*parameters.parameters()) - nbytes(parameters.original0)
    assert causes["folded"] == (smaller, 0)
    assert "unmatched" not in causes
    assert {(fold.how, fold.evidence) for fold in found.folds} == {("parametrises", "inferred")}


def test_what_cannot_be_computed_is_inferred_by_name():
    model = layers()
    parametrize.register_parametrization(model[0], "weight", Doubled())
    plain = without(model, "0")
    found = match(artifact(state(model)), artifact(state(plain)))
    assert sorted(pair.evidence for pair in found.matches) == ["inferred", *["proved"] * 5]
