"""What training leaves in a checkpoint: optimizer state, averaged copies, histories, caches."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def trained(model: nn.Module, x: Tensor, make: Make) -> torch.optim.Optimizer:
    """An optimizer after one real step."""
    optimizer = make(list(model.parameters()))
    with torch.enable_grad():
        model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The tensors that an optimizer keeps for its parameters."""
    return [
        value
        for state in optimizer.state_dict()["state"].values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def _optimizer_left_in(make: Make, directory: Path, size: Size) -> Planted:
    before, after = pair(directory, "model.pt")
    model, x = perceptron(size)
    optimizer = trained(model, x, make)
    torch.save({"model": model.state_dict()}, before)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "optimizer-state": (0, nbytes(moments(optimizer))),
    })  # fmt: skip


@recipe("optimizer-left-in (SGD)", "optimizer-state")
def sgd_left_in(directory: Path, size: Size) -> Planted:
    """The momentum of SGD beside the weights."""
    return _optimizer_left_in(partial(torch.optim.SGD, lr=0.01, momentum=0.9), directory, size)


@recipe("optimizer-left-in (Adam)", "optimizer-state")
def adam_left_in(directory: Path, size: Size) -> Planted:
    """Both moments of Adam beside the weights."""
    return _optimizer_left_in(torch.optim.Adam, directory, size)


@recipe("optimizer-left-in (AMSGrad)", "optimizer-state")
def amsgrad_left_in(directory: Path, size: Size) -> Planted:
    """Three moments of AMSGrad beside the weights."""
    return _optimizer_left_in(partial(torch.optim.Adam, amsgrad=True), directory, size)


@recipe("zero-checkpoint", "optimizer-state")
def zero_checkpoint(directory: Path, size: Size) -> Planted:
    """A half network with the state that DeepSpeed's ZeRO optimizer keeps: one flat master copy and
    the moments of it, in the layout of ``deepspeed/checkpoint/constants.py``."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    master = nn.Parameter(torch.cat([tensor.flatten() for tensor in model.parameters()]))
    optimizer = torch.optim.Adam([master])
    master.grad = torch.ones_like(master)
    optimizer.step()
    network = model.half().state_dict()
    state = {
        "zero_stage": 2, "partition_count": [1], "group_paddings": [0],
        "base_optimizer_state": optimizer.state_dict(),
        "single_partition_of_fp32_groups": [master.detach()],
    }  # fmt: skip
    torch.save({"module": network}, before)
    torch.save({"module": network, "optimizer": state, "ds_version": "0.14.0"}, after)
    weights = nbytes(network.values())
    kept = nbytes([master, *moments(optimizer)])
    return planted(before, after, {"carried": (weights, weights), "optimizer-state": (0, kept)})


@recipe("ema-left-in", "ema-copy")
def ema_left_in(directory: Path, size: Size) -> Planted:
    """An averaged copy of the module under the key ``ema``."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    ema = deepcopy(model)
    with torch.no_grad():
        for parameter in ema.parameters():
            parameter.mul_(0.75)
    torch.save({"model": model, "ema": None}, before)
    torch.save({"model": model, "ema": ema}, after)
    weights = nbytes(model.parameters())
    return planted(
        before, after, {"carried": (weights, weights), "ema-copy": (0, weights)}, inferred=weights
    )


@recipe("history-left-in", "pickle")
def history_left_in(directory: Path, size: Size) -> Planted:
    """Lists of metrics, nine bytes a float, in the checkpoint."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    steps = pick(size, 3_000, 300_000)
    history = {
        name: [step * scale / 7 for step in range(steps)]
        for name, scale in (("loss", 0.5), ("accuracy", 0.25))
    }
    torch.save({"model": model.state_dict()}, before)
    torch.save({"model": model.state_dict(), "history": history}, after)
    weights = nbytes(model.parameters())
    truth = planted(before, after, {"carried": (weights, weights)})
    grown = _record_size(after, "data.pkl") - _record_size(before, "data.pkl")
    if truth.deltas["pickle"] != grown or not 0 <= grown - 2 * 9 * steps < 100 + steps // 10:
        raise AssertionError(f"{grown:,} bytes of pickle for {2 * steps:,} floats")
    return truth


def _record_size(path: Path, name: str) -> int:
    with zipfile.ZipFile(path) as archive:
        return next(
            entry.file_size for entry in archive.infolist() if entry.filename.endswith(f"/{name}")
        )


def _attribute(attach: Callable[[Any], Tensor], directory: Path, size: Size) -> Planted:
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    torch.save(model, before)
    extra = attach(model)
    torch.save(model, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "unmatched": (0, nbytes([extra])),
    })  # fmt: skip


@recipe("module-cache", "unmatched")
def module_cache(directory: Path, size: Size) -> Planted:
    """A tensor that a module keeps as a plain attribute, saved with the module."""

    def attach(model: Any) -> Tensor:
        model.first.cache = seeded(32, nets.width_of(size), 32, seed=7)
        return model.first.cache

    return _attribute(attach, directory, size)


@recipe("parameter-attribute", "unmatched")
def parameter_attribute(directory: Path, size: Size) -> Planted:
    """A tensor that hangs on a parameter as an attribute."""

    def attach(model: Any) -> Tensor:
        weight = model.second.weight
        weight.acc_grad = seeded(*weight.shape, seed=7)
        return weight.acc_grad

    return _attribute(attach, directory, size)


@recipe("saved-view", "storage-slack")
def saved_view(directory: Path, size: Size) -> Planted:
    """Ten rows of a large tensor, saved as a view of it."""
    before, after = pair(directory, "model.pt")
    whole = seeded(pick(size, 100, 20_000), 50)
    torch.save(whole[:10].clone(), before)
    torch.save(whole[:10], after)
    kept = nbytes([whole[:10]])
    return planted(before, after, {
        "carried": (kept, kept), "storage-slack": (0, nbytes([whole]) - kept),
    })  # fmt: skip


@recipe("flat-buffer-views", "storage-slack")
def flat_buffer_views(directory: Path, size: Size) -> Planted:
    """Parameters as views of one flat buffer, of which the state dict drops half."""
    before, after = pair(directory, "model.pt")
    width = nets.width_of(size)
    flat = seeded(8 * width * width)
    views = {
        f"layers.{number}.weight": part.view(width, width)
        for number, part in enumerate(flat.split(width * width))
        if number % 2
    }
    torch.save({name: view.clone() for name, view in views.items()}, before)
    torch.save(views, after)
    kept = nbytes(views.values())
    return planted(before, after, {
        "carried": (kept, kept), "storage-slack": (0, nbytes([flat]) - kept),
    })  # fmt: skip
