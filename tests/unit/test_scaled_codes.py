"""A batch-norm folded into a weight that was quantised next is proved from both, or not claimed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from sizeforensics import api, formats
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Ledger
from sizeforensics.matching import match
from sizeforensics.source import MemorySource
from tests.builders import artifact, diff, tensor_causes
from tests.ledgers import ledger
from tests.renaming import changed_by_renaming, renamed

Array = npt.NDArray[Any]
OUT, IN = 12, 10
LAYERS = {
    # shape of the weight, axis of the channels that the batch-norm has, order of axes in the graph
    "conv": ((OUT, IN, 3, 3), 0, (0, 1, 2, 3)),
    "depthwise": ((OUT, 1, 3, 3), 0, (0, 1, 2, 3)),
    "conv transposed": ((IN, OUT, 3, 3), 1, (0, 1, 2, 3)),
    "linear": ((OUT, 40), 0, (0, 1)),
    "linear, transposed": ((OUT, 40), 0, (1, 0)),
    "conv1d": ((OUT, IN, 5), 0, (0, 1, 2)),
}


class Folded:
    """A weight and a batch-norm, and the codes of the product under scales of its own."""

    def __init__(self, layer: str = "conv", *, channels: bool = True, shift: bool = False, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shape, self.axis, order = LAYERS[layer]
        self.weight = (rng.standard_normal(shape) / 3).astype(np.float16)
        self.norm = {
            "gamma": (rng.uniform(0.5, 2, OUT) * rng.choice([-1, 1], OUT)).astype(np.float16),
            "beta": rng.standard_normal(OUT).astype(np.float16),
            "mean": rng.standard_normal(OUT).astype(np.float16),
            "variance": rng.uniform(0.2, 3, OUT).astype(np.float16),
        }
        wide = {name: vector.astype(np.float32) for name, vector in self.norm.items()}
        factors = wide["gamma"] / np.sqrt(wide["variance"] + np.float32(1e-3))
        self.bias = wide["beta"] - wide["mean"] * factors
        sizes = [-1 if at == self.axis else 1 for at in range(len(shape))]
        product = (self.weight.astype(np.float32) * factors.reshape(sizes)).transpose(order)
        self.along = order.index(self.axis)
        others = tuple(at for at in range(product.ndim) if at != self.along) if channels else None
        low, high = (end(product, axis=others, keepdims=True) for end in (np.min, np.max))
        if shift:
            self.scale, least = (high - low) / 255, 0
            self.zero = np.rint(-low / self.scale).astype(np.uint8)
        else:
            self.scale, least = np.maximum(-low, high) / 127, -127
            self.zero = np.zeros(self.scale.shape, dtype=np.int8)
        codes = np.rint(product / self.scale) + self.zero
        self.codes = np.clip(codes, least, least + 255).astype(self.zero.dtype)
        self.channels = channels
        self.step = np.float32(0.02) * self.numbers(self.scale)

    def numbers(self, values: Array) -> Array:
        return values.reshape(-1) if self.channels else values.reshape(())

    def before(self) -> Inventory:
        return artifact({"weight": self.weight, **self.norm})

    def after(self) -> Inventory:
        bias = np.rint(self.bias / self.step).astype(np.int32)
        stored = {
            "q": self.codes, "s": self.numbers(self.scale), "z": self.numbers(self.zero), "b": bias,
            "t": np.asarray(self.step),
        }  # fmt: skip
        nodes = [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=self.along),
            helper.make_node("DequantizeLinear", ["b", "t"], ["c"], axis=0),
        ]
        return model(nodes, stored)


def model(nodes: list[onnx.NodeProto], stored: dict[str, Array]) -> Inventory:
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [], [], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return formats.read_source(MemorySource("q.onnx", proto.SerializeToString()))


def of_weights(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Causes of tensors, without those of the graph and of the scales."""
    beside = ("graph", "metadata", "names", "quantization-parameters")
    return {cause: sides for cause, sides in tensor_causes(ledger).items() if cause not in beside}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("channels", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("shift", [False, True], ids=["symmetric", "zero points"])
def test_weight_and_bias_are_proved(layer: str, channels: bool, shift: bool) -> None:
    folded = Folded(layer, channels=channels, shift=shift)
    before, after = folded.before(), folded.after()
    found = diff(before, after)
    n = folded.weight.size
    causes = {
        "carried": (n + 2 * OUT, n + 2 * OUT), "dtype": (n, 2 * OUT), "folded": (3 * 2 * OUT, 0),
    }  # fmt: skip
    assert of_weights(found) == causes
    assert {row.evidence for row in found.rows if row.cause in causes} == {"proved"}
    assert of_weights(diff(after, before)) == {cause: sides[::-1] for cause, sides in causes.items()}
    assert not changed_by_renaming(before, after)


def test_the_proof_names_norm_and_scale() -> None:
    folded = Folded()
    matching = match(folded.before(), folded.after())
    weight, bias = matching.matches
    assert weight.how == (
        "batch-norm mean (eps 0.001) folded into axis 0, "
        "quantised per channel of axis 0: within half a step of the stored scale s"
    )
    assert 0 < weight.difference <= folded.scale.max() / 2 * 1.0001
    assert bias.how == "bias recomputed from batch-norm mean"
    assert [fold.how for fold in matching.folds] == ["batch-norm mean folded into the weight"] * 3


def proved(before: Inventory, after: Inventory) -> bool:
    matches = match(before, after).matches
    return any(found.evidence == "proved" and "batch-norm" in found.how for found in matches)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("channels", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("shift", [False, True], ids=["symmetric", "zero points"])
def test_snapshots_infer_what_the_files_prove(layer: str, channels: bool, shift: bool) -> None:
    folded = Folded(layer, channels=channels, shift=shift)
    models = renamed(folded.before(), 1), renamed(folded.after(), 2)
    for before, after in (models, models[::-1]):
        found = api.compare(api.take_snapshot(before), api.take_snapshot(after))
        assert ledger(found) == ledger(api.compare(before, after))
        assert {row.evidence for row in found.rows if row.cause in ("carried", "folded")} == {"inferred"}


def test_snapshots_tell_other_weights_from_those_a_norm_was_folded_into() -> None:
    for seed in range(20):
        folded, other = Folded(seed=seed), Folded(seed=100 + seed)
        for one, two in ((folded, other), (other, folded)):
            before = artifact({"weight": one.weight, **two.norm})
            after = renamed(folded.after(), 2)
            of_snapshots = api.compare(api.take_snapshot(before), api.take_snapshot(after))
            assert ledger(of_snapshots) == ledger(api.compare(before, after))
            assert not any(row.cause == "folded" for row in of_snapshots.rows)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_nothing_but_its_own_norm_explains_a_weight(data: st.DataObject) -> None:
    layer = data.draw(st.sampled_from(sorted(LAYERS)))
    folded = Folded(layer, channels=data.draw(st.booleans()), shift=data.draw(st.booleans()))
    after = folded.after()
    assert proved(folded.before(), after)
    name, at = data.draw(st.sampled_from(["gamma", "variance"])), data.draw(st.integers(0, OUT - 1))
    kept = folded.norm[name][at].copy()
    folded.norm[name][at] *= data.draw(st.sampled_from([0.5, 2]))
    assert not proved(folded.before(), after)
    folded.norm[name][at] = kept
    place = tuple(data.draw(st.integers(0, size - 1)) for size in folded.weight.shape)
    folded.weight[place] = -folded.weight[place] - np.sign(folded.weight[place])
    assert not proved(folded.before(), after)


def test_other_weights_under_the_same_norm_prove_nothing() -> None:
    folded, other = Folded(), Folded(seed=1)
    folded.weight = other.weight
    assert not proved(folded.before(), Folded().after())


def test_many_layers_find_their_own_norm_in_any_order() -> None:
    count = 40
    many = [Folded("linear", seed=seed) for seed in range(count)]
    before: dict[str, Array] = {}
    stored: dict[str, Array] = {}
    nodes = []
    for at, folded in enumerate(many):
        before |= {f"{at}.weight": folded.weight}
        before |= {f"{at}.{name}": vector for name, vector in folded.norm.items()}
    for at, folded in enumerate(reversed(many)):
        stored |= {f"q{at}": folded.codes, f"s{at}": folded.scale.reshape(-1)}
        nodes.append(helper.make_node("DequantizeLinear", [f"q{at}", f"s{at}"], [f"w{at}"], axis=0))
    models = artifact(before), model(nodes, stored)
    matches = match(*models).matches
    assert [(one.before // 5, one.after // 2) for one in matches] == [
        (at, count - 1 - at) for at in range(count)
    ]
    assert {one.evidence for one in matches} == {"proved"}
    kept = match(*map(api.take_snapshot, models))
    assert [found[:2] for found in kept.matches] == [found[:2] for found in matches]
    assert len(kept.folds) == 4 * count


def test_a_norm_in_front_of_a_layer() -> None:
    folded = Folded("conv transposed")
    wide = {name: vector.astype(np.float64) for name, vector in folded.norm.items()}
    shift = wide["beta"] - wide["mean"] * wide["gamma"] / np.sqrt(wide["variance"] + 1e-3)
    folded.bias = folded.weight.astype(np.float64).sum(axis=(2, 3)) @ shift
    folded.step = np.float32(1e-5)
    matches = match(folded.before(), folded.after()).matches
    assert [found.evidence for found in matches] == ["proved", "proved"]
    assert matches[1].elements == IN
