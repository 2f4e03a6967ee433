"""The presentation model: sentences, sums and the folding of causes into lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sizeforensics.causes import CAUSES
from sizeforensics.errors import LawBroken
from sizeforensics.ledger import Row
from sizeforensics.report import words
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.lines import SORTS, cause_lines
from sizeforensics.report.presentation import diff_report
from tests.golden import samples

SAMPLES = [samples.yolo, samples.hostile, samples.wide, samples.every_cause]


def headline(rows: list[Row], **paths: str) -> str:
    return diff_report(*samples.case(rows, **paths)).headline


def row(cause: str, before: int, after: int, **options: object) -> Row:
    label, evidence = options.pop("label", ""), options.pop("evidence", "parsed")
    return Row(cause, label, options.pop("subject", cause), before, after, evidence, "how", **options)


def carried(size: int, evidence: str = "proved") -> Row:
    return row("carried", size, size, evidence=evidence)


HEADLINES = {
    "widened": (
        [carried(200), row("dtype", 0, 200, label="float16 -> float32", elements=100)],
        "b.onnx is 2.00x a.pt: 100 weights went float16 -> float32.",
    ),
    "narrowed": (
        [carried(200), row("dtype", 200, 0, label="float32 -> float16", elements=100)],
        "b.onnx is 0.50x a.pt: 100 weights went float32 -> float16.",
    ),
    "optimizer": (
        [carried(100), row("optimizer-state", 0, 200, members=4)],
        "b.onnx is 3.00x a.pt: 4 entries of optimizer state were added (+200 B).",
    ),
    "one-copy": (
        [carried(100), row("duplicate", 0, 60, subject="head.weight")],
        "b.onnx is 1.60x a.pt: 1 further copy of tensors was stored (+60 B, head.weight).",
    ),
    "ema-dropped": (
        [carried(100), row("ema-copy", 100, 0, members=7)],
        "b.onnx is 0.50x a.pt: 7 entries of a further network copy were dropped (-100 B).",
    ),
    "history": (
        [carried(100), row("pickle", 10, 900, subject="training_results"), row("pickle", 0, 20)],
        "b.onnx is 9.27x a.pt: pickled Python objects grew (+910 B, mostly training_results).",
    ),
    "mixed": (
        [carried(100), row("graph", 0, 50), row("constant", 0, 40, members=2, subject="grid"),
         row("metadata", 0, 30), row("names", 0, 5)],
        ("b.onnx is 2.25x a.pt: the graph grew (+50 B, graph), 2 constants were baked in (+40 B, mostly "
        "grid) and metadata grew (+30 B, metadata)."),
    ),
    "counterweight": (
        [carried(100), row("optimizer-state", 0, 200, members=2), row("pickle", 100, 0)],
        ("b.onnx is 1.50x a.pt: 2 entries of optimizer state were added (+200 B); against that, "
        "pickled Python objects shrank (-100 B, pickle)."),
    ),
    "hardly": (
        [carried(100_000), row("names", 0, 7)],
        "b.onnx is 7 B larger than a.pt (1.00x): tensor and node names grew (+7 B).",
    ),
    "hardly-smaller": (
        [carried(100_000), row("alignment", 7, 0)],
        "b.onnx is 7 B smaller than a.pt (1.00x): alignment padding shrank (-7 B).",
    ),
    "identical": (
        [carried(100)._replace(how="identical bytes")],
        "a.pt and b.onnx have the same 100 B in every cause: no difference.",
    ),
    "turned": (
        [carried(100)._replace(how="axes permuted (1, 0)")],
        "a.pt and b.onnx have the same 100 B in every cause, but 1 tensor written another way.",
    ),
    "same-width": (
        [carried(100), row("dtype", 0, 0, label="int32 -> float32", elements=25)],
        "a.pt and b.onnx have the same 100 B, but 25 weights went int32 -> float32.",
    ),
    "unlike": (
        [carried(100), row("unmatched", 0, 200, members=139, subject="x"), row("ema-copy", 5, 0)],
        "b.onnx is 2.86x a.pt: 139 tensors without counterpart were added (+200 B, mostly x).",
    ),
    "came and went": (
        [carried(100), row("unmatched", 0, 200, members=2), row("unmatched", 50, 0, members=9)],
        "b.onnx is 2.00x a.pt: 2 tensors without counterpart were added (+150 B net, mostly unmatched).",
    ),
    "there before": (
        [carried(100), row("unreferenced", 50, 200, members=9)],
        "b.onnx is 2.00x a.pt: unreferenced entries grew (+150 B, mostly unreferenced).",
    ),
    "retrained": (
        [carried(60, "inferred"), carried(40, "inferred"), row("container", 5, 5)],
        "a.pt and b.onnx have the same 105 B in every cause, but 2 tensors with other values.",
    ),
    "balanced": (
        [carried(100), row("graph", 0, 50), row("pickle", 50, 0)],
        ("a.pt and b.onnx have the same 150 B, but not the same content: the graph grew (+50 B, graph), "
        "pickled Python objects shrank (-50 B, pickle)."),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rows, expected", HEADLINES.values(), ids=HEADLINES)
def test_headline_answers_in_one_sentence(rows, expected):
    assert headline(rows) == expected


@pytest.mark.parametrize("cause", sorted(set(CAUSES) - {"carried"}))
@pytest.mark.parametrize("sign", [1, -1])
def test_every_cause_has_words_for_both_directions(cause, sign):
    sides = (10, 30) if sign > 0 else (30, 10)
    text = headline([carried(100), row(cause, *sides, label="int8 -> int64" * (cause == "dtype"))])
    assert text.startswith("b.onnx is ")
    assert text.endswith(".")


def test_equal_file_names_are_shown_with_their_folders():
    text = headline([row("graph", 1, 2)], before="old/m.onnx", after="new/m.onnx")
    assert text.startswith("new/m.onnx is 2.00x old/m.onnx: ")


def test_ledger_of_other_artifacts_is_refused():
    before, after, _ = samples.yolo()
    with pytest.raises(LawBroken, match="14,664,565"):
        diff_report(before, after, samples.ledger([carried(1)]))


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_total_is_the_sum_of_its_rows(sample):
    report = diff_report(*sample())
    for side in ("before", "after"):
        size = getattr(report, side).bytes
        for rows in (report.causes, report.rows, (*report.tensors, *report.others)):
            assert sum(getattr(item, f"{side}_bytes") for item in rows) == size
    for kind in ("proved", "parsed", "inferred", "unexplained"):
        total = getattr(report.evidence, kind)
        assert sum(getattr(entry.evidence, kind) for entry in report.causes) == total


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_lines_sum_to_the_change_however_few(sample, sort, limit):
    report = diff_report(*sample())
    lines = cause_lines(report, limit, sort, lambda entry: entry.cause != "pickle")
    assert sum(line.title != "other" for line in lines) <= limit
    assert sum(line.delta_bytes for line in lines) == report.delta_bytes
    assert sum(line.gross_bytes for line in lines) == report.gross_bytes


def test_unexplained_is_never_folded_away():
    report = diff_report(*samples.every_cause())
    titles = [line.title for line in cause_lines(report, 3, wanted=lambda _: False)]
    assert titles == ["unexplained", "other"]
    assert not report.reconciled
    assert report.reconciliation[0] == "NOT every byte explained"


def test_report_does_not_depend_on_the_order_of_the_ledger():
    before, after, book = samples.every_cause()
    turned = samples.ledger(list(reversed(book.rows)))
    assert diff_report(before, after, book) == diff_report(before, after, turned)


@pytest.mark.parametrize("sample", [samples.yolo, samples.wide, samples.every_cause])
def test_turning_the_diff_turns_every_sign(sample):
    before, after, book = sample()
    turned = [
        entry._replace(
            before_bytes=entry.after_bytes, after_bytes=entry.before_bytes,
            before=entry.after, after=entry.before,
        )
        for entry in book.rows
    ]  # fmt: skip
    there = diff_report(before, after, book)
    back = diff_report(after, before, samples.ledger(turned))
    assert back.delta_bytes == -there.delta_bytes
    assert back.evidence == there.evidence
    deltas = {(entry.cause, entry.label): entry.delta_bytes for entry in there.causes}
    assert {(entry.cause, entry.label): -entry.delta_bytes for entry in back.causes} == deltas


def test_tensor_share_counts_rows_with_a_place_only():
    report = diff_report(*samples.yolo())
    proved, rest = 2 * 14_451_770 + 58_038, 403_200
    assert report.tensor_evidence == (proved, rest, 0, 0)
    assert report.reconciliation[1] == "98.6 % of tensor bytes proved, 1.4 % parsed"


def test_inferred_share_is_said():
    where = samples.place("w", 60)
    rows = [
        Row("carried", "", "w", 60, 60, "inferred", "by name", 1, 15, where, where),
        Row("carried", "", "v", 40, 40, "proved", "equal", 1, 10, where._replace(offset=0), where),
    ]
    text = diff_report(*samples.case(rows)).reconciliation[1]
    assert text == "40.0 % of tensor bytes proved, 60.0 % inferred"


def test_fixes_are_for_what_grew_and_matters():
    report = diff_report(*samples.yolo())
    assert [(fix.cause, fix.saves_bytes, fix.exact) for fix in report.fixes] == [
        ("dtype", 14_451_770, True), ("constant", 403_200, False),
    ]  # fmt: skip
    assert report.fixes[0].action == "keep float16 storage"
    assert report.fixes[0].saving == "saves 14,451,770 B (49.2 %)"


@pytest.mark.parametrize("after_format, saved", [("pytorch-zip", [400]), ("torchscript", [])])
def test_what_describes_tensors_is_no_history(after_format, saved):
    rows = [
        row("pickle", 0, 600, subject="tensor descriptions"), row("pickle", 100, 500, subject="opt.log"),
        row("graph", 0, 900),
    ]
    before, after, ledger = samples.case(rows)
    report = diff_report(before, replace(after, format=after_format), ledger)
    assert [fix.saves_bytes for fix in report.fixes if fix.cause == "pickle"] == saved


@pytest.mark.parametrize("part, whole, expected", [
    (0, 10, "0.0 %"), (0, 0, "0.0 %"), (1, 10_000_000, "<0.1 %"), (1, 2000, "0.1 %"),
    (956, 1000, "95.6 %"), (9_999_999, 10_000_000, ">99.9 %"), (10, 10, "100.0 %"),
    (30, 10, "300.0 %"),
])  # fmt: skip
def test_percent_never_rounds_something_to_nothing_or_most_to_all(part, whole, expected):
    assert words.percent(part, whole) == expected


@pytest.mark.parametrize("before, after, expected", [
    (0, 5, ""), (1, 2, "2.00x"), (2, 1, "0.50x"), (210, 400_000_000, "1,904,762x"),
    (400, 3, "0.0075x"), (1000, 1001, "1.00x"), (5, 0, "0.00x"),
])  # fmt: skip
def test_ratio_stays_readable(before, after, expected):
    assert words.ratio(before, after) == expected


def test_parts_of_an_artifact_sum():
    report = inspect_report(*samples.inspected())
    assert sum(part.bytes for part in report.roles) == report.side.bytes == 5_040
    assert sum(part.bytes for part in report.dtypes) == 4_800
    assert report.unclaimed_bytes == 20
    assert report.headline == (
        "small.onnx is 5,040 B: 95.2 % tensor data, all float32; 400 B could go (7.9 %)."
    )
    assert report.tensors[1].offset == 4_160
