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


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "tutorial.md"], ids=lambda page: page.stem)
def test_numbers_of_the_story_are_measured(page):
    shown = "".join(quote.text for source in {README, page} for quote in quotes(source))
    sizes = {f"{int(size.replace(',', '')) / 1e6:.1f} MB" for size in re.findall(r"\d[\d,]+", shown)}
    story = page.read_text("utf-8").partition("\n## What it answers")[0]
    prose = re.sub(r"^```.*?^```$", "", story, flags=re.DOTALL | re.MULTILINE)
    told = re.findall(r"(?<![\w.])\d[\d,.]*\d(?: %| MB)?", prose)
    assert told
    assert all(number in sizes or number in shown for number in told)


def test_every_module_has_its_place_in_the_house():
    house = re.search(r"### The house\n.*?```\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert house
    drawn = set(re.findall(r"(?:^|(?<=  ))\w+(?:/|\.py)", house[1], re.MULTILINE))
    built = {path.name + "/" * path.is_dir() for path in (ROOT / "sizeforensics").iterdir()}
    plain = {name for name in built if name.endswith((".py", "/")) and not name.startswith("__")}
    assert plain - {"schemas/"} == {name for name in drawn if name in built}
