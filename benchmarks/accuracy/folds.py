"""Parameters that were absorbed into others: batch-norms, masks, parametrisations."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from torch.nn.utils import fusion, parametrizations, prune

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def statistics(norm: BatchNorm) -> int:
    """Bytes that a fold absorbs: scale, mean, variance and counter; the shift becomes the bias."""
    return nbytes([norm.weight, norm.running_mean, norm.running_var, norm.num_batches_tracked])


@recipe("batchnorm-fold", "folded")
def batchnorm_fold(directory: Path, size: Size) -> Planted:
    """Convolutions with and without a bias, whose batch-norms the export folds."""
    before, after = pair(directory, "model.pt", "model.onnx")
    width = pick(size, 16, 256)
    plain, biased = nn.Conv2d(3, width, 3, bias=False), nn.Conv2d(width, width, 3)
    norms = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
    model = nn.Sequential(plain, norms[0], nn.ReLU(), biased, norms[1])
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, seeded(1, 3, 16, 16, seed=99), after)
    kept = nbytes([plain.weight, norms[0].bias, biased.weight, biased.bias])
    absorbed = statistics(norms[0]) + statistics(norms[1]) + nbytes([norms[1].bias])
    return planted(before, after, {"carried": (kept, kept), "folded": (absorbed, 0)})


def _fused(
    directory: Path, layer: nn.Module, norm: BatchNorm, fuse: Callable[..., nn.Module]
) -> Planted:
    """A layer and its batch-norm, and the one layer that torch's own fusion makes of them."""
    before, after = pair(directory, "model.pt")
    model = nn.Sequential(layer, norm)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    torch.save(nn.Sequential(fuse(layer, norm)).state_dict(), after)
    kept = nbytes(layer.parameters())
    absorbed = statistics(norm)
    if layer.bias is None:
        kept += nbytes([norm.bias])
    else:
        absorbed += nbytes([norm.bias])
    return planted(before, after, {"carried": (kept, kept), "folded": (absorbed, 0)})


@recipe("linear-bn-fold", "folded")
def linear_bn_fold(directory: Path, size: Size) -> Planted:
    """A batch-norm behind a linear layer."""
    width = nets.width_of(size)
    layer, norm = nn.Linear(width, 2 * width), nn.BatchNorm1d(2 * width)
    return _fused(directory, layer, norm, fusion.fuse_linear_bn_eval)


@recipe("transposed-conv-fold", "folded")
def transposed_conv_fold(directory: Path, size: Size) -> Planted:
    """A batch-norm behind a transposed convolution, whose outputs are the second axis."""
    width = pick(size, 12, 256)
    layer, norm = nn.ConvTranspose2d(width, width + 4, 3, bias=False), nn.BatchNorm2d(width + 4)

    def fuse(layer: nn.Module, norm: nn.Module) -> nn.Module:
        return fusion.fuse_conv_bn_eval(layer, norm, transpose=True)

    return _fused(directory, layer, norm, fuse)


@recipe("pruning-mask", "folded")
def pruning_mask(directory: Path, size: Size) -> Planted:
    """Pruning left in the checkpoint: ``weight_orig`` and a mask, against their product."""
    return _pruned(directory, size, 0.4)


@recipe("pruning-mask (sparse)", "folded")
def sparse_mask(directory: Path, size: Size) -> Planted:
    """The same with two weights of a hundred left: a sample of them is all zeros."""
    return _pruned(directory, size, 0.98)


def _pruned(directory: Path, size: Size, amount: float) -> Planted:
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    layers = model.first, model.second
    for layer in layers:
        prune.l1_unstructured(layer, "weight", amount)
    masks = nbytes(layer.weight_mask for layer in layers)
    torch.save(model.state_dict(), after)
    for layer in layers:
        prune.remove(layer, "weight")
    torch.save(model.state_dict(), before)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights), "folded": (0, masks)})


@recipe("weight-norm", "folded")
def weight_norm(directory: Path, size: Size) -> Planted:
    """Weight normalisation left in the checkpoint: magnitudes and directions of the weight."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    parametrizations.weight_norm(model.second)
    magnitudes = model.second.parametrizations.weight.original0
    with torch.no_grad():
        magnitudes.mul_(1.5 + seeded(*magnitudes.shape, seed=8).abs())
    final = deepcopy(model)
    nn.utils.parametrize.remove_parametrizations(final.second, "weight")
    torch.save(final.state_dict(), before)
    torch.save(model.state_dict(), after)
    weights = nbytes(final.state_dict().values())
    return planted(before, after, {
        "carried": (weights, weights), "folded": (0, nbytes([magnitudes])),
    })  # fmt: skip


@recipe("orthogonal", "folded")
def orthogonal(directory: Path, size: Size) -> Planted:
    """An orthogonal parametrisation left in the checkpoint: the parameter and its base."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    parametrizations.orthogonal(model.first, orthogonal_map="matrix_exp")
    original = model.first.parametrizations.weight.original
    with torch.no_grad():  # as after training: before it, the weight is a part of the base
        original.copy_(seeded(*original.shape, seed=8))
    final = deepcopy(model)
    nn.utils.parametrize.remove_parametrizations(final.first, "weight")
    torch.save(final.state_dict(), before)
    torch.save(model.state_dict(), after)
    weights = nbytes(final.state_dict().values())
    base = nbytes(model.first.parametrizations.weight.buffers())
    return planted(before, after, {"carried": (weights, weights), "folded": (0, base)})


@recipe("adapter-merged", "folded")
def adapter_merged(directory: Path, size: Size) -> Planted:
    """Low-rank adapters beside frozen weights, and the weights that they were merged into."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    final = deepcopy(model)
    adapters: dict[str, torch.Tensor] = {}
    for seed, name in enumerate(("first", "second")):
        weight = final.get_submodule(name).weight
        down = seeded(4, weight.shape[1], seed=20 + seed) * 0.1
        up = seeded(weight.shape[0], 4, seed=30 + seed)
        weight.add_(2.0 * up @ down)
        adapters |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    torch.save({**model.state_dict(), **adapters}, before)
    torch.save(final.state_dict(), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "folded": (nbytes(adapters.values()), 0),
    })  # fmt: skip


@recipe("adapter-merged (parts)", "folded")
def adapter_of_parts_merged(directory: Path, size: Size) -> Planted:
    """Adapters of query and value of a fused projection, as loralib's ``MergedLinear`` stores them."""
    before, after = pair(directory, "model.pt")
    width, rank = pick(size, 24, 768), 4
    weight, down = seeded(3 * width, width, seed=1), 0.1 * seeded(2 * rank, width, seed=2)
    up = seeded(2 * width, rank, seed=3)
    final = weight.clone()
    for number, part in enumerate((0, 2)):
        own = up[number * width :][:width] @ down[number * rank :][:rank]
        final[part * width :][:width] += 4.0 * own
    torch.save({"attn.weight": weight, "attn.lora_A": down, "attn.lora_B": up}, before)
    torch.save({"attn.weight": final}, after)
    return planted(before, after, {
        "carried": (nbytes([weight]), nbytes([final])), "folded": (nbytes([down, up]), 0),
    })  # fmt: skip


@recipe("adapter-merged (DoRA)", "folded")
def decomposed_adapter_merged(directory: Path, size: Size) -> Planted:
    """An adapter with a length for each row (Liu et al. 2024), under the names that PEFT writes."""
    before, after = pair(directory, "model.pt")
    width, rank = pick(size, 24, 768), 4
    layer = "base_model.model.q"
    state = {
        f"{layer}.base_layer.weight": seeded(2 * width, width, seed=1),
        f"{layer}.lora_A.default.weight": 0.1 * seeded(rank, width, seed=2),
        f"{layer}.lora_B.default.weight": seeded(2 * width, rank, seed=3),
        f"{layer}.lora_magnitude_vector.default.weight": seeded(2 * width, seed=4).abs() + 1,
    }
    weight, down, up, lengths = state.values()
    summed = weight + 4.0 * up @ down
    final = (lengths / summed.norm(dim=1))[:, None] * summed
    torch.save(state, before)
    torch.save({"q.weight": final}, after)
    return planted(before, after, {
        "carried": (nbytes([weight]), nbytes([final])), "folded": (nbytes([down, up, lengths]), 0),
    })  # fmt: skip


@recipe("smoothed-channels", "none")
def smoothed(directory: Path, size: Size) -> Planted:
    """Channels divided in a norm and multiplied in the two layers behind it, as SmoothQuant does."""
    before, after = pair(directory, "model.pt")
    width = pick(size, 24, 512)
    norm, layers = nn.LayerNorm(width), [nn.Linear(width, 2 * width) for _ in range(2)]
    model = nn.ModuleList([norm, *layers])
    nets.fill(model)
    torch.save(model.state_dict(), before)
    factors = seeded(width, seed=7).exp()
    with torch.no_grad():
        for vector in norm.parameters():
            vector.div_(factors)
        for layer in layers:
            layer.weight.mul_(factors)
    torch.save(model.state_dict(), after)
    kept = nbytes(model.parameters())
    return planted(before, after, {"carried": (kept, kept)})
