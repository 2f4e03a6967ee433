"""The terminal view: the answer first, sums that add up, nothing cropped, nothing hostile."""

from __future__ import annotations

import re
import unicodedata

import pytest
from rich.cells import cell_len

from sizeforensics.report import console
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.styled import View
from tests.golden import real, samples

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def amounts(text: str) -> list[int]:
    """The amounts of the waterfall: size before, signed changes, size after."""
    lines = [line for line in text.splitlines() if re.match(r"  (before|after |[-+]) ", line)]
    found = [re.findall(r"([-+]?[0-9][0-9,]*) B", line)[0] for line in lines]
    return [int(number.replace(",", "")) for number in found]


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("sample", [samples.yolo, samples.every_cause])
def test_waterfall_adds_up_within_twenty_lines(sample, width):
    report = diff_report(*sample())
    text = console.diff(report, View(width=width, wrap=True))
    before, *changes, after = amounts(text)
    assert (before, after) == (report.before.bytes, report.after.bytes)
    assert before + sum(changes) == after
    assert len(text.splitlines()) <= console.MAX_LINES


@pytest.mark.parametrize("options", [
    {"min_bytes": 50_000}, {"min_bytes": 10**9}, {"filter": "model.24"}, {"filter": "cause=dtype"},
    {"filter": "nothing has this name"}, {"sort": "name"}, {"sort": "before"}, {"sort": "after"},
])  # fmt: skip
def test_filters_leave_the_sum_alone(options):
    text = console.diff(diff_report(*samples.yolo()), View(verbose=True, **options))
    before, *changes, after = amounts(text)
    assert before + sum(changes) == after == 29_352_471
    table = [line.split() for line in text.splitlines() if "(total)" in line]
    assert table == [["(total)", "14,664,565", "29,352,471", "+14,687,906"]]


def test_filter_by_cause_shows_that_cause():
    text = console.diff(diff_report(*samples.yolo()), View(filter="cause=pickle"))
    assert "  - pickle " in text
    assert " other  8 causes" in text
    assert "dtype" not in text.split("\n", 1)[1].split("Fix")[0]


@pytest.mark.parametrize("width", [60, 80])
def test_lines_fit_the_terminal_where_names_allow(width):
    text = console.diff(diff_report(*samples.yolo()), View(width=width, wrap=True))
    table = [line for line in text.splitlines() if line.startswith("  + ")]
    assert all(cell_len(line) <= width for line in table)


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("pair", ["mini-onnx", "mini-torchscript", "micro-dynamo", "micro-train", "tied-legacy", "same"])
def test_no_line_is_wider_than_the_terminal(pair, width):
    report = real.compared(pair)
    lines = console.diff(report, View(width=width, wrap=True)).splitlines()
    assert len(lines) <= console.MAX_LINES
    assert max(map(cell_len, lines)) <= width
    before, *changes, after = amounts("\n".join(lines))
    assert before + sum(changes) == after == report.after.bytes


def test_a_pipe_gets_the_answer_on_one_line():
    report = diff_report(*samples.every_cause())
    assert console.diff(report, View()).splitlines()[0] == report.headline


def test_the_largest_tensor_of_a_cause_is_named_where_there_is_room():
    report = real.compared("mini-onnx")
    named = "  largest /model.24/Constant_4_output_0\n"
    assert named in console.diff(report, View())
    assert named in console.diff(report, View(width=140, wrap=True))
    assert "Constant_4" not in console.diff(report, View(width=80, wrap=True))


def test_a_long_name_pads_no_other_row():
    rows = [
        samples.Row("unmatched", "", name, 0, 400, "parsed", "grammar", 1, 0, None, samples.place(name, 400))
        for name in ("layer." * 60 + "weight", "b")
    ]
    lines = console.diff(diff_report(*samples.case(rows)), View(verbose=True)).splitlines()
    assert max(len(line) for line in lines if line.startswith("  b ")) < 150


def test_names_are_never_cropped():
    name = "layer." * 60 + "weight"
    where = samples.place(name, 400)
    rows = [samples.Row("unmatched", "", name, 0, 400, "parsed", "grammar", 1, 0, None, where)]
    assert f"  {name}  " in console.diff(diff_report(*samples.case(rows)), View(verbose=True))


def test_plain_text_has_no_colour_and_colour_changes_no_text():
    report = diff_report(*samples.yolo())
    plain, colour = (console.diff(report, View(colour=colour)) for colour in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[" in colour
    stripped = [line.rstrip() for line in ANSI.sub("", colour).splitlines()]
    assert stripped == plain.splitlines()


def test_ascii_view_is_ascii():
    text = console.diff(diff_report(*samples.yolo()), View(unicode=False, verbose=True))
    text += console.inspect(inspect_report(*samples.inspected()), View(unicode=False, verbose=True))
    assert text.isascii()
    assert "  ok every byte explained" in text
    assert "###" in text


@pytest.mark.parametrize("colour", [False, True])
def test_hostile_names_are_inert(colour):
    view = View(colour=colour, verbose=True)
    text = console.diff(diff_report(*samples.hostile()), view)
    inventory = samples.artifact(samples.HOSTILE, [(8, "tensor-data", samples.HOSTILE)])
    text += console.inspect(inspect_report(inventory, []), view)
    text += "".join(console.spans(inventory))
    unsafe = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    rest = ANSI.sub("", text).replace("\n", "")
    assert not [char for char in rest if unicodedata.category(char) in unsafe]
    assert r"evil\x1b[31m\u202egnp.\u200b\n| <b>=1+1\udc80" in text


def test_wide_characters_keep_the_columns():
    text = console.diff(diff_report(*samples.wide()), View(wrap=True))
    lines = [line for line in text.splitlines() if " B" in line and line.startswith("  ")]
    assert len({cell_len(line[: line.index(" B")]) for line in lines}) == 1


def test_smallest_change_still_has_a_mark():
    text = console.diff(diff_report(*samples.yolo()), View())
    assert all("▏" in line or "▌" in line for line in text.splitlines() if re.match("  - ", line))


def test_unexplained_bytes_are_shouted():
    text = console.diff(diff_report(*samples.every_cause()), View())
    assert "  ✗ NOT every byte explained · 1,680,700 unexplained" in text
    assert "  + unexplained " in text


def test_inspect_adds_up_within_twenty_lines():
    text = console.inspect(inspect_report(*samples.inspected()), View(wrap=True))
    assert len(text.splitlines()) <= console.MAX_LINES
    sizes = [int(size.replace(",", "")) for size in re.findall(r"^  [a-z-]+ +([0-9,]+) B", text, re.MULTILINE)]
    assert sum(sizes[:-1]) == sizes[-1] == 5_040


def test_inspect_filters_tensors_and_counts_the_rest():
    view = View(verbose=True, filter="bias", min_bytes=100, sort="name")
    text = console.inspect(inspect_report(*samples.inspected()), view)
    assert "conv.bias.copy" in text
    assert re.search(r"\(1 more tensors?\) +4,000", text)
