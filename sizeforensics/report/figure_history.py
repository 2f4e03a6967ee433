"""The size of every version as a bar of its roles, for PNG, SVG and the page."""

from __future__ import annotations

from sizeforensics.report.figure_scene import (
    FAINT,
    HEIGHT,
    INK,
    MARGIN,
    NOTE_SIZE,
    RULE,
    TEXT_SIZE,
    WIDTH,
    Box,
    Line,
    Scene,
    Text,
    fit,
    heading,
    measure,
)
from sizeforensics.report.history import History, Version
from sizeforensics.units import format_bytes

COLOURS = {
    "tensor-data": "#0072B2", "graph": "#E69F00", "names": "#56B4E9", "pickle": "#009E73",
    "code": "#F0E442", "debug-info": "#D55E00", "value-info": "#CC79A7", "metadata": "#999999",
    "container": "#4D4D4D", "alignment": "#BFBFBF", "unclaimed": "#000000",
}  # fmt: skip
"""Colours that stay apart for every kind of colour vision (Okabe and Ito 2008), and greys."""
MOST_BARS = 24
"""Versions that are drawn; of more, the last ones."""
_KEY = 22


def history(found: History) -> Scene:
    """Bars from the oldest version to the newest, each role a part of it, from a base of zero."""
    title, top = heading(found.headline)
    key, top = _legend(found, top + MARGIN / 2)
    versions = found.versions[-MOST_BARS:]
    bottom = HEIGHT - MARGIN - 2 * NOTE_SIZE
    top += 3.5 * TEXT_SIZE
    items: list[Box | Line | Text] = [*title, *key]
    room = (WIDTH - 2 * MARGIN) / len(versions)
    most = max(version.bytes for version in versions) or 1
    for number, version in enumerate(versions):
        left = MARGIN + number * room
        items += _bar(found, version, left + room * 0.15, room * 0.7, bottom, (bottom - top) / most)
        centre = left + room / 2
        name = fit(version.name, NOTE_SIZE, room * 0.95)
        items.append(Text(centre, bottom + NOTE_SIZE, name, NOTE_SIZE, "center", colour=FAINT))
    items.append(Line(MARGIN, bottom, WIDTH - MARGIN, bottom, RULE))
    lines = [f"{version.name} {format_bytes(version.bytes)}" for version in versions]
    return Scene(found.headline, "; ".join(lines), tuple(items))


def _bar(  # noqa: PLR0917 - where and how tall
    found: History, version: Version, left: float, width: float, bottom: float, scale: float
) -> list[Box | Line | Text]:
    items: list[Box | Line | Text] = []
    y = bottom
    for role in found.roles:
        height = version.roles.get(role, 0) * scale
        if height:
            y -= height
            items.append(Box(left, y, width, height, COLOURS[role]))
    text = fit(format_bytes(version.bytes), TEXT_SIZE, width / 0.7)
    items.append(Text(left + width / 2, y - TEXT_SIZE, text, TEXT_SIZE, "center", bold=True, colour=INK))
    return items


def _legend(found: History, top: float) -> tuple[list[Box | Line | Text], float]:
    items: list[Box | Line | Text] = []
    x, y = float(MARGIN), top
    for role in found.roles:
        width = _KEY * 2 + measure(role, NOTE_SIZE) + 16
        if x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + 1.6 * _KEY
        items += [Box(x, y, _KEY, _KEY, COLOURS[role]), Text(x + 1.5 * _KEY, y + _KEY / 2, role, NOTE_SIZE)]
        x += width
    return items, y + _KEY
