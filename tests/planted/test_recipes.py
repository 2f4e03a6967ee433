"""Every recipe of the accuracy benchmark at miniature size: the diff finds what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import sizeforensics
from benchmarks.accuracy import nets
from benchmarks.accuracy.planted import Planted, Recipe
from benchmarks.accuracy.recipes import RECIPES
from benchmarks.accuracy.score import Attributed, attributed, evidence, score
from sizeforensics import api, formats
from tests.ledgers import ledger
from tests.renaming import changed_by_renaming, renamed


@pytest.fixture(scope="module", params=RECIPES.values(), ids=RECIPES)
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Recipe, Planted]]:
    recipe: Recipe = request.param
    for package in recipe.needs:
        pytest.importorskip(package)
    with nets.quiet():
        planted = recipe.plant(tmp_path_factory.mktemp("recipe"), "mini")
    return recipe, planted


def test_attributes_what_was_planted(built: tuple[Recipe, Planted]) -> None:
    recipe, planted = built
    found = attributed(sizeforensics.diff(planted.before, planted.after))
    if recipe.limit:
        assert score(planted, found.deltas) < 1.0, f"no longer limited: {recipe.limit}"
        return
    assert dict(found.causes) == dict(sorted(planted.causes.items()))
    assert score(planted, found.deltas) == 1.0
    assert found.inferred == planted.inferred
    assert found.proved == planted.provable
    assert evidence(planted, found) == 1.0
    assert planted.deltas.get(recipe.about) or recipe.about in ("carried", "none")


def test_snapshots_give_the_ledger_of_the_files(built: tuple[Recipe, Planted]) -> None:
    """A snapshot of both models, of the one before, of the one after; there and back."""
    _, planted = built
    models = [formats.read(str(path)) for path in (planted.before, planted.after)]
    kept = [api.take_snapshot(model) for model in models]
    for before, after in ((0, 1), (1, 0)):
        of_files = api.compare(models[before], models[after])
        for one, two in ((kept, kept), (models, kept), (kept, models)):
            of_snapshots = api.compare(one[before], two[after])
            assert ledger(of_snapshots) == ledger(of_files)
            assert attributed(of_snapshots).causes == attributed(of_files).causes
            assert attributed(of_snapshots).proved <= attributed(of_files).proved
            assert of_snapshots.report.tensor_evidence.unexplained == 0


KNOWN_BY_NAME = {
    "pruning-mask (sparse)", "weight-norm", "orthogonal", "adapter-merged",
}  # fmt: skip
"""Recipes of which a snapshot tells what was computed from what by names alone."""


def test_snapshots_of_other_names_give_the_ledger_of_such_files(built: tuple[Recipe, Planted]) -> None:
    recipe, planted = built
    models = [
        renamed(formats.read(str(path)), seed)
        for seed, path in enumerate((planted.before, planted.after))
    ]
    of_files, of_snapshots = api.compare(*models), api.compare(*map(api.take_snapshot, models))
    told = recipe.name not in KNOWN_BY_NAME
    assert (ledger(of_snapshots) == ledger(of_files)) is told


def test_snapshots_prove_no_row_that_the_files_do_not(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    models = [formats.read(str(path)) for path in (planted.before, planted.after)]
    of_files, of_snapshots = api.compare(*models), api.compare(*map(api.take_snapshot, models))
    assert not proved_bytes(of_snapshots) - proved_bytes(of_files)


def proved_bytes(diff: api.Diff) -> Counter[tuple[str, str]]:
    """By cause and label."""
    found: Counter[tuple[str, str]] = Counter()
    for row in diff.rows:
        if row.evidence == "proved":
            found[row.cause, row.label] += row.before_bytes + row.after_bytes
    return found


def test_rows_sum_to_the_files(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    diff = sizeforensics.diff(planted.before, planted.after)
    for side, size in (("before", diff.before_bytes), ("after", diff.after_bytes)):
        assert sum(getattr(row, f"{side}_bytes") for row in diff.rows) == size
        assert sum(getattr(entry, f"{side}_bytes") for entry in diff.causes) == size
    assert not any(entry.cause == "unexplained" for entry in diff.causes)


def test_a_file_does_not_differ_from_itself(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    for path in (planted.before, planted.after):
        assert not [row for row in sizeforensics.diff(path, path).rows if row.delta_bytes]


def test_the_other_way_round_is_the_mirror(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    there = attributed(sizeforensics.diff(planted.before, planted.after))
    back = attributed(sizeforensics.diff(planted.after, planted.before))
    turned = {_turned(cause): (after, before) for cause, (before, after) in back.causes.items()}
    assert dict(sorted(turned.items())) == dict(there.causes)
    assert back.inferred == there.inferred


def test_names_do_not_matter(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    before, after = (formats.read(str(path)) for path in (planted.before, planted.after))
    changed = changed_by_renaming(before, after)
    # What is inferred by name has no other ground; it is all that may change.
    assert {row.evidence for row in changed} <= ({"inferred"} if planted.inferred else set())


def test_a_score_counts_every_byte_at_the_wrong_cause() -> None:
    planted = Planted(Path("a"), Path("b"), {"dtype": (0, 80), "folded": (20, 0), "names": (5, 5)})
    assert score(planted, {"dtype": 80, "folded": -20}) == 1.0
    assert score(planted, {"dtype": 80}) == pytest.approx(0.8)
    assert score(planted, {"dtype": 80, "folded": -20, "graph": 10}) == pytest.approx(0.9)
    assert score(planted, {"unmatched": 80}) == 0.0


def test_a_right_sum_of_wrong_matches_does_not_pass() -> None:
    truth = Planted(Path("a"), Path("b"), {"carried": (80, 80), "names": (5, 9)}, inferred=20)
    assert truth.provable == 120
    causes = truth.causes
    assert evidence(truth, Attributed(causes, inferred=20, proved=120)) == 1.0
    assert evidence(truth, Attributed(causes, inferred=80, proved=60)) == 0.5
    assert evidence(truth, Attributed(causes, inferred=0, proved=160)) == pytest.approx(2 / 3)


def _turned(cause: str) -> str:
    """``dtype a -> b`` as ``dtype b -> a``."""
    name, _, label = cause.partition(" ")
    one, arrow, two = label.partition(" -> ")
    return f"{name} {two} -> {one}" if arrow else cause


def test_planted_bytes_are_those_of_the_files(built: tuple[Recipe, Planted]) -> None:
    _, planted = built
    for number, path in enumerate((planted.before, planted.after)):
        size = sum(sides[number] for sides in planted.causes.values())
        assert size >= path.stat().st_size
