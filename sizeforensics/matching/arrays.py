"""Tensors read whole, for transformations that compute with them, and how far floats round."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.content import decoded
from sizeforensics.excerpts import grid_shape
from sizeforensics.inventory import Inventory
from sizeforensics.matching.casts import as_float
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

MOST_ELEMENTS = 1 << 26
"""Elements of a tensor that is held in memory as a whole."""

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit of roundoff of each float type: half the distance between 1 and the next number."""

SMALLEST_NORMAL = {
    "float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-14,
}  # fmt: skip
"""Below it a float type rounds to a fixed step, not to a share of the number."""

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Vector = Doubles
"""Doubles of one dimension."""


def doubles(pairing: Pairing, unit: Unit) -> Doubles | None:
    """The elements in their shape; None where they cannot be read, computed with or held."""
    if unit.digest is None or unit.excerpt is not None:
        return None
    if unit.tensor.dtype.kind not in ("float", "bool"):
        return None
    # Beside a size of 0 another one may be more than numpy takes.
    if not 0 < unit.tensor.elements <= MOST_ELEMENTS:
        return None
    flat = decoded(pairing.inventories[unit.side], unit.tensor)
    return None if flat is None else flat.astype(np.float64).reshape(unit.tensor.shape)


def nearest(unit: Unit, rivals: Sequence[Unit], most: int) -> list[Unit]:
    """At most ``most`` of the rivals, which ascend by index, those stored closest to ``unit`` first.

    Writers put what belongs together side by side, whatever they call it.
    """
    at = bisect_left(rivals, unit.index, key=lambda rival: rival.index)
    around = rivals[max(at - most, 0) : at + most]
    return sorted(around, key=lambda rival: (abs(rival.index - unit.index), rival.index))[:most]


def array_of(inventory: Inventory, unit: Unit) -> Array | None:
    """The unit's elements in its shape: float32, or float64 where they are that already.

    Of an excerpt the elements of its grid.
    """
    if unit.digest is None or unit.tensor.dtype.name not in ROUNDOFF:
        return None
    name, shape = unit.tensor.dtype.name, unit.tensor.shape
    if unit.excerpt is not None:
        flat, shape = unit.sample, grid_shape(shape)
    else:
        flat = decoded(inventory, unit.tensor)
    if flat is None:
        return None
    wide = flat if unit.tensor.dtype.bits >= 32 else as_float(flat, name, "float32")
    return wide.reshape(shape)
