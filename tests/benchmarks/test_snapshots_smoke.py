"""The benchmark of snapshots measures what it says, and the documentation quotes all of it."""

from __future__ import annotations

from benchmarks.snapshots.__main__ import COUNTS, DOCUMENT, SUFFIXES, TARGET, Line, measured, table


def test_fifteen_tensors_fit_in_every_format(tmp_path):
    line = measured(15, tmp_path)
    assert len(line.nbytes) == len(SUFFIXES)
    assert all(0 < size <= 15 * TARGET for size in line.nbytes), line


def test_what_is_over_the_target_is_said():
    assert "| 1 | **201** | 200 | 9 |" in table([Line(1, (201, 200, 9))])


def test_the_documentation_has_every_size():
    text = DOCUMENT.read_text(encoding="utf-8")
    found = text.partition("<!-- snapshots: begin -->")[2].partition("<!-- snapshots: end -->")[0]
    assert all(f"\n| {count:,} |" in found for count in COUNTS)
