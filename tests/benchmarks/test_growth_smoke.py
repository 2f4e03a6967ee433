"""The growth benchmark runs and prints what it promises; what it measures is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.growth.__main__ import exponent

ROOT = Path(__file__).resolve().parents[2]


def test_a_quick_run_prints_sizes_and_exponents():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", "--quick", "--json", "--only", "tensors"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [entry["dimension"] for entry in found] == ["checkpoint tensors", "safetensors tensors"]
    for entry in found:
        assert [2 * size for size in entry["sizes"][:-1]] == entry["sizes"][1:]
        assert min(entry["seconds"]) > 0


@pytest.mark.parametrize(("smaller", "larger", "power"), [(1, 2, 1), (1, 4, 2), (5, 5, 0), (0, 0.01, 0)])
def test_exponents(smaller, larger, power):
    assert exponent(smaller, larger, 0.02) == power
