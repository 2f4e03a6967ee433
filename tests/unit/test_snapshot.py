"""Snapshots: what they hold, and that a diff of them gives each cause the bytes of the models."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from sizeforensics import api, formats
from sizeforensics.inventory import Inventory
from sizeforensics.report import snapshots
from sizeforensics.source import MemorySource

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
NAMES = sorted(path.name for path in MODELS.iterdir() if path.suffix != ".data")
PAIRS = list(combinations_with_replacement(NAMES, 2))

NEEDS_PAYLOAD = {("yolov5-micro-train.pt", "yolov5-mini.pt")}
"""Two networks of other widths made from one seed: the first rows of one weight are by chance the
rows of another one's average. That rows of one tensor are rows of another only the payload tells."""

STRENGTH = ("inferred", "parsed", "proved")


def text_of(inventory: Inventory) -> str:
    return "".join(snapshots.text(api.take_snapshot(inventory)))


def reread(text: str, path: str = "model.json") -> Inventory:
    return formats.read_source(MemorySource(path, text.encode()))


@cache
def model(name: str) -> Inventory:
    return formats.read(str(MODELS / name))


@cache
def snapshot(name: str) -> Inventory:
    return reread(text_of(model(name)))


def by_cause(diff: api.Diff) -> dict[tuple[str, str], tuple[int, int]]:
    before: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    for row in diff.rows:
        before[row.cause, row.label] += row.before_bytes
        after[row.cause, row.label] += row.after_bytes
    return {key: (before[key], after[key]) for key in before | after if before[key] or after[key]}


@cache
def of_files(before: str, after: str) -> api.Diff:
    return api.compare(model(before), model(after))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_snapshots_give_each_cause_the_bytes_of_the_files(pair):
    """In every order and mixture: a snapshot of both, of the first, of the second."""
    before, after = pair
    expected = by_cause(of_files(before, after))
    mixtures = [
        api.compare(snapshot(before), snapshot(after)),
        api.compare(model(before), snapshot(after)),
        api.compare(snapshot(before), model(after)),
    ]
    for diff in mixtures:
        assert by_cause(diff) == by_cause(mixtures[0])
        assert (by_cause(diff) == expected) is (pair not in NEEDS_PAYLOAD)
        assert sum(row.delta_bytes for row in diff.rows) == model(after).nbytes - model(before).nbytes
    mirrored = api.compare(snapshot(after), snapshot(before))
    assert {key: bytes_[::-1] for key, bytes_ in by_cause(mirrored).items() if key[0] != "dtype"} == {
        key: bytes_ for key, bytes_ in by_cause(mixtures[0]).items() if key[0] != "dtype"
    }
    if before == after:
        assert not any(row.delta_bytes for row in mixtures[0].rows)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_evidence_is_never_stronger_than_that_of_the_files(pair):
    before, after = pair
    whole = of_files(before, after).report.tensor_evidence
    kept = api.compare(snapshot(before), snapshot(after)).report.tensor_evidence
    assert kept.proved <= whole.proved
    assert kept.unexplained == whole.unexplained == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_says_what_the_model_says(name):
    ours, theirs = model(name), snapshot(name)
    assert theirs.format == "snapshot"
    assert theirs.nbytes == ours.nbytes
    assert theirs.bytes_by_subject() == ours.bytes_by_subject()
    assert theirs.nodes.count_and_bytes_by_op() == ours.nodes.count_and_bytes_by_op()
    inspected, expected = api.look_into(theirs), api.look_into(ours)
    assert inspected.report.roles == expected.report.roles
    assert inspected.report.dtypes == expected.report.dtypes
    assert inspected.waste == expected.waste
    # Storages are numbered in the order in which tensors view them.
    assert [row._replace(storage=None) for row in inspected.tensors] == [
        row._replace(storage=None) for row in expected.tensors
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_of_a_snapshot_is_the_same(name):
    assert text_of(snapshot(name)) == text_of(model(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_takes_at_most_200_bytes_compressed(name, tmp_path):
    for kind in (".json.gz", ".json.zst"):
        path = tmp_path / f"model{kind}"
        snapshots.write(api.take_snapshot(model(name)), str(path))
        assert path.stat().st_size <= 200 * len(model(name).tensors)
        assert formats.read(str(path)).nbytes == model(name).nbytes
