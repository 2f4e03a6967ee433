"""Tier 8: repeated content that the other side stores once, and what a few numbers regenerate."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sizeforensics.content import decoded
from sizeforensics.inventory import Inventory
from sizeforensics.matching.arrays import MOST_ELEMENTS
from sizeforensics.matching.casts import castable, equal_after_cast
from sizeforensics.matching.constants.computable import recipe, repeated_core
from sizeforensics.matching.constants.recipes import Array
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit, cast_words

LEAST_CORE = 32
"""Elements below which repeated content is a constant that a few numbers make, not a tensor."""


def match_broadcast(pairing: Pairing) -> None:
    """Match a tensor that repeats itself with the one on the other side that it repeats."""
    by_count: dict[tuple[int, int], list[Unit]] = defaultdict(list)
    for free in pairing.free:
        for unit in free.values():
            if unit.distinctive and castable(unit.tensor.dtype.name):
                by_count[unit.side, unit.tensor.elements].append(unit)
    for free in pairing.free:
        for unit in list(free.values()):
            core = core_of(pairing.inventories[unit.side], unit)
            if core is None:
                continue
            for other in by_count.get((1 - unit.side, core.size), ()):
                if pairing.is_free(unit) and pairing.is_free(other):
                    _match_core(pairing, unit, core, other)


def core_of(inventory: Inventory, unit: Unit) -> Array | None:
    """What a distinctive tensor repeats; None where it does not, or repeats a few numbers."""
    array = _array(inventory, unit) if unit.distinctive else None
    return None if array is None else core_in(array, unit)


def core_in(array: Array, unit: Unit) -> Array | None:
    """``core_of`` the elements of a unit that were read already."""
    core = repeated_core(array) if unit.distinctive and castable(unit.tensor.dtype.name) else None
    return None if core is None or not LEAST_CORE <= core.size < unit.tensor.elements else core


def match_cores(pairing: Pairing) -> None:
    """``match_broadcast`` of excerpts: the digest of what is repeated is that of another tensor."""
    by_content: dict[tuple[int, str, int, bytes | None], list[Unit]] = defaultdict(list)
    for free in pairing.free:
        for unit in free.values():
            if unit.excerpt is not None and unit.distinctive:
                key = unit.side, unit.tensor.dtype.name, unit.tensor.elements, unit.excerpt.key
                by_content[key].append(unit)
    for free in pairing.free:
        for unit in list(free.values()):
            core = None if unit.excerpt is None else unit.excerpt.core
            if core is None:
                continue
            for other in by_content.get((1 - unit.side, unit.tensor.dtype.name, *core), ()):
                if pairing.is_free(unit) and pairing.is_free(other):
                    words = f"{core[0]:,} elements repeated to {unit.tensor.elements:,}"
                    pairing.pair(unit, other, "proved", words)


def find_recipes(pairing: Pairing) -> None:
    """Say of every tensor that is left what would regenerate it, if a few numbers would."""
    for free in pairing.free:
        for unit in free.values():
            found = recipe_of(pairing.inventories[unit.side], unit)
            if found is not None:
                pairing.recipes[unit.side, unit.index] = found


def recipe_of(inventory: Inventory, unit: Unit) -> tuple[str, int] | None:
    """What regenerates a tensor, in words, and how many bytes of numbers that takes."""
    if unit.excerpt is not None:
        return unit.excerpt.recipe
    array = _array(inventory, unit)
    found = None if array is None else recipe(array)
    return None if found is None else (found.words, found.nbytes)


def _match_core(pairing: Pairing, unit: Unit, core: Array, other: Unit) -> None:
    names = other.tensor.dtype.name, unit.tensor.dtype.name
    stored = _array(pairing.inventories[other.side], other)
    if stored is None:
        return
    flat = np.ascontiguousarray(core).reshape(-1)
    if equal_after_cast(stored.reshape(-1), names[0], flat, names[1]).all():
        words = f"{core.size:,} elements repeated to {unit.tensor.elements:,}"
        pairing.pair(unit, other, "proved", words + cast_words(other, unit))


def _array(inventory: Inventory, unit: Unit) -> Array | None:
    if unit.digest is None or not castable(unit.tensor.dtype.name):
        return None
    if unit.tensor.elements > MOST_ELEMENTS:
        return None
    flat = decoded(inventory, unit.tensor)
    return None if flat is None else flat.reshape(unit.tensor.shape)
