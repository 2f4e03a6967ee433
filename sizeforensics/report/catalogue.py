"""The catalogue of causes as text."""

from __future__ import annotations

import textwrap

from sizeforensics.causes import CAUSES, Cause

_MAX_WIDTH = 100


def everything() -> str:
    """One line per cause, in the order of the catalogue."""
    width = max(map(len, CAUSES))
    lines = [f"  {cause.id:<{width}}  {cause.title}" for cause in CAUSES.values()]
    return "\n".join([
        "Every byte of a difference has one of these causes:", "", *lines, "",
        "sizeforensics explain CAUSE says more.", "",
    ])  # fmt: skip


def one(cause: Cause, width: int) -> str:
    """What is counted, how it is proved, what to do and what it costs not to."""
    parts = [f"{cause.id}: {cause.title}"]
    for head, text in (
        ("What is counted", cause.counts), ("How it is proved", cause.proof),
        ("What to do", cause.remedy), ("What it costs", cause.cost), ("What a fix saves", cause.saves),
    ):  # fmt: skip
        if not text:
            continue
        body = textwrap.fill(
            text, min(width, _MAX_WIDTH), initial_indent="  ", subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        parts.append(f"{head}\n{body}")
    return "\n\n".join(parts) + "\n"
