"""The real miniatures through every report: sums, contract, and the signs of the turned diff."""

from __future__ import annotations

import itertools
import json

import jsonschema
import pytest

from sizeforensics import api, formats
from sizeforensics.attribution import UNREAD
from sizeforensics.report import html
from sizeforensics.report import json as renderer
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.words import phrase
from tests.golden import samples
from tests.golden.cases import MODELS
from tests.unit.test_report_json import documented, schema_of

NAMES = sorted(path.name for path in MODELS.iterdir() if path.suffix != ".data")
PAIRS = [
    pair
    for family in ("tied", "yolov5-micro", "yolov5-mini")
    for pair in itertools.combinations([name for name in NAMES if name.startswith(family)], 2)
]


def read(name: str):
    return formats.read(str(MODELS / name))


def checked(pieces) -> dict:
    document = json.loads("".join(pieces))
    jsonschema.validate(document, schema_of(document), jsonschema.Draft202012Validator)
    documented(document, schema_of(document))
    return document


@pytest.mark.parametrize("name", NAMES)
def test_inspect_and_map_follow_their_contracts(name):
    inventory = read(name)
    document = checked(renderer.render(api.look_into(inventory).to_dict()))
    assert sum(role["bytes"] for role in document["roles"]) == document["bytes"]
    assert sum(file["bytes"] for file in document["files"]) == document["bytes"]
    document = checked(renderer.render_map(inventory))
    for file in document["files"]:
        assert sum(end - start for start, end, *_ in file["spans"]) == file["bytes"]


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_diff_sums_both_ways(names):
    there, back = (
        checked(renderer.render(api.compare(*map(read, pair)).to_dict()))
        for pair in (names, names[::-1])
    )
    for key in ("causes", "rows"):
        assert sum(item["delta_bytes"] for item in there[key]) == there["delta_bytes"]
    assert there["delta_bytes"] == -back["delta_bytes"]
    assert there["unexplained_bytes"] == 0


def test_pickled_objects_go_with_the_network_that_went():
    """The checkpoint kept what was averaged: the other network went, objects and tensors alike."""
    there, back = (api.compare(*map(read, pair)) for pair in (
        ("yolov5-micro-train.pt", "yolov5-micro.pt"), ("yolov5-micro.pt", "yolov5-micro-train.pt"),
    ))  # fmt: skip
    assert "mostly model._modules" in there.headline
    gone = [row for row in there.rows if row.cause == "pickle" and not row.after_bytes]
    assert {row.subject.partition(".")[0] for row in gone if "." in row.subject} == {"model"}
    (copied,) = (entry for entry in there.causes if entry.cause == "ema-copy")
    assert copied.largest.startswith("model.")
    objects = {(row.subject, row.how, row.before_bytes, row.after_bytes) for row in there.rows if row.cause == "pickle"}
    assert objects == {(row.subject, row.how, row.after_bytes, row.before_bytes) for row in back.rows if row.cause == "pickle"}


def test_a_type_is_kept_only_for_weights_that_are_proved_the_same():
    """Two models of one architecture: nothing says that the other was ever stored narrower."""
    report = api.compare(read("yolov5-mini.pt"), read("yolov5-mini.onnx")).report
    assert report.fixes[0].action == "keep float16 storage"
    rows = [row._replace(evidence="inferred") if row.cause == "dtype" else row for row in report.rows]
    other = diff_report(read("yolov5-mini.pt"), read("yolov5-mini.onnx"), samples.ledger(rows))
    assert "keep float16 storage" not in [fix.action for fix in other.fixes]


def test_a_payload_that_was_not_read_is_not_called_dropped(tmp_path):
    path = tmp_path / "yolov5-micro-dynamo.onnx"
    path.write_bytes((MODELS / path.name).read_bytes())
    report = api.compare(formats.read(str(MODELS / "yolov5-micro.pt")), formats.read(str(path))).report
    unread = [entry for entry in report.causes if entry.label == UNREAD]
    assert [entry.cause for entry in unread] == ["unmatched"]
    assert "dropped" not in phrase("unmatched", UNREAD, delta=-9, count=2, elements=0, subject="")
    assert "external data not read" in "".join(html.render(report)).partition('id="causes"')[0]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs_from_itself(name):
    diff = api.compare(read(name), read(name))
    assert diff.headline.endswith("in every cause: no difference.")
    assert not any(entry.delta_bytes for entry in diff.causes)
