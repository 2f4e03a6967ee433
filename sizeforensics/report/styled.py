"""Lines of styled text for a terminal: cells, bars, tables, sentences, with or without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

GREW, SHRANK, STRONG, FAINT = "#D55E00", "#0072B2", "bold", "dim"
"""Styles; vermilion and blue stay apart for every kind of colour vision."""

_WIDEST_COLUMN = 48
"""Cells to which a column of a table is padded at most."""

Segment = tuple[str, str]
"""Text and its style; a style never says anything that the text does not."""
Line = list[Segment]


@dataclass(frozen=True, slots=True)
class View:
    """How and how much to print. ``wrap`` breaks sentences at ``width``, which a pipe does not
    want: its reader takes the first line for the answer."""

    width: int = 80
    unicode: bool = True
    colour: bool = False
    wrap: bool = False
    verbose: bool = False
    sort: str = "delta"
    min_bytes: int = 0
    filter: str = ""

    def keeps_cause(self, cause: str, texts: Iterable[str]) -> bool:
        """Whether ``--filter`` lets a row of this cause with these texts through."""
        if self.filter.startswith("cause="):
            return cause == self.filter.removeprefix("cause=")
        wanted = self.filter.casefold()
        return not wanted or any(wanted in text.casefold() for text in (cause, *texts))


def bar(share: float, cells: int, view: View) -> str:
    """Proportional to a cell's eighth; the smallest change still shows a mark."""
    if not view.unicode:
        full = round(share * cells)
        return "#" * full if full else "." if share else ""
    eighths = max(round(share * cells * 8), 1 if share else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def mark(good: bool, view: View) -> str:
    """A check mark, or its opposite."""
    if good:
        return "✓" if view.unicode else "ok"
    return "✗" if view.unicode else "!!"


def dot(view: View) -> str:
    """What stands between short statements on one line."""
    return " · " if view.unicode else " - "


def table(header: list[str], rows: list[list[str]], right: set[int]) -> list[Line]:
    """Columns as wide as their widest cell, up to a limit: a name is never cropped, but a long one
    pushes its own row only."""
    widths = [
        min(max(map(cell_width, column)), _WIDEST_COLUMN)
        for column in zip(header, *rows, strict=True)
    ]
    lines: list[Line] = []
    for number, cells in enumerate([header, *rows]):
        padded = [
            " " * (width - cell_width(cell)) + cell if column in right else pad(cell, width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append([("  " + "  ".join(padded), FAINT if number == 0 else "")])
    return lines


def sentence(text: str, view: View) -> list[Line]:
    """The answer, as lines that stand out."""
    return [[(line, STRONG)] for line in wrapped(text, view)]


def wrapped(text: str, view: View) -> list[str]:
    """Broken between words; a word longer than the line stays whole."""
    if not view.wrap:
        return [text]
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cell_width(lines[-1]) + 1 + cell_width(word) > view.width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def hanging(first: str, pieces: Sequence[str], between: str, view: View) -> list[str]:
    """Pieces on one line after ``first``; a piece that does not fit begins another line, below the
    first piece."""
    lines = [first + pieces[0]]
    for piece in pieces[1:]:
        line = f"{lines[-1]}{between}{piece}"
        if view.wrap and cell_width(line) > view.width:
            room = replace(view, width=view.width - len(first))
            lines += [" " * len(first) + part for part in wrapped(piece, room)]
        else:
            lines[-1] = line
    return lines


def cell_width(text: str) -> int:
    """Columns that a terminal gives to ``text``: two for most East Asian characters."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def pad(text: str, width: int) -> str:
    """``text`` with spaces up to ``width`` columns."""
    return text + " " * (width - cell_width(text))


def render(lines: Sequence[Line], view: View) -> str:
    """The lines as text, newline at the end of each."""
    if not view.colour:
        return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)
    from rich.color import ColorSystem
    from rich.style import Style

    # 256 colours: more terminals know them than know 16 million.
    system = ColorSystem.EIGHT_BIT
    styles = {style: Style.parse(style) for line in lines for _, style in line if style}
    return "".join(
        "".join(styles[style].render(text, color_system=system) if style else text for text, style in line) + "\n"
        for line in lines
    )
