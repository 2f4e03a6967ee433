"""Channels moved from a norm into the weights behind it, as SmoothQuant and AWQ do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from onnx import helper, numpy_helper

from sizeforensics import api, formats
from sizeforensics.inventory import Inventory
from sizeforensics.matching import match
from sizeforensics.source import MemorySource
from tests.ledgers import ledger
from tests.renaming import changed_by_renaming, renamed

WIDTH, OUT = 48, 40


class Block(torch.nn.Module):
    """A norm and three linear layers that read what it makes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (torch.nn.Linear(WIDTH, OUT) for _ in range(3))
        with torch.no_grad():
            self.norm.weight.copy_(torch.rand(WIDTH) + 0.5)
            self.norm.bias.normal_()

    def rescale(self) -> Block:
        """``W s`` behind ``norm / s``, which computes the same."""
        with torch.no_grad():
            factors = torch.exp(torch.randn(WIDTH) / 2).to(self.norm.weight.dtype)
            self.norm.weight.div_(factors)
            self.norm.bias.div_(factors)
            for layer in (self.query, self.key, self.value):
                layer.weight.mul_(factors)
        return self


def state(module: torch.nn.Module, path: Path) -> Inventory:
    torch.save(module.state_dict(), path)
    return formats.read(str(path))


def proofs(before: Inventory, after: Inventory) -> set[tuple[str, str, str]]:
    return {
        (before.tensors[found.before].name, after.tensors[found.after].name, found.evidence)
        for found in match(before, after).matches
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_weight_and_the_norm_in_front(tmp_path: Path, dtype: torch.dtype) -> None:
    blocks = torch.nn.ModuleList([Block(seed) for seed in range(5)]).to(dtype)
    before = state(blocks, tmp_path / "before.pt")
    for block in blocks:
        block.rescale()
    after = state(blocks, tmp_path / "after.pt")
    wanted = {(name, name, "proved") for name in blocks.state_dict()}
    assert proofs(before, after) == proofs(after, before) == wanted
    assert not changed_by_renaming(before, after)
    (how,) = [
        found.how for found in match(before, after).matches
        if before.tensors[found.before].name == "0.query.weight"
    ]  # fmt: skip
    name = str(dtype).removeprefix("torch.")
    assert how == (
        f"scaled per channel of axis 1 by what 0.norm.weight was divided by, to one product in {name}"
    )


def quantised(block: Block) -> Inventory:
    """Its state with the weights in int8, a scale for each row."""
    stored, nodes = {}, []
    for name, tensor in block.state_dict().items():
        if tensor.dim() == 1:
            stored[name] = tensor.numpy()
            nodes.append(helper.make_node("Add", ["x", name], [f"{name}_added"]))
            continue
        scale = tensor.abs().amax(dim=1) / 127
        stored[name] = (tensor / scale[:, None]).round().to(torch.int8).numpy()
        stored[f"{name}_scale"] = scale.numpy()
        nodes.append(helper.make_node("DequantizeLinear", [name, f"{name}_scale"], [f"{name}_float"], axis=0))
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [], [], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return formats.read_source(MemorySource("q.onnx", proto.SerializeToString()))


def test_weights_that_were_quantised_next(tmp_path: Path) -> None:
    block = Block(1)
    before = state(block, tmp_path / "before.pt")
    after = quantised(block.rescale())
    wanted = {(name, name, "proved") for name in block.state_dict()}
    assert proofs(before, after) == wanted
    assert proofs(after, before) == wanted


@pytest.mark.parametrize("quantise", [False, True])
def test_snapshots_infer_what_the_files_prove(tmp_path: Path, quantise: bool) -> None:
    block = Block(1)
    before = renamed(state(block, tmp_path / "before.pt"), 1)
    block.rescale()
    after = renamed(quantised(block) if quantise else state(block, tmp_path / "after.pt"), 2)
    for one, two in ((before, after), (after, before)):
        found = api.compare(api.take_snapshot(one), api.take_snapshot(two))
        assert ledger(found) == ledger(api.compare(one, two))
        assert not any(row.cause == "unmatched" for row in found.rows)
        assert sum("was divided by" in row.how for row in found.rows if row.cause == "carried") == 3


@pytest.mark.parametrize("quantise", [False, True])
def test_no_norm_with_other_factors_is_a_witness(tmp_path: Path, quantise: bool) -> None:
    block = Block(2)
    before = state(block, tmp_path / "before.pt")
    block.rescale()
    with torch.no_grad():
        block.norm.weight[7] *= 1.25
        block.norm.bias[3] *= -1
    after = quantised(block) if quantise else state(block, tmp_path / "after.pt")
    found = match(before, after).matches
    assert not [pair for pair in found if "was divided by" in pair.how]


@pytest.mark.parametrize("zeros", [WIDTH, WIDTH - 1, 1])
def test_zeros_say_no_factor(tmp_path: Path, zeros: int) -> None:
    block = Block(3)
    with torch.no_grad():
        block.norm.weight[:zeros] = 0
        block.norm.bias.zero_()
    before = state(block, tmp_path / "before.pt")
    after = state(block.rescale(), tmp_path / "after.pt")
    proved = {name for name, _, evidence in proofs(before, after) if evidence == "proved"}
    assert not [name for name in proved if name.endswith("weight") and name != "norm.weight"]


def test_a_step_of_training_is_no_factor(tmp_path: Path) -> None:
    block = Block(3)
    before = state(block, tmp_path / "before.pt")
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape))
    after = state(block, tmp_path / "after.pt")
    assert not [pair for pair in match(before, after).matches if "was divided by" in pair.how]
