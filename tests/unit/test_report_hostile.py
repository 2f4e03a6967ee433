"""The corpus of hostile names through every renderer of text: nothing that acts comes out."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import xml.etree.ElementTree as ET

import pytest

from sizeforensics.report import console, html, save
from sizeforensics.report.styled import View
from tests.browser import reports

REPORTS = {"diff": reports.hostile, "inspect": reports.hostile_contents}
every_report = pytest.mark.parametrize("name", REPORTS)


def acting(text, allowed="\n"):
    """Characters that move a cursor, change direction, hide, or cannot be encoded."""
    return {
        character
        for character in set(text) - set(allowed)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


@every_report
@pytest.mark.parametrize("kind", ["json", "csv", "html", "md", "svg"])
def test_no_acting_character_leaves(name, kind):
    text = "".join(save.pieces(REPORTS[name](), kind))
    assert acting(text, "\r\n" if kind == "csv" else "\n") == set()
    text.encode("utf-8")


@every_report
def test_terminal_and_notebook(name):
    report = REPORTS[name]()
    for view in (View(verbose=True), View(unicode=False), View(width=60, wrap=True)):
        text = console.diff(report, view) if name == "diff" else console.inspect(report, view)
        assert acting(text) == set()
    assert acting(html.notebook(report, 50)) == set()


@every_report
def test_cells_are_no_formulas(name):
    text = "".join(save.pieces(REPORTS[name](), "csv"))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    for row in rows:
        for cell in row:
            assert re.fullmatch(r"-\d+", cell) or not cell.startswith(("=", "+", "-", "@", "\uff1d"))


@every_report
def test_markdown_makes_no_link_no_mention_and_no_markup(name):
    text = "".join(save.pieces(REPORTS[name](), "md"))
    assert len(text) <= 60_000
    prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    prose = re.sub(r"<code>.*?</code>", "", prose)
    assert "<script" not in prose.lower()
    assert "<img" not in prose
    assert not re.search(r"(?<!\\)@everyone", prose)
    assert "](http" not in prose


@every_report
def test_pictures_hold_texts_only(name):
    picture = ET.fromstring("".join(save.pieces(REPORTS[name](), "svg")))
    tags = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert not tags & {"script", "foreignObject", "image", "a", "animate", "set"}
    for element in picture.iter():
        assert not [key for key in element.attrib if key.startswith("on")]
