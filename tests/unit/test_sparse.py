"""The values of a sparse tensor are matched with the dense one whose other elements are zero."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.inventory import Inventory
from sizeforensics.matching import match
from tests.builders import artifact, diff, random, tensor_causes

ROWS, COLUMNS = 12, 10


def dense(seed=1, density=0.3, dtype="f4"):
    mask = np.random.default_rng(seed).random((ROWS, COLUMNS)) < density
    return np.where(mask, random(seed + 1, ROWS, COLUMNS), 0).astype(dtype)


def sparse(array, name="w", *, by_column=False, order=None) -> Inventory:
    """Indices and values as a coalesced COO tensor has them, or as CSC has, under ``name``."""
    turned = array.T if by_column else array
    places = np.stack(np.nonzero(turned)).astype(np.int64)
    values = turned[tuple(places)]
    if order is not None:
        places, values = places[:, order], values[order]
    pieces = {f"{name}.indices": places, f"{name}.values": values}
    return artifact(pieces, uses={f"{name}.indices": "sparse-index"})


def proof(before, after):
    return [(found.evidence, found.how) for found in match(before, after).matches]


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("names", [("w", "w"), ("a", "b")])
def test_values_are_the_elements_that_are_not_zero(names, by_column):
    array = dense()
    kept = int(np.count_nonzero(array))
    before, after = artifact({names[0]: array}), sparse(array, names[1], by_column=by_column)
    words = f"{kept} elements that are not zero{', column by column' if by_column else ''}"
    for one, other in ((before, after), (after, before)):
        assert proof(one, other) == [("proved", words)]
    causes = tensor_causes(diff(before, after))
    assert causes["carried"] == (4 * kept, 4 * kept)
    assert causes["sparse-index"] == (0, 16 * kept)
    assert "unmatched" not in causes


@pytest.mark.parametrize("dtype", ["f2", "f8", ml_dtypes.bfloat16], ids=["f2", "f8", "bf16"])
def test_values_of_another_type(dtype):
    array = dense()
    found = proof(artifact({"w": array}), sparse(array.astype(dtype)))
    assert [evidence for evidence, _ in found] == ["proved"]


def test_many_tensors_of_as_many_elements_find_their_own():
    """Sixty-four elements each, so that only content tells them apart."""
    rng = np.random.default_rng(0)
    arrays = {}
    for at in range(8):
        array = np.zeros(ROWS * COLUMNS, dtype="f4")
        array[rng.permutation(array.size)[:64]] = random(at, 64)
        arrays[f"d{at}"] = array.reshape(ROWS, COLUMNS)
    pieces = {}
    for at in (3, 0, 7, 5, 1, 6, 2, 4):
        places = np.nonzero(arrays[f"d{at}"])
        pieces |= {f"x{at}.indices": np.stack(places), f"x{at}.values": arrays[f"d{at}"][places]}
    uses = {name: "sparse-index" for name in pieces if name.endswith("indices")}
    before, after = artifact(arrays), artifact(pieces, uses=uses)
    pairs = {
        (before.tensors[found.before].name[1:], after.tensors[found.after].name[1:2])
        for found in match(before, after).matches
    }
    assert pairs == {(str(at), str(at)) for at in range(8)}


@pytest.mark.parametrize("what", ["value", "order", "one more", "row by row of the transpose"])
def test_other_values_prove_nothing(what):
    array = dense()
    other, order = array.copy(), None
    first = tuple(part[0] for part in np.nonzero(array))
    if what == "value":
        other[first] += 1e-3
    elif what == "order":
        order = np.roll(np.arange(np.count_nonzero(array)), 1)
    elif what == "one more":
        other[np.unravel_index(np.argmin(np.abs(array)), array.shape)] = 0.5
    else:
        other = np.sort(array, axis=0)
    found = match(artifact({"w": array}), sparse(other, "v", order=order)).matches
    assert all(one.evidence != "proved" for one in found)


def test_a_vector_beside_no_indices_is_no_sparse_tensor():
    array = dense()
    values = artifact({"v": array[np.nonzero(array)]})
    assert not match(artifact({"w": array}), values).matches


def test_a_dense_tensor_without_zeros_is_found_by_its_content():
    array = random(5, ROWS, COLUMNS)
    assert [evidence for evidence, _ in proof(artifact({"w": array}), sparse(array))] == ["proved"]


def test_nan_is_not_zero():
    array = dense()
    array[np.nonzero(array)[0][2], np.nonzero(array)[1][2]] = np.nan
    assert [evidence for evidence, _ in proof(artifact({"w": array}), sparse(array))] == ["proved"]
