"""CSV: rows that sum, and cells that no spreadsheet runs."""

from __future__ import annotations

import csv as reader
import io

import pytest

from sizeforensics.report import csv, tables
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.golden import samples


def rendered(report):
    return csv.render(tables.of(report))


def table(pieces) -> list[dict[str, str]]:
    return list(reader.DictReader(io.StringIO("".join(pieces), newline="")))


def test_ledger_sums():
    rows = table(rendered(diff_report(*samples.yolo())))
    assert sum(int(row["after_bytes"]) for row in rows) == 29_352_471
    assert sum(int(row["delta_bytes"]) for row in rows) == 14_687_906
    assert rows[0]["before_dtype"] == "float16"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_formulas_are_defused(start):
    name = f"{start}cmd|'/c calc'!A1"
    inventory = samples.artifact("a.onnx", [(8, "tensor-data", name)])
    tensors, spans = table(rendered(inspect_report(inventory, []))), table(rendered(inventory))
    for cell in (tensors[0]["name"], spans[0]["owner"]):
        assert cell.startswith("'")
        assert not cell.startswith("''")


def test_hostile_names_stay_in_their_cell():
    rows = table(rendered(diff_report(*samples.hostile())))
    assert len(rows) == 3
    assert rows[0]["subject"] == r"evil\x1b[31m\u202egnp.\u200b\n| <b>=1+1\udc80"
    assert rows[1]["subject"].startswith("'=evil")
    assert rows[1]["delta_bytes"] == "-100"
    "".join(rendered(diff_report(*samples.hostile()))).encode("utf-8")


def test_spans_tile():
    rows = table(rendered(samples.inspected()[0]))
    assert sum(int(row["bytes"]) for row in rows) == 5_040
    assert [row["start"] for row in rows[1:]] == [row["end"] for row in rows[:-1]]


def test_many_rows_come_in_pieces():
    inventory = samples.artifact("a.onnx", [(1, "graph", str(number)) for number in range(10_000)])
    pieces = list(rendered(inventory))
    assert len(pieces) == 3
    assert len(table(pieces)) == 10_000
