"""The documentation builds without a warning and quotes what its commands print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from sizeforensics.budget.config import load
from sizeforensics.causes import CAUSES
from sizeforensics.cli import cli
from tests.golden.readme import PAGES, ROOT, quotes, run

QUOTES = [quote for page in PAGES for quote in quotes(page)]


@pytest.mark.parametrize("quote", QUOTES, ids=lambda quote: quote.command)
def test_quotes_what_its_commands_print(quote):
    assert run(quote.command, ROOT) == quote.text, "stale: run python -m tests.golden"


def test_every_command_with_output_is_quoted():
    shown = [line for page in PAGES for line in re.findall(r"^\$ sizeforensics .*", page.read_text("utf-8"), re.MULTILINE)]
    assert [f"$ {quote.command}" for quote in QUOTES] == shown


def blocks(language):
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, text in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
    ]


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_are_ones_that_check_reads(text, tmp_path):
    (tmp_path / "sizeforensics.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "sizeforensics.toml")


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles(text):
    compile(text, "docs", "exec")


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_are_ones_the_program_has(text):
    for line in text.splitlines():
        _, *words = shlex.split(line)
        with cli.make_context("sizeforensics", words) as context:
            command = context.command.commands[words[0]]
        for option in words[1:]:
            if option.startswith("-"):
                assert any(option in parameter.opts for parameter in command.params), option


def test_builds_strictly_and_lists_every_cause(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "causes" / "index.html").read_text("utf-8")
    assert all(f'id="{name}"' in page for name in CAUSES)
    assert "explain" in (tmp_path / "reference" / "cli" / "index.html").read_text("utf-8")
