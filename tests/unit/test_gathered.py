"""Snapshots of tensors that hold the same elements, together or in another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from sizeforensics import api
from sizeforensics.inventory import Quantization
from sizeforensics.matching import match
from tests.builders import artifact, diff, random, tensor_causes

Arrays = dict[str, np.ndarray]


def kept(arrays: Arrays, **options):
    return api.take_snapshot(artifact(arrays, **options))


def nbytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def causes(before: Arrays, after: Arrays, **options):
    """Of two snapshots: there, and the same back, as of the arrays themselves."""
    found = tensor_causes(diff(kept(before, **options), kept(after, **options)))
    back = tensor_causes(diff(kept(after, **options), kept(before, **options)))
    assert {key: sizes[::-1] for key, sizes in back.items()} == found
    assert found == tensor_causes(diff(artifact(before, **options), artifact(after, **options)))
    return found


def attention(layers: int = 3) -> Arrays:
    return {
        f"{layer}.{part}": random(10 * layer + number, 8, 8)
        for layer in range(layers)
        for number, part in enumerate(("k", "out", "q", "v"))  # as safetensors sorts them
    }


def fused(parts: Arrays, layers: int = 3) -> Arrays:
    found = {}
    for layer in range(layers):
        found[f"x{layer}"] = np.concatenate([parts[f"{layer}.{part}"] for part in "qkv"])
        found[f"y{layer}"] = parts[f"{layer}.out"]
    return found


ARRANGED: dict[str, tuple[Callable[[], Arrays], Callable[[Arrays], Arrays]]] = {
    "queries, keys and values, not side by side": (attention, fused),
    "of several heights": (
        lambda: {"q": random(1, 12, 8), "k": random(2, 4, 8), "v": random(3, 4, 8)},
        lambda parts: {"qkv": np.concatenate(list(parts.values()))},
    ),
    "side by side in rows": (
        lambda: {"q": random(1, 8, 8), "k": random(2, 8, 8)},
        lambda parts: {"qk": np.ascontiguousarray(np.concatenate(list(parts.values()), axis=1))},
    ),
    "experts, of whom each has two weights": (
        lambda: {f"{at}.{part}": random(2 * at + (part == "w3"), 6, 4) for at in range(9) for part in ("w1", "w3")},
        lambda parts: {
            part: np.stack([parts[f"{at}.{part}"] for at in range(9)]) for part in ("w1", "w3")
        },
    ),
    "gates in another order": (
        lambda: {"w": random(1, 4, 3, 5).reshape(12, 5)},
        lambda parts: {"w": np.ascontiguousarray(parts["w"].reshape(4, 3, 5)[[0, 3, 1, 2]]).reshape(12, 5)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRANGED)
@pytest.mark.parametrize("types", ["float32 float32", "float32 float16", "bfloat16 float32", "float64 float32"])
def test_rows_of_others_in_any_arrangement(name, types):
    make, arrange = ARRANGED[name]
    source, target = (
        ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name) for name in types.split()
    )
    before = {key: array.astype(source) for key, array in make().items()}
    after = {key: array.astype(target) for key, array in arrange(before).items()}
    found = causes(before, after)
    carried = min(nbytes(before), nbytes(after))
    assert found["carried"] == (carried, carried)
    assert set(found) <= {"carried", "dtype"}
    evidence = {match.evidence for match in match(kept(before), kept(after)).matches if match.elements}
    assert evidence <= {"inferred"}


def test_zeros_may_fill_what_the_parts_leave():
    """A fused bias whose keys have none."""
    before = {"q": random(1, 8), "v": random(2, 8)}
    after = {"qkv": np.concatenate([before["q"], np.zeros(8, np.float32), before["v"]])}
    assert causes(before, after) == {"carried": (64, 64), "shape": (0, 32)}


def test_what_a_sum_does_not_reach_is_not_matched():
    before = attention(1)
    after = fused(before, 1)
    after["x0"][0, 0] += 1
    found = tensor_causes(diff(kept(before), kept(after)))
    assert found["unmatched"] == (3 * 256, 3 * 256)


def test_a_tensor_that_is_the_beginning_of_another_one():
    table = random(1, 30, 8)
    assert causes({"a": table}, {"b": table[:12].copy()}) == {
        "carried": (12 * 32, 12 * 32), "shape": (18 * 32, 0),
    }  # fmt: skip
    assert causes({"a": table.astype("f2")}, {"b": table[None, :12].astype("f2").astype("f4")})[
        "dtype"
    ] == (0, 12 * 16)


def test_positions_that_count_to_less():
    assert causes({"a": np.arange(512)[None]}, {"b": np.arange(16)}) == {
        "carried": (128, 128), "shape": (496 * 8, 0),
    }  # fmt: skip
    apart = tensor_causes(diff(kept({"a": np.arange(0, 1024, 2)}), kept({"b": np.arange(16)})))
    assert "carried" not in apart


@pytest.mark.parametrize("order", ["rows", "columns"])
def test_the_values_of_a_sparse_tensor(order):
    dense = random(1, 20, 6) * (random(2, 20, 6) > 1)
    where = np.argwhere(dense if order == "rows" else dense.T).T.astype("i8").copy()
    values = (dense if order == "rows" else dense.T)[tuple(where)]
    before, after = {"w": dense}, {"s.values": values, "s.indices": where}
    found = causes(before, after, uses={"s.indices": "sparse-index"})
    assert found["carried"] == (values.nbytes, values.nbytes)
    assert found["densified"] == (dense.nbytes - values.nbytes, 0)


# Factors of an adapter


def adapted(layers: int = 3) -> tuple[Arrays, Arrays]:
    before, after = {}, {}
    for layer in range(layers):
        weight = random(layer, 24, 20)
        first, second = random(50 + layer, 6, 20), random(80 + layer, 24, 6)
        before |= {
            f"{layer}.proj.base_layer.weight": weight, f"{layer}.proj.lora_A.default.weight": first,
            f"{layer}.proj.lora_B.default.weight": second,
        }  # fmt: skip
        after[f"{layer}.proj.weight"] = weight + np.float32(0.5) * second @ first
    return before, after


def test_factors_inside_the_module_of_a_weight_that_changed():
    before, after = adapted()
    found = causes(before, after)
    assert found == {"carried": (3 * 1920, 3 * 1920), "folded": (3 * 6 * 44 * 4, 0)}
    folds = match(kept(before), kept(after)).folds
    assert {fold.evidence for fold in folds} == {"inferred"}
    assert [(fold.tensor, fold.into) for fold in folds] == [(1, 0), (2, 0), (4, 1), (5, 1), (7, 2), (8, 2)]


def test_factors_beside_another_module_stay_what_they_are():
    before, after = adapted(1)
    before = {name.replace("proj.lora", "adapter.down"): array for name, array in before.items()}
    found = tensor_causes(diff(kept(before), kept(after)))
    assert found["unmatched"] == (6 * 44 * 4, 0)


# Scales that nobody names


@pytest.mark.parametrize(("zero", "axis"), [(0, None), (117, None), (0, 0), (0, 1)])
def test_integers_whose_scale_is_stored_near_by(zero, axis):
    weight = random(1, 40, 24)
    others = {0: 1, 1: 0, None: (0, 1)}[axis]
    scale = np.abs(weight).max(axis=others) / (100 if zero else 127)
    along = np.expand_dims(scale, others) if axis is not None else scale
    codes = np.clip(np.rint(weight / along) + zero, 0 if zero else -128, 255 if zero else 127)
    after = {"s": np.asarray(scale, "f4"), "w_q": codes.astype("u1" if zero else "i1")}
    found = causes({"w": weight}, after)
    assert found["quantization-parameters"] == (0, scale.nbytes)
    assert found["carried"] == (960, 960)
    wrong = {**after, "s": np.asarray(scale * 1.5, "f4")}
    assert "quantization-parameters" not in tensor_causes(diff(kept({"w": weight}), kept(wrong)))


# Nothing but roundings


def test_weights_that_agree_but_for_roundings():
    weight = random(1, 30, 30)
    rounded = np.nextafter(weight, np.float32(np.inf))
    (found,) = match(kept({"a": weight, "b": random(2, 30, 30)}), kept({"x": rounded})).matches
    assert (found.before, found.evidence, found.how) == (0, "inferred", "equal but for roundings")


def blocked(weight: np.ndarray, block: int) -> Arrays:
    """Codes of four bits, a scale for each block of a row, in the order of MatMulNBits."""
    parts = weight.T.reshape(weight.shape[1], -1, block)
    scale = np.abs(parts).max(axis=2) / 7
    codes = np.rint(parts / scale[..., None]).astype("i1")
    return {"q": codes.reshape(weight.shape[1], -1), "s": scale.astype("f4")}


@pytest.mark.parametrize("block", [8, 32])
def test_blocks_of_which_the_scales_are_kept(block):
    weights = {f"w{at}": random(at, 256, 40) for at in range(20)}
    after: Arrays = {}
    links = []
    for at, weight in enumerate(reversed(weights.values())):  # more than are tried in a row
        links.append(Quantization(len(after), len(after) + 1, None, axes=(0, 1), block=block))
        after |= {f"{name}{at}": array for name, array in blocked(weight, block).items()}
    uses = {name: "quantization-parameters" for name in after if name.startswith("s")}
    model = replace(artifact(after, uses=uses), quantizations=tuple(links))
    found = match(kept(weights), api.take_snapshot(model))
    assert [(pair.before, pair.after // 2) for pair in found.matches] == [(at, 19 - at) for at in range(20)]
    assert {pair.evidence for pair in found.matches} == {"inferred"}
    assert f"in blocks of {block} along axis 1" in found.matches[0].how
