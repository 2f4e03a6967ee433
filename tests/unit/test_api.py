"""The Python API: lazy, typed, tables that sum, a notebook view that runs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from itertools import permutations

import numpy as np
import pytest

import sizeforensics as sf
from sizeforensics import api, formats
from sizeforensics.dtypes import numpy_dtype
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from tests.builders import artifact
from tests.golden import samples


@pytest.fixture
def models(monkeypatch):
    half = np.arange(512, dtype=np.float16).reshape(16, 32)
    known = {
        "a.pt": artifact({"w": half}, path="a.pt", header=64),
        "b.onnx": artifact({"onnx::w": half.astype(np.float32)}, path="b.onnx", header=32),
    }
    monkeypatch.setattr(formats, "read", lambda path, *_: known[path], raising=False)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]


def test_import_is_lazy():
    code = "import sys, sizeforensics as sf; print(sf.__version__, 'numpy' in sys.modules, 'click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{sf.__version__} False False\n"


def test_names_are_reachable():
    assert sf.diff is api.diff
    assert issubclass(sf.errors.FormatError, sf.SizeforensicsError)
    assert set(sf.__all__) <= set(dir(sf))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sf.nothing  # noqa: B018


def test_diff(models):
    diff = sf.diff("a.pt", "b.onnx")
    assert diff.headline == "b.onnx is 1.91x a.pt: 512 weights went float16 -> float32."
    assert (diff.before_bytes, diff.after_bytes, diff.delta_bytes) == (1_088, 2_080, 992)
    assert diff.causes[0].cause == "dtype"
    assert diff.fixes[0].saves_bytes == 1_024
    assert diff.warnings == ()
    assert str(diff).startswith(diff.headline)
    assert repr(diff) == f"<Diff {diff.headline}>"
    for kind in ("rows", "causes", "tensors"):
        frame = diff.to_frame(kind)
        if kind != "tensors":
            assert frame["delta_bytes"].sum() == diff.delta_bytes
        assert len(frame) == len(getattr(diff, kind))
    with pytest.raises(sf.errors.InputError, match="rows, causes, tensors"):
        diff.to_frame("spans")


def test_inspection(models):
    found = sf.inspect("b.onnx")
    assert (found.path, found.format, found.bytes) == ("b.onnx", "onnx", 2_080)
    assert [span[1:4] for span in found.spans] == [(0, 32, "container"), (32, 2_080, "tensor-data")]
    assert found.tensors[0].name == "onnx::w"
    assert found.files[0].nbytes == 2_080
    assert (found.nodes, found.warnings) == ([], ())
    # The weights were float16 once: half of their bytes say nothing.
    assert [(row.finding, row.bytes) for row in found.findings] == [("dtype", 1_024)]
    assert found.to_frame()["bytes"].tolist() == [2_048]
    spans = found.to_frame("spans")
    assert (spans["end"] - spans["start"]).sum() == 2_080
    assert found.to_frame("roles")["bytes"].sum() == 2_080
    for kind in ("nodes", "ops", "dtypes", "findings"):
        assert len(found.to_frame(kind)) == (kind in ("dtypes", "findings"))
    assert list(found.to_frame("nodes").columns) == ["name", "op", "scope", "offset", "bytes"]
    with pytest.raises(sf.errors.InputError, match="spans"):
        found.to_frame("rows")
    assert str(found).startswith(found.headline)
    assert repr(found).startswith("<Inspection b.onnx is")


def test_tables_have_the_columns_that_the_json_has_keys(models):
    for result, kinds in (
        (sf.diff("a.pt", "b.onnx"), ("rows", "causes")),
        (sf.inspect("b.onnx"), ("tensors", "roles", "dtypes", "findings")),
    ):
        for kind in kinds:
            frame, plain = result.to_frame(kind), result.to_dict()[kind]
            assert {*plain[0]} <= {*frame.columns}
            for key in {*plain[0]} - {"before", "after", "shape", "subjects", "digest", "file"}:
                assert frame[key].tolist() == [row[key] for row in plain], (kind, key)
    assert list(sf.inspect("b.onnx").to_frame("ops").columns)[:2] == ["op", "name"]


def test_save_and_dict_agree(models, tmp_path):
    for result in (sf.diff("a.pt", "b.onnx"), sf.inspect("a.pt")):
        path = tmp_path / "out.json"
        result.save(path, force=True)
        assert json.loads(path.read_text()) == result.to_dict()
        with pytest.raises(sf.errors.InputError, match="force=True"):
            result.save(path)


def test_progress_reports_payload_bytes(models):
    seen: list[int] = []
    sf.inspect("a.pt", advance=seen.append)
    assert sum(seen) == 1_024


def test_notebook_view_is_inert():
    diff = api.Diff(diff_report(*samples.hostile()))
    inventory = samples.artifact(samples.HOSTILE, [(8, "tensor-data", samples.HOSTILE)])
    finding = samples.Finding("duplicate", 4, (samples.HOSTILE, "<script>alert(1)</script>"), "x")
    found = api.Inspection(inventory, inspect_report(inventory, [finding]), (finding,))
    for text in (diff._repr_html_(), found._repr_html_()):
        parsed = Tags(text)
        tables = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
        chart = {"svg", "defs", "pattern", "g", "title", "text", "tspan", "rect", "line"}
        assert parsed.tags <= tables | chart
        assert not {"style", "href", "src"} & set(parsed.attributes)
        assert not any(name.startswith("on") for name in parsed.attributes)
        assert not set(text) & set("\x1b\u202e\u200b\udc80")
        assert "&lt;b&gt;" in text


def test_notebook_view_says_what_it_leaves_out():
    inventory = samples.artifact("a.onnx", [(8, "graph", "x")])
    findings = [samples.Finding("duplicate", 1, (str(number),), "x") for number in range(50)]
    text = api.Inspection(inventory, inspect_report(inventory, findings), tuple(findings))._repr_html_()
    assert "30 more rows" in text


def test_frames_keep_hostile_names():
    frame = api.Diff(diff_report(*samples.hostile())).to_frame()
    assert samples.HOSTILE in frame["subject"].tolist()


SIGNALLING = {
    "float16": 0x7C01, "bfloat16": 0x7F81, "float32": 0x7F800001, "float64": 0x7FF0000000000001,
    "float8_e4m3fn": 0x7F, "float8_e5m2": 0x7D, "float8_e4m3fnuz": 0x80, "float8_e5m2fnuz": 0x80,
    "float8_e8m0fnu": 0xFF,
}  # fmt: skip
"""The bits of a NaN of each type of floats that has one; where it can signal, of one that does."""


@pytest.mark.parametrize("name", SIGNALLING)
def test_a_signalling_nan_is_no_news(name):
    """Warnings are errors here, as in every test."""
    own = numpy_dtype(name)
    assert own is not None
    plain, spoilt, wide = {}, {}, {}
    # The last is large enough to be looked at on a thread.
    for at, shape in enumerate([(64,), (16, 16), (2000,), (8, 4, 3, 3), (300, 300)]):
        random = np.abs(np.random.default_rng(at).standard_normal(shape)).astype(own)
        plain[f"{at}.weight"] = random
        bits = random.copy().view(f"u{own.itemsize}")
        bits.reshape(-1)[3] = SIGNALLING[name]
        spoilt[f"{at}.weight"] = bits.view(own)
        with np.errstate(all="ignore"):
            wide[f"{at}.weight"] = spoilt[f"{at}.weight"].astype(np.float32)
    files = [artifact(held) for held in (plain, spoilt, wide)]
    files += [api.take_snapshot(file) for file in files]
    for before, after in permutations(files, 2):
        assert len(api.compare(before, after).to_frame())
    for file in files:
        assert api.look_into(file).inventory is file
