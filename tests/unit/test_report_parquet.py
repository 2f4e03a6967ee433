"""Parquet: the same cells as CSV, typed; a clear line where pyarrow is missing."""

from __future__ import annotations

import csv as reader
import io
import sys

import pytest

from sizeforensics.cli import run
from sizeforensics.errors import InputError
from sizeforensics.report import csv, parquet, save, tables
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.golden import real, samples

pq = pytest.importorskip("pyarrow.parquet")


def read(data):
    return pq.read_table(io.BytesIO(data)).to_pylist()


@pytest.mark.parametrize("table", ["rows", "tensors"])
@pytest.mark.parametrize("make", [samples.yolo, samples.hostile, samples.every_cause])
def test_same_cells_as_csv(make, table):
    report = diff_report(*make())
    typed = read(parquet.render(tables.of(report, table)))
    texts = list(reader.DictReader(io.StringIO("".join(csv.render(tables.of(report, table))), newline="")))
    assert [{key: "" if cell is None else str(cell) for key, cell in row.items()} for row in typed] == texts


def test_sums_and_types():
    report = real.compared("mini-onnx")
    rows = read(parquet.render(tables.of(report)))
    assert sum(row["delta_bytes"] for row in rows) == report.delta_bytes
    pairs = read(parquet.render(tables.of(report, "tensors")))
    assert len(pairs) == len(report.tensors)
    assert isinstance(pairs[0]["before_offset"], int)


def test_tensors_and_spans_of_one_artifact():
    inventory, findings = samples.inspected()
    rows = read(parquet.render(tables.of(inspect_report(inventory, findings))))
    assert [row["name"] for row in rows] == ["conv.weight", "conv.bias", "conv.bias.copy"]
    spans = read(parquet.render(tables.of(inventory)))
    assert sum(row["bytes"] for row in spans) == inventory.nbytes


def test_nothing_is_a_table_without_rows():
    table = pq.read_table(io.BytesIO(parquet.render(tables.of(samples.artifact("e.onnx", [])))))
    assert table.num_rows == 0
    assert table.column_names == ["path", "start", "end", "bytes", "role", "owner"]


def test_the_same_bytes_again():
    report = diff_report(*samples.yolo())
    assert parquet.render(tables.of(report)) == parquet.render(tables.of(report))


def test_numbers_beyond_64_bits_are_one_line():
    table = tables.Table((("bytes", int),), [[2**70]])
    with pytest.raises(InputError, match=r"not for \.csv"):
        parquet.render(table)


@pytest.mark.parametrize(("name", "message"), [("gone", "rows, tensors")])
def test_unknown_table(name, message):
    with pytest.raises(InputError, match=message):
        tables.of(diff_report(*samples.yolo()), name)
    with pytest.raises(InputError, match="tensors only"):
        tables.of(inspect_report(*samples.inspected()), "rows")


def test_missing_pyarrow_is_one_line_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(parquet, "find_spec", lambda _: None)
    path = tmp_path / "a.parquet"
    with pytest.raises(InputError, match=r"sizeforensics\[parquet\]"):
        save.check(str(path))
    assert run(["diff", "missing.pt", "missing.onnx", "-o", str(path)]) == 2
    assert "pip install 'sizeforensics[parquet]'" in capsys.readouterr().err
    assert not path.exists()


def test_kinds_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(real.ROOT)
    models = ["fixtures/models/tied.pt", "fixtures/models/tied-legacy.onnx"]
    outputs = [f"{tmp_path}/a.{kind}" for kind in save.KINDS]
    options = [word for path in outputs for word in ("-o", path)]
    assert run(["diff", *models, *options, "--figure", "treemap", "--table", "tensors"]) == 0
    assert sorted(path.suffix[1:] for path in tmp_path.iterdir()) == sorted(save.KINDS)
    assert run(["inspect", models[1], *options]) == 2
    assert run(["inspect", models[1], *options, "--force"]) == 0
    assert run(["map", models[1], "-o", f"{tmp_path}/m.parquet"]) == 0
    assert run(["map", models[1], "-o", f"{tmp_path}/m.png"]) == 2
