"""The README quotes what its commands print, and only that."""

from __future__ import annotations

import re

import pytest

from fixtures.build import build_yolo, cache_directory
from tests.golden.readme import README, ROOT, quotes, run


def of_kind(kind):
    return [quote for quote in quotes() if quote.kind == kind]


def test_both_kinds_of_output_are_quoted():
    assert {quote.kind for quote in quotes()} == {"output", "full-size"}


@pytest.mark.parametrize("quote", of_kind("output"), ids=lambda quote: quote.command)
def test_quotes_what_the_committed_files_give(quote):
    assert run(quote.command, ROOT) == quote.text, "stale: run python -m tests.golden"


@pytest.mark.full
@pytest.mark.parametrize("quote", of_kind("full-size"), ids=lambda quote: quote.command)
def test_quotes_what_full_size_files_give(quote):
    build_yolo("s", cache_directory(), kinds=("pt", "onnx"))
    assert run(quote.command, cache_directory()) == quote.text


def test_the_budgets_it_shows_are_those_it_checks():
    shown = re.search(r"```toml\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert shown
    assert (ROOT / "fixtures" / "sizes.toml").read_text("utf-8").endswith(f"\n\n{shown[1]}")


def test_the_python_example_runs(monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert example
    monkeypatch.chdir(ROOT)
    exec(compile(example[1], "README.md", "exec"), {})
    assert "yolov5-mini.onnx is" in capsys.readouterr().out
