"""What snapshots tell of tensors that take the payload to prove: as the files do, and inferred."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics import api
from tests.builders import artifact, random
from tests.ledgers import ledger
from tests.renaming import renamed

HALF = ("float32", "float16", ml_dtypes.bfloat16)


def causes(before, after, *, names=True):
    """The causes of two snapshots, which have to be those of the files, there and back."""
    models = artifact(before), artifact(after)
    if not names:
        models = renamed(models[0], 1), renamed(models[1], 2)
    kept = [api.take_snapshot(model) for model in models]
    for one, two in ((0, 1), (1, 0)):
        of_snapshots = api.compare(kept[one], kept[two])
        assert ledger(of_snapshots) == ledger(api.compare(models[one], models[two]))
        assert ledger(api.compare(models[one], kept[two])) == ledger(of_snapshots)
    found = api.compare(*kept)
    return {
        row.cause: row.evidence for row in found.rows if row.before is not None or row.after is not None
    }


# Tables


def window(size):
    """The index of the relative position of every pair of places in a square."""
    places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij")).reshape(2, -1)
    apart = places[:, :, None] - places[:, None, :] + size - 1
    return apart[0] * (2 * size - 1) + apart[1]


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("types", [("float32", "float32"), ("float16", "float32"), ("float32", "float16")])
@pytest.mark.parametrize("heads", [1, 3])
def test_a_table_that_was_gathered_by_an_index(heads, types, names):
    size, before, after = 5, {}, {}
    index = window(size)
    for layer in range(3):
        table = random(layer, (2 * size - 1) ** 2, heads)
        before[f"table{layer}"] = table.astype(types[0])
        after[f"bias{layer}"] = np.ascontiguousarray(table[index].transpose(2, 0, 1)).astype(types[1])
        if types == ("float16", "float32"):
            after[f"bias{layer}"] = after[f"bias{layer}"].astype("f2").astype("f4")
    before["index"] = index
    found = causes(before, after, names=names)
    if heads == 1 and types != ("float32", "float32"):
        return  # in half precision numbers recur: nothing tells them from a table's
    assert found["densified"] == found["folded"] == "inferred"


def test_rows_that_recur_by_chance_are_no_table():
    pruned = np.where(random(1, 64, 64) > 1, random(2, 64, 64), 0)
    assert causes({"w": pruned, "v": random(3, 16, 64)}, {"x": random(4, 64, 64)}).keys() <= {
        "carried", "unmatched"
    }  # fmt: skip
    kept = api.take_snapshot(artifact({"half": random(5, 64, 64).astype("f2"), "wide": random(5, 64, 64).astype("f2").astype("f4")}))
    assert [excerpt.distinct for excerpt in kept.excerpts] == [None, None]


# Cuts


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("rows", [(2, 50), (0, 40), (13, 60), (20, 64)])
def test_rows_from_the_middle_of_a_matrix(rows, dtype, names):
    whole = {f"w{at}": random(at, 64, 24) for at in range(3)}
    part = {f"x{at}": array[slice(*rows)].astype(dtype) for at, array in enumerate(whole.values())}
    found = causes(whole, part, names=names)
    assert found["carried"] == found["shape"] == "inferred"


def test_rows_of_a_matrix_that_was_trained_on_are_no_cut():
    whole = random(0, 64, 24)
    part = whole[2:50] + 1e-3 * random(1, 48, 24)
    causes({"w": whole}, {"x": part.astype("f4")})
    half = whole[2:50].copy()
    half[::2] += 1
    assert "shape" not in causes({"w": whole}, {"x": half})


@pytest.mark.parametrize("dtype", ["i8", "f4"])
@pytest.mark.parametrize("part", [(8, 60), (0, 31), (-3, 9), (40, 80)])
@pytest.mark.parametrize("step", [1, -2])
def test_numbers_that_count_are_among_those_that_count_further(step, part, dtype):
    before = np.arange(-5, 100, dtype=dtype) * np.array(step, dtype)
    after = np.arange(*part, dtype=dtype) * np.array(step, dtype)
    found = causes({"w": before}, {"x": after}, names=False)
    assert found["carried"] == found["shape"] == "inferred"


# Masks


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_pruning_masks_by_the_elements_that_are_kept(dtype, names):
    before, after = {}, {}
    for layer in range(4):
        weight = random(layer, 24, 20)
        mask = (random(10 + layer, 24, 20) > 0).astype("f4")
        before |= {f"layer{layer}.weight_orig": weight, f"layer{layer}.weight_mask": mask}
        after[f"layer{layer}.weight"] = (weight * mask).astype(dtype)
    assert causes(before, after, names=names)["folded"] == "inferred"


# Adapters


def adapted(layers=3, rows=24, columns=20, rank=3, train=0.0):
    """A model with adapters, and what remains of it: merged, or trained on without them."""
    before, after = {}, {}
    for layer in range(layers):
        name = f"layers.{layer}"
        weight, bias = random(layer, rows, columns), random(50 + layer, rows)
        down, up = 0.1 * random(100 + layer, rank, columns), random(200 + layer, rows, rank)
        before |= {
            f"{name}.weight": weight, f"{name}.bias": bias,
            f"{name}.lora_A": down, f"{name}.lora_B": up,
        }  # fmt: skip
        merged = weight + 2 * up @ down
        after[f"{name}.weight"] = merged if not train else weight + train * random(7 + layer, rows, columns)
        after[f"{name}.bias"] = bias + train * random(8 + layer, rows)
    return before, {name: array.astype("f4") for name, array in after.items()}


def test_merged_adapters_by_name():
    found = causes(*adapted())
    assert found["folded"] == "inferred"


def test_adapters_of_a_model_that_was_trained_on_are_not_merged():
    found = causes(*adapted(train=0.1))
    assert found["unmatched"] == "parsed"
    assert "folded" not in found


def test_what_a_parametrisation_keeps_beside_a_weight_of_another_name():
    at = "norm.parametrizations.weight"
    before = {f"{at}.original": random(1, 9, 7), f"{at}.0.base": random(2, 40)}
    found = causes(before, {"div_1": random(3, 9, 7)})
    assert found == {"carried": "inferred", "folded": "inferred"}
