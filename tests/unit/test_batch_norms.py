"""Batch-norms are found by module, by node or by the order of a state dict."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.fingerprints import fingerprints
from sizeforensics.inventory import Module
from sizeforensics.matching import Pairing, units_of
from sizeforensics.matching.folding.batch_norms import Vectors, batch_norms
from sizeforensics.views import cover
from tests.builders import artifact

VECTORS = {
    "gamma": np.array([1, 2, 3, 4, 5], dtype=np.float32),
    "beta": np.array([5, 4, 3, 2, 1], dtype=np.float32),
    "mean": np.array([0, 1, 0, 1, 2], dtype=np.float32),
    "var": np.array([1, 4, 9, 16, 25], dtype=np.float32),
}


def found(inventory):
    coverage = cover(inventory)
    units = units_of(inventory, coverage, fingerprints(inventory, coverage), 0)
    pairing = Pairing((inventory, inventory), (units, []), (coverage, coverage))
    return list(batch_norms(Vectors(pairing), 0))


def test_scale_and_shift():
    norm = next(iter(found(artifact(VECTORS))))
    assert norm.eps is None
    scale = np.array([1, 2, 3, 4, 5]) / np.sqrt(np.array([1, 4, 9, 16, 25]) + 1e-5)
    scaling = norm.under(1e-5)
    np.testing.assert_allclose(scaling.scale, scale, rtol=1e-12)
    np.testing.assert_allclose(scaling.shift, VECTORS["beta"] - scale * VECTORS["mean"], rtol=1e-12)
    assert [unit.tensor.name for unit in norm.units] == ["gamma", "beta", "mean", "var"]


def test_the_counter_behind_four_vectors_belongs_to_them():
    norms = found(artifact({**VECTORS, "tracked": np.array(3, dtype=np.int64)}))
    assert norms[0].counter.tensor.name == "tracked"
    norms = found(artifact({**VECTORS, "scalar": np.array(3, dtype=np.float32)}))
    assert norms[0].counter is None


@pytest.mark.parametrize(
    ("order", "counter"),
    [(["beta", "mean", "var", "gamma"], False), (["beta", "tracked", "mean", "var", "gamma"], True)],
    ids=["safetensors", "a sorted state dict"],
)
def test_parts_that_are_sorted_by_name(order, counter):
    arrays = VECTORS | {"tracked": np.array(3, dtype=np.int64)}
    norms = found(artifact({name: arrays[name] for name in order}))
    (norm,) = [norm for norm in norms if norm.variance.tensor.name == "var"]
    expected = ["gamma", "beta", "mean", "var", *["tracked"] * counter]
    assert [unit.tensor.name for unit in norm.units] == expected
    np.testing.assert_allclose(
        norm.under(1e-5).scale, VECTORS["gamma"] / np.sqrt(VECTORS["var"] + 1e-5)
    )


@pytest.mark.parametrize("missing", [("weight",), ("bias",), ("weight", "bias")])
def test_a_batch_norm_without_scale_or_shift(missing):
    own = {"running_mean": 2, "running_var": 3, "weight": 0, "bias": 1}
    own = {name: at for name, at in own.items() if name not in missing}
    inventory = artifact(VECTORS, modules=[Module("bn", "BatchNorm1d", {"eps": 0.5}, own)])
    (norm,) = [norm for norm in found(inventory) if norm.eps == 0.5]
    gamma = 1 if "weight" in missing else VECTORS["gamma"].astype(np.float64)
    beta = 0 if "bias" in missing else VECTORS["beta"]
    scale = gamma / np.sqrt(VECTORS["var"] + 0.5)
    np.testing.assert_allclose(norm.under(0.5).scale, scale)
    np.testing.assert_allclose(norm.under(0.5).shift, beta - scale * VECTORS["mean"])


@pytest.mark.parametrize(
    "change",
    [{"var": np.full(5, -1, dtype=np.float32)}, {"var": np.full(5, np.nan, dtype=np.float32)},
     {"mean": np.zeros(4, dtype=np.float32)}, {"gamma": np.zeros((5, 1), dtype=np.float32)},
     {"var": np.arange(5)}],
    ids=["negative variance", "NaN variance", "other length", "a matrix", "integers"],
)
def test_four_tensors_that_are_no_batch_norm(change):
    assert "var" not in [norm.variance.tensor.name for norm in found(artifact(VECTORS | change))]


def test_mixed_types_as_in_half_checkpoints():
    arrays = {name: array.astype(np.float16) for name, array in VECTORS.items()}
    arrays["mean"] = VECTORS["mean"]
    assert len(found(artifact(arrays))) >= 1
