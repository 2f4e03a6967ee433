"""Two inventories and their ledger become the rows that a report shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from sizeforensics.attribution import unread_tensors
from sizeforensics.causes import remedy
from sizeforensics.errors import LawBroken
from sizeforensics.escape import one_line
from sizeforensics.inventory import DESCRIPTIONS, Inventory
from sizeforensics.ledger import EVIDENCE, Ledger, Place, Row
from sizeforensics.report import words
from sizeforensics.report.headline import headline
from sizeforensics.report.rows import CauseRow, DiffReport, Evidence, FileRow, Fix, Side, TensorPair


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
    unread = min(len(unread_tensors(inventory)) for inventory in (before, after))
    return DiffReport(
        headline=headline(*sides, causes, ledger.rows, unread),
        before=sides[0],
        after=sides[1],
        causes=causes,
        rows=tuple(sorted(ledger.rows, key=_row_order)),
        tensors=tensors,
        others=tuple(sorted((row for row in ledger.rows if not _places(row)), key=_row_order)),
        evidence=_evidence(ledger.rows),
        tensor_evidence=_evidence(row for row in ledger.rows if _places(row)),
        gross_bytes=sum(abs(cause.delta_bytes) for cause in causes),
        fixes=_fixes(causes, ledger.rows, before, after),
        warnings=(*warnings_of(before), *warnings_of(after)),
    )


def side(inventory: Inventory, name: str) -> Side:
    """An artifact as a block of a report."""
    files = tuple(FileRow(file.path, file.nbytes) for file in inventory.files)
    return Side(
        inventory.path, name, inventory.format, inventory.nbytes, files, inventory.limits
    )


def warnings_of(inventory: Inventory) -> tuple[str, ...]:
    """The warnings of an artifact as safe single lines that name it."""
    paths = (inventory.path, *(file.path for file in inventory.files))
    return tuple(
        one_line(text if text.startswith(paths) else f"{inventory.path}: {text}")
        for text in inventory.warnings
    )


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


def _fixes(
    causes: Sequence[CauseRow], rows: Iterable[Row], before: Inventory, after: Inventory
) -> tuple[Fix, ...]:
    """Advice for what the second artifact has more of; a hundredth of it is worth a line."""
    unread = before.excerpts is not None or after.excerpts is not None
    needed = _needed(rows, after)
    known = [
        (entry, words.advice(entry.cause, entry.label), _saved(entry, unread) - needed.get(entry.cause, 0))
        for entry in causes
    ]
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
            remedy(entry.cause, after.format), words.code(entry.cause, after.format),
            tuple(f"{action}: {why}" for action, why in reasons if why),
        ))  # fmt: skip
    return tuple(fixes)


def _needed(rows: Iterable[Row], after: Inventory) -> dict[str, int]:
    """By cause, bytes that were added and that the fix leaves: a state dict describes its tensors too,
    and TorchScript loads no state dict in place of its pickles."""
    pickled = [
        row.delta_bytes
        for row in rows
        if row.cause == "pickle" and (row.subject == DESCRIPTIONS or after.format == "torchscript")
    ]
    return {"pickle": max(sum(pickled), 0)}


def _saved(entry: CauseRow, unread: bool) -> int:
    """What undoing a cause saves. Storing the type of before is advice only for weights that are
    proved to be the same: another model's weights were never of that type. Where the payload is not
    there to prove it, in a snapshot, the advice says that it is an upper bound."""
    if entry.cause != "dtype" or unread:
        return entry.delta_bytes
    return min(entry.delta_bytes, entry.evidence.proved)
