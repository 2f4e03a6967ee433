"""Tiers 1 to 4: identical, cast, permuted and reshaped content, and further copies of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from sizeforensics.matching.casts import cast_sample, castable
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.relations import Relation, casts_to, permuted
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Tensors of one fingerprint that are compared in full with another; more would be quadratic."""

ENDS = 2
"""Elements that are known of a tensor which its sample does not hold as a whole, the first and the last."""

SHARED_BYTES = 64
"""Bytes from which a fill that occurs twice on one side counts as a duplicate."""

IDENTICAL = Relation(cast=False, order=None)


@dataclass(slots=True, eq=False)
class Group:
    """Units of both sides with the same content, and the groups proved to be transforms of it."""

    first: Unit
    units: tuple[list[Unit], list[Unit]] = field(default_factory=lambda: ([], []))
    links: list[tuple[Group, Relation]] = field(default_factory=list)


def group_by_content(pairing: Pairing) -> list[Group]:
    """All units of both sides, one group for each distinct content, in the order of the files."""
    groups: dict[tuple[object, ...], Group] = {}
    for side in pairing.units:
        # A copy kept for averaging gives way: the network itself is matched first.
        for unit in sorted(side, key=lambda unit: (unit.tensor.use == "ema-copy", unit.index)):
            # What cannot be read is equal to nothing, not even to another unreadable tensor.
            key = (
                (unit.tensor.dtype.name, unit.tensor.elements, unit.digest)
                if unit.digest
                else (unit.side, unit.index)
            )
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(unit)
            group.units[unit.side].append(unit)
    return list(groups.values())


def match_in_order(pairing: Pairing, groups: list[Group]) -> None:
    """Tiers 1 and 2, reshapes included: distinctive content equal in C order, then after a cast."""
    distinctive = [group for group in groups if group.first.distinctive]
    _link_casts(pairing, distinctive)
    for group in distinctive:
        _pair(pairing, group, group, IDENTICAL)
    _pair_links(pairing, distinctive)


def match_permuted(pairing: Pairing, groups: list[Group]) -> None:
    """Tiers 3 and 4: distinctive content equal after a permutation of axes, with or without cast."""
    distinctive = [group for group in groups if group.first.distinctive]
    _link_permutations(pairing, distinctive)
    _pair_links(pairing, distinctive)


def match_trivial(pairing: Pairing, groups: list[Group]) -> None:
    """Scalars, fills and a few numbers that are left: equal bytes, then floats equal after a cast.

    Told apart by name, then by order. Integers of other types are not compared: a program is full
    of zeros and ones that have nothing to do with each other.
    """
    trivial = [group for group in groups if group.first.digest and not group.first.distinctive]
    for group in trivial:
        _pair(pairing, group, group, IDENTICAL)
    floats = [group for group in trivial if group.first.tensor.dtype.kind == "float"]
    _link_casts(pairing, floats)
    _pair_links(pairing, floats)


def place_copies(pairing: Pairing, groups: list[Group], *, lone: bool) -> None:
    """Place the free units whose content is matched already as further copies.

    With ``lone`` also content that is on one side only: its first unit stays free, the others are
    copies of it. The averaged copy of a network is left alone, its role explains it better; so
    are small fills, of which every program has many by chance.
    """
    sides = [side for side in (0, 1) if pairing.free[side]]
    for group in groups if sides else ():
        related = [(group, IDENTICAL), *group.links]
        for side in sides:
            free = [
                unit
                for unit in group.units[side]
                if pairing.is_free(unit) and unit.tensor.use != "ema-copy"
            ]
            if not free:
                continue
            original = _original(pairing, related, side)
            if original is None and lone and _worth_sharing(group.first):
                original = _earliest(related, side)
            for unit in free:
                if original is not None and unit is not original[0]:
                    how = original[1].words(original[0].tensor, unit.tensor)
                    pairing.copy(unit, original[0], how, original[1].evidence)


def _original(
    pairing: Pairing, related: list[tuple[Group, Relation]], side: int
) -> tuple[Unit, Relation] | None:
    """The first unit placed already that holds the content, on its own side if there is one."""
    for place in (side, 1 - side):
        for group, relation in related:
            for unit in group.units[place]:
                if unit.index in pairing.matched[place]:
                    return unit, relation
    return None


def _earliest(
    related: list[tuple[Group, Relation]], side: int
) -> tuple[Unit, Relation] | None:
    """The unit of one side that the artifact names first among all that hold the content."""
    holders = [(unit, relation) for group, relation in related for unit in group.units[side]]
    return min(holders, key=lambda holder: holder[0].index, default=None)


def _worth_sharing(unit: Unit) -> bool:
    return unit.digest is not None and (unit.distinctive or unit.claimed >= SHARED_BYTES)


def _link_casts(pairing: Pairing, groups: list[Group]) -> None:
    """Link groups whose elements are equal, in C order, after a cast in either direction."""
    by_count: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        if castable(group.first.tensor.dtype.name):
            by_count[group.first.tensor.elements].append(group)
    for rivals in by_count.values():
        names = sorted({group.first.tensor.dtype.name for group in rivals})
        if len(names) > 1:
            _link_same_count(pairing, rivals, names)


def _link_same_count(pairing: Pairing, groups: list[Group], names: list[str]) -> None:
    # A sample cast to the type of the other side equals its sample, if the whole does.
    by_sample: dict[tuple[str, bytes], list[Group]] = defaultdict(list)
    for group in groups:
        name = group.first.tensor.dtype.name
        by_sample[name, _key(group)].append(group)
    wanted = {target: _keys_when_cast(groups, target) for target in names}
    for at, group in enumerate(groups):
        name = group.first.tensor.dtype.name
        for target in names:
            if target == name:
                continue
            for other in by_sample.get((target, wanted[target][at]), ())[:CANDIDATES]:
                if _linked(group, other):
                    continue
                if casts_to(pairing.inventories, group.first, other.first):
                    _link(group, other, Relation(cast=True, order=None))


def _link_permutations(pairing: Pairing, groups: list[Group]) -> None:
    """Link groups without a partner on the other side to groups that hold them permuted."""
    lonely = [
        group
        for group in groups
        if any(pairing.is_free(unit) for side in group.units for unit in side)
        and not all(_reaches(group, side) for side in (0, 1))
    ]
    counts = {group.first.tensor.elements for group in lonely}
    rivals: dict[int, list[Group]] = defaultdict(list)
    for group in groups:
        if group.first.tensor.elements in counts and castable(group.first.tensor.dtype.name):
            rivals[group.first.tensor.elements].append(group)
    lonely_ones = {id(group) for group in lonely}
    for same_count in rivals.values():
        if len(same_count) > 1 and any(_turns(group) for group in same_count):
            _link_same_ends(pairing, same_count, lonely_ones)


def _link_same_ends(pairing: Pairing, groups: list[Group], lonely: set[int]) -> None:
    names = sorted({group.first.tensor.dtype.name for group in groups})
    by_ends: dict[tuple[str, bytes], list[Group]] = defaultdict(list)
    ends = [(group, group.first.tensor.dtype.name, _ends(group)) for group in groups]
    for group, name, kept in ends:
        by_ends[name, _unordered(kept)].append(group)
    for group, name, kept in ends:
        for target in names:
            wanted = kept if target == name else cast_sample(kept, name, target)
            # What has all the same elements is rarely something else.
            most = CANDIDATES // 4 if len(kept) > ENDS else CANDIDATES
            for other in by_ends.get((target, _unordered(wanted)), ())[:most]:
                if other is group or not (id(group) in lonely or id(other) in lonely):
                    continue
                if _linked(group, other) or not (_turns(group) or _turns(other)):
                    continue
                relation = permuted(pairing.inventories, group.first, other.first)
                if relation is not None:
                    _link(group, other, relation)


def _pair_links(pairing: Pairing, groups: list[Group]) -> None:
    """Pair linked groups, the simplest transformation first, then the earliest tensors."""
    edges = [
        (_rank(group.units[0][0], other.units[1][0], relation), group, other, relation)
        for group in groups
        for other, relation in group.links
        if group.units[0] and other.units[1]
    ]
    for _, group, other, relation in sorted(edges, key=itemgetter(0)):
        _pair(pairing, group, other, relation)


def _rank(before: Unit, after: Unit, relation: Relation) -> tuple[object, ...]:
    # The same for diff(A, B) and diff(B, A): which side a tensor is on must not decide.
    places = sorted([(before.index, before.tensor.name), (after.index, after.tensor.name)])
    return relation.order is not None, bool(relation.reshaped), relation.cast, places


def _pair(pairing: Pairing, group: Group, other: Group, relation: Relation) -> None:
    """Match free units of ``group`` before with free units of ``other`` after."""
    if not (group.units[0] and other.units[1]):
        return
    before = [unit for unit in group.units[0] if pairing.is_free(unit)]
    after = [unit for unit in other.units[1] if pairing.is_free(unit)]
    for one, two in _by_name_then_order(before, after):
        pairing.pair(one, two, relation.evidence, relation.words(one.tensor, two.tensor))


def _by_name_then_order(ours: list[Unit], theirs: list[Unit]) -> list[tuple[Unit, Unit]]:
    """Among equal content, names decide which copy is which; then shapes; then the order."""
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    pairs: list[tuple[Unit, Unit]] = []
    if not ours or not theirs:
        return pairs
    for key in (
        lambda unit: (unit.tensor.name, unit.tensor.shape),
        lambda unit: (unit.tensor.name.rpartition(".")[2], unit.tensor.shape),
        lambda unit: unit.tensor.shape,
        lambda _unit: None,
    ):
        waiting: dict[Any, list[Unit]] = defaultdict(list)
        for unit in reversed(theirs):
            waiting[key(unit)].append(unit)
        left = []
        for unit in ours:
            partners = waiting.get(key(unit))
            if partners:
                pairs.append((unit, partners.pop()))
            else:
                left.append(unit)
        taken = {id(unit) for _, unit in pairs}
        ours, theirs = left, [unit for unit in theirs if id(unit) not in taken]
    return pairs


def _link(group: Group, other: Group, relation: Relation) -> None:
    group.links.append((other, relation))
    other.links.append((group, relation.inverse))


def _linked(group: Group, other: Group) -> bool:
    return any(linked is other for linked, _ in group.links)


def _reaches(group: Group, side: int) -> bool:
    return bool(group.units[side]) or any(linked.units[side] for linked, _ in group.links)


def _turns(group: Group) -> bool:
    """Whether it has two axes longer than 1, so that permuting them changes the order of elements."""
    return sum(size != 1 for size in group.first.tensor.shape) > 1


def _key(group: Group) -> bytes:
    """What another group's ``_key_when_cast`` is looked up among."""
    excerpt = group.first.excerpt
    if excerpt is None:
        sample: bytes = _sample(group).tobytes()
        return sample
    return excerpt.key or b""


def _keys_when_cast(groups: list[Group], target: str) -> list[bytes]:
    """The ``_key`` of what each group becomes when cast; of an excerpt its digest, if it is known.

    The groups have as many elements each, so the samples of one type are cast at once.
    """
    keys = [b""] * len(groups)
    by_type: dict[str, list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        excerpt = group.first.excerpt
        if excerpt is None:
            by_type[group.first.tensor.dtype.name].append(at)
        else:
            keys[at] = excerpt.casts.get(target, b"unknown")
    for name, places in by_type.items():
        if name != target:
            cast = cast_sample(np.stack([_sample(groups[at]) for at in places]), name, target)
            for at, row in zip(places, cast, strict=True):
                keys[at] = row.tobytes()
    return keys


def _sample(group: Group) -> Any:
    return group.first.sample


def _ends(group: Group) -> Any:
    """The first and the last element, and those between where the sample holds all of them."""
    sample = _sample(group)
    whole = len(sample) == group.first.tensor.elements
    return sample if whole else sample[:: max(len(sample) - 1, 1)]


def _unordered(kept: Any) -> bytes:
    """What no permutation of axes changes: the first stays first, the last last, the rest the same."""
    codes = np.ascontiguousarray(kept).view(f"u{kept.dtype.itemsize}")
    between: bytes = np.sort(codes[1:-1]).tobytes()
    ends: bytes = codes[[0, -1]].tobytes()
    return ends + between
