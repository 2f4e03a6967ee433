"""The pull-request comment: complete, small enough, and deaf to what names say."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from sizeforensics import api
from sizeforensics.findings import Finding
from sizeforensics.ledger import Row
from sizeforensics.report import markdown, marked
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.golden import real, samples

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    samples.HOSTILE, "`", "``", "```", "` `", "a`b``c", "`a", "a`", "|", "a|b", "\\|", "\\\\|", "\\", "a\\", "`|`",
    "@everyone", "#1", "GH-1", "octo/cat#12", "https://evil.example", "www.evil.example", "me@evil.example",
    "[x](javascript:alert(1))", "![x](https://evil.example/pixel)", "<img src=x onerror=alert(1)>", "</details>",
    "-->", "--><script>", "<!--", "a\nb", "\n\n# head", "\r", "| --- |", "*b*", "_b_", "~~b~~", ":tada:", "$x$", "$`x`$",
    "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef", "", " ", "  a  ", "&lt;", "\u202e", "\u200b@me", "x" * 100_000,
    "1.", "- x", "> x", "[^1]", "[ref]: x", "- [ ] x", "@me, #2; (https://a.example)", "was @me",
]  # fmt: skip


def tokens(text):
    for token in READER.parse(text):
        yield token
        yield from token.children or []


def check_inert(text):
    """No link, picture or markup but ours; outside code no mention, reference or address."""
    for token in tokens(text):
        assert not token.type.startswith(("link", "image", "em_", "s_", "html_inline")), token
        if token.type == "html_block":
            assert re.fullmatch(
                r"(<!-- sizeforensics (diff|inspect) [\w.~%/-]+ -->|<details>\n<summary>[\w :,-]+</summary>|</details>)\n*",
                token.content, re.ASCII,
            ), token.content  # fmt: skip
        if token.type == "text":
            assert not re.search(r"[@#\[\]`\\]|https?:|www\.|GH-|[0-9a-f]{7}", token.content), token.content
    assert len(text) <= marked.MAX_CHARACTERS
    assert text.isprintable() or text.replace("\n", "").isprintable()


def report_of(name):
    place = samples.place(name, 4000)
    rows = [
        Row("unmatched", name, name, 0, 4000, "parsed", f"how {name}", 1, 0, None, place),
        Row("dtype", f"{name} -> {name}", name, 0, 900, "parsed", name, 1, 5),
        Row("pickle", "", name, 500, 0, "parsed", name),
        Row("container", "", name, 5, 9, "parsed", name),
    ]
    return diff_report(*samples.case(rows, f"d/{name}.pt", f"d/{name}.onnx"))


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
def test_names_stay_in_their_code(name):
    text = markdown.render(report_of(name))
    check_inert(text)
    assert text.count("\n## ") == 1
    inventory = samples.artifact(f"d/{name}.onnx", [(400, "tensor-data", name)], warnings=(name,))
    finding = Finding("duplicate", 40, (name, name), f"Remove {name} (see {name}).")
    check_inert(markdown.render(inspect_report(inventory, [finding])))


@given(st.text(alphabet="`|\\ a@#\n[]()<>!*_~$&:/.-+0123", max_size=24))
@example("`\\|`")
def test_any_name_is_inert(name):
    check_inert(markdown.render(report_of(name)))


@given(st.text(alphabet="`\\ ab|*[]<", min_size=1, max_size=20).filter(str.strip))
def test_code_shows_the_text_itself(text):
    found = [token for token in tokens(f"x {marked.code(text)} y") if token.type == "code_inline"]
    assert [token.content for token in found] == [text]


@pytest.mark.parametrize("names", real.PAIRS)
def test_tables_hold_their_columns_and_sums(names):
    report = real.compared(names)
    text = markdown.render(report)
    check_inert(text)
    widths = []
    for line in text.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
        elif widths:
            assert len(set(widths)) == 1
            widths = []
    changes = [int(cell.replace(",", "")) for cell in re.findall(r"^\| [a-z0-9, -]+ \| .*\| ([+-][\d,]+) B \|", text, re.MULTILINE)]
    assert sum(changes) == report.delta_bytes
    assert f"**{report.after.bytes:,} B**" in text


def test_title_says_verdict_and_change():
    assert "\n## `yolov5s.onnx` grew by 14,687,906 B to 29,352,471 B (2.00x)\n" in markdown.diff(diff_report(*samples.yolo()))
    assert "shrank by 407,944 B to" in markdown.diff(real.compared("micro-train"))
    same = markdown.diff(real.compared("same"))
    assert "stays at 107,805 B" in same
    assert "<details>" not in same
    assert "UNEXPLAINED" in markdown.diff(diff_report(*samples.every_cause()))
    assert "UNCLAIMED" in markdown.inspect(inspect_report(*samples.inspected()))


def test_marker_names_the_model_and_no_absolute_path():
    first = markdown.render(diff_report(*samples.case([], "/home/me/a.pt", "/home/me/out/b--c.onnx")))
    assert first.startswith("<!-- sizeforensics diff b-%2Dc.onnx -->\n")
    assert "/home" not in first
    assert markdown.render(diff_report(*samples.case([], "a.pt", "out/b.onnx"))).startswith("<!-- sizeforensics diff out/b.onnx -->\n")


def test_sections_are_dropped_whole(monkeypatch):
    report = real.compared("mini-onnx")
    whole = markdown.render(report)
    assert "<details>" in whole
    monkeypatch.setattr(marked, "MAX_CHARACTERS", len(whole) - 1)
    short = markdown.render(report)
    assert "<details>" not in short
    assert "1 section left out" in short
    assert "**Fix**" in short


def test_python_gives_the_same():
    report = real.compared("tied-legacy")
    assert api.Diff(report).to_markdown() == markdown.render(report)
