"""Weights that another one may be scaled along any axis and in any order of axes, by shares of squares."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, SMALLEST_NORMAL, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import Likeness
from sizeforensics.matching.units import Unit


class Likely:
    """The weights of one side by their axes in any order, looked up by what no factor changes."""

    def __init__(
        self, pairing: Pairing, by_axes: Mapping[tuple[int, ...], Sequence[Unit]], roundings: int
    ) -> None:
        self._pairing, self._by_axes, self._roundings = pairing, by_axes, roundings
        self._tables: dict[tuple[tuple[int, ...], int], Likeness] = {}

    def of(self, target: Unit, widths: Collection[int], most: int) -> Iterator[Unit]:
        """Free weights of which ``target`` may be one with a factor per channel, a few for each axis."""
        shape, name = target.tensor.shape, target.tensor.dtype.name
        values = array_of(self._pairing.inventories[target.side], target)
        if values is None:
            return
        found: dict[int, Unit] = {}
        for axis in [axis for axis, size in enumerate(shape) if size in widths and size > 1]:
            if (shape, axis) not in self._tables:
                rivals = self._by_axes[tuple(sorted(shape))]
                self._tables[shape, axis] = Likeness(self._pairing, rivals, shape, axis)
            table = self._tables[shape, axis]
            kept = values[table.places].astype(np.float64)
            around = self._roundings * ROUNDOFF[name] * (np.abs(kept) + SMALLEST_NORMAL[name])
            for candidate in islice(table.between(kept - around, kept + around), most):
                found.setdefault(candidate.unit.index, candidate.unit)
        yield from found.values()
