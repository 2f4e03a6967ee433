"""Saving: kind by extension, no overwriting unasked, whole files or none."""

from __future__ import annotations

import json
import os

import pytest

from sizeforensics import api, formats
from sizeforensics.errors import InputError
from sizeforensics.report import save
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.golden import real, samples


@pytest.fixture
def report():
    return diff_report(*samples.yolo())


def test_kind_by_extension(tmp_path, report):
    for name in ("a.json", "a.CSV"):
        save.save(report, str(tmp_path / name))
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == "sizeforensics.diff/1"
    assert (tmp_path / "a.CSV").read_text().startswith("cause,label,subject")
    save.save(inspect_report(*samples.inspected()), str(tmp_path / "i.json"))
    save.save(samples.inspected()[0], str(tmp_path / "m.json"))
    assert json.loads((tmp_path / "m.json").read_text())["schema"] == "sizeforensics.map/1"


@pytest.mark.parametrize("name", ["a.txt", "a", ".json", "a.json.gz"])
def test_unknown_extension_lists_the_kinds(tmp_path, report, name):
    with pytest.raises(InputError, match=r"\.json, \.csv"):
        save.save(report, str(tmp_path / name))


def test_existing_file_is_kept_unless_forced(tmp_path, report):
    path = tmp_path / "a.json"
    path.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        save.save(report, str(path))
    assert path.read_text() == "mine"
    save.save(report, str(path), force=True)
    assert path.read_text().startswith("{")


def test_dangling_link_counts_as_existing(tmp_path, report):
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="exists"):
        save.save(report, str(tmp_path / "a.json"))


@pytest.mark.parametrize("path", ["missing/a.json", "folder.json"])
def test_unwritable_paths_are_one_line(tmp_path, report, path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError) as caught:
        save.save(report, str(tmp_path / path), force=True)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_too_long_is_one_line(tmp_path, report):
    with pytest.raises(InputError, match="File name too long"):
        save.save(report, str(tmp_path / ("x" * 300 + ".json")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["diff", "inspect", "map"])
def test_a_file_that_the_report_is_about_is_never_replaced(tmp_path, kind):
    model, other = tmp_path / "model.json", tmp_path / "link.json"
    model.write_bytes((real.MODELS / "tied.pt").read_bytes())
    other.symlink_to(model)
    inventory = formats.read(str(model))
    report = {
        "diff": lambda: api.compare(inventory, inventory).report,
        "inspect": lambda: api.look_into(inventory).report, "map": lambda: inventory,
    }[kind]()
    for path in (model, other):
        with pytest.raises(InputError, match="report is about"):
            save.save(report, str(path), force=True)
    assert model.read_bytes() == (real.MODELS / "tied.pt").read_bytes()


def test_failure_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch, report):
    path = tmp_path / "a.json"
    path.write_text("mine")

    def broken(*_):
        yield "half"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save, "pieces", broken)
    with pytest.raises(InputError, match="No space left"):
        save.save(report, str(path), force=True)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_mode_follows_the_umask(tmp_path, report):
    old = os.umask(0o027)
    try:
        save.save(report, str(tmp_path / "a.json"))
    finally:
        os.umask(old)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640
