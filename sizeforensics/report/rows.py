"""The one presentation model: what every renderer shows, as plain frozen rows.

Ratios, labels and sentences are made here and nowhere else, so that no two reports disagree. A
renderer picks, folds and draws rows; it computes nothing but positions. Every total is a sum of
the rows it stands under.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from sizeforensics.causes import CAUSES
from sizeforensics.errors import LawBroken
from sizeforensics.escape import one_line
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import EVIDENCE, Ledger, Place, Row
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


class Evidence(NamedTuple):
    """Bytes by how they are known. A row weighs max(|before_bytes|, |after_bytes|): what it says
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
    """All rows of one cause and label."""

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
    """|delta| as a fraction of the gross change, Σ|delta| over all causes."""
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
    """What would take bytes of one cause out of the larger artifact."""

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


def diff_report(before: Inventory, after: Inventory, ledger: Ledger) -> DiffReport:
    """The presentation of a ledger. Raises LawBroken when it is not about these artifacts."""
    if (ledger.before_bytes, ledger.after_bytes) != (before.nbytes, after.nbytes):
        raise LawBroken(
            f"the ledger is about {ledger.before_bytes:,} -> {ledger.after_bytes:,} bytes, the "
            f"artifacts have {before.nbytes:,} -> {after.nbytes:,}"
        )
    names = _names(before.path, after.path)
    sides = side(before, names[0]), side(after, names[1])
    causes = _causes(ledger.rows)
    tensors = _tensors(ledger.rows)
    return DiffReport(
        headline=_headline(*sides, causes, ledger.rows),
        before=sides[0],
        after=sides[1],
        causes=causes,
        rows=tuple(sorted(ledger.rows, key=_row_order)),
        tensors=tensors,
        others=tuple(sorted((row for row in ledger.rows if not _places(row)), key=_row_order)),
        evidence=_evidence(ledger.rows),
        tensor_evidence=_evidence(row for row in ledger.rows if _places(row)),
        gross_bytes=sum(abs(cause.delta_bytes) for cause in causes),
        fixes=_fixes(causes, before, after),
        warnings=(*warnings_of(before), *warnings_of(after)),
    )


def side(inventory: Inventory, name: str) -> Side:
    """An artifact as a block of a report."""
    files = tuple(FileRow(file.path, file.nbytes) for file in inventory.files)
    return Side(inventory.path, name, inventory.format, inventory.nbytes, files)


def warnings_of(inventory: Inventory) -> tuple[str, ...]:
    """The warnings of an artifact as safe single lines that name it."""
    paths = (inventory.path, *(file.path for file in inventory.files))
    return tuple(
        one_line(text if text.startswith(paths) else f"{inventory.path}: {text}")
        for text in inventory.warnings
    )


def shape_text(shape: Sequence[int]) -> str:
    """``32x3x6x6``, or ``scalar``."""
    return "x".join(map(str, shape)) or "scalar"


def _names(before: str, after: str) -> tuple[str, str]:
    """The two paths, of each as few trailing parts as tell them apart: never a whole absolute path
    unless that is what it takes."""
    parts = PurePath(before).parts, PurePath(after).parts
    count = 1
    if before != after:
        while parts[0][-count:] == parts[1][-count:] and count < max(map(len, parts)):
            count += 1
    short = [str(PurePath(*part[-count:])) if part else "" for part in parts]
    return one_line(short[0] or before), one_line(short[1] or after)


def _places(row: Row) -> bool:
    return row.before is not None or row.after is not None


def _row_order(row: Row) -> tuple[int, int, str, str, str, str]:
    return (
        -abs(row.delta_bytes), -max(abs(row.before_bytes), abs(row.after_bytes)),
        row.cause, row.label, row.subject, row.how,
    )  # fmt: skip


def _evidence(rows: Iterable[Row]) -> Evidence:
    weights = dict.fromkeys(EVIDENCE, 0)
    for row in rows:
        kind = "unexplained" if row.cause == "unexplained" else row.evidence
        weights[kind] += max(abs(row.before_bytes), abs(row.after_bytes))
    return Evidence(**weights)


def _causes(rows: Sequence[Row]) -> tuple[CauseRow, ...]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.cause, row.label), []).append(row)
    deltas = {key: sum(row.delta_bytes for row in group) for key, group in grouped.items()}
    gross = sum(map(abs, deltas.values()))
    entries = [
        CauseRow(
            cause, label,
            sum(row.before_bytes for row in group),
            sum(row.after_bytes for row in group),
            sum(row.members for row in group),
            sum(row.elements for row in group),
            _evidence(group),
            abs(deltas[cause, label]) / gross if gross else 0.0,
            words.percent(abs(deltas[cause, label]), gross),
            *_largest(group, deltas[cause, label]),
        )
        for (cause, label), group in grouped.items()
    ]  # fmt: skip
    return tuple(sorted(entries, key=lambda entry: (
        -abs(entry.delta_bytes), -max(abs(entry.before_bytes), abs(entry.after_bytes)),
        entry.cause, entry.label,
    )))  # fmt: skip


def _largest(rows: Sequence[Row], delta: int) -> tuple[str, bool]:
    """The subject with most of the change, and whether it has at least half of it."""
    if not delta:
        return "", False
    changes: dict[str, int] = {}
    for row in rows:
        changes[row.subject] = changes.get(row.subject, 0) + row.delta_bytes
    sign = 1 if delta > 0 else -1
    # The first in name order wins a tie, so that the sentence does not depend on the row order.
    subject = min(changes, key=lambda name: (-sign * changes[name], name))
    return subject, 2 * sign * changes[subject] >= abs(delta)


def _tensors(rows: Sequence[Row]) -> tuple[TensorPair, ...]:
    grouped: dict[tuple[Place | None, Place | None], list[Row]] = {}
    for row in rows:
        if _places(row):
            grouped.setdefault((row.before, row.after), []).append(row)
    pairs = []
    for (before, after), group in grouped.items():
        weakest = max(group, key=lambda row: EVIDENCE.index(row.evidence))
        place = after or before
        pairs.append(TensorPair(
            place.name if place else "", before, after,
            sum(row.before_bytes for row in group), sum(row.after_bytes for row in group),
            tuple(sorted({row.cause for row in group})), weakest.evidence,
            "; ".join(dict.fromkeys(row.how for row in group if row.how)),
        ))  # fmt: skip
    return tuple(sorted(pairs, key=lambda pair: (
        -abs(pair.delta_bytes), -max(abs(pair.before_bytes), abs(pair.after_bytes)), pair.name,
        _place_order(pair.before), _place_order(pair.after),
    )))  # fmt: skip


def _place_order(place: Place | None) -> tuple[int, int]:
    return (place.file, place.offset) if place else (-1, -1)


def _change(before: str | None, after: str | None) -> str:
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} -> {after}"


def _fixes(
    causes: Sequence[CauseRow], before: Inventory, after: Inventory
) -> tuple[Fix, ...]:
    """Advice for what the second artifact has more of; a hundredth of it is worth a line."""
    unread = before.excerpts is not None or after.excerpts is not None
    known = [(entry, words.advice(entry.cause, entry.label), _saved(entry, unread)) for entry in causes]
    useful = [
        (entry, advice, saves)
        for entry, advice, saves in known
        if advice and saves > 0 and 100 * saves >= after.nbytes
    ]
    fixes = []
    for entry, advice, saves in useful:
        reasons = [(other.action, words.conflict(entry.cause, rival.cause)) for rival, other, _ in useful]
        fixes.append(Fix(
            entry.cause, entry.label, advice.action, saves,
            words.percent(saves, after.nbytes), advice.exact and saves <= entry.evidence.proved + entry.evidence.parsed,
            advice.risk,
            CAUSES[entry.cause].remedy, words.code(entry.cause, after.format),
            tuple(f"{action}: {why}" for action, why in reasons if why),
        ))  # fmt: skip
    return tuple(fixes)


def _saved(entry: CauseRow, unread: bool) -> int:
    """What undoing a cause saves. Storing the type of before is advice only for weights that are
    proved to be the same: another model's weights were never of that type. Where the payload is not
    there to prove it, in a snapshot, the advice says that it is an upper bound."""
    if entry.cause != "dtype" or unread:
        return entry.delta_bytes
    return min(entry.delta_bytes, entry.evidence.proved)


# -- the answering sentence ------------------------------------------------------------------


def _headline(
    before: Side, after: Side, causes: Sequence[CauseRow], rows: Sequence[Row]
) -> str:
    delta = after.bytes - before.bytes
    if delta:
        answer = words.comparison(before.name, before.bytes, after.name, after.bytes)
        return f"{answer}: {_reasons(causes, delta)}."
    if before.path == after.path:
        same = f"{after.name} compared with itself has the same {format_bytes(after.bytes)}"
    else:
        same = f"{before.name} and {after.name} have the same {format_bytes(after.bytes)}"
    grown = [entry for entry in causes if entry.delta_bytes > 0]
    lost = [entry for entry in causes if entry.delta_bytes < 0]
    if grown:
        return f"{same}, but not the same content: {_phrase(grown[0])}, {_phrase(lost[0])}."
    recast = [entry for entry in causes if entry.cause == "dtype" and entry.elements]
    if recast:
        return f"{same}, but {_phrase(recast[0])}."
    changed = sum(row.members for row in rows if (row.cause, row.evidence) == ("carried", "inferred"))
    if changed:
        return f"{same} in every cause, but {words.counted(changed, 'tensor')} with other values."
    other = sum(
        row.members for row in rows
        if (row.cause, row.evidence) == ("carried", "proved") and row.how not in ("", IDENTICAL)
    )
    if other:
        return f"{same} in every cause, but {words.counted(other, 'tensor')} written another way."
    return f"{same} in every cause: no difference."


def _reasons(causes: Sequence[CauseRow], delta: int) -> str:
    """One cause where one does it, else the two or three largest; a large counterweight too."""
    sign = 1 if delta > 0 else -1
    for_it = [entry for entry in causes if sign * entry.delta_bytes > 0]
    against = [entry for entry in causes if sign * entry.delta_bytes < 0]
    total = sum(abs(entry.delta_bytes) for entry in for_it)
    named: list[CauseRow] = []
    covered = 0
    for entry in for_it[:3]:
        named.append(entry)
        covered += abs(entry.delta_bytes)
        if 5 * covered >= 4 * total:
            break
    reasons = words.joined([_phrase(entry) for entry in named])
    if against and 5 * abs(against[0].delta_bytes) >= total:
        reasons += f"; against that, {_phrase(against[0])}"
    return reasons


def _phrase(entry: CauseRow) -> str:
    return words.phrase(
        entry.cause,
        entry.label,
        delta=entry.delta_bytes,
        count=entry.count,
        elements=entry.elements,
        subject=entry.largest if entry.dominates and entry.cause in _NAMED else "",
    )


_NAMED = frozenset({
    "pickle", "constant", "duplicate", "unmatched", "shape", "storage-slack", "unreferenced",
    "metadata", "debug-info", "densified", "unexplained",
})  # fmt: skip
"""Causes whose largest subject says more than the cause: a key, a tensor, a record."""
