"""Tensors read whole, in double precision, for transformations that compute with them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sizeforensics.content import packed
from sizeforensics.dtypes import elements
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

MOST_ELEMENTS = 1 << 26
"""Elements of a tensor that is held in memory as a whole."""

Doubles = npt.NDArray[np.float64]


def doubles(pairing: Pairing, unit: Unit) -> Doubles | None:
    """The elements in their shape; None where they cannot be read, computed with or held."""
    if unit.digest is None or unit.excerpt is not None:
        return None
    if unit.tensor.dtype.kind not in ("float", "bool"):
        return None
    # Beside a size of 0 another one may be more than numpy takes.
    if not 0 < unit.tensor.elements <= MOST_ELEMENTS:
        return None
    data = packed(pairing.inventories[unit.side], unit.tensor)
    flat = elements(unit.tensor.dtype, data, unit.tensor.elements)
    return None if flat is None else flat.astype(np.float64).reshape(unit.tensor.shape)


def nearest(unit: Unit, rivals: Sequence[Unit], most: int) -> list[Unit]:
    """At most ``most`` of the rivals, which ascend by index, those stored closest to ``unit`` first.

    Writers put what belongs together side by side, whatever they call it.
    """
    at = bisect_left(rivals, unit.index, key=lambda rival: rival.index)
    around = rivals[max(at - most, 0) : at + most]
    return sorted(around, key=lambda rival: (abs(rival.index - unit.index), rival.index))[:most]
