"""Tensors of two snapshots that hold the same elements: reordered, put together, cut, sparse.

What ``slices`` and ``sparse`` prove of all elements is inferred here. A bag says which elements there
are, in whatever order (``sizeforensics.bags``): those of the parts sum to that of the whole, and zeros
do not count. Of a tensor that is the beginning of another one, as an embedding is of the same with a
larger vocabulary, no sum tells, but the places that are kept of its first row do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from sizeforensics.bags import MODULUS, Numbers
from sizeforensics.excerpts import grid_shape, places
from sizeforensics.matching.casts import cast_sample
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.parts.slices import may_be_sliced, sheets_of
from sizeforensics.matching.parts.sparse import entries_of
from sizeforensics.matching.relations import same_bag
from sizeforensics.matching.units import Unit, cast_between

STRIDES = (1, 2, 3, 4)
"""How far apart in the file the parts of a whole are: experts may have several weights each."""

MOST_PARTS = 64
"""Parts at equal distances whose bags are summed."""

WINDOW = 8
FEW_PARTS = 4
"""Parts at any distances, of so many tensors in a row: queries, keys and values among others."""

CANDIDATES = 16
"""Ways to put a tensor together that are tried."""


def match_same_elements(pairing: Pairing) -> None:
    """Match free tensors of the same elements in another order, and dense ones with sparse values."""
    theirs: dict[int, list[Unit]] = defaultdict(list)
    for unit in _eligible(pairing, 1):
        for bag in _bags(unit).values():
            theirs[bag].append(unit)
    entries = entries_of(pairing.inventories[0]), entries_of(pairing.inventories[1])
    for unit in _eligible(pairing, 0):
        alike = [other for bag in _bags(unit).values() for other in theirs.get(bag, ())]
        for other in alike[:CANDIDATES]:
            if pairing.is_free(unit) and pairing.is_free(other) and same_bag(unit, other):
                few, many = sorted((unit, other), key=lambda unit: unit.tensor.elements)
                if few.tensor.elements == many.tensor.elements:
                    words = "the same elements in another order"
                elif few.tensor.shape in entries[few.side]:
                    words = f"{few.tensor.elements:,} elements that are not zero"
                else:
                    continue
                pairing.pair(unit, other, "inferred", words + cast_between(unit, other))


def match_gathered(pairing: Pairing) -> None:
    """Match free tensors with the free ones of the other side that they are put together from.

    The largest are looked at first: a fused weight is made of its parts, not the reverse.
    """
    found = [made for side in (0, 1) for made in _compositions(pairing, side)]
    tried: Counter[tuple[int, int]] = Counter()
    for whole, parts in sorted(found, key=_largest_first):
        tried[whole.side, whole.index] += 1
        if tried[whole.side, whole.index] > CANDIDATES:
            continue
        if all(pairing.is_free(unit) for unit in (whole, *parts)):
            words = f"put together from the elements of {len(parts):,} tensors"
            words += cast_between(whole, parts[0])
            pairing.slices([(whole, part, part.tensor.elements, words) for part in parts], "inferred")


def match_beginnings(pairing: Pairing) -> None:
    """Match free tensors with larger free ones that have, as far as it is kept, the same first row;
    of what counts, with those that count so far."""
    units = [unit for side in (0, 1) for unit in _eligible(pairing, side)]
    types = {unit.tensor.dtype.name for unit in units}
    wholes: dict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        for name in types:
            wholes[unit.side, _beginning(unit, name)].append(unit)
    for part in sorted(units, key=lambda unit: (-unit.tensor.elements, unit.index)):
        key = _beginning(part, part.tensor.dtype.name)
        for whole in wholes.get((1 - part.side, key), ())[:CANDIDATES] if key else ():
            if _may_hold(whole, part) and pairing.is_free(whole) and pairing.is_free(part):
                alike = "are among those of the other" if _counted(part) else "begin alike"
                words = f"{part.tensor.elements:,} elements {alike}"
                words += cast_between(whole, part)
                pairing.slices([(whole, part, part.tensor.elements, words)], "inferred")


# Which bags agree


def _eligible(pairing: Pairing, side: int) -> list[Unit]:
    return [unit for unit in pairing.free[side].values() if may_be_sliced(unit) and _own(unit)]


def _bags(unit: Unit) -> dict[str, int]:
    return {} if unit.excerpt is None else unit.excerpt.bags


def _own(unit: Unit) -> int:
    """The bag of the elements as they are; 0 where it is not known."""
    return _bags(unit).get(unit.tensor.dtype.name, 0)


def _beginning(unit: Unit, name: str) -> tuple[object, ...] | None:
    """What is kept of the first row, cast to a type, and its shape; None if it may be chance.

    Of a vector that is one element, so only numbers that count are told by it.
    """
    shape = [size for size in unit.tensor.shape if size != 1]
    if unit.sample is None or not shape:
        return None
    if len(shape) == 1:
        counted = _counted(unit)
        return None if counted is None else (unit.tensor.dtype.kind, counted.step, counted[0] % counted.step)
    row = unit.sample.reshape(grid_shape(shape))[0].reshape(-1)
    if np.all(row == row[0]):
        return None
    own = unit.tensor.dtype.name
    return name, *shape[1:], (row if own == name else cast_sample(row, own, name)).tobytes()


def _may_hold(whole: Unit, part: Unit) -> bool:
    """Whether a larger tensor, which begins or counts alike, has room for another one."""
    if whole.tensor.elements <= part.tensor.elements:
        return False
    ours, theirs = _counted(whole), _counted(part)
    return ours is None or theirs is None or (theirs[0] in ours and theirs[-1] in ours)


def _counted(unit: Unit) -> range | None:
    """The whole numbers that a vector holds at equal distances, as far as its kept elements tell."""
    shape = [size for size in unit.tensor.shape if size != 1]
    if unit.sample is None or len(shape) != 1 or not np.all(np.isfinite(unit.sample.astype(np.float64))):
        return None
    numbers, at = [int(number) for number in unit.sample], places(shape[0], 1)
    step = (numbers[-1] - numbers[0]) // (shape[0] - 1)
    whole = all(number == kept for number, kept in zip(numbers, unit.sample.tolist(), strict=True))
    if not step or not whole or any(
        number != numbers[0] + step * place for number, place in zip(numbers, at, strict=True)
    ):
        return None
    return range(numbers[0], numbers[0] + step * shape[0], step)


# Which bags sum to which


class _Column(NamedTuple):
    """Free units of one type and side in the order of the file, and their bags as of some type."""

    units: list[Unit]
    bags: Numbers


def _largest_first(made: tuple[Unit, list[Unit]]) -> tuple[object, ...]:
    whole, parts = made
    return -whole.tensor.elements, whole.index, len(parts), [part.index for part in parts]


def _compositions(pairing: Pairing, side: int) -> Iterator[tuple[Unit, list[Unit]]]:
    """Units of the other side, and units of ``side`` whose bags sum to theirs."""
    by_length: dict[int, list[Unit]] = defaultdict(list)
    for whole in _eligible(pairing, 1 - side):
        for length in {sheet.length for sheet in sheets_of(whole)}:
            by_length[length].append(whole)
    parts: dict[tuple[int, str], list[Unit]] = defaultdict(list)
    for part in _eligible(pairing, side):
        for length in {sheet.length for sheet in sheets_of(part)} & by_length.keys():
            parts[length, part.tensor.dtype.name].append(part)
    for (length, name), units in parts.items():
        for target in {name, *_bags(units[0])}:
            wanted: dict[int, list[Unit]] = defaultdict(list)
            for whole in by_length[length]:
                if target == name:
                    for bag in {_own(whole), _bags(whole).get(name, 0)}:
                        wanted[bag].append(whole)
                elif whole.tensor.dtype.name == target:
                    wanted[_own(whole)].append(whole)
            bags = [_bags(unit).get(target, 0) for unit in units]
            column = _Column(units, np.array(bags, dtype=np.uint64))
            yield from _sums_to(column, wanted)


def _sums_to(
    column: _Column, wanted: dict[int, list[Unit]]
) -> Iterator[tuple[Unit, list[Unit]]]:
    bags = np.array(sorted(wanted), dtype=np.uint64)
    least = min(unit.tensor.elements for unit in column.units)
    most = max((unit.tensor.elements for units in wanted.values() for unit in units), default=0)
    for offsets, sums in _choices(column.bags, most // least):
        for first in np.flatnonzero(np.isin(sums, bags)).tolist():
            parts = [column.units[first + offset] for offset in offsets]
            elements = sum(part.tensor.elements for part in parts)
            for whole in wanted[int(sums[first])]:
                if elements <= whole.tensor.elements:
                    yield whole, parts


def _choices(bags: Numbers, most: int) -> Iterator[tuple[Sequence[int], Numbers]]:
    """Distances from a first unit to others, up to ``most`` in all, and the sums of their bags."""
    for stride in STRIDES:
        sums = bags
        for number in range(1, min(MOST_PARTS, most)):
            if number * stride >= len(bags):
                break
            sums = (sums[: len(bags) - number * stride] + bags[number * stride :]) % MODULUS
            yield range(0, number * stride + 1, stride), sums
    for number in range(2, min(FEW_PARTS, most) + 1):
        for rest in combinations(range(1, min(WINDOW, len(bags))), number - 1):
            parts = [bags[offset : len(bags) - rest[-1] + offset] for offset in (0, *rest)]
            yield (0, *rest), np.add.reduce(parts) % MODULUS
