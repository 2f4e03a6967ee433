"""Integers under the scale and zero point that the file stores for them.

``q`` stands for ``s (q - z)``, with one ``s`` and ``z`` per tensor, per channel of an axis, or per
block of an axis, the last of which may be short (ONNX QuantizeLinear, opset 21). Rounding to nearest
means ``|w - s (q - z)| <= s / 2`` for every element that is not clamped; for 8-bit floats, which are
not evenly spaced, half the distance to the next float of that size takes the place of ``s / 2``.

The file need not say along which axis it counts, for the shape of the scale does: an axis that the
length of the scale does not fit is not tried, and where two fit each is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from sizeforensics.content import packed, readable
from sizeforensics.dtypes import DTYPES, elements
from sizeforensics.inventory import Inventory, Quantization
from sizeforensics.matching.batch_norms import ROUNDOFF, Array
from sizeforensics.views import cover

SLACK = 1e-5
"""Relative widening of the bounds: the division and the rounding happened in float32."""

TELLING = 0.5
"""Share of the elements that have to be neither clamped nor at the zero point: any small values are
zeros under a scale that is large enough, and any large ones are clamped under a small one."""

MOST_BLOCK_SIZES = 64
"""Sizes of blocks that are tried where the last one is short and several sizes fit."""

CHUNK = 1 << 20
"""Elements compared at once."""


class Stored(NamedTuple):
    """The numbers a file stores for one tensor, and the name to say them by."""

    scale: Array
    zero_point: Array
    name: str


class Spread(NamedTuple):
    """Scale and zero point as arrays that broadcast against the tensor, and how they are shared."""

    words: str
    scale: Array
    zero_point: Array


def stored_scales(inventory: Inventory) -> dict[int, Stored]:
    """The stored numbers by the index of the tensor they belong to; what cannot be read is left out."""
    if not inventory.quantizations:
        return {}
    can_read = readable(inventory, cover(inventory))
    found = {}
    for link in inventory.quantizations:
        stored = _numbers(inventory, link, can_read)
        if stored is not None and np.all(np.isfinite(stored.scale)) and np.all(stored.scale > 0):
            found[link.tensor] = stored
    return found


def _numbers(inventory: Inventory, link: Quantization, can_read: list[bool]) -> Stored | None:
    if link.numbers is not None:
        number, shift = link.numbers
        return Stored(np.array(number), np.array(float(shift)), f"scale {number:g}")
    needed = [index for index in (link.scale, link.zero_point, link.factor) if index is not None]
    if link.scale is None or not all(can_read[index] for index in needed):
        return None
    values = {index: _values(inventory, index) for index in needed}
    scale = values[link.scale]
    zero_point: Array | None = np.zeros(1)
    factor: Array | None = np.ones(1)
    if link.zero_point is not None:
        zero_point = values[link.zero_point]
    if link.factor is not None:
        factor = values[link.factor]
    if scale is None or zero_point is None or factor is None or factor.size != 1:
        return None
    return Stored(
        scale * factor.reshape(()), zero_point, f"scale {inventory.tensors[link.scale].name}"
    )


def _values(inventory: Inventory, index: int) -> Array | None:
    tensor = inventory.tensors[index]
    flat = elements(tensor.dtype, packed(inventory, tensor), tensor.elements)
    return None if flat is None else flat.astype(np.float64).reshape(tensor.shape)


def spreads(shape: tuple[int, ...], stored: Stored) -> Iterator[Spread]:
    """The ways in which stored numbers can be shared among the elements of a tensor."""
    scale, zero = stored.scale, stored.zero_point
    if zero.size == 1:
        zero = np.full(scale.shape, zero.reshape(-1)[0])
    if zero.size != scale.size:
        return
    zero = zero.reshape(scale.shape)
    if scale.size == 1:
        yield Spread("per tensor", scale.reshape(()), zero.reshape(()))
        return
    if max(scale.shape) == scale.size:
        for axis, size in enumerate(shape):
            if size == scale.size:
                along = [-1 if at == axis else 1 for at in range(len(shape))]
                yield Spread(
                    f"per channel of axis {axis}", scale.reshape(along), zero.reshape(along)
                )
    if scale.ndim == len(shape):
        other = [axis for axis in range(len(shape)) if scale.shape[axis] != shape[axis]]
        if len(other) == 1:
            (axis,) = other
            for block in _block_sizes(shape[axis], scale.shape[axis]):
                yield Spread(
                    f"in blocks of {block} along axis {axis}",
                    *(_repeated(numbers, block, axis, shape[axis]) for numbers in (scale, zero)),
                )


def _block_sizes(length: int, blocks: int) -> list[int]:
    """Sizes of which ``blocks`` cover ``length``, none of them empty; the likeliest first."""
    least = -(-length // blocks)
    most = length if blocks == 1 else -(-length // (blocks - 1)) - 1
    sizes = range(least, min(most, least + MOST_BLOCK_SIZES) + 1)
    powers = [1 << bits for bits in range(30) if least <= 1 << bits <= most]
    return list(dict.fromkeys([*powers, *sizes]))


def _repeated(numbers: Array, block: int, axis: int, length: int) -> Array:
    return np.repeat(numbers, block, axis=axis).take(range(length), axis=axis)


def difference(codes: Array, values: Array, spread: Spread, type_name: str) -> float | None:
    """The largest ``|w - s (q - z)|``; None where an element is further off than rounding puts it,
    or where too few of them say anything.

    ``codes`` and ``values`` have one shape. The smallest and the largest code are what values
    beyond the range are clamped to.
    """
    least, most = code_limits(type_name)
    worst, telling = 0.0, 0
    step = max(CHUNK // max(codes[:1].size, 1), 1)
    for first in range(0, len(codes), step):
        part = slice(first, first + step)
        scale, zero = (
            numbers[part] if numbers.ndim and len(numbers) > 1 else numbers
            for numbers in (spread.scale, spread.zero_point)
        )
        code, value = codes[part].astype(np.float64), values[part].astype(np.float64)
        stands_for = scale * (code - zero)
        error = np.abs(value - stands_for)
        clamped = ((code == least) & (value < stands_for)) | ((code == most) & (value > stands_for))
        half = scale * _half_steps(code, type_name) * (1 + SLACK) + SLACK * np.abs(value)
        if not np.all((error <= half) | clamped):
            return None
        worst = max(worst, float(error.max(initial=0.0)))
        telling += int(np.count_nonzero((code != least) & (code != most) & (code != zero)))
    return worst if telling > TELLING * codes.size else None


def code_limits(type_name: str) -> tuple[float, float]:
    """The smallest and the largest number of a type."""
    dtype = DTYPES[type_name]
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    most = float(_finfo(type_name).max)
    return -most, most


def _half_steps(code: Array, type_name: str) -> Array | float:
    """Half the distance to the next code: a half of integers, relative for small floats."""
    if DTYPES[type_name].kind in ("int", "uint"):
        return 0.5
    info = _finfo(type_name)
    _, exponents = np.frexp(code)
    steps: Array = np.ldexp(0.5, np.maximum(exponents - 1, info.minexp) - info.nmant)
    return steps


def _finfo(type_name: str) -> Any:
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    return finfo(type_name)


def holds_codes(name: str) -> bool:
    """Whether tensors of this type can be quantised ones: integers or 8-bit floats."""
    dtype = DTYPES.get(name)
    if dtype is None or name in ROUNDOFF:
        return False
    narrow_float = dtype.kind == "float" and dtype.bits == 8 and not name.startswith("float8_e8m0")
    return narrow_float or (dtype.kind in ("int", "uint") and dtype.bits <= 32)
