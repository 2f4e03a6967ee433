"""`check` and `init`: what they print, write, refuse and return."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from safetensors.torch import save_file

import sizeforensics
from sizeforensics import cli
from sizeforensics.budget.config import load

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dist").mkdir()
    for name in ("tied.pt", "tied-legacy.onnx"):
        shutil.copy(MODELS / name, "dist")
    return tmp_path


def configure(text):
    Path("sizeforensics.toml").write_text(text, encoding="utf-8")


BROKEN = """
[budgets.export]
path = "dist/tied-legacy.onnx"
baseline = "dist/tied.pt"
causes = { duplicate = "2304 B" }
[budgets.checkpoint]
path = "dist/tied.pt"
max_bytes = "108 kB"
"""


def test_one_line_for_each_budget_and_exit_1(project, capsys):
    configure(BROKEN)
    assert cli.run(["check"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1].split()[:4] == ["FAIL", "export", "dist/tied-legacy.onnx", "duplicate"]
    assert out.splitlines()[2].split()[:4] == ["OK", "checkpoint", "dist/tied.pt", "total"]
    assert "(onnx::MatMul_283)" in out.splitlines()[1]
    assert cli.run(["check", "checkpoint"]) == 0
    assert cli.run(["check", "dist/tied.pt"]) == 0
    assert cli.run(["check", "dist/tied-legacy.onnx"]) == 1


def test_reports_go_to_files_by_their_extension(project, capsys):
    configure(BROKEN)
    assert cli.run(["check", "-o", "r.json", "-o", "r.md", "-o", "r.xml"]) == 1
    capsys.readouterr()
    for form, name in (("json", "r.json"), ("markdown", "r.md"), ("junit", "r.xml")):
        assert cli.run(["check", "--format", form]) == 1
        assert capsys.readouterr().out == Path(name).read_text(encoding="utf-8")
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["status"] == "fail"
    assert ET.parse("r.xml").getroot().get("failures") == "1"
    assert cli.run(["check", "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith("::error file=dist/tied-legacy.onnx,title=size budget export%3A duplicate::")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check"], "expected sizeforensics.toml, or [tool.sizeforensics] in pyproject.toml"),
        (["check", "--config", "no.toml"], "no.toml: cannot read: No such file or directory"),
        (["check", "-o", "r.html"], "r.html: expected a file name that ends in one of .json, .md, .xml"),
        (["check", "--format", "xml"], "'xml' is not one of"),
        (["chekc"], "did you mean 'check'?"),
        (["init", "nowhere"], "nowhere: expected a folder or a file, got nothing"),
        (["init", "n" * 300], "expected a folder or a file, got nothing"),
        (["check", "n" * 300, "--config", "n" * 300], "cannot read: File name too long"),
        (["init", "empty"], "empty: expected a model, found none"),
    ],
)
def test_usage_and_bad_input_are_one_line_and_exit_2(project, capsys, arguments, said):
    Path("empty").mkdir()
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_report_is_not_replaced_without_force(project, capsys):
    configure(BROKEN)
    Path("r.md").write_text("mine", encoding="utf-8")
    assert cli.run(["check", "-o", "r.md"]) == 2
    assert "exists; --force" in capsys.readouterr().err
    assert Path("r.md").read_text(encoding="utf-8") == "mine"
    assert cli.run(["check", "-o", "r.md", "--force"]) == 1
    assert Path("r.md").read_text(encoding="utf-8").startswith("<!-- sizeforensics check -->")


def test_a_broken_model_is_bad_input(project, capsys):
    configure(BROKEN)
    Path("dist/tied.pt").write_bytes(b"PK\x03\x04 and no more")
    assert cli.run(["check", "checkpoint"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1].split()[:5] == ["ERROR", "checkpoint", "dist/tied.pt", "dist/tied.pt:", "at"]
    assert out.splitlines()[-1] == "✗ 1 of 1 size budget not judged: checkpoint"


MIXED = BROKEN + """
[budgets.unread]
path = "dist/cut.onnx"
max_bytes = 1
[budgets.unbuilt]
path = "dist/nowhere.onnx"
max_bytes = 1
[budgets.compared]
path = "dist/tied.pt"
max_growth = 0
baseline = "sizes/none.json"
"""
REASON = "dist/cut.onnx: at 0x13: expected 175,060 bytes of field 7, got the end of the file after 4,977"


def test_one_unreadable_model_hides_no_other_verdict(project, capsys):
    configure(MIXED)
    Path("dist/cut.onnx").write_bytes((MODELS / "tied-legacy.onnx").read_bytes()[:5000])
    told = {}
    for form in ("table", "json", "markdown", "junit", "github"):
        assert cli.run(["check", "--format", form]) == 2
        told[form], err = capsys.readouterr()
        assert err == ""
        assert told[form].count(REASON) == 1
        for name in ("export", "unread", "unbuilt", "compared"):
            assert name in told[form]
    statuses = {one["budget"]: one["status"] for one in json.loads(told["json"])["budgets"]}
    assert statuses == {
        "export": "fail", "checkpoint": "ok", "unread": "error", "unbuilt": "fail", "compared": "error",
    }  # fmt: skip
    root = ET.fromstring(told["junit"].encode())
    assert next((error.get("message"), error.get("type")) for error in root.iter("error")) == (REASON, "error")
    assert told["github"].splitlines()[1] == f"::error file=dist/cut.onnx,title=size budget unread::{REASON}"
    # Nothing broken counts less than something unreadable.
    assert cli.run(["check", "export", "unbuilt"]) == 1
    assert cli.run(["check", "checkpoint", "unread"]) == 2


def test_an_update_leaves_alone_what_could_not_be_read(project, capsys):
    text = MIXED.replace('"dist/cut.onnx"', '"dist/cut.onnx"\nbaseline = "sizes/cut.json"')
    configure(text.replace('baseline = "dist/tied.pt"', 'baseline = "sizes/export.json"'))
    Path("dist/cut.onnx").write_bytes((MODELS / "tied-legacy.onnx").read_bytes()[:5000])
    assert cli.run(["check", "--update"]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()[1:6]] == ["SKIPPED", "OK", "ERROR", "FAIL", "SKIPPED"]
    assert sorted(path.name for path in Path("sizes").iterdir()) == ["export.json", "none.json"]
    assert cli.run(["check", "compared"]) == 0


def test_an_update_replaces_snapshots_of_an_earlier_version(project, capsys):
    """They are verdicts first; one of a later version, or of a model that cannot be read, stays."""
    configure(
        "".join(
            f'[budgets.{name}]\npath = "dist/{name}.onnx"\nmax_growth = 0\nbaseline = "sizes/{name}.json"\n'
            for name in ("old", "new", "cut")
        )
    )
    Path("sizes").mkdir(exist_ok=True)
    for name in ("old", "new", "cut"):
        shutil.copy(MODELS / "tied-legacy.onnx", f"dist/{name}.onnx")
        assert cli.run(["snapshot", f"dist/{name}.onnx", "-o", f"sizes/{name}.json"]) == 0
        kept = Path(f"sizes/{name}.json")
        version = "3" if name == "new" else "1"
        kept.write_text(kept.read_text().replace("snapshot/2", f"snapshot/{version}"))
    Path("dist/cut.onnx").write_bytes((MODELS / "tied-legacy.onnx").read_bytes()[:5000])
    capsys.readouterr()
    assert cli.run(["check", "old"]) == 2
    assert "sizes/old.json: at 0x0: expected a snapshot of version 2, got version 1" in capsys.readouterr().out
    assert cli.run(["check", "--update"]) == 2
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == ["ERROR"] * 3
    assert cli.run(["check", "old"]) == 0
    texts = {path.stem: path.read_text() for path in Path("sizes").iterdir()}
    assert {name: text.partition("snapshot/")[2][0] for name, text in texts.items()} == {
        "old": "2", "new": "3", "cut": "1",
    }  # fmt: skip


def test_bytes_that_were_not_there_to_be_counted_are_warned_of(project, capsys):
    shutil.copy(MODELS / "yolov5-micro-dynamo.onnx", "dist")
    configure('[budgets.a]\npath = "dist/yolov5-micro-dynamo.onnx"\nunexplained = 0\n')
    assert cli.run(["check"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: dist/yolov5-micro-dynamo.onnx: external data not read: ")
    assert cli.run(["check", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "external data not read" in json.loads(out)["budgets"][0]["warnings"][0]


def test_another_configuration(project, capsys):
    Path("conf").mkdir()
    Path("conf/size.toml").write_text('[budgets.a]\npath = "../dist/tied.pt"\nunexplained = 0\n', encoding="utf-8")
    assert cli.run(["check", "--config", "conf/size.toml"]) == 0
    assert "conf/../dist/tied.pt" in capsys.readouterr().out


# -- init --------------------------------------------------------------------------------------


def test_init_writes_budgets_that_are_kept_today(project, capsys):
    shutil.copy(MODELS / "yolov5-micro-dynamo.onnx", "dist")
    shutil.copy(MODELS / "yolov5-micro-dynamo.onnx.data", "dist")
    for folder in (".venv", "node_modules", "venv/lib/site-packages"):
        Path(folder).mkdir(parents=True)
        shutil.copy(MODELS / "tied.pt", folder)
    Path("notes.onnx").write_text("no model", encoding="utf-8")
    assert cli.run(["init"]) == 0
    assert capsys.readouterr().out == "sizeforensics.toml: 3 budgets; `sizeforensics check` checks them\n"
    entries = load(Path("sizeforensics.toml"))
    assert [(entry.name, entry.path) for entry in entries] == [
        ("tied-legacy", "dist/tied-legacy.onnx"), ("tied", "dist/tied.pt"),
        ("yolov5-micro-dynamo", "dist/yolov5-micro-dynamo.onnx"),
    ]  # fmt: skip
    assert cli.run(["check"]) == 0
    text = Path("sizeforensics.toml").read_text(encoding="utf-8")
    waste = {one.finding: one.bytes for one in sizeforensics.inspect("dist/tied-legacy.onnx").findings}
    assert f"# duplicate = 0  # {waste['duplicate']:,} B today: further copies of one tensor" in text
    assert 'max_bytes = "184 kB"  # 175,087 B today' in text


def test_init_knows_models_of_several_files_from_snapshots(project, capsys):
    shutil.copy(MODELS / "yolov5-micro-dynamo.onnx", "dist")
    shutil.copy(MODELS / "yolov5-micro-dynamo.onnx.data", "dist")
    weights = {f"layers.{number}.weight": torch.full((9, 9), float(number)) for number in range(4)}
    shards = {f"model-0000{part}-of-00002.safetensors": list(weights)[2 * part - 2 : 2 * part] for part in (1, 2)}
    for shard, names in shards.items():
        save_file({name: weights[name] for name in names}, f"dist/{shard}")
    Path("dist/model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {name: shard for shard, names in shards.items() for name in names}}), "utf-8"
    )
    Path("dist/config.json").write_text('{"hidden_size": 9}', "utf-8")
    Path("sizes").mkdir()
    assert cli.run(["snapshot", "dist/tied.pt", "-o", "sizes/tied.json"]) == 0
    assert cli.run(["init"]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines()[-1], err) == ("sizeforensics.toml: 4 budgets; `sizeforensics check` checks them", "")
    assert [(entry.name, entry.path) for entry in load(Path("sizeforensics.toml"))] == [
        ("model", "dist/model.safetensors.index.json"), ("tied-legacy", "dist/tied-legacy.onnx"),
        ("tied", "dist/tied.pt"), ("yolov5-micro-dynamo", "dist/yolov5-micro-dynamo.onnx"),
    ]  # fmt: skip
    assert cli.run(["check"]) == 0


def test_the_baselines_that_init_proposes_can_be_written(project, capsys):
    assert cli.run(["init"]) == 0
    path = Path("sizeforensics.toml")
    text = path.read_text(encoding="utf-8").replace("# max_growth", "max_growth").replace("# baseline", "baseline")
    path.write_text(text, encoding="utf-8")
    assert cli.run(["check"]) == 2
    assert cli.run(["check", "--update"]) == 0
    assert sorted(path.name for path in Path("sizes").iterdir()) == ["tied-legacy.json", "tied.json"]
    assert cli.run(["check"]) == 0


def test_what_init_left_as_a_comment_is_a_limit_too(project, capsys):
    assert cli.run(["init", "dist/tied-legacy.onnx"]) == 0
    path = Path("sizeforensics.toml")
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("[budgets"))
    stricter = [line.removeprefix("# ") for line in lines[start:] if not line.startswith("# baseline")]
    path.write_text("\n".join(stricter), encoding="utf-8")
    capsys.readouterr()
    assert cli.run(["check", "--baseline", "dist/tied-legacy.onnx", "--format", "json"]) == 1
    limits = json.loads(capsys.readouterr().out)["budgets"][0]["limits"]
    assert [limit["key"] for limit in limits if limit["status"] == "fail"] == ["causes.duplicate"]


def test_init_replaces_nothing_without_force(project, capsys):
    configure("# mine\n")
    assert cli.run(["init"]) == 2
    assert "sizeforensics.toml: exists; --force replaces it" in capsys.readouterr().err
    assert Path("sizeforensics.toml").read_text(encoding="utf-8") == "# mine\n"
    assert cli.run(["init", "--force"]) == 0
    assert len(load(Path("sizeforensics.toml"))) == 2


def test_init_leaves_a_project_with_budgets_alone(project, capsys):
    Path("pyproject.toml").write_text("[tool.sizeforensics]\n", encoding="utf-8")
    assert cli.run(["init", "--force"]) == 2
    assert "pyproject.toml holds budgets already" in capsys.readouterr().err


def test_init_tells_models_of_one_name_apart(project, capsys):
    for folder in ("dist/a", "dist/b"):
        Path(folder).mkdir()
        shutil.copy(MODELS / "tied.pt", f"{folder}/model.pt")
    shutil.copy(MODELS / "tied.pt", "dist/tied-legacy.pt")
    shutil.copy(MODELS / "tied.pt", 'dist/ä "quoted" [1].pt')
    assert cli.run(["init"]) == 0
    entries = load(Path("sizeforensics.toml"))
    assert [entry.name for entry in entries] == [
        "dist-a-model-pt", "dist-b-model-pt", "tied-legacy-onnx", "tied-legacy-pt", "tied",
        'ä "quoted" [1]',
    ]  # fmt: skip
    capsys.readouterr()
    assert cli.run(["check"]) == 0


def test_init_leaves_out_what_it_cannot_read_and_says_so(project, capsys):
    Path("dist/broken.pt").write_bytes((MODELS / "tied.pt").read_bytes()[:5000])
    Path("dist/a\x1b.pt").write_bytes((MODELS / "tied.pt").read_bytes())
    assert cli.run(["init"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("sizeforensics.toml: 2 budgets;")
    assert "warning: dist/broken.pt: at 0x" in err
    assert "warning: dist/a\\x1b.pt: a configuration cannot hold this name" in err
