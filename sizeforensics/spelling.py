"""What someone may have meant by a word that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """``; did you mean 'duplicate'?`` for the closest of the known words, or nothing."""
    close = closest(typed.lower(), known, 0.5)
    return f"; did you mean {close!r}?" if close else ""


def closest(word: str, known: Iterable[str], likeness: float) -> str:
    """The known word most like it, from ``likeness`` 0 to 1 on; empty where there is none."""
    import difflib

    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)), "")
