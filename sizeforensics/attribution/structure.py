"""Rows of everything that is not a tensor: one for each role and subject, and what deflate saved."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from sizeforensics.attribution.sides import GRAMMAR, NO_REFERENCE, Side
from sizeforensics.inventory import Inventory, Record
from sizeforensics.ledger import Row
from sizeforensics.spans import ROLES, TENSOR_DATA, UNCLAIMED
from sizeforensics.units import counted

Moved = tuple[str, str] | None
"""Keys of an averaged network and of its twin, where the other side has the first under the second."""


def moved(side: Side, other: Side, twins: set[int]) -> Moved:
    """Where the averaged network of ``side`` is on the other side, ``twins`` being the one it replaced."""
    tensors = side.inventory.tensors
    dropped = {tensors[index].scope for index in twins}
    kept = {tensor.scope for tensor in tensors if tensor.use == "ema-copy"} - dropped
    there = {tensor.scope for tensor in other.inventory.tensors}
    if len(dropped) == len(kept) == 1 and dropped <= there and not kept & there:
        return kept.pop(), dropped.pop()
    return None


def _followed(subject: str, moved: Moved) -> tuple[str, str]:
    """What a pickled object is called where a network moved, and how that is known.

    The objects go with the tensors: those of the kept network are compared with the ones it has on
    the other side, and those of its twin are what went.
    """
    if moved is not None:
        kept, twin = moved
        if subject.startswith((f"{kept}.", f"{kept}[")):
            return f"{twin}{subject[len(kept):]}", GRAMMAR
        if subject.startswith((f"{twin}.", f"{twin}[")):
            return subject, f"{GRAMMAR}; of the network beside the one kept, which is under {kept!r}"
    return subject, GRAMMAR


def structure(sides: tuple[Side, Side], moves: tuple[Moved, Moved]) -> Iterator[Row]:
    """One row for each role and subject, with the bytes of both sides."""
    totals: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for column, side in enumerate(sides):
        for (role, subject), (nbytes, spans) in side.inventory.bytes_by_subject().items():
            if role != TENSOR_DATA:
                cause, how = _cause_of(role), GRAMMAR
                if cause == "pickle":
                    subject, how = _followed(subject, moves[column])
                total = totals[cause, subject, how]
                total[column] += nbytes
                total[2] = max(total[2], spans)
    for (cause, subject, how), (before, after, count) in sorted(totals.items()):
        evidence = "proved" if cause == "unreferenced" else "parsed"
        how = NO_REFERENCE if cause == "unreferenced" else how
        yield Row(cause, "", subject, before, after, evidence, how, count)
    yield from _record_compression(sides)


def _cause_of(role: int) -> str:
    return "unreferenced" if role == UNCLAIMED else ROLES[role]


def _record_compression(sides: tuple[Side, Side]) -> Iterator[Row]:
    """Deflate of records that both archives hold and only one compresses."""
    ours, theirs = (_records_by_name(side.inventory) for side in sides)
    for name in sorted(ours.keys() & theirs.keys()):
        pair = ours[name], theirs[name]
        if pair[0].compressed == pair[1].compressed or pair[0].role == TENSOR_DATA:
            continue
        for side, record in zip(sides, pair, strict=True):
            if record.compressed:
                stored = record.stored_bytes
                parts = record.parts or ((record.role, record.subject, record.nbytes),)
                whole = sum(nbytes for _, _, nbytes in parts)
                how = f"{counted(record.nbytes, 'byte')} deflated to {stored:,}"
                yield side.row("compression", name, stored - whole, "parsed", how)
                yield side.row(_cause_of(record.role), record.subject, -stored, "parsed", how)
                for role, subject, nbytes in parts:
                    yield side.row(_cause_of(role), subject, nbytes, "parsed", how)


def _records_by_name(inventory: Inventory) -> dict[str, Record]:
    """Records by their name without the archive's own folder; names that occur twice are left."""
    names = Counter(_inner(record.name) for record in inventory.records)
    return {
        _inner(record.name): record
        for record in inventory.records
        if names[_inner(record.name)] == 1
    }


def _inner(name: str) -> str:
    return name.partition("/")[2] or name
