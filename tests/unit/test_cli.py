"""The command line: exit codes, streams, outputs, and help that teaches."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sizeforensics import __version__, api, cli, formats
from sizeforensics.causes import CAUSES
from sizeforensics.errors import Corrupt, LawBroken
from sizeforensics.report.presentation import diff_report
from tests.builders import artifact
from tests.golden import real, samples

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    for name in ("SIZEFORENSICS_DEBUG", "NO_COLOR", "_SIZEFORENSICS_COMPLETE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def models(monkeypatch):
    """``a`` in float16 and ``b`` in float32, read without a file; other paths are no model."""
    half = np.arange(512, dtype=np.float16).reshape(16, 32)
    known = {
        "a.pt": artifact({"w": half}, path="a.pt", header=64),
        "b.onnx": artifact({"onnx::w": half.astype(np.float32)}, path="b.onnx", header=32),
    }

    def read(path, *_):
        if path not in known:
            raise Corrupt(path, 0x1F, "a model", "nonsense")
        return known[path]

    monkeypatch.setattr(formats, "read", read, raising=False)
    return known


def start(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [PYTHON, "-m", "sizeforensics", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


# -- verbs -------------------------------------------------------------------------------------


def test_diff_answers_first(models, capsys):
    assert cli.run(["diff", "a.pt", "b.onnx"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("b.onnx is 1.91x a.pt: 512 weights went float16 -> float32.\n\n  before")
    assert err == ""


def test_diff_of_a_file_with_itself(models, capsys):
    assert cli.run(["diff", "a.pt", "a.pt"]) == 0
    said = "a.pt compared with itself has the same 1,088 B in every cause: no difference.\n"
    assert capsys.readouterr().out.startswith(said)


def test_json_is_the_only_thing_on_stdout(models, capsys):
    assert cli.run(["diff", "a.pt", "b.onnx", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["delta_bytes"] == 1_024 - 32
    assert document["evidence"]["unexplained_bytes"] == 0


def test_csv_and_verbose(models, capsys):
    assert cli.run(["diff", "a.pt", "b.onnx", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("cause,label,")
    assert cli.run(["diff", "-v", "a.pt", "b.onnx", "--sort", "name", "--min-bytes", "1kB"]) == 0
    assert "float16 -> float32  16x32" in capsys.readouterr().out


def test_inspect(models, capsys):
    assert cli.run(["inspect", "b.onnx"]) == 0
    assert capsys.readouterr().out.startswith(
        "b.onnx is 2,080 B: 98.5 % tensor data, all float32; 1,024 B could go (49.2 %).\n"
    )
    assert cli.run(["inspect", "b.onnx", "--format", "json"]) == 0
    (tensor,) = json.loads(capsys.readouterr().out)["tensors"]
    assert re.fullmatch("[0-9a-f]{32}", tensor["digest"])


def test_map(models, capsys):
    assert cli.run(["map", "a.pt"]) == 0
    assert "  0x40  " in capsys.readouterr().out
    assert cli.run(["map", "a.pt", "--format", "json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["spans"][-1][:3] == [64, 1_088, "tensor-data"]


def test_warnings_go_to_stderr_and_into_json(monkeypatch, capsys):
    inventory = artifact({"w": np.zeros(4, np.float32)}, path="a.pt")
    noisy = type(inventory)(
        **{name: getattr(inventory, name) for name in inventory.__slots__ if name != "warnings"},
        warnings=tuple(f"oddity {number}\x1b" for number in range(30)),
    )
    monkeypatch.setattr(formats, "read", lambda *_: noisy, raising=False)
    for verb in ("inspect", "map"):
        assert cli.run([verb, "a.pt"]) == 0
        out, err = capsys.readouterr()
        assert "oddity" not in out
        assert err.startswith("warning: a.pt: oddity 0\\x1b\nwarning: a.pt: oddity 1\\x1b\n")
        assert err.endswith("warning: 10 more warnings in --format json\n")
        assert cli.run([verb, "a.pt", "--format", "json"]) == 0
        out, err = capsys.readouterr()
        assert len(json.loads(out)["warnings"]) == 30
        assert err == ""


@pytest.mark.parametrize("cause", CAUSES)
def test_explain_every_cause(cause, capsys):
    assert cli.run(["explain", cause]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{cause}: {CAUSES[cause].title}\n")
    assert all(head in text for head in ("What is counted", "How it is proved", "What to do"))


def test_explain_lists_and_suggests(capsys):
    assert cli.run(["explain"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {cause} " in listed for cause in CAUSES)
    assert cli.run(["explain", "dtpye"]) == 2
    assert capsys.readouterr().err == (
        "error: no cause 'dtpye'; did you mean 'dtype'? (`sizeforensics explain` lists them all)\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell, capsys):
    assert cli.run(["completion", shell]) == 0
    assert "_SIZEFORENSICS_COMPLETE" in capsys.readouterr().out


def test_completion_answers():
    words = {"COMP_WORDS": "sizeforensics explain dty", "COMP_CWORD": "2"}
    done = start(env={**os.environ, **words, "_SIZEFORENSICS_COMPLETE": "bash_complete"})
    assert (done.returncode, done.stdout) == (0, "plain,dtype\n")


# -- help --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["diff", "inspect", "map", "explain", "completion"])
def test_help_of_every_verb_has_examples(verb, capsys):
    assert cli.run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"sizeforensics {verb}" in text.split("Examples:")[1]
    assert max(map(len, text.splitlines())) <= 100


def test_help_teaches_and_is_what_no_argument_shows(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert "sizeforensics diff yolov5s.pt yolov5s.onnx" in text
    assert cli.run([]) == 0
    assert capsys.readouterr().out == text


def test_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"sizeforensics {__version__}\n"
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in pyproject


def test_version_loads_nothing_heavy():
    code = (
        "import sys; from sizeforensics import cli; cli.run(['--version']);"
        "print(sorted({'numpy','pandas','rich','onnx','torch','importlib.metadata'} & set(sys.modules)))"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


# -- exit codes --------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, said", [
    (["diff", "a.pt"], "Missing argument 'AFTER'"),
    (["dif", "a.pt", "b.onnx"], "did you mean 'diff'?"),
    (["diff", "--colour", "a.pt", "b.onnx"], "No such option"),
    (["diff", "a.pt", "b.onnx", "--format", "xml"], "'xml' is not one of"),
    (["diff", "a.pt", "b.onnx", "--min-bytes", "many"], "expected a size"),
    (["diff", "a.pt", "b.onnx", "--filter", "cause=dtyp"], "did you mean 'dtype'?"),
    (["diff", "a.pt", "b.onnx", "-o", "x.docx"], ".json, .csv"),
    (["diff", "a.pt", "b.onnx", "-o", "x.json", "-o", "x.json"], "given twice"),
    (["inspect", "c.pt"], "c.pt: at 0x1f: expected a model, got nonsense"),
    (["map", "evil\x1b[31m\n.pt"], r"evil\x1b[31m\n.pt: at 0x1f"),
    (["explain", "x\x1b[31m\ny"], "no cause"),
])  # fmt: skip
def test_bad_input_and_usage_are_one_line_and_exit_2(models, capsys, arguments, said):
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.parametrize("raised, code, said", [
    (LawBroken("the rows hold 1 byte"), 3, "error: the rows hold 1 byte\n"),
    (KeyboardInterrupt(), 130, "error: interrupted\n"),
    (MemoryError(), 2, "error: not enough memory for this file\n"),
    (ZeroDivisionError("x\ny"), 3, "error: internal error (ZeroDivisionError: x y), please report it"),
])  # fmt: skip
def test_exit_codes(monkeypatch, capsys, raised, code, said):
    def read(*_):
        raise raised

    monkeypatch.setattr(formats, "read", read, raising=False)
    assert cli.run(["inspect", "a.pt"]) == code
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert "Traceback" not in err


@pytest.mark.parametrize("how", ["option", "before", "environment"])
def test_debug_shows_the_traceback(models, monkeypatch, capsys, how):
    if how == "environment":
        monkeypatch.setenv("SIZEFORENSICS_DEBUG", "1")
    arguments = ["inspect", "c.pt"] + ["--debug"] * (how == "option")
    assert cli.run(["--debug"] * (how == "before") + arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("got nonsense\n")


# -- files and streams -------------------------------------------------------------------------


def test_outputs_are_written_and_protected(models, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = ["diff", "a.pt", "b.onnx", "-o", "d.json", "-o", "d.csv"]
    assert cli.run(command) == 0
    assert json.loads(Path("d.json").read_text())["schema"] == "sizeforensics.diff/1"
    assert capsys.readouterr().out.startswith("b.onnx is ")
    Path("d.json").write_text("mine")
    assert cli.run(command) == 2
    assert "d.json: exists" in capsys.readouterr().err
    assert Path("d.json").read_text() == "mine"
    assert cli.run([*command, "--force"]) == 0
    assert Path("d.json").read_text() != "mine"


def test_a_path_that_is_too_long_is_bad_input(capsys):
    assert cli.run(["inspect", "a" * 5_000]) == 2
    assert "file name too long" in capsys.readouterr().err


def test_outputs_are_checked_before_any_work(monkeypatch, capsys, tmp_path):
    def read(*_):
        pytest.fail("read before the output was checked")

    monkeypatch.setattr(formats, "read", read, raising=False)
    assert cli.run(["inspect", "a.pt", "-o", str(tmp_path / "no" / "x.json")]) == 2
    assert "expected an existing folder" in capsys.readouterr().err


def test_the_first_snapshot_of_a_project_makes_its_folder(tmp_path):
    path = tmp_path / "sizes" / "new" / "model.json"
    assert cli.run(["snapshot", str(real.MODELS / "tied.pt"), "-o", str(path)]) == 0
    assert path.is_file()


def test_reader_that_goes_away_is_no_error():
    command = f"{PYTHON} -m sizeforensics explain | head -c 1; echo ${{PIPESTATUS[0]}}"
    for _ in range(3):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert done.stdout in ("E0\n", "E141\n")


def test_broken_pipe_is_quiet():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [PYTHON, "-m", "sizeforensics", "explain"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_errors_keep_their_code_when_nobody_reads_them():
    reading, writing = os.pipe()
    os.close(reading)
    command = [PYTHON, "-m", "sizeforensics", "explain", "nonsense"]
    done = subprocess.run(command, stderr=writing, stdout=subprocess.DEVNULL, check=False)
    os.close(writing)
    assert done.returncode == 2


def test_closed_streams_are_survived():
    done = subprocess.run(
        ["bash", "-c", f"{PYTHON} -m sizeforensics explain dtype >&- 2>&- <&-; echo $?"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "0\n"


def test_full_device_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [PYTHON, "-m", "sizeforensics", "explain"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def show(monkeypatch, encoding: str) -> str:
    """The table of the sample diff as a pipe with this encoding gets it."""
    monkeypatch.setattr(formats, "read", lambda *_: artifact({}), raising=False)
    report = diff_report(*samples.yolo())
    monkeypatch.setattr(api, "compare", lambda *_: api.Diff(report))
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.run(["diff", "a.pt", "b.onnx"]) == 0
    return stream.buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_encodings_get_ascii(monkeypatch, encoding):
    text = show(monkeypatch, encoding)
    assert text.isascii()
    assert "####" in text
    assert "  ok every byte explained" in text


def test_a_pipe_gets_unicode_bars_without_colour(monkeypatch):
    text = show(monkeypatch, "utf-8")
    assert "█" in text
    assert "\x1b" not in text


def on_terminal(code: str, **environment: str) -> str:
    """What ``code`` writes to a terminal of 60 columns."""
    main, side = pty.openpty()
    child = subprocess.Popen(
        [PYTHON, "-c", code], stdout=side, stderr=side, stdin=side,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm-256color", **environment},
    )
    os.close(side)
    got = b""
    while True:
        try:
            piece = os.read(main, 65_536)
        except OSError:
            break
        if not piece:
            break
        got += piece
    os.close(main)
    assert child.wait() == 0
    return got.decode().replace("\r\n", "\n")


TERMINAL = """
import time
from sizeforensics import api, cli, formats
from sizeforensics.report.presentation import diff_report
from tests.golden import real, samples
formats.read = lambda *_: samples.artifact("a", [(1000, "tensor-data", "w")])
def compare(before, after, advance):
    for _ in range({steps}):
        time.sleep(0.2)
        advance(200)
    return api.Diff(diff_report(*samples.yolo()))
api.compare = compare
raise SystemExit(cli.run(["diff", "a", "b"]))
"""


def test_terminal_gets_colour_and_words_wrapped():
    text = on_terminal(TERMINAL.format(steps=0))
    assert "\x1b[38;5;" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text).startswith(
        "yolov5s.onnx is 2.00x yolov5s.pt: 7,225,885 weights went\nfloat16 -> float32.\n"
    )


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_is_honoured(environment):
    assert "\x1b" not in on_terminal(TERMINAL.format(steps=0), **environment)


def test_long_work_shows_a_bar_on_a_terminal():
    assert "━" in on_terminal(TERMINAL.format(steps=6), LC_ALL="C.UTF-8")


def test_long_work_shows_no_bar_in_a_pipe():
    done = subprocess.run(
        [PYTHON, "-c", TERMINAL.format(steps=4)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
