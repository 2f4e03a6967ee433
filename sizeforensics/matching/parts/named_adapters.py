"""Low-rank adapters of which only excerpts are there: where they went is inferred by names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import prod

from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.parts.factors import heights, pairs_of_factors
from sizeforensics.matching.units import Unit


def fold_named(pairing: Pairing) -> None:
    """Infer of excerpts what ``adapters.match_merged`` computes: factors inside the module of a
    weight that has other values on the other side.

    Training changes more than the weights that have adapters, so it is inferred only where most of
    what changed has one.
    """
    for side in (0, 1):
        changed = _changed(pairing, side)
        found = list(_named(pairing, side, changed))
        merged = {target.index for target, _ in found}
        if 2 * len(merged) > sum(map(len, changed.values())):
            for target, members in found:
                for unit in filter(pairing.is_free, members):
                    how = "by its name and shape, low-rank adapter merged into"
                    pairing.fold(unit, target, how, "inferred")


_Changed = dict[tuple[str, ...], list[tuple[Unit, Unit]]]
"""Path of a module to its tensors that have a counterpart of their shape and name, and to those."""


def _changed(pairing: Pairing, side: int) -> _Changed:
    ours, theirs = ({unit.index: unit for unit in pairing.units[at]} for at in (side, 1 - side))
    changed: _Changed = defaultdict(list)
    for match in pairing.matches:
        source, target = ours[match.on(side)], theirs[match.on(1 - side)]
        if match.by_name and source.tensor.elements == target.tensor.elements:
            changed[components(source.tensor.name)[:-1]].append((source, target))
    return changed


def _named(pairing: Pairing, side: int, changed: _Changed) -> Iterator[tuple[Unit, list[Unit]]]:
    """Weights of the other side, and what was merged into each: factors, lengths of rows, a scale."""
    shared = {source.tensor.elements for pairs in changed.values() for source, _ in pairs}
    others: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in pairing.free[side].values() if shared else ():
        if len(unit.tensor.shape) <= 1 and components(unit.tensor.name)[-1:] != ("bias",):
            others[_enclosing(unit, changed)].append(unit)
    for first, seconds in pairs_of_factors(pairing, side, shared):
        module, columns = _enclosing(first, changed), prod(first.tensor.shape[1:])
        for second in seconds:
            groups = first.tensor.shape[0] // prod(second.tensor.shape[1:])
            sizes = {rows * columns for rows in heights(second.tensor.shape[0], groups)}
            fitting = [
                target for source, target in changed.get(module, ()) if source.tensor.elements in sizes
            ]
            if len(fitting) == 1 and _enclosing(second, changed) == module:
                rows = fitting[0].tensor.elements // columns
                around = [unit for unit in others[module] if unit.tensor.elements in (1, rows)]
                yield fitting[0], [first, second, *around]


def _enclosing(unit: Unit, changed: _Changed) -> tuple[str, ...]:
    """The innermost module around a tensor that holds a changed one; no path where none does."""
    path = components(unit.tensor.name)
    return next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in changed), ())
