"""Parametrised weights that nothing could compute, inferred from the names torch gives them.

A parametrised module stores the tensors its weight is computed from in place of the weight
(``torch.nn.utils.parametrize``: ``parametrizations.weight.original``; the older hooks:
``weight_orig`` and ``weight_mask``, ``weight_g`` and ``weight_v``). ``masks``, ``norms`` and
``orthogonal`` compute the weights that torch's own make, and prove them without a name. A user's own
parametrisation can be any function, of tensors of any shape: of it only the place in the state dict is
known, so what the weight corresponds to is inferred, and said with the name of the parametrisation.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

_PARAMETRIZED = re.compile(
    r"(?:(?P<module>.+)\.)?parametrizations\.(?P<tensor>\w+)\.(?P<member>.+)"
)
_ORIGINAL = re.compile(r"original\d*")
_HOOKED = re.compile(r"(?P<path>.+)_(?P<member>orig|mask|g|v|u)")
_HOOKS = ({"orig", "mask"}, {"g", "v"}, {"orig", "u", "v"}, {"orig", "u"})
"""Members of ``prune``, ``weight_norm`` and ``spectral_norm``, the last with one vector or two."""


class Group(NamedTuple):
    """The tensors that one side stores in place of ``target``, a tensor of the other side."""

    members: dict[str, Unit]
    target: Unit
    words: str


def absorb_rest(pairing: Pairing) -> None:
    """Infer what could not be computed, and place the other members as absorbed by the weight."""
    for group in _groups(pairing):
        if pairing.is_free(group.target):
            source = _source(pairing, group)
            if source is None:
                continue
            pairing.pair(source, group.target, "inferred", group.words, by_name=True)
        elif not _matched_inside(pairing, group):
            continue
        for unit in group.members.values():
            if pairing.is_free(unit):
                pairing.fold(unit, group.target, "parametrises", "inferred")


def absorb_members(pairing: Pairing) -> None:
    """Place the other members of a weight whose original has a counterpart, whatever it is called."""
    for side in (0, 1):
        groups = _members(pairing.units[side])
        theirs = {unit.index: unit for unit in pairing.units[1 - side]} if groups else {}
        targets = {match.on(side): match.on(1 - side) for match in pairing.matches} if groups else {}
        for members in groups.values():
            into = [targets[unit.index] for unit in members.values() if unit.index in targets]
            for unit in members.values() if len(into) == 1 else ():
                if pairing.is_free(unit) and into[0] in theirs:
                    pairing.fold(unit, theirs[into[0]], "parametrises", "inferred")


def _source(pairing: Pairing, group: Group) -> Unit | None:
    """The member that corresponds to the weight: of its shape, else the largest original."""
    free = {member: unit for member, unit in group.members.items() if pairing.is_free(unit)}
    alike = [unit for unit in free.values() if unit.tensor.shape == group.target.tensor.shape]
    if alike:
        return alike[0]
    originals = [unit for member, unit in free.items() if _ORIGINAL.fullmatch(member)]
    return max(originals, key=lambda unit: unit.tensor.elements, default=None)


def _matched_inside(pairing: Pairing, group: Group) -> bool:
    side = 1 - group.target.side
    inside = {unit.index for unit in group.members.values()}
    return any(
        match.on(group.target.side) == group.target.index and match.on(side) in inside
        for match in pairing.matches
    )


# Which tensors belong together


def _groups(pairing: Pairing) -> Iterator[Group]:
    for side in (0, 1):
        found = _members(pairing.units[side])
        if not found:
            continue
        by_end: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
        for unit in pairing.units[1 - side]:
            by_end[components(unit.tensor.name)[-1:]].append(unit)
        for path, members in found.items():
            wanted = components(path)
            rivals = [(_common(wanted, unit), unit) for unit in by_end.get(wanted[-1:], ())]
            best = max((length for length, _ in rivals), default=0)
            closest = [unit for length, unit in rivals if length == best]
            if len(closest) == 1 and best >= min(2, len(wanted)):
                yield Group(members, closest[0], _words(members))


def _words(members: dict[str, Unit]) -> str:
    name = next(iter(members.values())).tensor.name
    parametrized = _PARAMETRIZED.fullmatch(name)
    if parametrized is None:
        return "stored in place of it"
    return f"made by the parametrisation {name[: parametrized.start('member') - 1]} of what is stored"


def _members(units: list[Unit]) -> dict[str, dict[str, Unit]]:
    """Path of the weight to its members by name."""
    found: dict[str, dict[str, Unit]] = defaultdict(dict)
    hooked: dict[str, dict[str, Unit]] = defaultdict(dict)
    for unit in units:
        parametrized = _PARAMETRIZED.fullmatch(unit.tensor.name)
        if parametrized is not None:
            module, tensor, member = parametrized.group("module", "tensor", "member")
            found[f"{module}.{tensor}" if module else tensor][member] = unit
            continue
        hook = _HOOKED.fullmatch(unit.tensor.name)
        if hook is not None:
            hooked[hook["path"]][hook["member"]] = unit
    found |= {path: members for path, members in hooked.items() if set(members) in _HOOKS}
    return found


def _common(path: tuple[str, ...], unit: Unit) -> int:
    """How many last components a path and a unit's name share."""
    pairs = zip(reversed(path), reversed(components(unit.tensor.name)), strict=False)
    return next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(path))
