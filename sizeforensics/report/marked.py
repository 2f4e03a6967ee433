"""Text as Markdown that does nothing but read: code spans nobody leaves, tables, comments that fit.

Whatever comes from a file stands in a code span that it cannot leave, where GitHub makes no link,
mention, reference or picture of it. Sentences of ours pass the same door word by word: only plain
words and numbers stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import quote

from sizeforensics.escape import one_line
from sizeforensics.units import counted

MAX_CHARACTERS = 60_000
"""GitHub refuses comments of more than 65,536."""
_NAME_LIMIT = 120
LINE_LIMIT = 200
"""Characters of a name, and of a line, in a code span."""
# A word of a sentence that does nothing whoever wrote it: lower case after the first letter, or a
# number.
_WORD = re.compile(r"[A-Za-z]?[a-z]{0,24}|[A-Z]{1,5}|[+-]?\d{1,3}(,\d{3})*(\.\d+)?x?|->|%|[<>]\d+\.\d+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,}", re.ASCII)
_OPENING, _CLOSING = "(", ".,;:)"


def fitted(parts: Sequence[str], optional: Sequence[str]) -> str:
    """All parts that fit, the last ones left out first and named by number; never half a part."""
    kept = list(optional)
    while True:
        missing = len(optional) - len(kept)
        note = f"{counted(missing, 'section')} left out: a comment has a limit."
        text = "\n\n".join([*parts, *kept, *([note] if missing else [])]) + "\n"
        if len(text) <= MAX_CHARACTERS or not kept:
            return text
        kept.remove(max(kept, key=len))


def marker(verb: str, path: str) -> str:
    """A comment nobody sees, by which a bot finds its comment about the same model again.

    A relative path tells models apart; an absolute one is another one on every machine.
    """
    known = PurePath(path)
    name = known.name if known.is_absolute() else known.as_posix()
    safe = quote(name, safe="/", errors="surrogatepass")[:LINE_LIMIT].replace("--", "-%2D")
    return f"<!-- sizeforensics {verb} {safe} -->"


def details(summary: str, body: str) -> str:
    """A body that unfolds under its summary."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def table(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; ``align`` has an ``l`` or ``r`` for each."""
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in [header, rule, *rows])


def _cell(text: str) -> str:
    """A pipe would end the cell, inside code too. Renderers disagree about one that a backslash
    stands before already, so that one is written as an escape."""
    return text.replace("\\|", "\\\\x7c").replace("|", "\\|")


def code(text: str, limit: int = _NAME_LIMIT) -> str:
    """``text`` as a code span: one line, with more backticks around it than in it."""
    text = one_line(text, limit)
    if not text.strip(" "):
        return f"`{text!r}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str, names: Sequence[str] = ()) -> str:
    """A sentence of ours about ``names``: they and every word that might be one become code."""
    known = sorted({name for name in names if name and not _plain(name)}, key=lambda name: (-len(name), name))
    pieces = [text]
    if known:
        pieces = re.split("|".join(f"({re.escape(name)})" for name in known), text)
    done = []
    for piece in pieces:
        if piece is None:
            continue
        done.append(code(piece, LINE_LIMIT) if piece in known else _words(piece))
    return "".join(done)


def _words(text: str) -> str:
    return " ".join(map(_word, text.split(" ")))


def _word(word: str) -> str:
    if not word:
        return ""
    start = len(word) - len(word.lstrip(_OPENING))
    core = word[start:].rstrip(_CLOSING)
    if "(" in core and word[start + len(core) :].startswith(")"):
        core += ")"  # half() is one word
    end = word[start + len(core):]
    # More punctuation than a sentence has is part of a name.
    if start > 1 or len(end) > 3 or not (_plain(core) or core):
        return code(word)
    return word[:start] + (core if _plain(core) else code(core)) + end


def _plain(word: str) -> bool:
    return all(
        _WORD.fullmatch(part) is not None and _COMMIT.fullmatch(part) is None
        for part in re.split(r" (?=\S)", word)
    )
