"""Two inventories and their matching become a ledger that sums exactly."""

from __future__ import annotations

from collections import defaultdict

from sizeforensics.attribution.alone import alone, encodings, slack, twins_of_averaged
from sizeforensics.attribution.matched import beyond_slices, copied, folded, matched, scaling
from sizeforensics.attribution.sides import Side
from sizeforensics.attribution.structure import moved, structure
from sizeforensics.attribution.unread import UNREAD, Unread, unread_tensors
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Ledger, Row
from sizeforensics.matching import Matching

__all__ = ["UNREAD", "attribute", "unread_tensors"]


def attribute(before: Inventory, after: Inventory, matching: Matching) -> Ledger:
    """Give every byte of both artifacts to one cause, in the order that the catalogue asks for.

    Raises LawBroken when the rows do not sum to the sizes of the artifacts.
    """
    ours, theirs = matching.coverages
    sides = Side(before, ours, after=False), Side(after, theirs, after=True)
    unread = Unread(after), Unread(before)  # of the other side
    placed: tuple[set[int], set[int]] = (set(), set())
    rows: list[Row] = []
    for match in matching.matches:
        rows += matched(sides, match)
        placed[0].add(match.before)
        placed[1].add(match.after)
    rows += beyond_slices(sides, matching)
    for copy in matching.copies:
        if not unread[copy.side].lists(sides[copy.side].name(copy.tensor)):
            rows.append(copied(sides, copy))
            placed[copy.side].add(copy.tensor)
    for fold in matching.folds:
        rows.append(folded(sides, fold))
        placed[fold.side].add(fold.tensor)
    for scale in matching.scales:
        rows.append(scaling(sides[scale.side], scale))
        placed[scale.side].add(scale.tensor)
    twins = tuple(
        twins_of_averaged(side.inventory, matching, done, number)
        for number, (side, done) in enumerate(zip(sides, placed, strict=True))
    )
    for number, side in enumerate(sides):
        free = {
            index: alone(side, index, averaged=index in twins[number],
                         recipe=matching.recipes.get((number, index)))
            for index in range(len(side.inventory.tensors))
            if index not in placed[number] and side.claimed[index]
        }  # fmt: skip
        free = unread[number].relabel(free, side.inventory)
        rows += free.values()
        rows += slack(side)
        rows += encodings(side, free)
    rows += structure(sides, (moved(*sides, twins[0]), moved(*sides[::-1], twins[1])))
    rows = _joined(rows)
    rows.sort(key=lambda row: (row.cause, row.label, -abs(row.delta_bytes), row.subject))
    return Ledger(before.nbytes, after.nbytes, tuple(rows))


def _joined(rows: list[Row]) -> list[Row]:
    """One row where each side has one for the same subject and reason, whatever its amount.

    Optimizer state, slack and encodings are counted side by side; what both artifacts have alike
    is no difference between them.
    """
    joined: list[Row] = []
    waiting: dict[tuple[bool, object], list[int]] = defaultdict(list)
    for row in rows:
        one_sided = (row.before_bytes == 0) != (row.after_bytes == 0)
        if not one_sided or row.cause == "unmatched":
            joined.append(row)
            continue
        key = row.cause, row.label, row.subject, row.evidence, row.how
        after = row.before_bytes == 0
        partners = waiting[not after, key]
        if not partners:
            waiting[after, key].append(len(joined))
            joined.append(row)
            continue
        at = partners.pop(0)
        first, second = (joined[at], row) if after else (row, joined[at])
        joined[at] = first._replace(
            after_bytes=second.after_bytes, after=second.after,
            members=max(first.members, second.members),
            elements=max(first.elements, second.elements),
        )
    return joined
