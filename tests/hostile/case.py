"""One hostile file, and what has to become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ACCEPT, FLAG, REFUSE = "accept", "flag", "refuse"


@dataclass(frozen=True)
class Case:
    """``name`` begins with the row of the threat model it belongs to, then a colon.

    ``build`` gives the bytes of the model; or it fills a folder and returns the path of the model in
    it. ``says`` is part of the warning or of the error. ``why`` is the reason for the outcome where
    more than one would be safe.
    """

    name: str
    outcome: str
    build: Callable[[], bytes] | Callable[[Path], str]
    says: str = ""
    why: str = ""
    files: bool = False
    """Whether ``build`` fills a folder."""
