"""The causes that fit, and one line for those that do not: what charts and tables of causes show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sizeforensics.causes import CAUSES
from sizeforensics.report import words
from sizeforensics.report.rows import CauseRow, DiffReport
from sizeforensics.units import counted

SORTS = ("delta", "before", "after", "name")
"""Orders of lines: largest change first (the direction of the total before the other), largest on
one side first, or by name."""


@dataclass(frozen=True, slots=True)
class CauseLine:
    """One or several causes as one line of a chart; ``gross_bytes`` is Σ|delta| of its causes."""

    title: str
    detail: str
    mostly: str
    """What most of the change belongs to, where ``detail`` does not say it: a tensor, an operator, a key."""
    delta_bytes: int
    gross_bytes: int
    before_bytes: int
    after_bytes: int
    share: float
    percent: str
    causes: tuple[CauseRow, ...]

    @property
    def plain(self) -> str:
        """The plain name of a single cause; else the title."""
        single = len(self.causes) == 1 and self.title == self.causes[0].cause
        return CAUSES[self.title].title if single else self.title


OTHER = "other"
"""The title of the last line, where some causes have none of their own."""
_NAMED = 2
"""Causes that the last line names; more are counted."""
_GROUPS = {"structure": "program", "metadata": "program", "container": "container"}
_TINY = 0.005
_TENSOR_FAMILIES = frozenset({"dtype", "duplicates", "constants", "weights", "training"})


def cause_lines(
    report: DiffReport,
    limit: int,
    sort: str = "delta",
    wanted: Callable[[CauseRow], bool] = lambda _: True,
) -> tuple[CauseLine, ...]:
    """At most ``limit`` lines, then ``other`` for what is not wanted or does not fit: they sum to
    the report's change.

    Small causes of related families share a line when they have the same sign. ``unexplained``
    always has a line of its own.
    """

    def keep(entry: CauseRow) -> bool:
        return entry.cause == "unexplained" or wanted(entry)

    changed = [entry for entry in report.causes if entry.delta_bytes]
    together: dict[tuple[str, bool], list[CauseRow]] = {}
    for entry in changed:
        group = _GROUPS.get(CAUSES[entry.cause].family, "")
        if keep(entry) and group and entry.share < _TINY:
            together.setdefault((group, entry.delta_bytes > 0), []).append(entry)
    grouped = {id(entry) for group in together.values() if len(group) > 1 for entry in group}
    lines = [_line([entry], report) for entry in changed if keep(entry) and id(entry) not in grouped]
    lines += [_line(group, report) for group in together.values() if len(group) > 1]
    lines.sort(key=lambda line: _line_order(line, sort, report.delta_bytes))
    rest = [entry for entry in changed if not keep(entry)]
    if len(lines) > limit:
        # What does not fit is what matters least, whatever the lines are sorted by.
        order = sorted(lines, key=lambda line: (line.title != "unexplained", -line.gross_bytes))
        rest += [entry for line in order[limit:] for entry in line.causes]
        lines = [line for line in lines if line in order[:limit]]
    if rest:
        lines.append(_line(rest, report, OTHER))
    return tuple(lines)


def _line(entries: Sequence[CauseRow], report: DiffReport, title: str = "") -> CauseLine:
    gross = sum(abs(entry.delta_bytes) for entry in entries)
    names = list(dict.fromkeys(entry.cause for entry in entries))
    detail = mostly = ""
    if title:
        detail = ", ".join(names) if len(names) <= _NAMED else counted(len(entries), "cause")
    elif len(entries) == 1:
        detail, mostly = _detail(entries[0])
    return CauseLine(
        title or ", ".join(names),
        detail,
        mostly,
        sum(entry.delta_bytes for entry in entries),
        gross,
        sum(entry.before_bytes for entry in entries),
        sum(entry.after_bytes for entry in entries),
        gross / report.gross_bytes if report.gross_bytes else 0.0,
        words.percent(gross, report.gross_bytes),
        tuple(entries),
    )


def _detail(entry: CauseRow) -> tuple[str, str]:
    """What exactly; else how many tensors, where the cause is about tensors, and what matters most."""
    if entry.label:
        return entry.label, ""
    family = CAUSES[entry.cause].family
    if family not in _TENSOR_FAMILIES:
        # Of framing the largest part says nothing that people could act on.
        return "", entry.mostly if entry.dominates and _GROUPS.get(family) == "program" else ""
    return counted(entry.count, "tensor"), entry.mostly


def _line_order(line: CauseLine, sort: str, delta: int) -> tuple[bool, int, str, str]:
    if sort == "name":
        return False, 0, line.title, line.detail
    if sort in ("before", "after"):
        size = line.before_bytes if sort == "before" else line.after_bytes
        return False, -size, line.title, line.detail
    against = (line.delta_bytes > 0) != (delta >= 0)
    return against, -line.gross_bytes, line.title, line.detail
