"""What is hostile around the file: one that changes while it is read, closed streams, poor locales."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import guard
from tests.hostile.craft import (
    Record,
    archive,
    checkpoint,
    checkpoint_records,
    entry,
    external,
    graph,
    mapping,
    model,
    number,
    safetensors,
    state,
    storage,
    stream,
    tensor,
    text,
)
from tests.hostile.test_cases import ROOT, Guard, inert

LONG = 3 << 20
"""Bytes of payload: more than one read fetches."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Guard(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


# -- a file that changes while it is read -------------------------------------------------------


def long_checkpoint(folder: Path) -> None:
    pickle = state(("w", tensor((LONG // 4,), held=storage(count=LONG // 4))))
    (folder / "model").write_bytes(checkpoint(pickle, bytes(LONG)))


def long_safetensors(folder: Path) -> None:
    (folder / "model").write_bytes(safetensors({"a": entry("U8", (LONG,), (0, LONG))}, bytes(LONG)))


def long_external(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(16) * 2)
    placed = external([("location", "data"), ("offset", "0"), ("length", "16")])
    (folder / "model").write_bytes(model(graph(placed)) + bytes([0xC2, 0x3E]) + b"\x80\x80\x80\x01" + bytes(1 << 21))


FILES = {"checkpoint": long_checkpoint, "safetensors": long_safetensors, "ONNX": long_external}
REFUSED = {"is emptied", "shrinks"}


@pytest.mark.parametrize("reads", [1, 2, 3, 5])
@pytest.mark.parametrize("how", guard.HAPPENS)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_changes_while_it_is_read(kind, how, reads, server, tmp_path):
    folder = tmp_path / "held"
    folder.mkdir()
    FILES[kind](folder)
    size = (folder / "model").stat().st_size
    for arguments in (["inspect", "model"], ["diff", "model", "model"]):
        FILES[kind](folder)
        told = server.run(folder, [*arguments, "--format", "json"], ["model", how, reads])
        if how in REFUSED and reads == 1 and kind != "ONNX":
            assert told.code == 2
        if told.code:
            assert told.code == 2, told.stderr
            assert told.stdout == ""
            (line,) = told.stderr.splitlines()
            assert line.startswith("error: ")
            assert "model" in line
            # A diff opens its second side later.
            assert how not in ("is replaced", "is removed") or arguments[0] == "diff"
        else:
            # What was opened is what is read: its descriptor stays that of the file.
            document = json.loads(told.stdout)
            assert document.get("bytes", document.get("after", {}).get("bytes")) >= size
        assert told.peak < guard.MEMORY


# -- streams and locales ------------------------------------------------------------------------


def many(folder: Path) -> None:
    """More spans than a pipe holds, and names that no poor terminal can show."""
    names = ["ü\u202e\x1b[2Jß", "a\ud800b", "日本", "n\nerror: b"]
    keys = [(text(name), tensor()) for name in names]
    records = [Record(f"m/x/{at}".encode(), b"x") for at in range(5_000)]
    (folder / "model").write_bytes(
        archive([*checkpoint_records(stream(mapping(*keys, (text("k"), number(1))))), *records])
    )


def alone(folder: Path, arguments: list[str], shell: str = '"$@"', **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A cold process without means; ``shell`` says what its streams are."""
    command = [sys.executable, "-B", guard.__file__, "--alone", str(folder.parent / "events.log"), *arguments]
    return subprocess.run(
        ["bash", "-c", shell, "bash", *command], cwd=folder, capture_output=True, check=False, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | environment,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    held = tmp_path / "held"
    held.mkdir()
    many(held)
    return held


VERBS = {
    "map": ["map", "model"], "map as JSON": ["map", "model", "--format", "json"],
    "inspect": ["inspect", "model", "-v"], "diff": ["diff", "model", "model", "-v"],
    "history": ["history", "model", "model"], "snapshot": ["snapshot", "model"],
}  # fmt: skip


@pytest.mark.parametrize("verb", ["map", "map as JSON"])
def test_a_reader_that_goes_away_ends_it_quietly(verb, folder):
    done = alone(folder, VERBS[verb], 'set -o pipefail; "$@" | head -c 10')
    assert done.returncode == 141
    assert len(done.stdout) == 10
    assert b"Traceback" not in done.stderr
    assert b"rror" not in done.stderr


CLOSED = {
    "no stdin": '"$@" <&-', "no stdout": '"$@" >&-', "no stderr": '"$@" 2>&-',
    "none at all": '"$@" <&- >&- 2>&-', "nobody behind stdout": '"$@" > >(exit)',
}  # fmt: skip


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize("verb", VERBS)
def test_closed_streams_change_no_file_and_no_verdict(verb, streams, folder):
    before = (folder / "model").read_bytes()
    done = alone(folder, VERBS[verb], CLOSED[streams])
    # Whether somebody behind a pipe is gone before the first byte is up to the system.
    assert done.returncode in ((0, 141) if streams == "nobody behind stdout" else (0,)), done.stderr
    assert b"Traceback" not in done.stderr
    assert (folder / "model").read_bytes() == before


@pytest.mark.parametrize("streams", CLOSED)
def test_a_refusal_is_one_whoever_reads_it(streams, folder):
    assert alone(folder, ["inspect", "missing"], CLOSED[streams]).returncode == 2


LOCALES = {
    "LANG=C": {"LANG": "C"}, "LC_ALL=C": {"LC_ALL": "C"}, "ASCII": {"PYTHONIOENCODING": "ascii"},
    "strict ASCII": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"}, "UTF-16": {"PYTHONIOENCODING": "utf-16"},
    "no such locale": {"LC_ALL": "xx_XX.nothing"},
}  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("verb", VERBS)
def test_poor_locales_get_the_same_verdict(verb, locale, folder):
    done = alone(folder, VERBS[verb], **LOCALES[locale])
    assert done.returncode == 0, done.stderr
    if verb in ("map as JSON", "snapshot"):  # for programs: UTF-8 by contract
        told = done.stdout.decode()
        json.loads(told)
    else:
        told = done.stdout.decode({"UTF-16": "utf-16", "Latin-1": "latin-1"}.get(locale, "utf-8"))
        assert told.isascii() or "ASCII" not in locale
    inert(told)
    assert b"Traceback" not in done.stderr


NAMES = {
    "bytes that are no UTF-8": b"\xff\xfe", "ANSI and newline": b"a\nb\x1b[2J", "an option": b"--help",
    "a right-to-left mark": "\u202egpj".encode(), "255 bytes": b"n" * 255, "markup": b"<img src=x>",
}  # fmt: skip


@pytest.mark.parametrize("locale", ["ASCII", "strict ASCII", "LANG=C"])
@pytest.mark.parametrize("kind", NAMES)
def test_names_of_files_that_no_locale_can_show(kind, locale, folder):
    name = os.fsdecode(NAMES[kind])
    (folder / name).write_bytes(checkpoint())
    (folder / f".{name}"[:200]).write_bytes(b"text")
    done = alone(folder, ["inspect", "--format", "json", "--", name], **LOCALES[locale])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == len(checkpoint())
    shown = alone(folder, ["inspect", "-o", "page.html", "-o", "page.md", "--", name], **LOCALES[locale])
    assert shown.returncode == 0, shown.stderr
    inert(shown.stdout.decode())
    inert((folder / "page.html").read_text("utf-8"))
    refused = alone(folder, ["inspect", "--", f".{name}"[:200]], **LOCALES[locale])
    assert refused.returncode == 2
    (line,) = refused.stderr.decode().splitlines()
    assert line.isprintable()
