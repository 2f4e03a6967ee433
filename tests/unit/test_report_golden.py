"""The exact output of every view; ``python -m tests.golden`` writes it again."""

from __future__ import annotations

import pytest

from tests.golden.cases import CASES, HERE


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    # Bytes: text mode would hide carriage returns.
    assert CASES[name]().encode("utf-8") == (HERE / name).read_bytes()


def test_no_golden_file_is_left_over():
    kept = {path.name for path in HERE.iterdir() if path.suffix in (".txt", ".json", ".md")}
    assert kept == set(CASES)
