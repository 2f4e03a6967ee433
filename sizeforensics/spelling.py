"""What someone may have meant by a word that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """``; did you mean 'duplicate'?`` for the closest of the known words, or nothing."""
    import difflib

    close = difflib.get_close_matches(typed.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
