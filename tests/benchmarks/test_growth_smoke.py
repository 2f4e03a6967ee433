"""The growth benchmark runs and prints what it promises; what it measures is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.growth.__main__ import exponent
from benchmarks.growth.dimensions import DIMENSIONS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["checkpoint tensors", "diff, renamed tensors"])
def test_a_quick_run_prints_sizes_and_exponents(name):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", "--quick", "--json", "--only", name],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert entry["dimension"] == name
    assert [2 * size for size in entry["sizes"][:-1]] == entry["sizes"][1:]
    assert min(entry["seconds"]) > 0


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda dimension: dimension.name)
def test_files_of_a_dimension_grow(dimension):
    sizes = [sum(map(len, dimension.write(size))) for size in (2, 4, 8)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(("smaller", "larger", "power"), [(1, 2, 1), (1, 4, 2), (5, 5, 0), (0, 0.01, 0)])
def test_exponents(smaller, larger, power):
    assert exponent(smaller, larger, 0.02) == power
