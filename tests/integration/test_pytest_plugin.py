"""The pytest plugin in runs of its own, found by its entry point as after an installation."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "fixtures" / "models"

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder with two models, in which this package is installed whether it is here or not."""
    for name in ("tied.pt", "tied-legacy.onnx"):
        shutil.copy(MODELS / name, pytester.path)
    site = pytester.path / "site" / "sizeforensics-0.dist-info"
    site.mkdir(parents=True)
    points = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: sizeforensics\nVersion: 0\n", "utf-8")
    (site / "entry_points.txt").write_text(
        "[pytest11]\n" + "".join(f"{key} = {value}\n" for key, value in points["pytest11"].items()), "utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site.parent), str(ROOT)]))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(project, source, *arguments):
    project.makepyfile(test_sizes=source)
    return project.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


# -- the fixture -------------------------------------------------------------------------------


def test_a_model_that_keeps_its_budget_passes(project):
    run(project, """
        def test_size(size_budget):
            verdict = size_budget("tied.pt", max_bytes="108 kB", forbid=["optimizer-state"])
            assert verdict.ok
            assert verdict.nbytes == 107_805
    """).assert_outcomes(passed=1)  # fmt: skip


def test_a_failure_reads_like_a_diagnosis(project):
    result = run(project, """
        def test_model_size(size_budget):
            size_budget(
                "tied-legacy.onnx", max_bytes="150 kB", max_growth="2%", baseline="tied.pt",
                forbid=["duplicate", "debug-info"],
            )
    """)  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        ">       size_budget(",
        "E       Failed: size budget of tied-legacy.onnx: 3 of 5 limits broken",
        "E         FAIL total: 175,087 B, limit 150,000 B, excess 25,087 B",
        "E           duplicate +63,272 B (onnx::MatMul_283 and 1 more)",
        "E           names +*",
        "E           Fix: store each tensor once (saves up to 65,701 B): down to 109,386 B",
        "E         FAIL growth: 67,282 B, limit 2,156 B (2 %), excess 65,126 B",
        "E           Fix: store each tensor once (saves up to 63,272 B) and shorter module paths*: down to *",
        "E         FAIL duplicate: 65,701 B, limit 0 B, excess 65,701 B",
        "E           duplicate * B (onnx::MatMul_283)",
        "E           Fix: store each tensor once (saves up to 65,701 B): down to 0 B",
        "FAILED test_sizes.py::test_model_size - Failed: size budget of tied-legacy*",
    ])  # fmt: skip
    # Where it failed is the line of the test, not one of ours.
    assert "pytest_plugin.py" not in result.stdout.str()


def test_models_in_memory_and_snapshots_are_models_too(project):
    result = run(project, """
        import pytest
        import sizeforensics as sf

        torch = pytest.importorskip("torch")

        def test_module(size_budget, tmp_path):
            module = torch.nn.Linear(64, 64)
            # The stem is part of every record; in memory torch calls it "archive".
            torch.save(module.state_dict(), tmp_path / "archive.pt")
            verdict = size_budget(module.state_dict(), max_bytes="20 kB", dtypes=["float32"])
            assert verdict.nbytes == (tmp_path / "archive.pt").stat().st_size
            sf.inspect(tmp_path / "archive.pt").save_snapshot(tmp_path / "base.json")
            size_budget(module.state_dict(), max_growth=0, baseline=tmp_path / "base.json")
            torch.save(module.state_dict(), tmp_path / "a-longer-name.pt")
            named = size_budget(module.state_dict(), name="a-longer-name.pt", max_growth=0, baseline=tmp_path / "a-longer-name.pt")
            assert (named.path, named.nbytes) == ("a-longer-name.pt", (tmp_path / "a-longer-name.pt").stat().st_size)
            size_budget({"model": module.state_dict(), "epoch": 3}, max_bytes="20 kB")
            size_budget(module.state_dict() | {"copy": module.weight.detach().clone()},
                        max_growth="1 %", baseline=tmp_path / "base.json")
    """)  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E         FAIL growth: * B, limit * B (1 %), excess * B", "E           duplicate +16,384 B (copy)"])


def test_a_typo_or_a_missing_file_fails_in_one_line(project):
    result = run(project, """
        def test_typo(size_budget):
            size_budget("tied.pt", max_byts="1 MB")

        def test_missing(size_budget):
            size_budget("nowhere.pt", max_bytes="1 MB")

        def test_no_baseline(size_budget):
            size_budget("tied.pt", max_growth="1 %")
    """)  # fmt: skip
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines([
        "E       Failed: size budget: unknown key 'max_byts'; did you mean 'max_bytes'?*",
        "E       Failed: size budget: nowhere.pt: expected *",
        "E       Failed: size budget: max_growth: expected a baseline to grow from",
    ])  # fmt: skip


def test_a_warning_is_one_of_pytest(project):
    source = """
        def test_size(size_budget):
            size_budget("tied.pt", max_bytes={"warn": "100 kB", "fail": "200 kB"})
    """
    result = run(project, source, "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*SizeBudgetWarning: size budget of tied.pt: 0 of 2 limits broken, 1 with a warning"])
    run(project, source).assert_outcomes(failed=1)


def test_a_waiver_excuses(project):
    run(project, """
        import datetime, pytest
        import sizeforensics as sf

        WAIVER = dict(limit="max_bytes", reason="a release", owner="anna")

        @pytest.mark.parametrize("expires", ["9999-12-31", datetime.date(9999, 12, 31)])
        def test_held(size_budget, expires):
            size_budget("tied.pt", max_bytes=1, waivers=[WAIVER | {"expires": expires}])

        def test_expired(size_budget):
            with pytest.raises(pytest.fail.Exception, match="waiver by anna expired on 2001-01-01"):
                size_budget("tied.pt", max_bytes=1, waivers=[WAIVER | {"expires": "2001-01-01"}])
    """).assert_outcomes(passed=3)  # fmt: skip


# -- the marker --------------------------------------------------------------------------------


def test_the_marker_checks_before_the_test(project):
    result = run(project, """
        import pytest

        @pytest.mark.size_budget("tied.pt", max_bytes="108 kB")
        def test_kept():
            pass

        @pytest.mark.size_budget("tied.pt", max_bytes="1 kB")
        def test_broken():
            raise AssertionError("not reached")

        @pytest.mark.size_budget("tied.pt", "tied-legacy.onnx", max_bytes="1 MB")
        def test_two():
            raise AssertionError("not reached")
    """, "--strict-markers")  # fmt: skip
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["size budget: expected one model, got 2"])
    result.stdout.fnmatch_lines(["size budget of tied.pt: 1 of 2 limits broken"])
    result.stdout.no_fnmatch_line("*not reached*")


def test_markers_without_a_model_are_defaults_the_closest_wins(project):
    run(project, """
        import pytest

        pytestmark = pytest.mark.size_budget(max_bytes="1 kB", forbid=["optimizer-state"])

        @pytest.mark.size_budget(max_bytes="108 kB")
        def test_closer(size_budget):
            assert [one.rule.key for one in size_budget("tied.pt").outcomes] == [
                "max_bytes", "forbid.optimizer-state", "unexplained",
            ]

        def test_argument(size_budget):
            size_budget("tied.pt", max_bytes="109 kB")

        def test_module_s(size_budget):
            size_budget("tied.pt")
    """).assert_outcomes(passed=2, failed=1)  # fmt: skip


# -- assertions --------------------------------------------------------------------------------

ASSERTION = """
    import sizeforensics as sf

    def test_size():
        assert sf.inspect("tied-legacy.onnx") <= sf.Budget(total="200 kB", causes={"duplicate": 0})

    def test_turned():
        assert sf.Budget(total="1 kB") >= sf.inspect("tied.pt")

    def test_kept():
        assert sf.inspect("tied.pt") <= sf.Budget(total="200 kB")

    def test_other_comparisons():
        assert 3 <= 2
"""


def test_a_failed_assertion_is_explained(project):
    result = run(project, ASSERTION)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines([
        "E       assert size budget of tied-legacy.onnx: 1 of 3 limits broken",
        "E           FAIL duplicate: 65,701 B, limit 0 B, excess 65,701 B",
        "E             duplicate * B (onnx::MatMul_283)",
        "E             Fix: store each tensor once (saves up to 65,701 B): down to 0 B",
        "E       assert size budget of tied.pt: 1 of 2 limits broken",
        "E       assert 3 <= 2",
    ])  # fmt: skip


@pytest.mark.parametrize("arguments", [["--assert=plain"], ["-p", "no:sizeforensics"]], ids=" ".join)
def test_without_rewriting_or_the_plugin_an_assertion_still_decides(project, arguments):
    result = run(project, ASSERTION, *arguments)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.no_fnmatch_line("*limits broken*")


def test_switched_off_it_is_gone(project):
    source = "def test_size(size_budget): pass"
    result = run(project, source, "-p", "no:sizeforensics")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'size_budget' not found*"])


# -- reports -----------------------------------------------------------------------------------

SUITE = """
    import pytest
    import sizeforensics as sf

    def test_kept(size_budget):
        size_budget("tied.pt", max_bytes="108 kB")

    @pytest.mark.parametrize("most", ["1 kB", "1 MB"])
    def test_grown(size_budget, most):
        size_budget("tied-legacy.onnx", max_growth=most, baseline="tied.pt")

    def test_asserted():
        assert sf.inspect("tied.pt") <= sf.Budget(total="1 kB")

    def test_without_any():
        pass
"""


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_every_budget_of_the_run_gets_its_reports(project, arguments):
    result = run(project, SUITE, "--size-report", "sizes", *arguments)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines([f"size reports: {project.path / 'sizes'}"])
    written = {path.name: path.read_bytes() for path in (project.path / "sizes").iterdir()}
    statuses: dict[str, list[str]] = {}
    for name, content in sorted(written.items()):
        stem, extension = name.rsplit(".", 1)
        assert {f"{stem}.html", f"{stem}.md", f"{stem}.json"} <= set(written)
        if extension == "json":
            test = re.match(r"test_sizes\.py-test_([a-z]+)", stem).group(1)
            statuses.setdefault(test, []).append(json.loads(content)["status"])
    assert len(written) == 3 * 4
    assert {test: sorted(told) for test, told in statuses.items()} == {
        "kept": ["ok"], "grown": ["fail", "ok"], "asserted": ["fail"],
    }  # fmt: skip
    page = next(content for name, content in written.items() if name.endswith(".html"))
    assert b"Content-Security-Policy" in page
    # A second run replaces them with the same, byte for byte.
    run(project, SUITE, "--size-report", "sizes", *arguments)
    assert written == {path.name: path.read_bytes() for path in (project.path / "sizes").iterdir()}


def test_workers_that_run_the_same_test_do_not_spoil_its_reports(project):
    run(project, SUITE, "--size-report", "alone")
    run(project, SUITE, "--size-report", "both", "-n", "2", "--dist", "each").assert_outcomes(passed=6, failed=4)
    alone, both = (
        {path.name: path.read_bytes() for path in (project.path / folder).iterdir()} for folder in ("alone", "both")
    )
    assert len(alone) == 3 * 4
    assert both == alone


def test_a_run_without_a_budget_leaves_no_folder(project):
    run(project, "def test_nothing(): pass", "--size-report", "sizes").assert_outcomes(passed=1)
    assert not (project.path / "sizes").exists()


def test_under_xdist_failures_are_the_same(project):
    result = run(project, ASSERTION, "-n", "2")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["E           FAIL duplicate: 65,701 B, limit 0 B, excess 65,701 B"])


# -- what it costs -----------------------------------------------------------------------------


def test_unused_it_imports_nothing_heavy(project):
    run(project, """
        import sys

        def test_nothing_was_loaded(request):
            assert request.config.pluginmanager.has_plugin("sizeforensics")
            ours = {name for name in sys.modules if name.startswith("sizeforensics")}
            assert ours == {"sizeforensics", "sizeforensics.pytest_plugin"}
            assert not {"numpy", "pandas", "matplotlib", "onnx", "torch", "click"} & set(sys.modules)
            assert 1 != 2
    """).assert_outcomes(passed=1)  # fmt: skip


@pytest.mark.parametrize(("option", "said"), [("--help", "--size-report=DIR"), ("--markers", "@pytest.mark.size_budget")])
def test_help_and_markers_tell_of_it(project, option, said):
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", option], cwd=project.path, capture_output=True, text=True, check=True
    ).stdout
    assert said in shown
