"""The ledger of a diff without how it is known: what snapshots have to share with files."""

from __future__ import annotations

from sizeforensics.api import Diff

Key = tuple[str, str, str]
"""Cause, label and subject."""


def ledger(diff: Diff) -> dict[Key, tuple[int, int]]:
    """Bytes before and after of every cause and subject."""
    found: dict[Key, tuple[int, int]] = {}
    for row in diff.rows:
        key = row.cause, row.label, row.subject
        before, after = found.get(key, (0, 0))
        found[key] = before + row.before_bytes, after + row.after_bytes
    return {key: sizes for key, sizes in found.items() if any(sizes)}
