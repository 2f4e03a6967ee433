"""The one presentation model: what every renderer shows, as plain frozen rows.

Ratios, labels and sentences are made here, in ``presentation`` and in ``headline``, and nowhere
else, so that no two reports disagree. A renderer picks, folds and draws rows; it computes nothing
but positions. Every total is a sum of the rows it stands under.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sizeforensics.causes import CAUSES
from sizeforensics.ledger import Place, Row
from sizeforensics.limits import Limits
from sizeforensics.report import words
from sizeforensics.units import format_bytes

IDENTICAL = "identical bytes"
"""What a row says of a tensor that is the same on both sides to the bit."""


class FileRow(NamedTuple):
    """One file of an artifact."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Side:
    """One artifact of a report; ``name`` is its path, shortened where that stays unambiguous."""

    path: str
    name: str
    format: str
    bytes: int
    files: tuple[FileRow, ...]
    limits: Limits
    """Under which the files were read."""


class Evidence(NamedTuple):
    """Bytes by how they are known. A row weighs the larger of ``before_bytes`` and ``after_bytes``, unsigned: what it says
    about the larger side it also says about the smaller one."""

    proved: int = 0
    parsed: int = 0
    inferred: int = 0
    unexplained: int = 0

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def summary(self) -> str:
        """``proved``, or ``proved 96.3 %, parsed 3.7 %`` where there are several kinds."""
        kinds = [(kind, size) for kind, size in zip(self._fields, self, strict=True) if size]
        if len(kinds) == 1:
            return kinds[0][0]
        return ", ".join(f"{kind} {words.percent(size, self.total)}" for kind, size in kinds)


@dataclass(frozen=True, slots=True)
class CauseRow:
    """All rows of one cause and label, summed, in bytes; ``evidence`` splits them by how they are known."""

    cause: str
    label: str
    before_bytes: int
    after_bytes: int
    count: int
    """Tensors, nodes or spans."""
    elements: int
    """Matched tensor elements."""
    evidence: Evidence
    share: float
    """Of the gross change: unsigned ``delta_bytes``, over the sum of those of all causes."""
    percent: str
    """The same as text."""
    largest: str
    """What most of the change belongs to; empty without a change."""
    dominates: bool
    """Whether at least half of the change belongs to ``largest``."""

    @property
    def delta_bytes(self) -> int:
        return self.after_bytes - self.before_bytes

    @property
    def mostly(self) -> str:
        """``mostly model.24.anchors``, or ``largest ...`` where that is less than half of the change;
        the name alone where it is all."""
        if self.count == 1 or not self.largest:
            return self.largest
        return f"{'mostly' if self.dominates else 'largest'} {self.largest}"

    @property
    def title(self) -> str:
        """The label, or the catalogue's plain name where the cause has none."""
        return self.label or CAUSES[self.cause].title


class TensorPair(NamedTuple):
    """A tensor of each side that correspond, or one without counterpart, over all its causes.

    ``before_bytes`` and ``after_bytes`` are the ledger's; ``evidence`` is the weakest of its rows.
    """

    name: str
    before: Place | None
    after: Place | None
    before_bytes: int
    after_bytes: int
    causes: tuple[str, ...]
    evidence: str
    how: str

    @property
    def delta_bytes(self) -> int:
        return self.after_bytes - self.before_bytes

    @property
    def dtype(self) -> str:
        """``float16 -> float32``, or the one type where both agree or only one side exists."""
        return _change(self.before and self.before.dtype, self.after and self.after.dtype)

    @property
    def shape(self) -> str:
        """``32x3x6x6``, with both sides where they differ; ``scalar`` for no dimensions."""
        return _change(
            self.before and shape_text(self.before.shape), self.after and shape_text(self.after.shape)
        )


@dataclass(frozen=True, slots=True)
class Fix:
    """What would take bytes of one cause out of the larger artifact.

    ``action`` says it in a few words, ``remedy`` in sentences, ``risk`` what to check afterwards;
    ``exact`` is whether ``saves_bytes`` is, or is the most that can be saved.
    """

    cause: str
    label: str
    action: str
    saves_bytes: int
    percent: str
    """``saves_bytes`` of the artifact after."""
    exact: bool
    risk: str
    remedy: str
    code: str = ""
    """Command or lines of code; empty where none fits every model."""
    not_with: tuple[str, ...] = ()
    """The other fixes of the report that it cannot be combined with, and why."""

    @property
    def saving(self) -> str:
        """``saves 14,451,770 B (49.2 %)``."""
        most = "" if self.exact else "up to "
        return f"saves {most}{format_bytes(self.saves_bytes)} ({self.percent})"


@dataclass(frozen=True, slots=True)
class DiffReport:
    """Everything a report about two artifacts shows."""

    headline: str
    before: Side
    after: Side
    causes: tuple[CauseRow, ...]
    """Largest change first; the ones without change follow by size."""
    rows: tuple[Row, ...]
    """The whole ledger, largest change first."""
    tensors: tuple[TensorPair, ...]
    others: tuple[Row, ...]
    """Ledger rows about no tensor; with ``tensors`` they sum to both sizes."""
    evidence: Evidence
    tensor_evidence: Evidence
    """Evidence over the rows that name a place of a tensor, on both sides."""
    gross_bytes: int
    """Σ|delta| over ``causes``."""
    fixes: tuple[Fix, ...]
    warnings: tuple[str, ...]

    @property
    def delta_bytes(self) -> int:
        return self.after.bytes - self.before.bytes

    @property
    def ratio(self) -> str:
        return words.ratio(self.before.bytes, self.after.bytes)

    @property
    def reconciled(self) -> bool:
        """Whether every byte has a cause."""
        return self.unexplained_bytes == 0

    @property
    def unexplained_bytes(self) -> int:
        return self.evidence.unexplained

    @property
    def reconciliation(self) -> tuple[str, ...]:
        """The parts of the line that lets a sceptic check the report."""
        lost = self.unexplained_bytes
        parts = ["every byte explained" if not lost else "NOT every byte explained"]
        known = self.tensor_evidence
        if known.total:
            share = f"{words.percent(known.proved, known.total)} of tensor bytes proved"
            for kind, amount in (("parsed", known.parsed), ("inferred", known.inferred)):
                if 1000 * amount >= known.total:
                    share += f", {words.percent(amount, known.total)} {kind}"
            parts.append(share)
        parts.append(f"{lost:,} unexplained")
        return tuple(parts)


def shape_text(shape: Sequence[int]) -> str:
    """``32x3x6x6``, or ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


def _change(before: str | None, after: str | None) -> str:
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} -> {after}"
