"""Verdicts as JUnit XML, which most systems show as test results: a suite for each model, a case
for each limit.

The shape is the one that Jenkins and GitLab read: testsuites, testsuite, testcase with failure, error
or skipped (jenkinsci/xunit-plugin, junit-10.xsd, which knows no ``skipped`` of the whole). Attributes
and text are free of what XML 1.0 cannot hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sizeforensics.budget.verdict import Outcome, Verdict
from sizeforensics.escape import visible
from sizeforensics.report.verdicts import words

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def render(verdicts: Sequence[Verdict]) -> str:
    """The document, newline at the end."""
    from xml.etree.ElementTree import Element, indent, tostring

    suites = [_suite(verdict) for verdict in verdicts]
    root = Element("testsuites", {"name": "sizeforensics", **_sums(suites)})
    root.extend(suites)
    indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(root, encoding="unicode")}\n'


def _sums(suites: Sequence[Element]) -> dict[str, str]:
    keys = ("tests", "failures", "errors")
    return {key: str(sum(int(suite.get(key, 0)) for suite in suites)) for key in keys}


def _suite(verdict: Verdict) -> Element:
    from xml.etree.ElementTree import Element

    cases = [_case(verdict, outcome) for outcome in verdict.outcomes]
    if not cases:
        cases = [_missing(verdict)]
    count = {
        kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")
    }
    suite = Element("testsuite", {
        "name": _text(words.subject(verdict)), "tests": str(len(cases)),
        "failures": count["failure"], "errors": count["error"], "skipped": count["skipped"],
    })  # fmt: skip
    suite.extend(cases)
    return suite


def _case(verdict: Verdict, outcome: Outcome) -> Element:
    case = _named(verdict, outcome.rule.title)
    if outcome.status == "ok":
        return case
    text = "\n".join([words.statement(outcome), *words.details(outcome)])
    if outcome.status == "fail":
        _add(case, "failure", text, message=words.statement(outcome), type=outcome.rule.key)
    elif outcome.status == "waived":
        _add(case, "skipped", "", message=words.waiver(outcome))
    else:
        _add(case, "system-out", text)
    return case


def _missing(verdict: Verdict) -> Element:
    case = _named(verdict, verdict.path)
    kind = {"error": "error", "fail": "failure"}.get(verdict.status, "skipped")
    kinds = {} if kind == "skipped" else {"type": verdict.status}
    _add(case, kind, "", message=verdict.problem, **kinds)
    return case


def _named(verdict: Verdict, name: str) -> Element:
    from xml.etree.ElementTree import Element

    return Element("testcase", {"classname": _text(words.title(verdict)), "name": _text(name), "time": "0"})


def _add(case: Element, kind: str, text: str, **attributes: str) -> None:
    from xml.etree.ElementTree import SubElement

    child = SubElement(case, kind, {key: _text(value) for key, value in attributes.items()})
    if text:
        child.text = "\n".join(map(_text, text.split("\n")))


def _text(text: str) -> str:
    return visible(text)
