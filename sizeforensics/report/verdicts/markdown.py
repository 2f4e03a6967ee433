"""Verdicts as the comment under a pull request that a bot edits: a table, then each broken budget."""

from __future__ import annotations

from collections.abc import Sequence

from sizeforensics.budget.facts import Culprit
from sizeforensics.budget.verdict import Outcome, Verdict, worst
from sizeforensics.report.marked import code, details, fitted, prose, table
from sizeforensics.report.verdicts import words

MARKER = "<!-- sizeforensics check -->"
"""By which a bot finds its comment again."""
_MARKS = {"error": "⛔", "fail": "❌", "warn": "⚠️", "waived": "⏸️", "ok": "✅", "skipped": "⏭️"}
_MAX_LINES = 100


def render(verdicts: Sequence[Verdict]) -> str:
    """The comment, newline at the end."""
    names = [name for verdict in verdicts for name in (verdict.name, verdict.path)]
    worse = worst(verdict.status for verdict in verdicts if not verdict.ok)
    mark = _MARKS[worse]
    parts = [MARKER, f"## {mark} {prose(words.headline(verdicts), names)}"]
    broken = [verdict for verdict in verdicts if verdict.broken]
    return fitted(parts, [_table(verdicts), *map(_diagnosis, broken)])


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = [_row(verdict) for verdict in verdicts[:_MAX_LINES]]
    if len(verdicts) > _MAX_LINES:
        rows.append(["", f"{len(verdicts) - _MAX_LINES:,} more", "", "", "", "", ""])
    return table(("verdict", "budget", "file", "limit", "value", "allowed", "top causes"), "llllrrl", rows)


def _row(verdict: Verdict) -> list[str]:
    line = words.line(verdict)
    outcome = verdict.decisive
    together = map(_together, words.by_kind(outcome.culprits)) if outcome else [code(verdict.problem, 400)]
    return [
        f"{_MARKS[line.status]} {line.status}", code(line.budget) if line.budget else "",
        code(line.path), code(line.limit) if line.limit else "", line.value, line.allowed, "; ".join(together),
    ]  # fmt: skip


def _together(culprits: Sequence[Culprit]) -> str:
    each = ", ".join(f"{words.amount(one)} ({code(words.subjects(one))})" for one in culprits)
    return f"{code(words.kind(culprits[0]))} {each}"


def _diagnosis(verdict: Verdict) -> str:
    blocks = "\n".join(map(_outcome, verdict.broken))
    return f"**{code(words.subject(verdict))}**\n\n{details(words.broken(verdict), blocks)}"


def _outcome(outcome: Outcome) -> str:
    lines = [f"- {_MARKS[outcome.status]} {code(words.statement(outcome), 400)}"]
    if outcome.excess:
        lines += [f"  - {_together([one])}" for one in outcome.culprits]
        lines.append(f"  - **Fix:** {prose(words.fix(outcome))}")
    if outcome.waiver:
        lines.append(f"  - {code(words.waiver(outcome), 400)}")
    return "\n".join(lines)
