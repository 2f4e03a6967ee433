"""The fuzzers run and find nothing in a short run; long ones are for ``python -m fuzz``."""

from __future__ import annotations

import subprocess

import pytest

import fuzz.__main__ as runner
from fuzz import harnesses
from fuzz.framings import take_apart
from fuzz.harnesses import HARNESSES
from fuzz.mutator import mutate
from sizeforensics.errors import LawBroken

RUNS = {"inspect": 500, "diff": 200}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
every_harness = pytest.mark.parametrize("name", HARNESSES)


def seeds(name):
    return HARNESSES[name][1]()


@every_harness
def test_a_short_run_is_clean(name, tmp_path):
    pytest.importorskip("atheris")
    runs = RUNS.get(name, 2000)
    outcome = runner.run(name, tmp_path / "corpus", tmp_path / "findings", f"-runs={runs}", "-seed=1")
    assert not outcome.findings, outcome.log[-6000:]
    assert outcome.inputs >= runs


@every_harness
def test_the_first_inputs_are_not_refused(name):
    harness, _ = HARNESSES[name]
    for data in seeds(name):
        harness(data)


@every_harness
def test_framing_anew_keeps_a_file_readable(name):
    harness, _ = HARNESSES[name]
    for data in seeds(name):
        apart = take_apart(data)
        if apart is None:
            assert name in ("json", "snapshot")
            continue
        framing, parts = apart
        again = framing.join(parts)
        assert framing.split(again) == parts
        harness(again)


@every_harness
def test_mutations_are_reproducible_and_bounded(name):
    data = seeds(name)[0]

    def cut(piece, most):
        return piece[1:most]

    most = len(data) - 1
    changed = [mutate(data, most, seed, cut) for seed in range(40)]
    assert changed == [mutate(data, most, seed, cut) for seed in range(40)]
    assert len(set(changed)) > (1 if name in ("json", "snapshot") else 10)
    assert max(map(len, changed)) <= most


def test_json_that_is_read_differently_is_a_finding(monkeypatch):
    monkeypatch.setattr(harnesses.bounded_json, "loads", lambda *_: {"a": 1})
    with pytest.raises(LawBroken):
        harnesses.bounded(b'{"a": 2}')


def test_bytes_that_are_claimed_twice_are_a_finding(monkeypatch):
    def twice(archive, sink, owners):
        sink.add(0, archive.entries[0].end, 0, owners.add("lie", "lie"))

    monkeypatch.setattr(harnesses.zip_archive.Archive, "claim_framing", twice)
    with pytest.raises(LawBroken):
        harnesses.zip_records(seeds("zip")[0])


def test_a_report_that_acts_on_the_terminal_is_a_finding(monkeypatch):
    monkeypatch.setattr(harnesses.console, "inspect", lambda *_: "\x1b[2J")
    with pytest.raises(LawBroken):
        harnesses.inspect(seeds("inspect")[0])


@pytest.mark.parametrize(("kind", "again", "kept"), [
    ("timeout", 0, False), ("timeout", 70, True), ("oom", 0, False), ("oom", 71, True), ("crash", 0, True),
])  # fmt: skip
def test_what_only_the_machine_caused_is_no_finding(kind, again, kept, tmp_path, monkeypatch):
    found = tmp_path / "findings" / "json" / f"{kind}-0"

    def fuzzed(_name, _kept, *options):
        if found in options:
            return subprocess.CompletedProcess([], again, "", "")
        found.write_bytes(b"[]")
        return subprocess.CompletedProcess([], 77, "", f"Test unit written to {found}\n")

    monkeypatch.setattr(runner, "_fuzz", fuzzed)
    outcome = runner.run("json", tmp_path / "corpus", tmp_path / "findings")
    assert outcome.findings == ([found] if kept else [])
    assert found.exists() is kept


def test_a_fuzzer_that_does_not_start_is_no_clean_run(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_fuzz", lambda *_: subprocess.CompletedProcess([], 1, "", "no module"))
    with pytest.raises(RuntimeError, match="did not run"):
        runner.run("json", tmp_path / "corpus", tmp_path / "findings")
