"""The real miniatures through every report: sums, contract, and the signs of the turned diff."""

from __future__ import annotations

import itertools
import json

import jsonschema
import pytest

from sizeforensics import api, formats
from sizeforensics.report import json as renderer
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


@pytest.mark.parametrize("name", NAMES)
def test_nothing_differs_from_itself(name):
    diff = api.compare(read(name), read(name))
    assert diff.headline.endswith("in every cause: no difference.")
    assert not any(entry.delta_bytes for entry in diff.causes)
