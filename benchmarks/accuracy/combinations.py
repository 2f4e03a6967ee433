"""Several causes at once, as real files have them."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.constants import Grid
from benchmarks.accuracy.duplicates import tied
from benchmarks.accuracy.nets import count, nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe
from benchmarks.accuracy.training import moments, trained


@recipe("half + optimizer -> tied, verbose", "duplicate")
def half_tied_verbose(directory: Path, size: Size) -> Planted:
    """A float16 checkpoint with Adam's moments; an export that unties the head, with source lines."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, tokens = tied(size)
    optimizer = trained(model, tokens, torch.optim.Adam)
    torch.save({"model": model.half(), "optimizer": optimizer.state_dict()}, before)
    nets.export(model.float(), tokens, after, verbose=True)
    n = count(model.parameters())
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype float16 -> float32": (0, 2 * n),
        "duplicate": (0, nbytes([model.embed.weight])),
        "optimizer-state": (nbytes(moments(optimizer)), 0),
    })  # fmt: skip


class Detector(nn.Module):
    """A convolution with a batch-norm, and a convolution on a grid that depends on the image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.grid = Grid(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(torch.relu(self.norm(self.conv(x))))


@recipe("half + EMA -> folded, baked", "dtype float16 -> float32")
def half_ema_folded(directory: Path, size: Size) -> Planted:
    """A float16 checkpoint with an average; its export folds a batch-norm and bakes a grid."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model = Detector(pick(size, 8, 512))
    nets.fill(model)
    ema = deepcopy(model)
    with torch.no_grad():
        for number, parameter in enumerate(ema.parameters()):
            parameter.add_(seeded(*parameter.shape, seed=50 + number) / 8)
    torch.save({"model": model.half().state_dict(), "ema": ema.half().state_dict()}, before)
    exported = ema.float()
    x = seeded(1, 3, *[pick(size, 160, 640)] * 2, seed=99)
    exported(x)
    nets.export(exported, x, after)
    n = count([*exported.grid.parameters(), exported.conv.weight, exported.norm.bias])
    floats = count([exported.norm.weight, exported.norm.running_mean, exported.norm.running_var])
    absorbed = 2 * floats + nbytes([exported.norm.num_batches_tracked])
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype float16 -> float32": (0, 2 * n),
        "folded": (absorbed, 0), "ema-copy": (nbytes(model.state_dict().values()), 0),
        "constant": (0, nbytes([exported.grid.grid])),
    }, inferred=nbytes(model.state_dict().values()))  # fmt: skip


@recipe("bf16 + momentum, view -> sidecar, traces, dead", "dtype bfloat16 -> float32")
def bf16_sidecar(directory: Path, size: Size) -> Planted:
    """A bfloat16 checkpoint with momentum and a saved view; a two-file export with a dead weight."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, x = perceptron(size)
    optimizer = trained(model, x, partial(torch.optim.SGD, lr=0.01, momentum=0.9))
    log = seeded(pick(size, 1000, 100_000), seed=5)
    model.bfloat16()
    state = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "recent": log[-10:],
    }  # fmt: skip
    torch.save(state, before)
    model.float()
    nets.export_dynamo(model, x).save(after, external_data=True)
    dead = seeded(40, 40, seed=6)
    program = onnx.load(after, load_external_data=False)
    program.graph.initializer.append(numpy_helper.from_array(dead.numpy(), "unused"))
    onnx.save(program, after)
    n = count(model.parameters())
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype bfloat16 -> float32": (0, 2 * n),
        "optimizer-state": (nbytes(moments(optimizer)), 0), "unmatched": (40, 0),
        "storage-slack": (nbytes([log]) - 40, 0), "unreferenced": (0, nbytes([dead])),
    })  # fmt: skip
