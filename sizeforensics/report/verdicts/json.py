"""Verdicts as plain values: the contract of ``sizeforensics/schemas/check-1.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizeforensics.budget.bounds import format_bound
from sizeforensics.budget.facts import Culprit
from sizeforensics.budget.verdict import Outcome, Verdict, worst
from sizeforensics.report.verdicts import words

SCHEMA = "sizeforensics.check/1"


def document(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All verdicts, keys in the order of the contract."""
    return {
        "schema": SCHEMA,
        "headline": words.headline(verdicts),
        "status": worst(verdict.status for verdict in verdicts),
        "budgets": [_verdict(verdict) for verdict in verdicts],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "budget": verdict.name,
        "path": verdict.path,
        "status": verdict.status,
        "bytes": verdict.nbytes,
        "baseline": verdict.baseline,
        "baseline_bytes": verdict.baseline_bytes,
        "problem": verdict.problem,
        "limits": [_outcome(outcome) for outcome in verdict.outcomes],
        "warnings": list(verdict.warnings),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "key": outcome.rule.key,
        "title": outcome.rule.title,
        "status": outcome.status,
        "value_bytes": outcome.value,
        "limit": format_bound(outcome.bound),
        "limit_bytes": outcome.limit,
        "excess_bytes": outcome.excess,
        "problem": outcome.problem,
        "causes": [_culprit(one) for one in outcome.culprits],
        "fix": words.fix(outcome) if outcome.excess else "",
        "remedies": [_culprit(one) for one in outcome.remedies],
        "waiver": _waiver(outcome),
    }


def _culprit(one: Culprit) -> dict[str, Any]:
    return {
        "cause": one.cause, "label": one.label, "bytes": one.nbytes, "subject": one.subject,
        "count": one.members, "gained": one.gained,
    }  # fmt: skip


def _waiver(outcome: Outcome) -> dict[str, Any] | None:
    known = outcome.waiver
    if known is None:
        return None
    return {
        "owner": known.owner, "reason": known.reason, "expires": known.expires.isoformat(),
        "holds": outcome.status == "waived",
    }  # fmt: skip
