"""One tensor stored several times: cast apart, transposed, shared, cloned or copied into branches."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import count, nbytes, pair, perceptron, seeded, unique
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe


class Tied(nn.Module):
    """An embedding, a layer norm and a head that shares the embedding's weight."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(tokens)))


def tied(size: Size) -> tuple[Tied, Tensor]:
    """A seeded tied model and tokens for it."""
    model = Tied(pick(size, 100, 20_000), pick(size, 16, 256))
    nets.fill(model)
    return model, torch.arange(12).reshape(1, 12)


@recipe("untied-by-cast", "duplicate")
def untied_by_cast(directory: Path, size: Size) -> Planted:
    """A float16 state dict with a tied weight, cast key by key to float32."""
    before, after = pair(directory, "model.pt")
    model, _ = tied(size)
    state = model.half().state_dict()
    torch.save(state, before)
    torch.save({name: tensor.float() for name, tensor in state.items()}, after)
    n = count(model.parameters())
    return planted(before, after, {
        "carried": (2 * n, 2 * n), "dtype float16 -> float32": (0, 2 * n),
        "duplicate": (0, 4 * model.embed.weight.numel()),
    })  # fmt: skip


@recipe("tied-transposed", "duplicate")
def tied_transposed(directory: Path, size: Size) -> Planted:
    """A tied embedding and head: the tracing exporter stores the head again, transposed."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, tokens = tied(size)
    torch.save(model.state_dict(), before)
    nets.export(model, tokens, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "duplicate": (0, nbytes([model.embed.weight])),
    })  # fmt: skip


class Shared(nn.Module):
    """One layer without bias that is used twelve times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layer = nn.Linear(width, width, bias=False)
        self.layers = nn.ModuleList([layer] * 12)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


@recipe("shared-layer", "duplicate")
def shared_layer(directory: Path, size: Size) -> Planted:
    """One layer used twelve times: the exporter on ``torch.export`` stores it for every use."""
    before, after = pair(directory, "model.pt", "model.onnx")
    # onnxscript merges equal initializers up to 1,024 elements and folds inputs up to 8,192.
    width = pick(size, 40, 90)
    model = Shared(width)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    program = nets.export_dynamo(model, seeded(1, 3, width, seed=99))
    program.save(after, external_data=False)
    weight = nbytes(unique(model.parameters()))
    return planted(before, after, {"carried": (weight, weight), "duplicate": (0, 11 * weight)})


class PerUse(nn.Module):
    """A table that is neither parameter nor buffer, and is used six times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.table = seeded(width, width, seed=5)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        for _ in range(6):
            x = torch.tanh(x + self.table)
        return x


@recipe("constant-per-use", "duplicate")
def constant_per_use(directory: Path, size: Size) -> Planted:
    """A plain tensor used six times: the tracing exporter stores a constant for every use."""
    before, after = pair(directory, "model.pt", "model.onnx")
    width = nets.width_of(size)
    model = PerUse(width)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, seeded(width, width, seed=99), after)
    scale, table = nbytes([model.scale]), nbytes([model.table])
    return planted(before, after, {
        "carried": (scale, scale), "constant": (0, table), "duplicate": (0, 5 * table),
    })  # fmt: skip


class EqualBuffers(nn.Module):
    """Six buffers of equal values, one per block, as causal masks are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        table = seeded(width, width, seed=5)
        for number in range(6):
            self.register_buffer(f"table_{number}", table.clone())

    def forward(self, x: Tensor) -> Tensor:
        for number in range(6):
            x = torch.tanh(x + self.get_buffer(f"table_{number}"))
        return x


@recipe("equal-values", "duplicate")
def equal_values(directory: Path, size: Size) -> Planted:
    """Cloned equal buffers: the tracing exporter merges them, the other one does not."""
    before, after = pair(directory, "model.onnx")
    width = pick(size, 40, 512)  # onnxscript merges equal initializers up to 1,024 elements
    model = EqualBuffers(width).eval()
    x = seeded(width, width, seed=99)
    nets.export(model, x, before)
    nets.export_dynamo(model, x).save(after, external_data=False)
    table = nbytes([model.get_buffer("table_0")])
    return planted(before, after, {"carried": (table, table), "duplicate": (0, 5 * table)})


@recipe("branch-copies", "duplicate")
def branch_copies(directory: Path, size: Size) -> Planted:
    """A decoder's weights copied into both branches of an ``If``."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    nets.export(model, x, before, input_names=["x"], output_names=["y"])
    single = onnx.load(before)
    branches = []
    for name in ("then", "else"):
        graph = onnx.GraphProto()
        graph.CopyFrom(single.graph)
        graph.name = name
        del graph.input[:]
        for node in graph.node:
            node.output[:] = [f"{name}.{value}" for value in node.output]
            node.input[:] = [
                f"{name}.{value}" if value not in ("x", *nets.values(before)) else value
                for value in node.input
            ]
        graph.output[0].name = f"{name}.y"
        branches.append(graph)
    condition = helper.make_tensor_value_info("use_cache", TensorProto.BOOL, [])
    choose = helper.make_node(
        "If", ["use_cache"], ["y"], then_branch=branches[0], else_branch=branches[1]
    )
    merged = helper.make_graph(
        [choose], "merged", [*single.graph.input, condition], list(single.graph.output)
    )
    opset = helper.make_opsetid("", nets.OPSET)
    onnx.save(helper.make_model(merged, opset_imports=[opset]), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights), "duplicate": (0, weights)})
