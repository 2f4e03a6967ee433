"""Real files under other names: every byte goes where it went."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from sizeforensics import formats
from tests.renaming import changed_by_renaming

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
FAMILIES = ("tied", "yolov5-micro", "yolov5-mini")
PAIRS = [
    pair
    for family in FAMILIES
    for pair in combinations(
        sorted(path.name for path in MODELS.glob(f"{family}*") if path.suffix != ".data"), 2
    )
]


def test_every_fixture_is_in_a_pair() -> None:
    named = {name for pair in PAIRS for name in pair}
    assert named == {path.name for path in MODELS.iterdir() if path.suffix != ".data"}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_names_do_not_matter(pair: tuple[str, str]) -> None:
    before, after = (formats.read(str(MODELS / name)) for name in pair)
    assert changed_by_renaming(before, after) == []
