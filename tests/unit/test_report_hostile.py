"""The corpus of hostile names through every renderer: nothing that acts comes out."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import xml.etree.ElementTree as ET
from functools import cache

import pytest
from PIL import Image

from sizeforensics.report import console, figures, html, parquet, save, tables
from sizeforensics.report.styled import View
from tests.browser import reports

REPORTS = {"diff": cache(reports.hostile), "inspect": cache(reports.hostile_contents)}
every_report = pytest.mark.parametrize("name", REPORTS)
every_figure = pytest.mark.parametrize("figure", figures.FIGURES)
every_table = pytest.mark.parametrize(
    ("name", "table"), [("diff", "rows"), ("diff", "tensors"), ("inspect", "tensors")]
)


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
@pytest.mark.parametrize("kind", save.KINDS)
def test_every_kind_is_saved(tmp_path, name, kind):
    path = tmp_path / f"report.{kind}"
    save.save(REPORTS[name](), str(path))
    assert path.stat().st_size > 1_000


@every_report
def test_terminal_and_notebook(name):
    report = REPORTS[name]()
    for view in (View(verbose=True), View(unicode=False), View(width=60, wrap=True)):
        text = console.diff(report, view) if name == "diff" else console.inspect(report, view)
        assert acting(text) == set()
    assert acting(html.notebook(report, 50)) == set()


def is_formula(cell):
    return not re.fullmatch(r"-\d+", cell) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))


@every_table
def test_cells_are_no_formulas(name, table):
    text = "".join(save.pieces(REPORTS[name](), "csv", table=table))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if is_formula(cell)]


@every_table
def test_cells_of_parquet_are_those_of_csv(name, table):
    read = pytest.importorskip("pyarrow.parquet").read_table
    report = REPORTS[name]()
    kept = read(io.BytesIO(parquet.render(tables.of(report, table))))
    rows = list(csv.reader(io.StringIO("".join(save.pieces(report, "csv", table=table)), newline="")))
    columns = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in kept.columns]
    assert [kept.column_names, *map(list, zip(*columns, strict=True))] == rows
    for cell in (cell for column in columns for cell in column):
        assert acting(cell, "") == set()
        assert not is_formula(cell)


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


@every_figure
@every_report
def test_svg_holds_outlines_only(name, figure):
    picture = ET.fromstring("".join(save.pieces(REPORTS[name](), "svg", figure=figure)))
    tags = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert not tags & {"script", "foreignObject", "image", "a", "animate", "set", "text"}
    for element in picture.iter():
        assert not [key for key in element.attrib if key.startswith("on")]
        links = [value for key, value in element.attrib.items() if key.endswith("href")]
        assert all(link.startswith("#") for link in links)


@every_figure
@every_report
def test_png_is_a_picture_with_safe_texts(name, figure):
    scene = figures.arrange(REPORTS[name](), figure)
    with Image.open(io.BytesIO(figures.png(scene))) as picture:
        picture.load()
        assert picture.size == (1600, 900)
        assert set(picture.text) == {"Title", "Description", "Software"}
        for text in picture.text.values():
            assert acting(text, "") == set()
    for text in scene.texts:
        assert acting(text.text, "") == set()
