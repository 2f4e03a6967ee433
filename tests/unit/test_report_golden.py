"""The exact output of every view; ``python -m tests.golden`` writes it again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.golden import digests, real
from tests.golden.cases import CASES, HERE

STALE = "stale: run python -m tests.golden"


def kept(name):
    return (HERE / name).read_text(encoding="utf-8").splitlines()


def about(lines, pair):
    return [line for line in lines if line.endswith(f": {' '.join(pair)}")]


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    # Bytes: text mode would hide carriage returns.
    assert CASES[name]().encode("utf-8") == (HERE / name).read_bytes(), STALE


@pytest.mark.parametrize("pair", digests.PAIRS, ids=" ".join)
def test_every_report_about_every_pair(pair):
    assert digests.lines(pair) == about(kept("digests.txt"), pair), STALE


@pytest.mark.parametrize("pair", digests.SHOWN, ids=" ".join)
def test_pictures_and_parquet(pair):
    made, (libraries, *lines) = digests.pictures(pair), kept("pictures.txt")
    pinned = about(lines, pair)
    if libraries == digests.libraries():
        assert made == pinned, STALE
    else:  # Other versions write other bytes, of the same reports.
        assert [line.split()[2:] for line in made] == [line.split()[2:] for line in pinned], STALE


def test_nothing_pinned_is_left_over():
    assert {line.partition(": ")[2] for line in kept("digests.txt")} == set(map(" ".join, digests.PAIRS))
    assert {line.partition(": ")[2] for line in kept("pictures.txt")[1:]} == set(map(" ".join, digests.SHOWN))
    files = {path.name for path in HERE.iterdir() if path.suffix in (".txt", ".json", ".md")}
    assert files == {*CASES, "digests.txt", "pictures.txt"}


SCRIPT = """
import sys
from tests.golden import digests
pair = tuple(sys.argv[1:])
print(*digests.lines(pair), *digests.pictures(pair), sep="\\n")
assert "matplotlib.pyplot" not in sys.modules
"""


@pytest.mark.parametrize("pair", [real.PAIRS["mini-onnx"], (real.SINGLES["micro-train"],)], ids=" ".join)
def test_the_same_bytes_in_every_run_and_time_zone(pair):
    """Every renderer, in processes that hash, tell the time and speak differently."""
    found = []
    for zone, seed, language in (("UTC", "1", "C"), ("Pacific/Kiritimati", "2", "C.UTF-8")):
        settings = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "LC_ALL": language, "PYTHONPATH": str(real.ROOT)}
        command = [sys.executable, "-c", SCRIPT, *pair]
        found.append(subprocess.run(command, env=settings, check=True, capture_output=True, text=True).stdout)
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == len([*digests.lines(pair), *digests.pictures(pair)])
