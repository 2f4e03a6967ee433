"""Verdicts on a terminal: one line for each budget, then why the broken ones are."""

from __future__ import annotations

from collections.abc import Sequence

from sizeforensics.budget.verdict import Verdict
from sizeforensics.escape import visible
from sizeforensics.report import styled
from sizeforensics.report.styled import Line, View
from sizeforensics.report.verdicts import words

_STYLES = {"error": styled.GREW, "fail": styled.GREW, "warn": styled.GREW, "ok": styled.SHRANK}
_HEADER = ["verdict", "budget", "file", "limit", "value", "allowed", "top causes"]


def render(verdicts: Sequence[Verdict], view: View) -> str:
    """The view, newline at the end."""
    rows = [_cells(words.line(verdict)) for verdict in verdicts]
    table = styled.table(_HEADER, rows, right={4, 5})
    for verdict, line in zip(verdicts, table[1:], strict=True):
        style = _STYLES.get(verdict.status, "")
        line[:] = [(text, style) for text, _ in line]
    good = all(verdict.ok for verdict in verdicts)
    head = f"{styled.mark(good, view)} {words.headline(verdicts)}"
    body: list[Line] = [*table, [], [(head, styled.STRONG)]]
    for verdict in verdicts:
        if verdict.broken:
            body += [[], *([(visible(text), "")] for text in words.diagnosis(verdict))]
    return styled.render(body, view)


def _cells(line: words.Line) -> list[str]:
    causes = "; ".join(line.causes)
    cells = (line.status.upper(), line.budget, line.path, line.limit, line.value, line.allowed, causes)
    return [visible(cell) for cell in cells]
