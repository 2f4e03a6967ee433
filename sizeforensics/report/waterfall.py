"""Where the bars of a waterfall begin and end, in bytes: from one size to the other, or to a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sizeforensics.errors import LawBroken
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.lines import cause_lines
from sizeforensics.report.rows import DiffReport
from sizeforensics.units import counted, format_bytes, signed_bytes

MAX_BARS = 10
"""Causes drawn one by one; what is left is one more bar, ``other``."""
_ROOM = 0.15
"""Of the axis, left of what changes when the axis does not start at zero."""


@dataclass(frozen=True, slots=True)
class Bar:
    """``[start, end)`` of the axis; ``kind`` is ``total``, ``growth``, ``shrink`` or ``part``."""

    kind: str
    title: str
    detail: str
    amount: str
    percent: str
    start: int
    end: int
    level: int
    """Where the connector to the next bar is."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Bars from top to bottom on an axis of bytes from ``floor`` to ``ceiling``."""

    title: str
    bars: tuple[Bar, ...]
    floor: int
    ceiling: int
    unit: str
    """What the percentages are of."""

    def __post_init__(self) -> None:
        for bar in self.bars:
            if not self.floor <= bar.start <= bar.end <= self.ceiling:
                raise LawBroken(f"the bar {bar.title!r} leaves the axis of the waterfall")


def of_diff(report: DiffReport) -> Waterfall:
    """From the size before to the size after, one bar per cause."""
    level = report.before.bytes
    bars = [_total("before", report.before.name, level)]
    for line in cause_lines(report, MAX_BARS):
        reached = level + line.delta_bytes
        kind = "growth" if line.delta_bytes > 0 else "shrink"
        bars.append(Bar(
            kind, line.plain, line.detail, signed_bytes(line.delta_bytes), line.percent,
            min(level, reached), max(level, reached), reached,
        ))  # fmt: skip
        level = reached
    bars.append(_total("after", report.after.name, report.after.bytes))
    title = f"From {format_bytes(report.before.bytes)} to {format_bytes(report.after.bytes)}, cause by cause"
    return _on_axis(title, bars, "of gross change")


def of_inspect(report: InspectReport) -> Waterfall:
    """The roles one after the other, up to the size of the artifact."""
    level = 0
    bars = []
    for part in report.roles:
        spans = counted(part.count, "span")
        bars.append(Bar(
            "part", part.name, spans, format_bytes(part.bytes), part.percent,
            level, level + part.bytes, level + part.bytes,
        ))  # fmt: skip
        level += part.bytes
    bars.append(_total("total", report.side.name, report.side.bytes))
    return _on_axis(f"{format_bytes(report.side.bytes)}, role by role", bars, "of the file")


def _total(title: str, name: str, size: int) -> Bar:
    return Bar("total", title, name, format_bytes(size), "", 0, size, size)


def _on_axis(title: str, bars: Sequence[Bar], unit: str) -> Waterfall:
    """Start the axis at zero unless the changes would be too small to see; then cut the totals."""
    levels = [level for bar in bars for level in (bar.end, bar.start) if bar.kind != "total"]
    levels += [bar.end for bar in bars if bar.kind == "total"]
    low, high = min([0, *levels]), max([1, *levels])
    changes = min(levels, default=0), max(levels, default=0)
    span = changes[1] - changes[0]
    floor = low
    if 0 < span < high / 5:
        floor = max(low, int(changes[0] - _ROOM * span / (1 - _ROOM)))
    moved = tuple(
        bar if bar.start >= floor
        else Bar(bar.kind, bar.title, bar.detail, bar.amount, bar.percent, floor, bar.end, bar.level)
        for bar in bars
    )  # fmt: skip
    return Waterfall(title, moved, floor, high, unit)


def steps(waterfall: Waterfall) -> list[tuple[Bar, float, float, float]]:
    """Every bar with the fractions of the axis where it starts, ends, and hands over."""
    width = waterfall.ceiling - waterfall.floor

    def at(level: int) -> float:
        return (level - waterfall.floor) / width

    return [(bar, at(bar.start), at(bar.end), at(bar.level)) for bar in waterfall.bars]


