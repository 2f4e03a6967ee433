"""Snapshots as baselines: written by `check --update`, and as good as the models they are of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import sizeforensics as sf
from sizeforensics import cli

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
CONFIGURATION = """
[budgets.model]
path = "dist/*"
baseline = "sizes/{name}.json"
max_growth = "2 %"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dist").mkdir()
    Path("sizeforensics.toml").write_text(CONFIGURATION, "utf-8")
    build("yolov5-mini-fp16.onnx")
    return tmp_path


def build(name):
    shutil.copy(MODELS / name, "dist/model.onnx")


def verdict(capsys, *arguments):
    code = cli.run(["check", "--format", "json", *arguments])
    out, err = capsys.readouterr()
    assert err == ""
    (only,) = json.loads(out)["budgets"]
    return code, only


def test_the_first_update_writes_the_baseline(project, capsys):
    code, told = verdict(capsys)
    assert (code, told["status"]) == (2, "error")
    assert told["problem"] == (
        "sizes/model.onnx.json: expected a baseline (--update writes a first one), got no such file"
    )
    code, told = verdict(capsys, "--update")
    assert (code, told["status"], told["problem"]) == (0, "skipped", "no baseline yet: sizes/model.onnx.json")
    code, told = verdict(capsys)
    assert (code, told["status"]) == (0, "ok")
    assert told["baseline_bytes"] == told["bytes"] == (MODELS / "yolov5-mini-fp16.onnx").stat().st_size


def test_an_update_prints_the_old_verdict_first_and_is_green_after(project, capsys):
    verdict(capsys, "--update")
    first = Path("sizes/model.onnx.json").read_bytes()
    build("yolov5-mini.onnx")
    assert verdict(capsys)[0] == 1
    code, told = verdict(capsys, "--update")
    failing = [limit["key"] for limit in told["limits"] if limit["status"] == "fail"]
    assert (code, failing) == (0, ["max_growth"])
    assert told["limits"][0]["causes"][0]["label"] == "float16 -> float32"
    code, told = verdict(capsys)
    assert (code, told["limits"][0]["value_bytes"]) == (0, 0)
    assert Path("sizes/model.onnx.json").read_bytes() != first
    build("yolov5-mini-fp16.onnx")
    verdict(capsys, "--update")
    assert Path("sizes/model.onnx.json").read_bytes() == first


def test_an_update_does_not_excuse_an_absolute_limit(project, capsys):
    Path("sizeforensics.toml").write_text(CONFIGURATION + "max_bytes = 1\n", "utf-8")
    assert verdict(capsys, "--update")[0] == 1
    assert Path("sizes/model.onnx.json").exists()


@pytest.mark.parametrize(("before", "after"), [("yolov5-mini.pt", "yolov5-mini.onnx"), ("tied.pt", "tied-legacy.onnx")])
def test_a_snapshot_judges_as_its_model_does(project, capsys, before, after):
    sf.inspect(MODELS / before).save_snapshot("base.json.gz")
    shutil.copy(MODELS / before, "base.pt")
    build(after)
    limits = 'max_growth = 0\nforbid = ["duplicate", "constant", "names", "float16 -> float32"]\n'
    Path("sizeforensics.toml").write_text(f'[budgets.model]\npath = "dist/model.onnx"\n{limits}', "utf-8")

    def measured(baseline):
        told = verdict(capsys, "--baseline", baseline)[1]
        return told["baseline_bytes"], [
            (limit["key"], limit["value_bytes"], limit["limit_bytes"], limit["causes"]) for limit in told["limits"]
        ]

    assert measured("base.json.gz") == measured("base.pt")


def test_a_snapshot_is_checked_like_its_model(project):
    inspection = sf.inspect(MODELS / "yolov5-micro-train.pt")
    inspection.save_snapshot("model.json")
    budget = sf.Budget(
        total="500 kB", forbid=["optimizer-state", "ema-copy", "pickle", "container"], tensors={"*": "2 kB"},
        dtypes=["float32"],
    )  # fmt: skip

    def measured(model):
        return [(one.rule.key, one.status, one.value, one.culprits) for one in sf.check(model, budget).outcomes]

    assert measured("model.json") == measured(inspection)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("dist/model.onnx", "dist/model.onnx: expected a file name that ends in one of .json"),
        ("other.json", "other.json: "),
        ("", "--update: expected a budget with a baseline"),
    ],
)
def test_an_update_replaces_nothing_but_snapshots(project, capsys, baseline, said):
    Path("other.json").write_text('{"weight_map": {}}', "utf-8")
    line = f'baseline = "{baseline}"\n' if baseline else ""
    Path("sizeforensics.toml").write_text(f'[budgets.model]\npath = "dist/model.onnx"\nunexplained = 0\n{line}', "utf-8")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert cli.run(["check", "--update"]) == 2
    assert said in "".join(capsys.readouterr())
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
