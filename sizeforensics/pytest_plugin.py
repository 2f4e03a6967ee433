"""Size budgets in a test suite: a fixture, a marker, failures that read like a diagnosis, reports.

Loaded by every pytest of an environment that has this package, so nothing but pytest is imported
until a test asks for a budget.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sizeforensics.api import Diff, Inspection
    from sizeforensics.budget import Verdict

_MARKER = "size_budget"
_REPORTS = "sizeforensics-reports"


class SizeBudgetWarning(pytest.PytestWarning):
    """A model crossed a limit that only warns."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sizeforensics", "size budgets of models")
    group.addoption(
        "--size-report", metavar="DIR", default=None,
        help="write an HTML report, a Markdown comment and JSON for every size budget of the run",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(model=None, **limits): check a model before the test runs; without a model, the "
        "limits are defaults for the fixture of this name.",
    )
    folder = config.getoption("--size-report")
    if folder:
        # Absolute, because workers of xdist get the option and may run in another folder.
        config.option.size_report = str(config.invocation_params.dir / folder)
        config.pluginmanager.register(Reports(Path(config.option.size_report)), _REPORTS)


@pytest.fixture
def size_budget(request: pytest.FixtureRequest) -> Callable[..., Verdict]:
    """Check a model against limits: ``size_budget("model.onnx", max_bytes="15 MB")``.

    The keys are those of a budget in the configuration, markers of the test give defaults. A model
    in memory may have the ``name`` of the file it would be saved to, as of ``inspect``. Fails the
    test with a diagnosis when a limit is broken, warns where that is all a limit asks for, and
    returns the verdict.
    """
    defaults: dict[str, Any] = {}
    for mark in request.node.iter_markers(_MARKER):
        if not mark.args:
            defaults = {**mark.kwargs, **defaults}  # the closest marker comes first

    def check(model: object, **limits: object) -> Verdict:
        __tracebackhide__ = True
        return _check(model, {**defaults, **limits})

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    for mark in item.iter_markers(_MARKER):
        if len(mark.args) > 1:
            pytest.fail(f"size budget: expected one model, got {len(mark.args):,}", pytrace=False)
        if mark.args:
            _check(mark.args[0], mark.kwargs, pytrace=False)
    yield


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """``assert inspection <= budget`` as a diagnosis; every other comparison is left alone."""
    inspection, budget = (left, right) if op == "<=" else (right, left)
    # Whoever compares with a budget has imported it.
    if op not in ("<=", ">=") or "sizeforensics.budget" not in sys.modules:
        return None
    from sizeforensics.budget import Budget

    if not isinstance(budget, Budget):
        return None
    from sizeforensics.api import Inspection, check

    if not isinstance(inspection, Inspection):
        return None
    first, *rest = _diagnosis(check(inspection, budget))
    return [first, *rest]


def _check(model: Any, limits: Mapping[str, Any], *, pytrace: bool = True) -> Verdict:
    __tracebackhide__ = True
    from sizeforensics import api
    from sizeforensics.budget.config import budget_of
    from sizeforensics.errors import InputError

    problem = ""
    keys = dict(limits)
    name = keys.pop("name", None)
    try:
        budget = budget_of(keys)
        inspection = model if isinstance(model, api.Inspection) else api.inspect(model, name=name)
        verdict = api.check(inspection, budget)
    except InputError as error:
        problem = str(error)
    if problem:  # outside of the handler, so that our own frames are not shown
        pytest.fail(f"size budget: {problem}", pytrace=pytrace)
    if not verdict.ok:
        pytest.fail("\n".join(_diagnosis(verdict)), pytrace=pytrace)
    if verdict.status == "warn":
        warnings.warn(SizeBudgetWarning("\n".join(_diagnosis(verdict))), stacklevel=3)
    return verdict


def _diagnosis(verdict: Verdict) -> list[str]:
    from sizeforensics.report.verdicts import words

    return [f"size budget of {words.diagnosis(verdict)[0]}", *words.diagnosis(verdict)[1:]]


class Reports:
    """Writes what ``--size-report`` asks for as verdicts come, each worker its own; names are made
    from the test, so that a second run replaces the reports of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.test = ""
        self.told: list[Verdict] = []

    def pytest_sessionstart(self) -> None:
        from sizeforensics import api

        api.observers.append(self.write)

    def pytest_sessionfinish(self) -> None:
        from sizeforensics import api

        api.observers.remove(self.write)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test, self.told = item.nodeid, []
        return (yield)

    def write(self, inspection: Inspection, against: Diff | None, verdict: Verdict) -> None:
        """Three files for one verdict; explaining a failed assertion judges it once more."""
        if verdict in self.told:
            return
        self.told.append(verdict)
        from sizeforensics.report import save, verdicts

        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.folder / _file_name(self.test, len(self.told))
        (inspection if against is None else against).save(f"{stem}.html", force=True)
        for extension, form in (("md", "markdown"), ("json", "json")):
            text = "".join(verdicts.pieces([verdict], form))
            save.write(f"{stem}.{extension}", [text.encode("utf-8")])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"size reports: {self.folder}")


def _file_name(test: str, number: int) -> str:
    """Readable, and another one for every test."""
    import hashlib
    import re

    readable = re.sub(r"[^A-Za-z0-9_.]+", "-", test)[-80:].strip("-")
    digest = hashlib.sha256(test.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{readable}-{digest}-{number}"
