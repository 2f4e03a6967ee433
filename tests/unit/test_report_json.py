"""JSON: the contract of the shipped schemas, valid UTF-8 whatever a name holds."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import torch

from sizeforensics.report import json as renderer
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.golden import samples
from tests.torch_files import read, saved

SCHEMAS = {
    path.name.removesuffix(".json"): json.loads(path.read_text(encoding="utf-8"))
    for path in files("sizeforensics").joinpath("schemas").iterdir()
    if path.name.endswith(".json")
}


def schema_of(document: dict) -> dict:
    return SCHEMAS[document["schema"].removeprefix("sizeforensics.").replace("/", "-")]


def documented(value, schema, where="$"):
    """Every key that is written is described in the schema; jsonschema alone allows additions."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert key in schema.get("properties", {}), f"{where}.{key} is not documented"
            assert schema["properties"][key].get("description"), f"{where}.{key} has no description"
            documented(item, schema["properties"][key], f"{where}.{key}")
    elif isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            documented(item, schema["items"] or {}, f"{where}[{number}]")


def render_diff(sample) -> str:
    return "".join(renderer.render(renderer.diff(diff_report(*sample()))))


def render_inspect(inventory, findings) -> str:
    return "".join(renderer.render(renderer.inspect(inspect_report(inventory, findings))))


DOCUMENTS = {
    "yolo": lambda: render_diff(samples.yolo),
    "hostile": lambda: render_diff(samples.hostile),
    "wide": lambda: render_diff(samples.wide),
    "every-cause": lambda: render_diff(samples.every_cause),
    "inspect": lambda: render_inspect(*samples.inspected()),
    "inspect-hostile": lambda: render_inspect(
        samples.artifact(samples.HOSTILE, [(8, "tensor-data", samples.HOSTILE)]), []
    ),
    "map": lambda: "".join(renderer.render_map(samples.inspected()[0])),
    "map-hostile": lambda: "".join(
        renderer.render_map(samples.artifact(samples.HOSTILE, [(8, "graph", samples.HOSTILE)]))
    ),
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_schemas_are_valid_2020_12(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_follow_their_schema_and_document_every_key(make):
    document = json.loads(make().encode("utf-8"))
    jsonschema.validate(document, schema_of(document), jsonschema.Draft202012Validator)
    documented(document, schema_of(document))


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_are_deterministic_and_inert(make):
    text = make()
    assert text == make()
    assert not set(text) & set("\x1b\x7f\u202e\u200b\udc80")


def test_names_survive_except_what_no_unicode_has():
    document = json.loads(render_diff(samples.hostile))
    assert document["rows"][0]["subject"] == samples.HOSTILE.replace("\udc80", "\\udc80")


def test_diff_sums():
    document = json.loads(render_diff(samples.yolo))
    for key in ("causes", "rows"):
        assert sum(item["delta_bytes"] for item in document[key]) == document["delta_bytes"]
        assert sum(item["before_bytes"] for item in document[key]) == document["before"]["bytes"]
    for kind, size in document["evidence"].items():
        assert sum(entry[kind] for entry in document["causes"]) == size
    dtype = document["causes"][0]
    assert dtype["label"] == "float16 -> float32"
    assert (dtype["before_bytes"], dtype["after_bytes"]) == (0, 14_451_770)
    assert dtype["proved_bytes"] == 14_451_770


def test_stored_bytes_of_views_broadcasts_and_meta_tensors():
    wide = torch.ones(1).expand(100, 100)
    inventory = read(saved({"meta": torch.empty(9, 9, device="meta"), "wide": wide, "tied": wide}))
    document = json.loads(render_inspect(inventory, []))
    sizes = {tensor["name"]: (tensor["bytes"], tensor["stored_bytes"]) for tensor in document["tensors"]}
    assert sizes == {"meta": (324, 0), "wide": (40_000, 4), "tied": (40_000, 0)}
    assert {"role": "tensor-data", "bytes": 4, "count": 1} in document["roles"]


def test_map_tiles_and_streams_in_pieces():
    layout = [(1 + number % 3, "graph", f"node {number % 50}") for number in range(10_000)]
    inventory = samples.artifact("big.onnx", layout)
    pieces = list(renderer.render_map(inventory))
    assert len(pieces) > 3
    (file,) = json.loads("".join(pieces))["files"]
    starts, ends = ([span[side] for span in file["spans"]] for side in (0, 1))
    assert [0, *ends] == [*starts, file["bytes"]]


def test_chunks_keep_the_text():
    pieces = [str(number) for number in range(1000)]
    chunks = list(renderer.chunks(pieces, size=100))
    assert "".join(chunks) == "".join(pieces)
    assert len(chunks) < 40
