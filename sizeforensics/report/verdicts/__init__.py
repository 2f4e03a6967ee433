"""Verdicts about budgets as text: words.py says it once, and a renderer per kind of output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizeforensics.budget import Verdict

KINDS = {"json": "json", "md": "markdown", "xml": "junit"}
"""Extension of a file to the form it asks for."""


def pieces(verdicts: Sequence[Verdict], form: str) -> Iterator[str]:
    """All verdicts as ``json``, ``markdown``, ``junit`` or ``github``, in pieces."""
    if form == "json":
        from sizeforensics.report import json as text
        from sizeforensics.report.verdicts import json

        return text.render(json.document(verdicts))
    if form == "markdown":
        from sizeforensics.report.verdicts import markdown

        return iter([markdown.render(verdicts)])
    if form == "junit":
        from sizeforensics.report.verdicts import junit

        return iter([junit.render(verdicts)])
    from sizeforensics.report.verdicts import github

    return iter([github.render(verdicts)])
