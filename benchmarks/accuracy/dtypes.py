"""Element types that change between checkpoint and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import count, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, planted, recipe


@recipe("half-checkpoint", "dtype float16 -> float32")
def half_checkpoint(directory: Path, size: Size) -> Planted:
    """A module saved in float16, exported in float32."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, x = perceptron(size)
    torch.save({"model": model.half()}, before)
    nets.export(model.float(), x, after)
    n = count(model.parameters())
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype float16 -> float32": (0, 2 * n),
    })  # fmt: skip


@recipe("bf16-checkpoint", "dtype bfloat16 -> float32")
def bf16_checkpoint(directory: Path, size: Size) -> Planted:
    """A state dict saved in bfloat16, exported in float32."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, x = perceptron(size)
    torch.save(model.bfloat16().state_dict(), before)
    nets.export(model.float(), x, after)
    n = count(model.parameters())
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype bfloat16 -> float32": (0, 2 * n),
    })  # fmt: skip


@recipe("rounded-through-half", "none")
def rounded(directory: Path, size: Size) -> Planted:
    """A state dict as it was trained, and after ``.half().float()``: as many bytes of other numbers."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    torch.save(model.state_dict(), before)
    torch.save(model.half().float().state_dict(), after)
    kept = 4 * count(model.parameters())
    return planted(before, after, {"carried": (kept, kept)})


@recipe("fp64-leak", "dtype float32 -> float64")
def fp64_leak(directory: Path, size: Size) -> Planted:
    """One module in float64, and a buffer that numpy made in its default type."""
    before, after = pair(directory, "model.pt")
    model, _ = perceptron(size)
    table = np.random.default_rng(0).normal(size=(nets.width_of(size), 7))
    model.register_buffer("table", torch.from_numpy(table).float())
    torch.save(model.state_dict(), before)
    model.second.double()
    model.register_buffer("table", torch.from_numpy(table))
    torch.save(model.state_dict(), after)
    wide = count([*model.second.parameters(), model.table])
    rest = count(model.state_dict().values()) - wide
    kept = 4 * (wide + rest)
    return planted(before, after, {
        "carried": (kept, kept), "dtype float32 -> float64": (0, 4 * wide),
    })  # fmt: skip


class PartlyHalf(nn.Module):
    """Linear layers in float16 around one that is kept in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * width)
        self.kept = nn.Linear(2 * width, width)
        self.leave = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x.to(self.enter.weight.dtype))
        y = self.kept(y.to(self.kept.weight.dtype))
        return self.leave(y.to(self.leave.weight.dtype))


@recipe("partial-half", "dtype float32 -> float16")
def partial_half(directory: Path, size: Size) -> Planted:
    """The same export in float32, and with two of three layers in float16."""
    before, after = pair(directory, "model.onnx")
    width = nets.width_of(size)
    model = PartlyHalf(width)
    nets.fill(model)
    x = seeded(1, width, seed=99)
    nets.export(model, x, before)
    model.enter.half()
    model.leave.half()
    nets.export(model, x, after)
    narrow = count([*model.enter.parameters(), *model.leave.parameters()])
    kept = 4 * count(model.kept.parameters())
    carried = 2 * narrow + kept
    return planted(before, after, {
        "carried": (carried, carried), "dtype float32 -> float16": (2 * narrow, 0),
    })  # fmt: skip
