"""The benchmark of reports measures what it says; sizes that are promised hold for ordinary models."""

from __future__ import annotations

import pytest

from benchmarks import marks
from benchmarks.reports.__main__ import COUNTS, TARGETS, Line, measured, table
from benchmarks.reports.synthetic import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_tensors_fit(kind):
    line = measured(kind, 1_000)
    assert line.page_bytes <= TARGETS[1_000], line
    assert 0 < line.names_bytes < line.page_bytes
    assert KINDS[kind](50) == KINDS[kind](50)


def test_the_script_and_the_style_are_small():
    assert measured("transformer", 1).page_bytes < 100_000


def test_the_readme_has_every_size():
    text = marks.README.read_text(encoding="utf-8")
    found = text.partition("<!-- reports: begin -->")[2].partition("<!-- reports: end -->")[0]
    for kind in KINDS:
        for count in COUNTS:
            assert f"| {kind} | {count:,} |" in found


def test_a_missed_target_is_said():
    assert "| noise | 1,000 | 200,001 | 5 | 0.10 | <= 200,000: NO |" in table([Line("noise", 1_000, 200_001, 5, 0.1)])


def test_marks_must_be_there(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n", encoding="utf-8")
    marks.update(document, "x", "new")
    assert document.read_text(encoding="utf-8") == "a\n<!-- x: begin -->\n\nnew\n<!-- x: end -->\nb\n"
    with pytest.raises(ValueError, match="y: begin"):
        marks.update(document, "y", "new")
