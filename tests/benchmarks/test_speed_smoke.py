"""The speed benchmark runs and prints what it promises; how long anything takes is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.speed import cases, measure, models, report

ROOT = Path(__file__).resolve().parents[2]


def test_quick_run_prints_every_case_with_its_ratios_and_targets():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert not document["full_size"]
    assert [case["case"] for case in document["cases"]] == list(cases.CASES)
    for case in document["cases"]:
        names = [contender["name"] for contender in case["contenders"]]
        assert cases.OURS in names
        assert len(names) > 1
        for contender in case["contenders"]:
            assert contender["wall_seconds"] > 0
            assert contender["peak_bytes"] > 0
            assert (contender["ratio"] == 1) or (contender["name"] != cases.OURS)
        assert case["targets"]
        assert all(isinstance(target["met"], bool) for target in case["targets"])


RESULT = cases.Result(
    "inspect", "a title",
    {"sizeforensics": measure.Cost(0.5, 0.4, 40_000_000, None),
     "onnx.load": measure.Cost(5.0, 2.0, 3_000_000_000, 2_000_000_000)},
    (cases.Goal("faster than onnx.load", 10.0, 8, "x", least=True),
     cases.Goal("own memory", 151.0, 150, "MB")),
)  # fmt: skip


def test_markdown_has_a_row_for_each_contender_and_target():
    text = report.as_text([RESULT], cases.FULL, markdown=True)
    assert "| inspect | onnx.load | 5.000 | 2.000 | 3,000 | 2,000 | 10.00 | 5.00 |" in text
    assert "| inspect | sizeforensics | 0.500 | 0.400 | 40 |  | 1.00 | 1.00 |" in text
    assert "| inspect | faster than onnx.load | >= 8 x | 10.00 x | yes |" in text
    assert "| inspect | own memory | <= 150 MB | 151.00 MB | NO |" in text


def test_a_quick_run_judges_nothing():
    assert "not judged" in report.as_text([RESULT], cases.QUICK, markdown=False)


@pytest.mark.parametrize("power", [1, 2])
def test_exponent_is_that_of_the_growth(power):
    counts = [25, 50, 100]
    assert cases.exponent(counts, [3 * n**power for n in counts]) == pytest.approx(power)


def test_a_command_that_fails_says_why():
    with pytest.raises(RuntimeError, match="exited with 3:\nwhy"):
        measure.run([sys.executable, "-c", "import sys; sys.stderr.write('why'); sys.exit(3)"])


def test_the_large_model_is_a_valid_one(tmp_path):
    import onnx

    path = tmp_path / "large.onnx"
    models.large(path, nodes=50, weights=4, side=8)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.node) == 50
    assert len(model.graph.initializer) == 4
    assert path.read_bytes() == model.SerializeToString()


@pytest.mark.parametrize("suffix", [".pt", ".onnx"])
def test_renamed_tensors_hold_the_same_under_other_names(tmp_path, suffix):
    from benchmarks.speed.naive import load

    path = tmp_path / f"many{suffix}"
    models.many(path, 20)
    one, other = load(str(path)), load(str(models.renamed(path)))
    assert not one.keys() & other.keys()
    assert [array.tobytes() for array in one.values()] == [
        array.tobytes() for array in other.values()
    ]
    assert len({array.tobytes() for array in one.values()}) == 20


def test_the_runner_stays_small():
    # A child counts at least as large as its parent was.
    heavy = "import sys, benchmarks.speed.__main__; print({'numpy', 'torch', 'onnx'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_full_size_models_are_where_the_fixtures_put_them():
    from fixtures.build import cache_directory

    assert cache_directory() == cases.CACHE / "fixtures"
