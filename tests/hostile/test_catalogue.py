"""Every phrase of the catalogue of threats has cases, with its outcome; every case says what it gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hostile.case import FLAG, REFUSE
from tests.hostile.catalogue import THREATS
from tests.hostile.refusals import REFUSALS
from tests.hostile.test_cases import CASES, ROOT

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
DECISIONS = SECURITY.partition("## Where there was a choice")[2].partition("\n## ")[0]
WITHOUT_OFFSET = "other: input: "
"""What is no file has no offset."""
TELLS_NOTHING = {"pickle: names: surrogate", "pickle: names: not UTF-8"}


def carried(beginning: str) -> list[str]:
    return [name for name in CASES if name.startswith(beginning)]


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: f"{threat.phrase}, {threat.cases[0]}")
def test_a_phrase_has_cases_with_its_outcome(threat) -> None:
    for beginning in threat.cases:
        if "::" in beginning:
            file, _, test = beginning.partition("::")
            assert f"\ndef {test}(" in (Path(__file__).parent / file).read_text(encoding="utf-8")
            continue
        assert carried(beginning), beginning
        assert {CASES[name].outcome for name in carried(beginning)} <= set(threat.outcomes), beginning
    assert f"\n| {threat.decided}" in DECISIONS


def test_what_the_catalogue_does_not_have_says_where_it_is_from() -> None:
    listed = {name for threat in THREATS for beginning in threat.cases for name in carried(beginning)}
    rows = {(name.split(": ")[0], name.split(": ")[1]) for name in listed}
    for name in CASES.keys() - listed:
        table, row, _ = name.split(": ", 2)
        # Another case of a row of the catalogue, or one that nobody had thought of.
        assert (table, row) in rows or row in ("found", "tar", "index", "bare"), name


def test_every_decision_is_about_a_phrase_or_a_case() -> None:
    assert len(re.findall(r"^\| .* \| (?:accept|flag|refuse) \| .+ \|$", DECISIONS, re.MULTILINE)) >= len(
        {threat.decided for threat in THREATS if threat.decided}
    )


def test_every_refusal_is_written_down_in_full() -> None:
    assert {name for name, case in CASES.items() if case.outcome == REFUSE} == set(REFUSALS)
    for name, line in REFUSALS.items():
        assert re.search(": expected .*, got .", line), name
        assert re.search(r": at 0x[0-9a-f]+: expected", line) or name.startswith(WITHOUT_OFFSET), name
        if "at most" in line and " allows more)" in line:
            assert re.search(r"at most [\d,]+ (\w+(?: \w+)*) \(--limits \w+=N allows more\)", line), name


def test_every_flag_says_something_of_its_own() -> None:
    silent = {name for name, case in CASES.items() if case.outcome == FLAG and not case.says}
    assert silent == TELLS_NOTHING
