"""What archives, pickles and TorchScript spend around the same tensors."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.serialization import config

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe


@recipe("many-scalars", "container")
def many_scalars(directory: Path, size: Size) -> Planted:
    """Scalars that are tensors of their own: four bytes each, and a record around them."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    values = seeded(pick(size, 200, 1000), seed=5)
    scalars = {f"meter.{number}": value.clone() for number, value in enumerate(values)}
    torch.save(model.state_dict(), before)
    torch.save({**model.state_dict(), **scalars}, after)
    weights = nbytes(model.parameters())
    return planted(
        before, after, {"carried": (weights, weights), "unmatched": (0, nbytes([values]))}
    )


@recipe("page-alignment", "alignment")
def page_alignment(directory: Path, size: Size) -> Planted:
    """Records aligned to pages of 4,096 bytes instead of 64."""
    before, after = pair(directory, "model.pt")
    state = {f"layers.{n}.bias": seeded(60, seed=n) for n in range(pick(size, 20, 1000))}
    torch.save(state, before)
    usual = config.save.storage_alignment
    config.save.storage_alignment = 4096
    try:
        torch.save(state, after)
    finally:
        config.save.storage_alignment = usual
    weights = nbytes(state.values())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("long-stem", "container")
def long_stem(directory: Path, size: Size) -> Planted:
    """A file name of a hundred characters, which torch.save repeats in every record."""
    before, after = pair(directory, "model.pt", "m" * 100 + ".pt")
    state = {f"layers.{n}.bias": seeded(60, seed=n) for n in range(pick(size, 20, 1000))}
    torch.save(state, before)
    torch.save(state, after)
    weights = nbytes(state.values())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("pickle-protocol", "pickle")
def pickle_protocol(directory: Path, size: Size) -> Planted:
    """A state dict pickled with protocol 2, and with protocol 4."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    torch.save(model.state_dict(), before)
    torch.save(model.state_dict(), after, pickle_protocol=4)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("state-dict-metadata", "pickle")
def state_dict_metadata(directory: Path, size: Size) -> Planted:
    """A state dict with the ``_metadata`` that modules add, and as a plain dict."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    torch.save(dict(model.state_dict()), before)
    torch.save(model.state_dict(), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


class Block(nn.Module):
    """A linear layer and an activation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.linear(x))


def _blocks(size: Size) -> tuple[nn.Module, Tensor]:
    width = pick(size, 12, 128)
    model = nn.Sequential(*[Block(width) for _ in range(pick(size, 8, 30))])
    return nets.fill(model), seeded(1, width, seed=99)


@recipe("debug-files", "debug-info")
def debug_files(directory: Path, size: Size) -> Planted:
    """TorchScript with and without its ``.debug_pkl`` records."""
    before, after = pair(directory, "model.pt")
    model, x = _blocks(size)
    torch.jit.save(torch.jit.trace(model, x), after)
    with zipfile.ZipFile(after) as whole, zipfile.ZipFile(before, "w") as stripped:
        for entry in whole.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                copy = zipfile.ZipInfo(entry.filename)
                stripped.writestr(copy, whole.read(entry), entry.compress_type)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("trace-vs-script", "code")
def trace_vs_script(directory: Path, size: Size) -> Planted:
    """A scripted module, whose blocks share a class, and a traced one, where each has its own."""
    before, after = pair(directory, "model.pt")
    model, x = _blocks(size)
    torch.jit.save(torch.jit.script(model), before)
    torch.jit.save(torch.jit.trace(model, x), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


class PlainTensor(nn.Module):
    """A linear layer behind a table that is neither parameter nor buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.table: Any = seeded(width, width, seed=5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x + self.table)


@recipe("plain-tensor-attribute", "constant")
def plain_tensor_attribute(directory: Path, size: Size) -> Planted:
    """A plain tensor of a module, which tracing keeps as a constant of the code."""
    before, after = pair(directory, "model.pt")
    width = nets.width_of(size)
    model = PlainTensor(width)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    torch.jit.save(torch.jit.trace(model, seeded(width, width, seed=99)), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "constant": (0, nbytes([model.table])),
    })  # fmt: skip
