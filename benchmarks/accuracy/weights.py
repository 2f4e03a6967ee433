"""Weights that were fused, split, grown or trained anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.oracle import structure
from benchmarks.accuracy.planted import Planted, Size, pick, planted, recipe


@recipe("fused-qkv", "carried")
def fused_qkv(directory: Path, size: Size) -> Planted:
    """Three projections of an attention layer, and the one that they are fused into."""
    before, after = pair(directory, "model.pt")
    width = nets.width_of(size)
    parts = {
        f"attn.{part}.{kind}": seeded(width, *([width] if kind == "weight" else []), seed=seed)
        for seed, (part, kind) in enumerate(
            (part, kind) for part in ("q_proj", "k_proj", "v_proj") for kind in ("weight", "bias")
        )
    }
    fused = {
        f"attn.qkv.{kind}": torch.cat([parts[f"attn.{part}_proj.{kind}"] for part in "qkv"])
        for kind in ("weight", "bias")
    }
    torch.save(parts, before)
    torch.save(fused, after)
    weights = nbytes(parts.values())
    return planted(before, after, {"carried": (weights, weights)})


class Recurrent(nn.Module):
    """One LSTM."""

    def __init__(self, width: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return y


@recipe("split-gates", "carried")
def split_gates(directory: Path, size: Size) -> Planted:
    """Gates of an LSTM: four weights that torch keeps as one, each saved on its own."""
    before, after = pair(directory, "model.pt")
    model = Recurrent(pick(size, 16, 256))
    nets.fill(model)
    state = model.state_dict()
    split = {
        f"{name}.{gate}": part.clone()
        for name, tensor in state.items()
        for gate, part in zip("ifgo", tensor.chunk(4), strict=True)
    }
    torch.save(state, before)
    torch.save(split, after)
    weights = nbytes(state.values())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("reordered-gates", "carried")
def reordered_gates(directory: Path, size: Size) -> Planted:
    """Gates of an LSTM that ONNX stores in another order than torch."""
    before, after = pair(directory, "model.pt", "model.onnx")
    width = pick(size, 16, 256)
    model = Recurrent(width)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, seeded(5, 1, width, seed=99), after)
    weights = nbytes(model.parameters())
    # Constants of the program: the initial states, zeros of one row, and shapes.
    baked = structure(after).payload_bytes - weights
    return planted(before, after, {"carried": (weights, weights), "constant": (0, baked)})


@recipe("bidirectional", "carried")
def bidirectional(directory: Path, size: Size) -> Planted:
    """Two directions of an LSTM, which ONNX stacks into one tensor each of W, R and B."""
    before, after = pair(directory, "model.pt", "model.onnx")
    width = pick(size, 16, 256)
    model = Recurrent(width, bidirectional=True)
    nets.fill(model)
    torch.save(model.state_dict(), before)
    nets.export(model, seeded(5, 1, width, seed=99), after)
    weights = nbytes(model.parameters())
    baked = structure(after).payload_bytes - weights
    return planted(before, after, {"carried": (weights, weights), "constant": (0, baked)})


def _rearranged(
    directory: Path, size: Size, arrange: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> Planted:
    """Square weights, and all of their elements arranged in another way."""
    before, after = pair(directory, "model.pt")
    width = nets.width_of(size)
    parts = {f"experts.{number}.w": seeded(width, width, seed=number) for number in range(4)}
    arranged = {name: tensor.contiguous() for name, tensor in arrange(parts).items()}
    torch.save(parts, before)
    torch.save(arranged, after)
    kept, stored = nbytes(parts.values()), nbytes(arranged.values())
    carried = min(kept, stored)
    causes = {"carried": (carried, carried)}
    if stored != kept:
        causes["dtype float32 -> float16"] = (kept - carried, stored - carried)
    return planted(before, after, causes)


@recipe("stacked", "carried")
def stacked(directory: Path, size: Size) -> Planted:
    """The weights of four experts, stacked into one tensor."""
    return _rearranged(
        directory, size, lambda parts: {"experts.w": torch.stack(list(parts.values()))}
    )


@recipe("halves", "carried")
def halves(directory: Path, size: Size) -> Planted:
    """Weights cut in halves, as tensor-parallel ranks hold them."""
    return _rearranged(
        directory, size,
        lambda parts: {
            f"{name}.rank{rank}": half.clone()
            for name, tensor in parts.items()
            for rank, half in enumerate(tensor.chunk(2))
        },
    )  # fmt: skip


@recipe("permuted, reshaped", "carried")
def permute_reshape(directory: Path, size: Size) -> Planted:
    """Axes permuted, then the shape of the result changed."""
    return _rearranged(
        directory, size,
        lambda parts: {name: tensor.T.reshape(2, -1) for name, tensor in parts.items()},
    )  # fmt: skip


@recipe("permuted, reshaped, cast", "dtype float32 -> float16")
def permute_reshape_cast(directory: Path, size: Size) -> Planted:
    """The same, and stored in half precision."""
    return _rearranged(
        directory, size,
        lambda parts: {name: tensor.T.reshape(2, -1).half() for name, tensor in parts.items()},
    )  # fmt: skip


@recipe("complex-pairs", "carried")
def complex_pairs(directory: Path, size: Size) -> Planted:
    """Complex numbers, and the pairs of real ones that ``torch.view_as_real`` makes of them."""
    before, after = pair(directory, "model.pt")
    width = nets.width_of(size)
    parts = [torch.complex(*seeded(2, width, width, seed=number)) for number in range(3)]
    torch.save({f"freqs.{number}": part for number, part in enumerate(parts)}, before)
    torch.save(
        {f"freqs.{number}": torch.view_as_real(part) for number, part in enumerate(parts)}, after
    )
    kept = nbytes(parts)
    return planted(before, after, {"carried": (kept, kept)})


@recipe("vocab-grown", "shape")
def vocab_grown(directory: Path, size: Size) -> Planted:
    """An embedding that got more rows; the old ones are what they were."""
    before, after = pair(directory, "model.pt")
    rows, width = pick(size, 100, 20_000), pick(size, 16, 256)
    old, new = seeded(rows, width), seeded(rows // 10, width, seed=1)
    torch.save({"embed.weight": old}, before)
    torch.save({"embed.weight": torch.cat([old, new])}, after)
    kept = nbytes([old])
    return planted(before, after, {"carried": (kept, kept), "shape": (0, nbytes([new]))})


@recipe("retrained", "carried")
def retrained(directory: Path, size: Size) -> Planted:
    """The same architecture with other values: names and shapes agree, nothing can be proved."""
    before, after = pair(directory, "model.pt", "model.onnx")
    model, x = perceptron(size)
    other, _ = perceptron(size, seed=1)
    torch.save(model.state_dict(), before)
    nets.export(other, x, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)}, inferred=weights)
