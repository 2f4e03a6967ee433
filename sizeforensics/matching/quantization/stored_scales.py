"""The scales and zero points that a file stores for its quantised tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import decoded, readable
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.arrays import ROUNDOFF, Array
from sizeforensics.matching.units import Unit
from sizeforensics.views import Coverage

Index = npt.NDArray[np.int64]


class Stored(NamedTuple):
    """The numbers a file stores for one tensor, and the name to say them by.

    ``axes``, ``block`` and ``width`` are those of ``Quantization``; ``groups`` the elements of its
    tensor. ``roundoff`` is the unit of roundoff of the type that the scale is stored in.
    """

    scale: Array | None
    """None where only the zero point is stored."""
    zero_point: Array
    name: str
    roundoff: float = 0.0
    axes: tuple[int, ...] | None = None
    block: int | None = None
    groups: Index | None = None
    width: int | None = None


def stored_scales(inventory: Inventory, coverage: Coverage) -> dict[int, Stored]:
    """The stored numbers by the index of the tensor they belong to; what cannot be read is left out."""
    if not inventory.quantizations:
        return {}
    can_read = readable(inventory, coverage)
    found = {}
    for link in inventory.quantizations:
        stored = _numbers(inventory, link, can_read)
        if stored is not None and (stored.scale is None or is_scale(stored.scale)):
            found[link.tensor] = stored
    return found


def is_scale(numbers: Array) -> bool:
    """Whether these can be scales: finite, and not all zero. Symmetric quantisers write negative
    ones for blocks whose largest element is positive, and zeros for blocks of zeros."""
    return bool(np.all(np.isfinite(numbers)) and np.any(numbers))


def _numbers(inventory: Inventory, link: Quantization, can_read: list[bool]) -> Stored | None:
    zero: Array | None = np.full(1, float(link.zero))
    if link.step is not None:
        return Stored(np.array(link.step), np.array(float(link.zero)), f"scale {link.step:g}")
    needed = (link.scale, link.zero_point, link.factor, link.groups)
    if not all(can_read[index] for index in needed if index is not None):
        return None
    scale, factor, groups = (
        None if index is None else _values(inventory, index)
        for index in (link.scale, link.factor, link.groups)
    )
    if link.zero_point is not None:
        zero = _values(inventory, link.zero_point)
    if zero is None or (link.scale is not None and scale is None):
        return None
    if scale is None or link.scale is None:
        return Stored(None, zero, "")
    tensor = inventory.tensors[link.scale]
    if link.factor is not None:
        if factor is None or factor.size != 1:
            return None
        scale = scale * factor.reshape(())
    if link.groups is not None and groups is None:
        return None
    return Stored(
        scale, zero, f"scale {tensor.name}", ROUNDOFF.get(tensor.dtype.name, 0.0), link.axes,
        link.block, None if groups is None else groups.reshape(-1).astype(np.int64), link.width,
    )


def _values(inventory: Inventory, index: int) -> Array | None:
    tensor = inventory.tensors[index]
    flat = decoded(inventory, tensor)
    return None if flat is None else flat.astype(np.float64).reshape(tensor.shape)


def codes_of(inventory: Inventory, unit: Unit, shape: tuple[int, ...]) -> Array | None:
    """The elements of a quantised tensor, without what fills up the last axis."""
    flat = decoded(inventory, unit.tensor)
    if flat is None:
        return None
    plain = flat if flat.dtype.kind in "iuf" else flat.astype(np.float32)
    whole = plain.reshape(unit.tensor.shape)
    return whole if shape == whole.shape else np.ascontiguousarray(whole[..., : shape[-1]])
