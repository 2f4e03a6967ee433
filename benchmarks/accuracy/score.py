"""What a diff attributes, compared with what was planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sizeforensics
from benchmarks.accuracy.planted import PROVABLE, Planted, Sides


@dataclass(frozen=True, slots=True)
class Attributed:
    """Bytes before and after of every cause, and how many of them are only inferred or proved."""

    causes: Mapping[str, Sides]
    inferred: int
    proved: int
    """Bytes of matched, copied and absorbed tensors whose payloads were compared in full."""

    @property
    def deltas(self) -> dict[str, int]:
        """Attributed change of every cause that changes."""
        return {cause: b - a for cause, (a, b) in sorted(self.causes.items()) if b != a}


def attributed(diff: sizeforensics.Diff) -> Attributed:
    """The causes of a diff, named as recipes name them; inferred bytes count the larger side."""
    causes = {
        f"{entry.cause} {entry.label}".strip(): (entry.before_bytes, entry.after_bytes)
        for entry in diff.causes
        if entry.before_bytes or entry.after_bytes
    }
    inferred = sum(
        max(row.before_bytes, row.after_bytes) for row in diff.rows if row.evidence == "inferred"
    )
    proved = sum(
        row.before_bytes + row.after_bytes
        for row in diff.rows
        if row.evidence == "proved" and row.cause in PROVABLE
    )
    return Attributed(dict(sorted(causes.items())), inferred, proved)


def evidence(truth: Planted, found: Attributed) -> float:
    """``1 - |proved - provable| / provable``: a right sum of wrong matches does not pass.

    Provable are all bytes, before and after, of causes that only a comparison of payloads can
    tell, without those that the recipe says nobody can prove.
    """
    provable = truth.provable
    if not provable:
        return float(found.proved == 0)
    return max(0.0, 1.0 - abs(found.proved - provable) / provable)


def score(truth: Planted, deltas: Mapping[str, int]) -> float:
    """``1 - Σ|attributed - planted| / Σ|planted|`` over causes, floored at 0."""
    wanted = truth.deltas
    error = sum(
        abs(deltas.get(cause, 0) - wanted.get(cause, 0)) for cause in deltas.keys() | wanted.keys()
    )
    planted = sum(map(abs, wanted.values()))
    if not planted:
        return float(error == 0)
    return max(0.0, 1.0 - error / planted)
