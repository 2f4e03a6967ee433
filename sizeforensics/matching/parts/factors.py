"""Which tensors may be the two factors of a low-rank adapter, by their shapes and places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from math import prod

import numpy as np

from sizeforensics.matching.arrays import MOST_ELEMENTS, ROUNDOFF, Doubles, nearest
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

CANDIDATES = 4
"""Second factors stored nearest to a first one that are tried."""

MOST_PARTS = 3
"""Parts of a fused projection, such as query, key and value."""

MOST_RANK = 256
"""Rank of the largest adapters; finding the null space of a larger factor takes its cube."""


def computable(unit: Unit) -> bool:
    """Whether a unit can be computed with as a matrix, in memory."""
    return (
        len(unit.tensor.shape) >= 2
        and unit.distinctive
        and unit.tensor.dtype.name in ROUNDOFF
        and unit.tensor.elements <= MOST_ELEMENTS
    )


def pairs_of_factors(
    pairing: Pairing, side: int, shared: set[int]
) -> Iterator[tuple[Unit, list[Unit]]]:
    """Every A and the Bs of its rank whose product has as many elements as weights of both sides."""
    by_rank: dict[int, list[Unit]] = defaultdict(list)
    units = [unit for unit in pairing.units[side] if computable(unit) and is_there(pairing, unit)]
    for unit in units if shared else ():
        by_rank[prod(unit.tensor.shape[1:])].append(unit)
    for first in units if shared else ():
        rank, columns = first.tensor.shape[0], prod(first.tensor.shape[1:])
        if rank > MOST_RANK:
            continue
        seconds = [
            second
            for groups in range(1, MOST_PARTS + 1)
            if rank % groups == 0
            for second in nearest(first, by_rank.get(rank // groups, []), CANDIDATES)
            if second is not first
            and any(rows * columns in shared for rows in heights(second.tensor.shape[0], groups))
            and 2 * rank <= min(second.tensor.shape[0], columns)
        ]
        if seconds:
            yield first, seconds


def is_there(pairing: Pairing, unit: Unit) -> bool:
    """Whether a factor was not absorbed yet; where both sides keep the adapter it is matched."""
    return pairing.is_free(unit) or unit.index in pairing.matched[unit.side]


def heights(rows: int, groups: int) -> list[int]:
    """Rows that a weight may have to whose parts ``rows`` rows of as many Bs belong."""
    if rows % groups:
        return []
    return [rows // groups * parts for parts in range(groups, MOST_PARTS + 1)]


def layouts(flat: Doubles, rank: int) -> Iterator[Doubles]:
    """B as a matrix of as many columns as A has rows: each part's own in its rows and columns."""
    groups = rank // flat.shape[1]
    height, width = len(flat) // groups, flat.shape[1]
    for parts in range(groups, MOST_PARTS + 1):
        for chosen in combinations(range(parts), groups):
            spread = np.zeros((parts * height, rank))
            for number, part in enumerate(chosen):
                own = flat[number * height : (number + 1) * height]
                spread[part * height :][:height, number * width :][:, :width] = own
            yield spread
