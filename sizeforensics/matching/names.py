"""The fallback when content differs: the same name and shape, the same name, a unique shape."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import takewhile

from sizeforensics.matching.casts import castable
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.relations import Relation, casts_to
from sizeforensics.matching.units import Unit

_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer"}
)
"""Path components that DataParallel, torch.compile, FSDP and PEFT put in front of what they wrap."""

_SEPARATORS = re.compile(r"[./]+|::")

RIVALS = 16
"""Pairs of one suffix that are looked at; more agree by chance or not at all."""

Key = Callable[[Unit], Hashable]


def match_equal_names(pairing: Pairing) -> None:
    """Scalars and fills, too common to match by content alone: same name and equal after a cast."""
    def equal(one: Unit, other: Unit) -> str | None:
        names = one.tensor.dtype.name, other.tensor.dtype.name
        if names[0] == names[1]:
            same = one.digest is not None and one.digest == other.digest
            return Relation(cast=False, order=None).words(one.tensor, other.tensor) if same else None
        if one.digest is None or other.digest is None:
            return None
        if not (
            castable(names[0])
            and castable(names[1])
            and one.tensor.elements == other.tensor.elements
            and (
                casts_to(pairing.inventories, one, other)
                or casts_to(pairing.inventories, other, one)
            )
        ):
            return None
        return Relation(cast=True, order=None).words(one.tensor, other.tensor)

    _by_suffix(pairing, lambda unit: unit.tensor.elements, "proved", equal)


def match_inferred(pairing: Pairing) -> None:
    """Same name and shape, then same name and rank, then a shape that each side has once."""
    _unread_by_equal_name(pairing)
    shape: Key = lambda unit: unit.tensor.shape  # noqa: E731  # three keys side by side read best
    rank: Key = lambda unit: len(unit.tensor.shape)  # noqa: E731
    for averaged in (False, True):
        _by_suffix(
            pairing, shape, "inferred",
            lambda one, other: f"{_shared_name(one, other)} and shape, other values",
            averaged=averaged,
        )
    _by_suffix(
        pairing, rank, "inferred", lambda one, other: f"{_shared_name(one, other)}, other shape",
        least_components=2,
    )
    _by_unique_shape(pairing)


def _shared_name(one: Unit, other: Unit) -> str:
    """What the names of two tensors have in common: all of them, or how they end."""
    paths = components(one.tensor.name), components(other.tensor.name)
    if paths[0] == paths[1]:
        return "same name"
    pairs = zip(reversed(paths[0]), reversed(paths[1]), strict=False)
    ending = [ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return f"same end of the name ({'.'.join(reversed(ending))})"


def _unread_by_equal_name(pairing: Pairing) -> None:
    """What cannot be read, and so is equal to nothing: the same name, type and shape, in order.

    Subgraphs can each have an initializer of one name; the order tells them apart.
    """
    found: tuple[dict[Hashable, list[Unit]], dict[Hashable, list[Unit]]] = (
        defaultdict(list), defaultdict(list))
    for side in (0, 1):
        for unit in pairing.free[side].values():
            if unit.digest is None:
                tensor = unit.tensor
                found[side][tensor.name, tensor.dtype, tensor.shape].append(unit)
    for key, ours in found[0].items():
        theirs = found[1].get(key, [])
        if len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                words = "same name, type and shape, values not read"
                pairing.pair(one, other, "inferred", words, by_name=True)


def _by_suffix(
    pairing: Pairing,
    key: Key,
    evidence: str,
    words: Callable[[Unit, Unit], str | None],
    *,
    averaged: bool = True,
    least_components: int = 1,
) -> None:
    """Pair free units whose last components agree, longest agreement first.

    A suffix counts only where exactly one pair of free units has it, together with ``key``, and
    ``words`` for it; so prefixes that only one side has (``model.``, ``module.``) need not be known,
    and of a network and its average, which share all names, the one of equal content is found.
    """
    paths = tuple(
        {
            index: components(unit.tensor.name)
            for index, unit in free.items()
            if averaged or unit.tensor.use != "ema-copy"
        }
        for free in pairing.free
    )
    longest = min((max(map(len, side.values()), default=0) for side in paths), default=0)
    for length in range(longest, least_components - 1, -1):
        found: tuple[dict[Hashable, list[Unit]], dict[Hashable, list[Unit]]] = (
            defaultdict(list), defaultdict(list))
        for side in (0, 1):
            for index, unit in pairing.free[side].items():
                path = paths[side].get(index, ())
                if len(path) >= length:
                    found[side][path[-length:], key(unit)].append(unit)
        for suffix, ours in found[0].items():
            theirs = found[1].get(suffix, [])
            if not theirs or len(ours) * len(theirs) > RIVALS:
                continue
            agreeing = [
                (one, other, how)
                for one in ours
                for other in theirs
                if (how := words(one, other)) is not None
            ]
            if len(agreeing) == 1:
                by_name = evidence == "inferred"
                pairing.pair(*agreeing[0][:2], evidence, agreeing[0][2], by_name=by_name)


def _by_unique_shape(pairing: Pairing) -> None:
    found: tuple[dict[Hashable, list[Unit]], dict[Hashable, list[Unit]]] = (
        defaultdict(list), defaultdict(list))
    for side in (0, 1):
        for unit in pairing.free[side].values():
            if unit.tensor.use == "weight" and len(unit.tensor.shape) > 1:
                found[side][unit.tensor.shape].append(unit)
    for shape, ours in found[0].items():
        theirs = found[1].get(shape, [])
        if len(ours) == len(theirs) == 1:
            words = "the only tensors of this shape"
            pairing.pair(ours[0], theirs[0], "inferred", words, by_name=True)


def components(name: str) -> tuple[str, ...]:
    """The parts of a name, without those that wrappers put in front."""
    return tuple(
        part for part in _SEPARATORS.split(name) if part and part not in _WRAPPERS
    )
