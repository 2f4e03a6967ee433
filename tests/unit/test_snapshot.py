"""Snapshots: what they hold, and that a diff of them gives each cause the bytes of the models."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections import Counter
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import zstandard

import sizeforensics as sf
from sizeforensics import api, formats
from sizeforensics.cli import run
from sizeforensics.inventory import Inventory
from sizeforensics.report import snapshots
from sizeforensics.source import MemorySource
from sizeforensics.spans import CODE, GRAPH
from tests.builders import artifact, graph, random
from tests.ledgers import ledger
from tests.unit.test_report_json import SCHEMAS, documented

MODELS = Path(__file__).parents[2] / "fixtures" / "models"
NAMES = sorted(path.name for path in MODELS.iterdir() if path.suffix != ".data")
PAIRS = list(combinations_with_replacement(NAMES, 2))

def text_of(inventory: Inventory) -> str:
    return "".join(snapshots.text(api.take_snapshot(inventory)))


def reread(text: str, path: str = "model.json") -> Inventory:
    return formats.read_source(MemorySource(path, text.encode()))


@cache
def model(name: str) -> Inventory:
    return formats.read(str(MODELS / name))


@cache
def snapshot(name: str) -> Inventory:
    return reread(text_of(model(name)))


def by_cause(diff: api.Diff) -> dict[tuple[str, str], tuple[int, int]]:
    before: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    for row in diff.rows:
        before[row.cause, row.label] += row.before_bytes
        after[row.cause, row.label] += row.after_bytes
    return {key: (before[key], after[key]) for key in before | after if before[key] or after[key]}


@cache
def of_files(before: str, after: str) -> api.Diff:
    return api.compare(model(before), model(after))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_snapshots_give_the_ledger_of_the_files(pair):
    """In every order and mixture: a snapshot of both, of the first, of the second."""
    before, after = pair
    expected = ledger(of_files(before, after))
    mixtures = [
        api.compare(snapshot(before), snapshot(after)),
        api.compare(model(before), snapshot(after)),
        api.compare(snapshot(before), model(after)),
    ]
    for diff in mixtures:
        assert ledger(diff) == expected
        assert sum(row.delta_bytes for row in diff.rows) == model(after).nbytes - model(before).nbytes
    mirrored = api.compare(snapshot(after), snapshot(before))
    assert ledger(mirrored) == ledger(of_files(after, before))
    if before == after:
        assert not any(row.delta_bytes for row in mixtures[0].rows)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_evidence_is_never_stronger_than_that_of_the_files(pair):
    before, after = pair
    whole = of_files(before, after).report.tensor_evidence
    kept = api.compare(snapshot(before), snapshot(after)).report.tensor_evidence
    assert kept.proved <= whole.proved
    assert kept.unexplained == whole.unexplained == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_says_what_the_model_says(name):
    ours, theirs = model(name), snapshot(name)
    assert theirs.format == "snapshot"
    assert theirs.nbytes == ours.nbytes
    assert theirs.bytes_by_subject() == ours.bytes_by_subject()
    assert theirs.nodes.count_and_bytes_by_op() == ours.nodes.count_and_bytes_by_op()
    inspected, expected = api.look_into(theirs), api.look_into(ours)
    assert inspected.report.roles == expected.report.roles
    assert inspected.report.dtypes == expected.report.dtypes
    assert inspected.waste == expected.waste
    # Storages are numbered in the order in which tensors view them.
    assert [row._replace(storage=None) for row in inspected.tensors] == [
        row._replace(storage=None) for row in expected.tensors
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_snapshot_of_a_snapshot_is_the_same(name):
    assert text_of(snapshot(name)) == text_of(model(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_takes_at_most_200_bytes_compressed(name, tmp_path):
    for kind in (".json.gz", ".json.zst"):
        path = tmp_path / f"model{kind}"
        snapshots.write(api.take_snapshot(model(name)), str(path))
        assert path.stat().st_size <= 200 * len(model(name).tensors)
        assert formats.read(str(path)).nbytes == model(name).nbytes


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_follow_their_schema_which_documents_every_key(name):
    document = json.loads(text_of(model(name)))
    jsonschema.validate(document, SCHEMAS["snapshot-2"], jsonschema.Draft202012Validator)
    documented(document, SCHEMAS["snapshot-2"])


def test_one_tensor_a_line_and_one_line_for_a_tensor_that_changes(tmp_path):
    arrays = {f"layer{number}.weight": random(number, 8, 8) for number in range(9)}
    before = text_of(artifact(arrays, path="model.onnx"))
    arrays["layer4.weight"] = random(99, 16, 8)
    after = text_of(artifact(arrays, path="model.onnx"))
    changed = set(before.splitlines()) ^ set(after.splitlines())
    assert sum('"digest"' in line for line in changed) == 2
    assert len(changed) == 2 * 4  # the tensor, the size of the model and of its file, the total


def test_where_the_model_lies_does_not_matter(tmp_path, monkeypatch):
    source = MODELS / "yolov5-micro-dynamo.onnx"
    for suffix in ("", ".data"):
        (tmp_path / f"{source.name}{suffix}").write_bytes(Path(f"{source}{suffix}").read_bytes())
    absolute = text_of(formats.read(str(tmp_path / source.name)))
    monkeypatch.chdir(tmp_path)
    assert text_of(formats.read(source.name)) == absolute == text_of(model(source.name))
    assert str(tmp_path) not in absolute


def test_a_snapshot_in_a_folder_names_the_files_as_the_one_it_was_taken_from():
    text = text_of(model("yolov5-micro-dynamo.onnx"))
    assert text_of(reread(text, "sizes/model.json")) == text


TURNED = {
    "transposed": lambda array: array.T,
    "transposed, reshaped": lambda array: array.T.reshape(4, 3, 6),
    "reshaped, transposed": lambda array: array.reshape(4, 18).T,
    "transposed in the same shape": lambda array: array.T.reshape(array.shape),
}


def told(before: np.ndarray, after: np.ndarray) -> set[str]:
    """How snapshots of two tensors say that one became the other."""
    diff = api.compare(*(reread(text_of(artifact({"w": array}))) for array in (before, after)))
    return {row.evidence for row in diff.rows if row.cause in ("carried", "dtype")}


@pytest.mark.parametrize("types", [("f4", "f4"), ("f2", "f4"), ("f4", "f2"), ("f8", "f4")])
@pytest.mark.parametrize("turn", TURNED)
def test_digests_prove_what_was_transposed_and_cast(turn, types):
    before = random(7, 6, 12).astype(types[0])
    after = np.ascontiguousarray(TURNED[turn](before)).astype(types[1])
    changed = after.copy()
    changed.reshape(-1)[[5, 6]] = changed.reshape(-1)[[6, 5]]
    # No digest is kept of a transpose that was rounded: the one before it has to be there as a matrix.
    kept = types in (("f4", "f4"), ("f2", "f4")) or turn in ("transposed", "reshaped, transposed")
    for one, other, broken in ((before, after, changed), (after, before, None)):
        assert told(one, other) == ({"proved"} if kept else {"inferred"})
        assert broken is None or "proved" not in told(one, broken)


def test_what_regenerates_the_data_of_a_program_without_a_graph():
    """A TorchScript archive has code and no nodes."""
    scripted = artifact({"ids": np.arange(64), "w": random(1, 8, 8)}, others=[(CODE, 9, "code")])
    diff = api.compare(*(reread(text_of(made)) for made in (artifact({"w": random(1, 8, 8)}), scripted)))
    (row,) = [row for row in diff.rows if row.subject == "ids"]
    assert (row.cause, row.evidence, row.how) == ("constant", "proved", "a range: 16 bytes regenerate it")


# What is read from strangers


def small() -> dict:
    arrays = {"w": random(1, 6, 6), "b": random(2, 6), "half": random(3, 6, 6, dtype="float16")}
    made = artifact(arrays, nodes=graph(("Gemm", ["x", "w", "b"], ["y"])), others=[(9, GRAPH, "Gemm")])
    return json.loads(text_of(made))


def parts(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from parts(inner, (*path, key))


def replaced(document, path, value):
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


WRONG = [None, -1, 0, 2**53 + 1, 2**70, 1.5, True, "", "x", [], [[]], {}, {"name": 1}, ["w", 1]]


@pytest.mark.parametrize("path", [path for path in parts(small()) if path], ids=str)
def test_whatever_a_value_is_it_is_refused_in_one_line_or_taken_as_it_is(path):
    document = small()
    for value in WRONG:
        text = json.dumps(replaced(document, path, value))
        message = ""
        try:
            inventory = reread(text)
        except sf.errors.FormatError as refusal:
            message = str(refusal)
        if message:
            assert message.isprintable()
            assert message.startswith("model.json: at 0x0: expected ")
            continue
        api.look_into(inventory)
        diff = api.compare(inventory, reread(json.dumps(document)))
        assert sum(row.before_bytes for row in diff.rows) == inventory.nbytes


def test_a_snapshot_without_bags_is_read_and_tells_less():
    """Keys may be added to a version: those that knew none of this one are still read."""
    weights = {part: random(at, 6, 6) for at, part in enumerate("qkv")}
    fused = artifact({"qkv": np.concatenate(list(weights.values()))})
    whole, bare = (json.loads(text_of(artifact(weights))) for _ in range(2))
    for tensor in bare["tensors"]:
        del tensor["bags"]
    told = [by_cause(api.compare(reread(json.dumps(document)), fused)) for document in (whole, bare)]
    assert told[0]["carried", ""] == (432, 432)
    assert told[1]["unmatched", ""] == (432, 432)


@pytest.mark.parametrize("key", [key for key in small() if key != "schema"])
def test_what_is_missing_is_noticed_or_empty(key):
    document = small()
    del document[key]
    try:
        inventory = reread(json.dumps(document))
    except sf.errors.Corrupt:
        return
    assert not small()[key] or key in ("ops", "warnings", "metadata")
    assert inventory.nbytes == small()["bytes"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"schema": "sizeforensics.snapshot/1"}', "a snapshot of version 2, got version 1"),
        ('{"schema": "sizeforensics.snapshot/3"}', "a snapshot of version 2, got version 3"),
        ('{"schema": "sizeforensics.snapshot/2"', "JSON, got what is none"),
        ('{"schema": "sizeforensics.snapshot/2"}', "at least one file as files, got none"),
    ],
)  # fmt: skip
def test_refusals_say_what_was_expected(text, expected):
    with pytest.raises(sf.errors.FormatError, match=re.escape(expected)):
        reread(text)


def compressed(kind: str, data: bytes) -> bytes:
    return gzip.compress(data) if kind == "gzip" else zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("kind", ["gzip", "zstandard"])
def test_a_compressed_snapshot_is_refused_wherever_it_is_cut_or_continued(kind):
    packed = compressed(kind, json.dumps(small()).encode())
    assert formats.read_source(MemorySource("m.json", packed)).format == "snapshot"
    for data in [packed[:cut] for cut in range(len(packed))] + [packed + b"x", packed + packed]:
        with pytest.raises(sf.errors.FormatError):
            formats.read_source(MemorySource("m.json", data))


@pytest.mark.parametrize("kind", ["gzip", "zstandard"])
def test_a_bomb_stops_at_the_limit(kind):
    text = json.dumps(small()).encode()
    packed = compressed(kind, text + b" " * 1_000_000)
    assert len(packed) < 10_000
    limits = sf.Limits(json_bytes=len(text) + 1_000_000)
    assert formats.read_source(MemorySource("m.json", packed), limits).format == "snapshot"
    with pytest.raises(sf.errors.LimitExceeded, match="json_bytes"):
        formats.read_source(MemorySource("m.json", packed), sf.Limits(json_bytes=limits.json_bytes - 1))


# The command


def test_every_verb_takes_a_snapshot(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = str(MODELS / "tied.pt")
    Path("sizeforensics.toml").write_text(
        '[budgets.model]\npath = "a.json"\nmax_bytes = "1 MB"\nmax_growth = 0\nbaseline = "a.json"\n',
        encoding="utf-8",
    )
    name = model("tied.pt").tensors[0].name
    for path in ("a.json", "a.json.gz", "a.json.zst"):
        assert run(["snapshot", source, "-o", path]) == 0
        for verb in (
            ["inspect", path], ["map", path], ["history", path, source],
            ["diff", path, source], ["diff", source, path], ["diff", path, path],
            ["diff", path, source, "--tensor", name],
        ):  # fmt: skip
            assert run(verb) == 0, verb
        again = f"again.{path}"
        assert run(["snapshot", path, "-o", again]) == 0
        assert Path(again).read_bytes() == Path(path).read_bytes()
    capsys.readouterr()
    assert run(["diff", "a.json", source, "--tensor", name]) == 0
    assert "digests of both payloads agree" in capsys.readouterr().out
    before = Path("a.json").read_bytes()
    assert run(["check"]) == run(["check", "--update", "model"]) == 0
    assert Path("a.json").read_bytes() == before
    Path("sizeforensics.toml").unlink()
    capsys.readouterr()
    assert run(["snapshot", source]) == 0
    assert capsys.readouterr().out == Path("a.json").read_text(encoding="utf-8")
    assert run(["snapshot", source, "-o", "a.json"]) == 2
    assert "exists" in capsys.readouterr().err
    assert run(["snapshot", source, "-o", "a.txt"]) == 2
    assert ".json, .json.gz, .json.zst" in capsys.readouterr().err
    again = Path("a.json").read_bytes()
    assert run(["snapshot", source, "-o", "a.json", "--force"]) == 0
    assert Path("a.json").read_bytes() == again


def test_the_map_of_a_snapshot_says_that_a_span_stands_for_many(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(text_of(model("tied.pt")), encoding="utf-8")
    assert run(["map", str(path)]) == 0
    tensors = len(model("tied.pt").storages)
    assert f"tensors ({tensors:,} spans)" in capsys.readouterr().out
