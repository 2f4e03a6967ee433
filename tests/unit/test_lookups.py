"""A table whose rows the other side stores once for each use, and what only looks like one."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from sizeforensics.matching import match
from tests.builders import artifact, diff, random, tensor_causes

WINDOW, HEADS = 5, 3
ROWS, PLACES = (2 * WINDOW - 1) ** 2, WINDOW**2
TABLE = random(1, ROWS, HEADS)


def index(window=WINDOW):
    """Which distance two places of a window have (Liu et al. 2021, section 3.2)."""
    places = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    distance = places[:, :, None] - places[:, None, :] + window - 1
    return distance[0] * (2 * window - 1) + distance[1]


def bias(table=TABLE, dtype="f4"):
    """What an exporter makes of ``table[index].view(...).permute(2, 0, 1)``."""
    return table[index()].transpose(2, 0, 1)[None].astype(dtype)


@pytest.mark.parametrize(("source", "target"), [("f4", "f4"), ("f2", "f4"), ("f4", "f2"), ("f8", "f4")])
def test_rows_gathered_permuted_and_cast(source, target):
    table = TABLE.astype(source)
    before, after = artifact({"t": table}), artifact({"x": bias(table, target)})
    for one, other, sign in ((before, after, 1), (after, before, -1)):
        (found,) = match(one, other).matches
        assert found.evidence == "proved"
        assert found.how.startswith(
            "81 rows gathered to 625 by an index that 56 bytes regenerate (a coordinate grid)"
        )
        causes = tensor_causes(diff(one, other))
        written = (625 - ROWS) * HEADS * np.dtype(target).itemsize
        assert causes["densified"] == ((0, written) if sign > 0 else (written, 0))
        assert "unmatched" not in causes


def test_many_tables_find_what_was_made_of_each():
    tables = {f"t{at}": random(10 + at, ROWS, HEADS) for at in range(12)}
    after = {f"x{(5 * at) % 12:02}": bias(table) for at, table in enumerate(tables.values())}
    before, other = artifact(tables), artifact(dict(sorted(after.items())))
    found = {(found.before, other.tensors[found.after].name) for found in match(before, other).matches}
    assert found == {(at, f"x{(5 * at) % 12:02}") for at in range(12)}


def test_columns_gathered():
    """LeViT looks up along the last axis."""
    table = TABLE.T.copy()
    (found,) = match(artifact({"t": table}), artifact({"x": table[:, index()]})).matches
    assert found.evidence == "proved"


def test_single_numbers_gathered():
    (found,) = match(artifact({"t": TABLE[:, 0]}), artifact({"x": TABLE[index(), 0]})).matches
    assert found.evidence == "proved"


@pytest.mark.parametrize("source", ["f4", "i8", "u1"])
@pytest.mark.parametrize("shape", [(2, 4), (3, 1, 6), (13, 6)])
def test_few_long_rows_and_integers(source, shape):
    """Embeddings of two kinds of tokens, written out for every place, and codes of any table."""
    table = np.random.default_rng(1).permutation(256)[: prod(shape)].reshape(shape).astype(source)
    rows = np.concatenate([np.arange(shape[0]), np.random.default_rng(2).integers(0, shape[0], 40)])
    for target in (source, source.replace("8", "4").replace("f4", "f2")):
        (found,) = match(artifact({"t": table}), artifact({"x": table[rows].astype(target)})).matches
        assert found.evidence == "proved"
        assert found.how.startswith(f"{shape[0]} rows gathered to {len(rows)}")


def test_an_index_is_not_made_of_a_range():
    numbers = np.random.default_rng(3).permutation(np.arange(600) % 50)
    assert not match(artifact({"t": np.arange(50)[::-1].copy()}), artifact({"x": numbers})).matches


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_the_index_is_absorbed(dtype):
    before = {"i": index().astype(dtype), "other": random(3, 625).astype(dtype), "t": TABLE}
    matching = match(artifact(before), artifact({"x": bias()}))
    assert [(fold.tensor, fold.evidence) for fold in matching.folds] == [(0, "proved")]


def changed(place):
    other = np.ascontiguousarray(bias())
    other.reshape(-1)[place] += 1e-3
    return other


WRONG = {
    "one element changed": changed(700),
    "a row of the table unused": TABLE[np.random.default_rng(6).integers(1, ROWS, 400)],
    "rows of another table": bias(random(2, ROWS, HEADS)),
    "other values": random(5, 1, HEADS, PLACES, PLACES),
    "elements of a row mixed up": bias()[:, ::-1].copy(),
    "only as many rows": TABLE[::-1].copy(),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_gathered_is_not_proved(name):
    before, after = artifact({"t": TABLE}), artifact({"x": WRONG[name]})
    for one, other in ((before, after), (after, before)):
        assert all(found.evidence != "proved" for found in match(one, other).matches)


def test_a_table_with_two_equal_rows_tells_no_index():
    table = TABLE.copy()
    table[7] = table[9]
    assert not match(artifact({"t": table}), artifact({"x": bias(table)})).matches


def test_nan_and_infinities_are_no_hindrance():
    table = TABLE.copy()
    table[3, 1], table[5, 0] = np.inf, np.nan
    (found,) = match(artifact({"t": table}), artifact({"x": bias(table)})).matches
    assert found.evidence == "proved"
