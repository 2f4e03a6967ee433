"""Every limit is met at N, refused at N - 1, named in the error, and raised by what the error says."""

from __future__ import annotations

import inspect
import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import sizeforensics as sf
from fuzz import seeds
from fuzz.framings import unpair
from sizeforensics import cli, formats
from sizeforensics.errors import LimitExceeded
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import MemorySource
from sizeforensics.spans import SpanSink
from tests import torch_files
from tests.unit.test_safetensors import entry, packed

ARRAYS = {name: np.arange(4.0) for name in "abcd"}


def archive(method: int = zipfile.ZIP_STORED) -> bytes:
    import torch

    return torch_files.repacked(torch_files.saved({"w": torch.arange(100.0)}), method)


def deflated() -> bytes:
    return archive(zipfile.ZIP_DEFLATED)


def directory_bytes(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as records:
        return len(data) - 22 - records.start_dir


def inflated_bytes(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as records:
        return sum(
            info.file_size for info in records.infolist() if info.compress_type == zipfile.ZIP_DEFLATED
        )


def records(data: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return len(found.infolist())


def opcodes(data: bytes) -> list[str]:
    return [opcode.name for opcode, *_ in pickletools.genops(data)]


def nested_pickle(depth: int) -> bytes:
    """An array beside ``depth`` marks at once on the stack, three values each."""
    return pickle.dumps(ARRAYS, 2)[:-1] + b"(" * depth + b"t" * depth + b"0."


def model(nodes: int = 3, depth: int = 0, rank: int = 1) -> bytes:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1] * rank, [1.0])
    body = [helper.make_node("Add", ["w", "w"], [f"y{number}"]) for number in range(nodes)]
    graph = helper.make_graph(body, "g", [], [helper.make_empty_tensor_value_info("y0")], [tensor])
    for _ in range(depth):
        node = helper.make_node("If", ["w"], ["y0"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y0")])
    return helper.make_model(graph).SerializeToString()


def accepted(data: bytes, limits: Limits) -> bool:
    try:
        formats.read_source(MemorySource("model", data), limits)
    except LimitExceeded:
        return False
    return True


HEADER = packed({"a": entry(0, 4), "b": entry(4, 8)}, bytes(8))
PICKLE = pickle.dumps(ARRAYS, 2)
COUNTED: dict[str, Callable[[], tuple[bytes, int]]] = {
    "archive_entries": lambda: (archive(), records(archive())),
    "archive_directory_bytes": lambda: (archive(), directory_bytes(archive())),
    "inflated_bytes": lambda: (deflated(), inflated_bytes(deflated())),
    "pickle_bytes": lambda: (PICKLE, len(PICKLE)),
    "pickle_opcodes": lambda: (PICKLE, len(opcodes(PICKLE))),
    "pickle_memo": lambda: (PICKLE, sum(name.endswith("PUT") for name in opcodes(PICKLE))),
    "graph_nodes": lambda: (model(nodes=7), 7),
    "tensors": lambda: (HEADER, 2),
    "tensor_rank": lambda: (model(rank=9), 9),
    "json_bytes": lambda: (HEADER, struct.unpack_from("<Q", HEADER)[0]),
    "json_nesting": lambda: (HEADER, 3),
    "json_values": lambda: (HEADER, sum(map(HEADER[8:].count, (b"[", b"{", b",", b":")))),
}
"""Files with exactly so many of each, counted by the standard library or by construction."""

SEARCHED: dict[str, Callable[[], bytes]] = {
    "pickle_objects": lambda: PICKLE,
    "pickle_stack": lambda: nested_pickle(50),
    "protobuf_nesting": lambda: model(depth=5),
    "structure_bytes": model,
    "spans": lambda: model(nodes=20),
}
"""Files of what no library counts: N is the least that is accepted, and a test says what it is near."""


@cache
def case(name: str) -> tuple[bytes, int]:
    if name in COUNTED:
        return COUNTED[name]()
    data = SEARCHED[name]()
    low, high = 0, getattr(DEFAULT_LIMITS, name)
    while low < high:
        middle = (low + high) // 2
        if accepted(data, Limits(**{name: middle})):
            high = middle
        else:
            low = middle + 1
    return data, low


def test_every_limit_has_a_case() -> None:
    assert {*COUNTED, *SEARCHED} == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", [*COUNTED, *SEARCHED])
def test_a_limit_is_met_at_n_and_refused_below(name: str) -> None:
    data, most = case(name)
    assert most > 1
    formats.read_source(MemorySource("model", data), Limits(**{name: most}))
    with pytest.raises(LimitExceeded) as caught:
        formats.read_source(MemorySource("model", data), Limits(**{name: most - 1}))
    assert caught.value.limit == name
    assert f"at most {most - 1:,} {name.replace('_', ' ')}" in str(caught.value)


def test_what_was_searched_for_is_what_it_should_be() -> None:
    # A call, its arguments and its state for each array, two containers at least for all.
    assert 3 * len(ARRAYS) < case("pickle_objects")[1] < 20 * len(ARRAYS)
    assert 50 <= case("pickle_stack")[1] <= 60
    # Below the model: the graph; node, attribute and graph of every level; then a node.
    assert case("protobuf_nesting")[1] == 2 + 3 * 5
    assert len(model()) - 8 <= case("structure_bytes")[1] <= len(model())
    assert 20 < case("spans")[1] < 20 * 20


@pytest.mark.parametrize("name", [*COUNTED, *SEARCHED])
def test_the_error_says_how_to_raise_it_and_that_works(name, tmp_path, capsys) -> None:
    data, most = case(name)
    path = tmp_path / "model"
    path.write_bytes(data)
    assert cli.run(["inspect", str(path), "--limits", f"{name}={most - 1}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    advice = re.search(r"\((--limits \w+=)N allows more\)", line)
    assert advice is not None
    option, setting = advice[1].split()
    assert cli.run(["inspect", str(path), option, setting + str(most)]) == 0


def test_the_api_takes_limits(tmp_path) -> None:
    path = tmp_path / "model"
    path.write_bytes(PICKLE)
    with pytest.raises(LimitExceeded):
        sf.inspect(path, limits=Limits(pickle_opcodes=5))
    with pytest.raises(LimitExceeded):
        sf.diff(path, path, limits=Limits(pickle_opcodes=5))
    assert sf.inspect(path, limits=Limits(pickle_opcodes=5_000)).tensors


CONFIGURED = '[budgets.b]\npath = "model"\nmax_bytes = "1 GB"\n'
VERBS = {
    "inspect": ["inspect", "model"], "map": ["map", "model"], "diff": ["diff", "model", "model"],
    "snapshot": ["snapshot", "model"], "history": ["history", "model", "model"],
    "check": ["check"], "a baseline": ["check", "--baseline", "model"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_models_takes_limits(verb, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").write_bytes(PICKLE)
    Path("sizeforensics.toml").write_text(CONFIGURED)
    assert cli.run([*VERBS[verb], "--limits", "pickle_opcodes=5"]) == 2
    assert "at most 5 pickle opcodes" in "".join(capsys.readouterr())
    assert cli.run([*VERBS[verb], "--limits", "pickle_opcodes=5000"]) == 0


def test_init_leaves_out_what_is_beyond_the_limits(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large").write_bytes(PICKLE)
    Path("small.safetensors").write_bytes(packed({"a": entry(0, 4)}, bytes(4)))
    assert cli.run(["init", "--limits", "pickle_opcodes=5"]) == 0
    assert "at most 5 pickle opcodes" in capsys.readouterr().err
    assert "large" not in Path("sizeforensics.toml").read_text()
    assert cli.run(["init", "--force"]) == 0
    assert "large" in Path("sizeforensics.toml").read_text()


def test_a_page_lists_the_limits_it_was_read_under(tmp_path) -> None:
    path = tmp_path / "model"
    path.write_bytes(PICKLE)
    chosen = Limits(pickle_opcodes=5_678)
    usual = sf.inspect(path).to_html()
    assert f"pickle opcodes {DEFAULT_LIMITS.pickle_opcodes:,};" in usual
    for page in (sf.inspect(path, limits=chosen).to_html(), sf.diff(path, path, limits=chosen).to_html()):
        assert page.count("pickle opcodes 5,678;") == 1
        assert f"pickle opcodes {DEFAULT_LIMITS.pickle_opcodes:,};" not in page


def test_what_was_read_knows_its_limits_whatever_the_format() -> None:
    chosen = Limits(spans=123_456)
    known = set()
    for data in (*seeds.everything(), *seeds.snapshots()):
        if unpair(data) is None:
            inventory = formats.read_source(MemorySource("model", data), chosen)
            assert inventory.limits == chosen
            known.add(inventory.format)
    assert len(known) >= 8


def test_a_budget_reads_its_baseline_under_the_same_limits(tmp_path) -> None:
    path = tmp_path / "model"
    path.write_bytes(PICKLE)
    budget = sf.Budget(baseline=str(path), growth="10 %")
    few = Limits(pickle_opcodes=5)
    with pytest.raises(LimitExceeded):
        sf.check(path, budget, limits=few)
    inspection = sf.inspect(path)
    assert inspection <= budget
    with pytest.raises(LimitExceeded):
        sf.check(inspection, budget, limits=few)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pickle_opcode=5", "no limit 'pickle_opcode'; did you mean 'pickle_opcodes'?"),
        ("entries=5", "no limit 'entries'; did you mean 'archive_entries'?"),
        ("spans", "expected a number for the limit spans"),
        ("spans=-1", "expected a number for the limit spans"),
        ("spans=1e3", "expected a number for the limit spans"),
        ("spans=" + "9" * 30, "expected a number for the limit spans"),
        ("inflated_bytes=lots", "lots"),
    ],
)
def test_a_setting_that_is_none_is_refused(setting: str, words: str, capsys) -> None:
    assert cli.run(["inspect", "model", "--limits", setting]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_sizes_may_have_units(tmp_path, capsys) -> None:
    path = tmp_path / "model"
    path.write_bytes(deflated())
    assert cli.run(["map", str(path), "--limits", "inflated_bytes=1B"]) == 2
    assert "at most 1 inflated bytes" in capsys.readouterr().err
    assert cli.run(["map", str(path), "--limits", "inflated_bytes=1MiB", "--limits", "spans=500"]) == 0


def test_spans_are_counted_however_they_are_claimed() -> None:
    starts = np.arange(10)
    sink = SpanSink("x", Limits(spans=10))
    sink.extend(starts, starts + 1, 0, 0)
    with pytest.raises(LimitExceeded, match="at most 10 spans"):
        sink.extend(starts[:1], starts[:1] + 1, 0, 0)
    rows = SpanSink("x", Limits(spans=1))
    rows.add(0, 1, 0, 0)
    with pytest.raises(LimitExceeded, match="at most 1 spans"):
        rows.add(1, 2, 0, 0)


def documented() -> str:
    """The table of the limits in SECURITY.md, from the docstrings of ``Limits``."""
    source = Path(inspect.getfile(Limits)).read_text(encoding="utf-8")
    said = re.findall(r'^    (\w+): int = [^\n]*\n    """(.*?)"""', source, re.MULTILINE | re.DOTALL)
    rows = [
        f"| `{name}` | {getattr(DEFAULT_LIMITS, name):,} | {' '.join(what.split())} |"
        for name, what in said
    ]
    return "\n".join(["| limit | default | bounds |", "|---|---:|---|", *rows]) + "\n"


def test_every_limit_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    begin, end = "<!-- limits: begin -->\n", "<!-- limits: end -->"
    table = documented()
    assert table.count("\n") == len(fields(Limits)) + 2
    assert page.partition(begin)[2].partition(end)[0] == table
