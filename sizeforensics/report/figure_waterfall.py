"""The waterfall as a picture: a row per bar, connected, with the exact amounts beside the bars."""

from __future__ import annotations

from collections.abc import Sequence

from sizeforensics.escape import visible
from sizeforensics.report import figure_scene as scene
from sizeforensics.report import waterfall
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.figure_scene import FAINT, HEIGHT, MARGIN, WIDTH, Box, Line, Scene, Text
from sizeforensics.report.rows import DiffReport
from sizeforensics.report.waterfall import Bar
from sizeforensics.units import format_bytes, signed_bytes

_LABELS = 560
"""Most pixels of the column of labels."""
_MAX_PITCH, _BAR = 90, 0.6
_LEAST_BAR, _LEAST_STRIPED = 3, 14
"""Pixels of the smallest change, and of the smallest with stripes."""
_GAP = 12
_FILLS = {
    "total": scene.NEUTRAL, "part": "#6C8299", "growth": scene.GREW, "shrink": scene.SHRANK,
}  # fmt: skip


def diff(report: DiffReport) -> Scene:
    """Before, a bar per cause, after."""
    ratio = f", {report.ratio}" if report.ratio else ""
    change = f"  ({signed_bytes(report.delta_bytes)}{ratio})" if report.delta_bytes else ""
    footer = scene.reconciliation(report)
    return _scene(report.headline, waterfall.of_diff(report), change, footer)


def inspect(report: InspectReport) -> Scene:
    """A bar per role, then the whole."""
    return _scene(report.headline, waterfall.of_inspect(report), "", scene.claims(report))


def _scene(title: str, model: waterfall.Waterfall, change: str, footer: str) -> Scene:
    """``change`` is what the last total says beside its bytes."""
    amounts = [bar.amount for bar in model.bars]
    amounts[-1] += change
    texts, y = scene.heading(title)
    items: list[Box | Line | Text] = [*texts]
    top, bottom = y + 46, HEIGHT - MARGIN - 42
    pitch = min((bottom - top) / len(model.bars), _MAX_PITCH)
    top += max(bottom - top - pitch * len(model.bars), 0) / 3
    shares = f"% {model.unit}"
    share_width = scene.measure(shares, scene.NOTE_SIZE)
    label_width = _label_width(model.bars)
    left = MARGIN + label_width + 2 * _GAP
    width = _width(model, amounts, WIDTH - MARGIN - share_width - 3 * _GAP - left)
    if any(bar.percent for bar in model.bars):
        items.append(Text(WIDTH - MARGIN, top - 20, shares, scene.NOTE_SIZE, "right", colour=FAINT))
    height = pitch * _BAR
    for number, (bar, start, end, level) in enumerate(waterfall.steps(model)):
        middle = top + pitch * (number + 0.5)
        if number < len(model.bars) - 1:
            x = left + width * level
            items.append(Line(x, middle + height / 2, x, middle + pitch - height / 2))
        box = _bar(bar, left + width * start, left + width * end, middle - height / 2, height)
        items.append(box)
        if bar.kind == "total" and model.floor > 0:
            items += _break(box)
        items += _label(bar, middle, label_width)
        beside = max(box.x + box.width, left) + _GAP
        items.append(Text(beside, middle, amounts[number], bold=bar.kind == "total"))
        if bar.percent:
            share = bar.percent.removesuffix(" %")
            items.append(Text(WIDTH - MARGIN, middle, share, align="right", colour=FAINT))
    room = float(WIDTH - 2 * MARGIN)
    base = HEIGHT - MARGIN - scene.NOTE_SIZE / 2
    if model.floor > 0:
        note = f"the scale starts at {format_bytes(model.floor)}: totals are cut"
        items.append(Text(WIDTH - MARGIN, base, note, scene.NOTE_SIZE, "right", colour=FAINT))
        room -= scene.measure(note, scene.NOTE_SIZE) + 3 * _GAP
    line = scene.fit(footer, scene.NOTE_SIZE, room)
    items.append(Text(MARGIN, base, line, scene.NOTE_SIZE, colour=FAINT))
    words = [
        f"{f'{bar.title} {bar.detail}'.strip()}: {amount}"
        for bar, amount in zip(model.bars, amounts, strict=True)
    ]
    return Scene(title, visible("; ".join([*words, footer])), tuple(items))


def _width(model: waterfall.Waterfall, amounts: Sequence[str], room: float) -> float:
    """Pixels of the axis, so that the amount beside every bar still fits into ``room``."""
    widths = [
        (room - _GAP - _LEAST_BAR - scene.measure(amount, scene.TEXT_SIZE, bar.kind == "total")) / end
        for (bar, _, end, _), amount in zip(waterfall.steps(model), amounts, strict=True)
        if end > 0
    ]
    return min([room, *widths])


def _label_width(bars: Sequence[Bar]) -> float:
    needed = 0.0
    for bar in bars:
        width = scene.measure(scene.drawable(bar.title), scene.TEXT_SIZE, bold=True)
        if bar.detail:
            width += _GAP + scene.measure(scene.drawable(bar.detail), scene.TEXT_SIZE)
        needed = max(needed, width)
    return min(needed + 2, _LABELS)


def _label(bar: Bar, y: float, width: float) -> list[Text]:
    title = scene.fit(bar.title, scene.TEXT_SIZE, width, bold=True)
    x = scene.measure(title, scene.TEXT_SIZE, bold=True) + _GAP
    detail = scene.fit(bar.detail, scene.TEXT_SIZE, width - x)
    texts = [Text(MARGIN, y, title, bold=True)]
    return [*texts, Text(MARGIN + x, y, detail)] if detail else texts


def _bar(bar: Bar, start: float, end: float, y: float, height: float) -> Box:
    if end - start < _LEAST_BAR:
        # The connector from the bar before ends at one side: a bar too thin to see grows from there.
        start, end = (end - _LEAST_BAR, end) if bar.kind == "shrink" else (start, start + _LEAST_BAR)
    # In a bar of a few pixels stripes would be all there is.
    striped = bar.kind == "growth" and end - start >= _LEAST_STRIPED
    return Box(start, y, end - start, height, _FILLS[bar.kind], "#FFFFFF" * striped)


def _break(box: Box) -> list[Line]:
    """Two slanted gaps: this bar does not start at zero."""
    low, high = box.y + box.height + 2, box.y - 2
    return [Line(box.x + x - 6, low, box.x + x + 6, high, "#FFFFFF", 4) for x in (22, 34)]
