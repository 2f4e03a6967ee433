"""A figure before it is drawn: boxes, lines and texts in pixels, and texts made to fit.

Widths come from the outlines of DejaVu Sans, which matplotlib brings along, so that a scene is the
same on every machine and a text that fits here fits in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sizeforensics.escape import one_line
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport

WIDTH, HEIGHT, MARGIN = 1600, 900, 48
INK, FAINT, RULE, NEUTRAL = "#1A1A1A", "#595959", "#9A9A9A", "#8C8C8C"
GREW, SHRANK = "#D55E00", "#0072B2"
"""Vermillion and blue stay apart for every kind of colour vision; a sign always says it too."""
TITLE_SIZES = (30, 26, 22)
TEXT_SIZE = 20
"""Readable at half size."""
NOTE_SIZE = 17
LINE = 1.3
"""Distance of two lines of text, in sizes."""
_LONGEST = 400
"""Characters of a text that are measured at all."""
_TITLE_LINES, _LONGEST_WORD = 3, 48


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; ``y`` is its middle, ``x`` where ``align`` says."""

    x: float
    y: float
    text: str
    size: int = TEXT_SIZE
    align: str = "left"
    bold: bool = False
    colour: str = INK
    upright: bool = False
    """Turned by 90 degrees, to be read from below."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what the text covers."""
        width, height = measure(self.text, self.size, self.bold), float(self.size)
        left = self.x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[self.align]
        if self.upright:
            return self.x - height / 2, self.y - width / 2, self.x + height / 2, self.y + width / 2
        return left, self.y - height / 2, left + width, self.y + height / 2


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle; ``hatch`` is the colour of its stripes, empty for none."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    hatch: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line."""

    x0: float
    y0: float
    x1: float
    y1: float
    colour: str = RULE
    width: float = 1.5


@dataclass(frozen=True, slots=True)
class Scene:
    """What a figure shows, back to front; ``title`` and ``description`` say it in words."""

    title: str
    description: str
    items: tuple[Box | Line | Text, ...]

    @property
    def texts(self) -> list[Text]:
        return [item for item in self.items if isinstance(item, Text)]


def heading(text: str) -> tuple[list[Text], float]:
    """The answer over at most three lines, as large as that allows, and the y below it."""
    room = WIDTH - 2 * MARGIN
    words = [one_line(word, _LONGEST_WORD) for word in text.split(" ")]
    size, lines = TITLE_SIZES[0], [""]
    for size in TITLE_SIZES:
        lines = wrap(" ".join(words), size, room, bold=True)
        if len(lines) <= _TITLE_LINES:
            break
    if len(lines) > _TITLE_LINES:
        last = lines[_TITLE_LINES - 1]
        while last and measure(f"{last} …", size, bold=True) > room:
            last = last.rpartition(" ")[0]
        lines = [*lines[: _TITLE_LINES - 1], f"{last} …"]
    texts = [
        Text(MARGIN, MARGIN + size * (0.5 + LINE * number), line, size, bold=True)
        for number, line in enumerate(lines)
    ]
    return texts, MARGIN + size * LINE * len(lines)


def reconciliation(report: DiffReport) -> str:
    """The line that lets a sceptic check a diff."""
    return " · ".join([f"{'✓' if report.reconciled else '✗'} {report.reconciliation[0]}", *report.reconciliation[1:]])


def claims(report: InspectReport) -> str:
    """The line that lets a sceptic check an inventory."""
    lost = f"{report.unclaimed_bytes:,} unclaimed"
    return f"✗ {lost}" if report.unclaimed_bytes else f"✓ every byte explained · {lost}"


# -- texts that fit ----------------------------------------------------------------------------


def drawable(text: str) -> str:
    """``text`` on one line, everything that the font has no glyph for written as an escape."""
    text = one_line(text, _LONGEST)
    if text.isascii():
        return text
    font = _font(bold=False)
    return "".join(
        character if font.get_char_index(ord(character))
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )  # fmt: skip


@lru_cache(maxsize=4096)
def measure(text: str, size: float, bold: bool = False) -> float:
    """Width in pixels."""
    from matplotlib.textpath import text_to_path

    if not text:
        return 0.0
    # Measured large and scaled: the outlines are what counts, not a hinted size.
    width, _, _ = text_to_path.get_text_width_height_descent(text, properties(100, bold), ismath=False)
    return float(width) * size / 100


def fit(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """``text``, shortened in the middle to ``width``; empty where nothing fits."""
    text = drawable(text)
    if measure(text, size, bold) <= width:
        return text
    least, most = 0, len(text) - 1
    while least < most:
        middle = (least + most + 1) // 2
        if measure(_shortened(text, middle), size, bold) <= width:
            least = middle
        else:
            most = middle - 1
    return _shortened(text, least) if least >= 2 else ""


def wrap(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """``text`` broken between words; a word longer than a line is shortened."""
    lines: list[str] = []
    for word in text.split(" "):
        piece = fit(word, size, width, bold=bold)
        if lines and measure(f"{lines[-1]} {piece}", size, bold) <= width:
            lines[-1] = f"{lines[-1]} {piece}"
        else:
            lines.append(piece)
    return lines


def _shortened(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{text[:head]}…{text[len(text) - (keep - head):]}"


def properties(points: float, bold: bool = False) -> Any:
    """The font that matplotlib brings along, whatever else the machine has."""
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=_font_path(bold), size=points)


def _font_path(bold: bool) -> str:
    from pathlib import Path

    import matplotlib as mpl

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name)


def _font(bold: bool) -> Any:
    from matplotlib.font_manager import get_font

    return get_font(_font_path(bold))

