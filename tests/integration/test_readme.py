"""The README quotes what its commands print, and only that."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.build import build_yolo, cache_directory

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^<!-- (output|full-size) -->\n```console\n\$ (.*)\n((?:.*\n)*?)```$", re.MULTILINE)
QUOTES = [match.groups() for match in BLOCK.finditer(README)]


def run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    assert words[0] == "sizeforensics"
    # A reader's terminal prints UTF-8 whatever this machine's locale is.
    environment = os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True,
        encoding="utf-8", check=True,
    )
    return done.stdout


def test_both_kinds_of_output_are_quoted():
    assert {kind for kind, _, _ in QUOTES} == {"output", "full-size"}


@pytest.mark.parametrize(
    ("command", "quoted"), [(command, text) for kind, command, text in QUOTES if kind == "output"]
)
def test_quotes_what_the_committed_files_give(command, quoted):
    assert run(command, ROOT) == quoted


@pytest.mark.full
@pytest.mark.parametrize(
    ("command", "quoted"),
    [(command, text) for kind, command, text in QUOTES if kind == "full-size"],
)
def test_quotes_what_full_size_files_give(command, quoted):
    build_yolo("s", cache_directory(), kinds=("pt", "onnx"))
    assert run(command, cache_directory()) == quoted


def test_the_python_example_runs(monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example
    monkeypatch.chdir(ROOT)
    exec(compile(example[1], "README.md", "exec"), {})
    assert "yolov5-mini.onnx is" in capsys.readouterr().out
