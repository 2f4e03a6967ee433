"""Versions of one model: what they are made of, why each step was one, and where they come from."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sizeforensics.cli import run

MODELS = Path(__file__).resolve().parents[2] / "fixtures" / "models"
VERSIONS = [str(MODELS / f"yolov5-mini{rest}") for rest in (".pt", "-fp16.onnx", ".onnx")]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["history", *arguments]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capsys, "--format", "json", *arguments))
    schema = json.loads((resources.files("sizeforensics") / "schemas" / "history-1.json").read_text("utf-8"))
    jsonschema.validate(found, schema)
    return found


def test_every_step_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    versions = document(capsys, *VERSIONS)["versions"]
    assert [version["bytes"] for version in versions] == [Path(path).stat().st_size for path in VERSIONS]
    assert versions[0]["delta_bytes"] is None
    for version in versions:
        assert sum(role["bytes"] for role in version["roles"]) == version["bytes"]
    for before, after in pairwise(versions):
        assert after["delta_bytes"] == after["bytes"] - before["bytes"]
        assert sum(cause["delta_bytes"] for cause in after["causes"]) == after["delta_bytes"]
    assert versions[2]["causes"][0]["cause"] == "float16 -> float32"


def test_the_table_can_be_added_up(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, *VERSIONS).splitlines()
    assert lines[0].startswith(f"{VERSIONS[2][:20]}") or "527,741 B" in lines[0]
    assert len(lines) == 2 + 1 + len(VERSIONS)
    assert "6 more" in lines[4]


def test_csv_has_a_column_for_each_role(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "--format", "csv", *VERSIONS))))
    for row in rows:
        roles = [int(size) for name, size in row.items() if name not in ("version", "bytes", "delta_bytes")]
        assert sum(roles) == int(row["bytes"])


@pytest.mark.parametrize("extension", ["html", "png", "svg", "md", "json", "csv"])
def test_every_kind_is_written_and_is_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extension: str
) -> None:
    first, second = tmp_path / f"a.{extension}", tmp_path / f"b.{extension}"
    printed(capsys, *VERSIONS, "-o", str(first), "-o", str(second))
    assert first.read_bytes() == second.read_bytes() != b""


def test_names_are_inert_in_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = tmp_path / "<script>alert(1)<,script>.onnx"
    hostile.write_bytes((MODELS / "yolov5-mini.onnx").read_bytes())
    target = tmp_path / "page.html"
    printed(capsys, str(hostile), VERSIONS[2], "-o", str(target))
    assert "<script" not in target.read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["a/v1.onnx", "b/v2.onnx"], ["a/v1.onnx", "b/v2.onnx"]),
        (["a/v1.onnx", "a/v3.onnx"], ["v1.onnx", "v3.onnx"]),
        (["{}/a/v1.onnx", "{}/b/v2.onnx"], ["a/v1.onnx", "b/v2.onnx"]),
        (["a/v1.onnx", "{}/b/v2.onnx"], ["a/v1.onnx", "b/v2.onnx"]),
        (["{}/a/v1.onnx", "./a/../b/v2.onnx"], ["a/v1.onnx", "b/v2.onnx"]),
    ],
)
def test_a_version_is_called_by_its_path_without_what_all_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    given: list[str], shown: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("a/v1.onnx", "b/v2.onnx", "a/v3.onnx"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(Path(VERSIONS[2]).read_bytes())
    versions = document(capsys, *(path.format(tmp_path) for path in given))["versions"]
    assert [version["name"] for version in versions] == shown


def test_bytes_that_could_not_be_read_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes((MODELS / "yolov5-micro-dynamo.onnx").read_bytes())
    assert run(["history", str(lonely)]) == 0
    assert "external data not read" in capsys.readouterr().err


def test_one_version_is_a_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(document(capsys, VERSIONS[2])["versions"]) == 1


def git(place: Path, *arguments: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=place, check=True, capture_output=True)


def test_the_versions_that_git_has_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(tmp_path, "init")
    model = tmp_path / "model.onnx"
    for source in VERSIONS[1:]:
        model.write_bytes(Path(source).read_bytes())
        git(tmp_path, "add", "model.onnx")
        git(tmp_path, "commit", "-m", "a version")
    model.write_bytes(b"not committed")
    versions = document(capsys, "--git", str(model))["versions"]
    assert [version["bytes"] for version in versions] == [Path(path).stat().st_size for path in VERSIONS[1:]]


def outdated(snapshot: Path) -> bytes:
    """A snapshot as an earlier release wrote it, as far as its first key tells."""
    return snapshot.read_bytes().replace(b"sizeforensics.snapshot/2", b"sizeforensics.snapshot/1")


def test_versions_that_cannot_be_read_are_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    new = [tmp_path / f"{number}.json" for number in (1, 2)]
    for source, target in zip(VERSIONS[1:], new, strict=True):
        assert run(["snapshot", source, "-o", str(target)]) == 0
    (tmp_path / "0.json").write_bytes(outdated(new[0]))
    kept = Path("model.json")
    for content in (outdated(new[0]), new[0].read_bytes(), b"<<<<<<< conflict", new[1].read_bytes()):
        kept.write_bytes(content)
        git(tmp_path, "add", "model.json")
        git(tmp_path, "commit", "-m", "a version")
    sizes = [Path(path).stat().st_size for path in VERSIONS[1:]]
    capsys.readouterr()
    of_files, of_git = document(capsys, "0.json", "1.json", "2.json"), document(capsys, "--git", "model.json")
    for found, lost in ((of_files, 1), (of_git, 2)):
        assert [version["bytes"] for version in found["versions"]] == sizes
        assert found["versions"][1]["delta_bytes"] == sizes[1] - sizes[0]
        assert len(found["warnings"]) == lost
        assert "version 1: take it anew from the model" in found["warnings"][0]
    for form in ("table", "markdown", "csv"):
        assert run(["history", "--git", "model.json", "--format", form]) == 0
        assert capsys.readouterr().err.count("warning: model.json@") == 2
    assert run(["history", "0.json"]) == 2
    assert capsys.readouterr().err.startswith("error: 0.json: at 0x0: expected a snapshot of version 2")
    Path("broken.json").write_bytes(b"<<<<<<< conflict")
    assert run(["history", "broken.json", "1.json"]) == 2


def test_a_repository_from_a_stranger_starts_no_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, program = tmp_path / "canary", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    git(tmp_path, "init")
    model = tmp_path / "model.onnx"
    model.write_bytes(Path(VERSIONS[1]).read_bytes())
    git(tmp_path, "add", "model.onnx")
    git(tmp_path, "commit", "-m", "a version")
    head = subprocess.run(["git", "cat-file", "commit", "HEAD"], cwd=tmp_path, check=True, capture_output=True).stdout
    before, _, message = head.partition(b"\n\n")
    signature = b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n"
    signed = subprocess.run(["git", "hash-object", "-t", "commit", "-w", "--stdin"], cwd=tmp_path, check=True,
                            input=before + signature + message, capture_output=True).stdout.decode().strip()  # fmt: skip
    git(tmp_path, "update-ref", "HEAD", signed)
    for name in ("gpg.program", "core.fsmonitor", "core.pager", "core.editor", "diff.external"):
        git(tmp_path, "config", name, str(program))
    git(tmp_path, "config", "log.showSignature", "true")
    canary.unlink(missing_ok=True)
    git(tmp_path, "log")
    assert canary.exists(), "the trap does not work"
    canary.unlink()
    assert len(document(capsys, "--git", str(model))["versions"]) == 1
    assert not canary.exists()


@pytest.mark.parametrize("name", ["*", ":(glob)**", ":/", "[ab].onnx", "a\nb\x1b[2J", "--help", "-c"])
def test_the_name_of_a_file_is_no_pattern_and_no_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    git(tmp_path, "init")
    for path, source in ((tmp_path / "a.onnx", VERSIONS[1]), (tmp_path / name.replace("/", "_"), VERSIONS[2])):
        path.write_bytes(Path(source).read_bytes())
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-m", "a version")
    (version,) = document(capsys, "--git", f"{tmp_path}/{name.replace('/', '_')}")["versions"]
    assert version["bytes"] == Path(VERSIONS[2]).stat().st_size


@pytest.mark.parametrize("place", ["outside", "untracked"])
def test_what_git_has_not_kept_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if place == "untracked":
        git(tmp_path, "init")
    assert run(["history", "--git", str(tmp_path / "-x.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_is_odd_about_a_version_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(Path(VERSIONS[1]).read_bytes() + b"\xc2\x3e\1x")
    assert run(["history", str(odd), str(odd), VERSIONS[1]]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert document(capsys, str(odd), str(odd), VERSIONS[1])["warnings"] == [line.removeprefix("warning: ")]
    assert document(capsys, VERSIONS[1])["warnings"] == []


def test_git_takes_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--git", "a", "b"]) == 2
    assert "one file" in capsys.readouterr().err
