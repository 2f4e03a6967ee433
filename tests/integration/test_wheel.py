"""The wheel that is installed has all that the source tree has: no template or schema is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "fixtures" / "models"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree, where pip would unpack it."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def test_it_holds_every_file_of_the_package(unpacked: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sizeforensics").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    theirs = {str(path.relative_to(unpacked)) for path in (unpacked / "sizeforensics").rglob("*") if path.is_file()}
    assert theirs == ours


@pytest.mark.parametrize("extension", ["html", "png", "svg", "md", "json", "csv"])
def test_it_writes_every_kind_of_report(unpacked: Path, tmp_path: Path, extension: str) -> None:
    target = tmp_path / f"report.{extension}"
    done = subprocess.run(
        [sys.executable, "-m", "sizeforensics", "diff", MODELS / "yolov5-micro.pt",
         MODELS / "yolov5-mini.onnx", "-o", target],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(unpacked)}, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert target.stat().st_size > 1_000
