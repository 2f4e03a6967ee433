"""The sentence that answers: how the sizes compare, and what made the difference."""

from __future__ import annotations

from collections.abc import Sequence

from sizeforensics.ledger import Row
from sizeforensics.report import words
from sizeforensics.report.rows import IDENTICAL, CauseRow, Side
from sizeforensics.units import counted, format_bytes


def headline(
    before: Side, after: Side, causes: Sequence[CauseRow], rows: Sequence[Row], unread: int
) -> str:
    """One sentence; ``unread`` is how many tensors no side has read, so that they may differ."""
    delta = after.bytes - before.bytes
    if delta:
        answer = words.comparison(before.name, before.bytes, after.name, after.bytes)
        return f"{answer}: {_reasons(causes, rows, delta)}."
    if before.path == after.path:
        same = f"{after.name} compared with itself has the same {format_bytes(after.bytes)}"
    else:
        same = f"{before.name} and {after.name} have the same {format_bytes(after.bytes)}"
    grown = [entry for entry in causes if entry.delta_bytes > 0]
    lost = [entry for entry in causes if entry.delta_bytes < 0]
    if grown:
        return f"{same}, but not the same content: {_phrase(grown[0], rows)}, {_phrase(lost[0], rows)}."
    recast = [entry for entry in causes if entry.cause == "dtype" and entry.elements]
    if recast:
        return f"{same}, but {_phrase(recast[0], rows)}."
    changed = sum(row.members for row in rows if (row.cause, row.evidence) == ("carried", "inferred"))
    if changed:
        return f"{same} in every cause, but {counted(changed, 'tensor')} with other values."
    other = sum(
        row.members for row in rows
        if (row.cause, row.evidence) == ("carried", "proved") and row.how not in ("", IDENTICAL)
    )
    if other:
        return f"{same} in every cause, but {counted(other, 'tensor')} written another way."
    if unread and before.path != after.path:
        return f"{same} in every cause, but the data of {counted(unread, 'tensor')} are not there to compare."
    return f"{same} in every cause: no difference."


def _reasons(causes: Sequence[CauseRow], rows: Sequence[Row], delta: int) -> str:
    """One cause where one does it, else the two or three largest; a large counterweight too."""
    sign = 1 if delta > 0 else -1
    for_it = [entry for entry in causes if sign * entry.delta_bytes > 0]
    against = [entry for entry in causes if sign * entry.delta_bytes < 0]
    total = sum(abs(entry.delta_bytes) for entry in for_it)
    named: list[CauseRow] = []
    covered = 0
    for entry in for_it[:3]:
        named.append(entry)
        covered += abs(entry.delta_bytes)
        if 5 * covered >= 4 * total:
            break
    reasons = words.joined([_phrase(entry, rows) for entry in named])
    if against and 5 * abs(against[0].delta_bytes) >= total:
        reasons += f"; against that, {_phrase(against[0], rows)}"
    return reasons


def _phrase(entry: CauseRow, rows: Sequence[Row]) -> str:
    count, net = entry.count, False
    if entry.cause in _COMES_AND_GOES:
        moved = {True: 0, False: 0}
        for row in rows:
            if (row.cause, row.label) == (entry.cause, entry.label) and row.delta_bytes:
                grew = row.delta_bytes > 0
                moved[grew] += row.members if not (row.before_bytes and row.after_bytes) else 0
        count, net = moved[entry.delta_bytes > 0], moved[entry.delta_bytes < 0] > 0
    return words.phrase(
        entry.cause,
        entry.label,
        delta=entry.delta_bytes,
        count=count,
        elements=entry.elements,
        subject=entry.largest if entry.dominates and entry.cause in _NAMED else "",
        net=net,
    )


_COMES_AND_GOES = frozenset({
    "quantization-parameters", "duplicate", "constant", "sparse-index", "unmatched", "folded",
    "optimizer-state", "ema-copy", "unreferenced",
})  # fmt: skip
"""Causes of things that only one side has: those that both have were neither added nor dropped."""

_NAMED = frozenset({
    "pickle", "constant", "duplicate", "unmatched", "shape", "storage-slack", "unreferenced",
    "graph", "metadata", "debug-info", "densified", "unexplained",
})  # fmt: skip
"""Causes whose largest subject says more than the cause: a key, a tensor, an operator, a record."""
