"""Data that exporters bake into the program: grids, masks, and broadcasts written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, seeded
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe


@recipe("expanded-buffer", "densified")
def expanded_buffer(directory: Path, size: Size) -> Planted:
    """A buffer that is expanded with stride 0 in one checkpoint and written out in the other."""
    before, after = pair(directory, "model.pt")
    cells = pick(size, 20, 160)
    anchors = seeded(1, 3, 1, 1, 2, seed=3)
    state = {
        "weight": seeded(48, 16, seed=4),
        "anchor_grid": anchors.expand(1, 3, cells, cells, 2),
    }
    torch.save(state, before)
    torch.save({name: tensor.contiguous() for name, tensor in state.items()}, after)
    weight, small = nbytes([state["weight"]]), nbytes([anchors])
    return planted(before, after, {
        "carried": (weight + small, weight + small),
        "densified": (0, nbytes([state["anchor_grid"]]) - small),
    })  # fmt: skip


class Grid(nn.Module):
    """A convolution whose output is shifted by a grid that is kept from pass to pass, as in YOLO."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 8, stride=8)
        self.grid = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.grid.shape[-2:] != y.shape[-2:]:
            axes = [torch.arange(length).float() for length in y.shape[-2:]]
            self.grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return y + self.grid


@recipe("baked-grid", "constant")
def baked_grid(directory: Path, size: Size) -> Planted:
    """A coordinate grid that depends on the size of the image, traced at one size."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model = Grid()
    nets.fill(model)
    x = seeded(1, 3, *[pick(size, 160, 1280)] * 2, seed=99)
    torch.save(model.state_dict(), before)
    model(x)
    nets.export(model, x, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "constant": (0, nbytes([model.grid])),
    })  # fmt: skip


@recipe("folded-tile", "densified", needs=("onnxsim",))
def folded_tile(directory: Path, size: Size) -> Planted:
    """An ``Expand`` of a small initializer that a simplifier computes beforehand."""
    import onnxsim

    before, after = pair(directory, "model.onnx")
    cells = pick(size, 8, 64)
    small = seeded(1, 64, 1, 1).numpy()
    shape = np.array([1, 64, cells, cells], dtype=np.int64)
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["small", "shape"], ["large"]),
            helper.make_node("Add", ["x", "large"], ["y"]),
        ],
        "tile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, cells, cells])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, cells, cells])],
        [numpy_helper.from_array(small, "small"), numpy_helper.from_array(shape, "shape")],
    )
    opset = helper.make_opsetid("", nets.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, before)
    simplified, _ = onnxsim.simplify(model)
    onnx.save(simplified, after)
    return planted(before, after, {
        "carried": (small.nbytes, small.nbytes),
        "densified": (0, small.nbytes * (cells**2 - 1)),
        "constant": (shape.nbytes, 0),
    })  # fmt: skip


class Expanded(nn.Module):
    """A class token that is expanded to the batch, as vision transformers do."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.token = nn.Parameter(seeded(1, width, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.token.expand(self.rows, -1)


@recipe("dynamo-fold", "densified")
def dynamo_fold(directory: Path, size: Size) -> Planted:
    """An ``expand`` of a parameter that the exporter's optimiser computes beforehand."""
    before, after = pair(directory, "model.pt", "model.onnx")
    width, rows = 64, pick(size, 60, 1800)
    model = Expanded(width, rows).eval()
    torch.save(model.state_dict(), before)
    nets.export_dynamo(model, seeded(rows, width, seed=99)).save(after, external_data=False)
    small = nbytes([model.token])
    return planted(before, after, {
        "carried": (small, small), "densified": (0, (rows - 1) * small),
    })  # fmt: skip


class Masked(nn.Module):
    """An embedding behind an integer mask that the state dict leaves out."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(length, 8)
        mask = torch.ones(length, length, dtype=torch.int64).tril()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens * self.mask)


@recipe("int64-mask", "constant")
def int64_mask(directory: Path, size: Size) -> Planted:
    """A causal mask of int64, no part of the state dict, that the export stores."""
    before, after = pair(directory, "model.pt", "model.onnx")
    length = pick(size, 48, 1024)
    model = Masked(length)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, torch.arange(length).reshape(1, length), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "constant": (0, nbytes([model.mask])),
    })  # fmt: skip


class Windows(nn.Module):
    """Attention scores of a window with a learned bias for each distance of two places, as in Swin."""

    def __init__(self, window: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        places = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)
        distance = places[:, :, None] - places[:, None, :] + window - 1
        self.register_buffer("index", distance[0] * (2 * window - 1) + distance[1])

    def forward(self, x: Tensor) -> Tensor:
        places = len(self.index)
        bias = self.table[self.index.view(-1)].view(places, places, -1).permute(2, 0, 1)
        return x + bias.contiguous().unsqueeze(0)


@recipe("gathered-table", "densified")
def gathered_table(directory: Path, size: Size) -> Planted:
    """A half table of relative positions whose lookup an exporter computes beforehand."""
    before, after = pair(directory, "model.pt", "model.onnx")
    window, heads = pick(size, 5, 12), pick(size, 4, 32)
    model = Windows(window, heads)
    nets.fill(model)
    model.table.copy_(model.table.half())
    half = {"table": model.table.half(), "index": model.index}
    torch.save(half, before)
    nets.export(model, seeded(1, heads, window**2, window**2, seed=99), after)
    table, written = nbytes([model.table]), 4 * heads * window**4
    return planted(before, after, {
        "carried": (table // 2, table // 2), "dtype float16 -> float32": (0, table // 2),
        "densified": (0, written - table), "folded": (nbytes([model.index]), 0),
    })  # fmt: skip


class Anchored(nn.Module):
    """A head that shifts what it finds to the cells of three feature maps, as that of YOLOv8 does."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 1)
        self.points = centres([(height // stride, width // stride) for stride in (8, 16, 32)])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.points


def centres(shapes: list[tuple[int, int]]) -> Tensor:
    """Where every cell of some feature maps is, shape ``(2, cells)``: its x and its y."""
    points = []
    for height, width in shapes:
        axes = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        y, x = torch.meshgrid(*axes, indexing="ij")
        points.append(torch.stack((x, y), -1).view(-1, 2))
    return torch.cat(points).transpose(0, 1)


@recipe("anchor-points", "constant")
def anchor_points(directory: Path, size: Size) -> Planted:
    """The cells of three feature maps in one table, traced at one size of the image."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model = Anchored(pick(size, 128, 640), pick(size, 96, 512))
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, seeded(1, *model.points.shape, seed=99), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "constant": (0, nbytes([model.points])),
    })  # fmt: skip


class Positioned(nn.Module):
    """A linear layer, behind learned positions where there are any."""

    def __init__(self, rows: int, width: int, *, learned: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.positions = nn.Parameter(torch.zeros(rows, width)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x if self.positions is None else x + self.positions)


@recipe("learned-positions", "unmatched")
def learned_positions(directory: Path, size: Size) -> Planted:
    """Learned positions that the later model adds to its input: a layer, not a constant."""
    before, after = pair(directory, "model.onnx")
    rows, width = pick(size, 12, 1024), pick(size, 20, 768)
    models = [Positioned(rows, width, learned=learned) for learned in (False, True)]
    for model in models:
        nets.fill(model)
    models[0].load_state_dict(models[1].state_dict(), strict=False)
    for model, path in zip(models, (before, after), strict=True):
        nets.export(model, seeded(rows, width, seed=99), path)
    weights, added = nbytes(models[0].parameters()), 4 * rows * width
    return planted(before, after, {"carried": (weights, weights), "unmatched": (0, added)})
