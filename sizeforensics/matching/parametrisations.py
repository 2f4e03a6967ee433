"""Weights that one side computes from other tensors: pruning masks, weight and spectral norms.

A parametrised module stores the tensors its weight is computed from in place of the weight
(``torch.nn.utils.parametrize``: ``parametrizations.weight.original``; the older hooks:
``weight_orig`` and ``weight_mask``, ``weight_g`` and ``weight_v``). Their names say which tensors
belong together; that the other side's weight is what they make is computed and compared. Where it
cannot be, as for an orthogonal map, the pair is inferred.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import packed
from sizeforensics.dtypes import elements
from sizeforensics.matching.batch_norms import ROUNDOFF
from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

ROUNDINGS = 64
"""Units of roundoff that a computed weight may differ by: a norm sums thousands of squares."""

MOST_ELEMENTS = 1 << 26
"""Elements of a tensor that is held in memory as a whole."""

_PARAMETRIZED = re.compile(
    r"(?:(?P<module>.+)\.)?parametrizations\.(?P<tensor>\w+)\.(?P<member>.+)"
)
_HOOKED = re.compile(r"(?P<path>.+)_(?P<member>orig|mask|g|v|u)")
_HOOKS = ({"orig", "mask"}, {"g", "v"}, {"orig", "u", "v"}, {"orig", "u"})
"""Members of ``prune``, ``weight_norm`` and ``spectral_norm``, the last with one vector or two."""

Array = npt.NDArray[Any]


class Group(NamedTuple):
    """The tensors that one side stores in place of ``target``, a tensor of the other side."""

    members: dict[str, Unit]
    target: Unit

    def first(self, *names: str) -> Unit | None:
        """The member that has one of these names."""
        return next((self.members[name] for name in names if name in self.members), None)


class Proof(NamedTuple):
    """A member that carries the weight, those that go into it, and what they are for it."""

    main: Unit
    absorbed: tuple[Unit, ...]
    words: str


def match_computed(pairing: Pairing) -> None:
    """Match a free weight with the member that carries it where computing it gives its elements."""
    for group in _groups(pairing):
        if not pairing.is_free(group.target):
            continue
        for attempt in (_masked, _weight_norm, _spectral_norm):
            proof = attempt(pairing, group)
            if proof is not None and pairing.is_free(proof.main):
                pairing.pair(proof.main, group.target, "proved", f"{proof.words} applied")
                for unit in proof.absorbed:
                    if pairing.is_free(unit):
                        pairing.fold(unit, group.target, f"{proof.words} of")
                break


def absorb_rest(pairing: Pairing) -> None:
    """Infer what could not be computed, and place the other members as absorbed by the weight."""
    for group in _groups(pairing):
        if pairing.is_free(group.target):
            alike = [
                unit
                for unit in group.members.values()
                if pairing.is_free(unit) and unit.tensor.shape == group.target.tensor.shape
            ]
            if not alike:
                continue
            pairing.pair(alike[0], group.target, "inferred", "stored in place of it")
        elif not _matched_inside(pairing, group):
            continue
        for unit in group.members.values():
            if pairing.is_free(unit):
                pairing.fold(unit, group.target, "parametrises", "inferred")


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
                yield Group(members, closest[0])


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


# What they make


def _masked(pairing: Pairing, group: Group) -> Proof | None:
    main, mask = group.first("orig", "original"), group.first("mask", "0.mask")
    if main is None or mask is None:
        return None

    def weight(original: Array, cover: Array) -> Array:
        return original * cover

    return _proved(pairing, group.target, Proof(main, (mask,), "pruning mask"), weight)


def _weight_norm(pairing: Pairing, group: Group) -> Proof | None:
    scale, main = group.first("g", "original0"), group.first("v", "original1")
    if scale is None or main is None or "orig" in group.members:
        return None

    def weight(direction: Array, magnitude: Array) -> Array:
        axes = tuple(axis for axis, size in enumerate(magnitude.shape) if size == 1)
        norm = np.sqrt(np.sum(direction * direction, axis=axes, keepdims=True))
        made: Array = direction * (magnitude / norm)
        return made

    return _proved(pairing, group.target, Proof(main, (scale,), "weight norm"), weight)


def _spectral_norm(pairing: Pairing, group: Group) -> Proof | None:
    main = group.first("orig", "original")
    left, right = group.first("u", "0._u"), group.first("v", "0._v")
    if main is None or left is None or right is None:
        return None

    def weight(original: Array, u: Array, v: Array) -> Array:
        made: Array = original / (u @ original.reshape(len(u), len(v)) @ v)
        return made

    return _proved(pairing, group.target, Proof(main, (left, right), "spectral norm"), weight)


def _proved(
    pairing: Pairing, target: Unit, proof: Proof, weight: Callable[..., Array]
) -> Proof | None:
    """``proof``, if the target is the weight that its members make, within rounding."""
    if proof.main.tensor.shape != target.tensor.shape:
        return None
    stored = _array(pairing, target)
    arrays = [_array(pairing, unit) for unit in (proof.main, *proof.absorbed)]
    if stored is None or any(array is None for array in arrays):
        return None
    try:
        with np.errstate(all="ignore"):
            made = weight(*arrays)
    except ValueError:  # shapes that do not fit together
        return None
    if made.shape != stored.shape:
        return None
    roundoff = ROUNDINGS * ROUNDOFF.get(target.tensor.dtype.name, 0.0)
    with np.errstate(all="ignore"):
        if not np.all(np.abs(made - stored) <= roundoff * np.abs(made)):
            return None
    return proof


def _array(pairing: Pairing, unit: Unit) -> Array | None:
    """The elements in double precision, in their shape; None where they cannot be held."""
    if unit.digest is None or unit.tensor.dtype.kind not in ("float", "bool"):
        return None
    if unit.tensor.elements > MOST_ELEMENTS:
        return None
    data = packed(pairing.inventories[unit.side], unit.tensor)
    flat = elements(unit.tensor.dtype, data, unit.tensor.elements)
    return None if flat is None else flat.astype(np.float64).reshape(unit.tensor.shape)
