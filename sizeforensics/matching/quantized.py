"""Tier 6: integers that stand for the other side's floats within half a step of a scale.

A quantised weight ``q`` stands for ``s (q - z)`` with a scale ``s`` and a zero point ``z``, one pair
per tensor, per channel of an axis, or per block of consecutive elements (ONNX QuantizeLinear).
Rounding to nearest means ``|w - s (q - z)| <= s / 2`` for every element that was not clamped. Each
element so bounds the scale from both sides, and whether any scale satisfies all of them is a
question with an exact answer: no scale has to be found in the file first, and a chance agreement
over a whole tensor does not happen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import packed
from sizeforensics.dtypes import DTYPES, elements
from sizeforensics.inventory import Inventory
from sizeforensics.matching.batch_norms import ROUNDOFF
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

BLOCKS = (16, 32, 64, 128, 256)
"""Elements that share a scale in blocked quantisation."""

CANDIDATES = 16
"""Floats of one shape that are compared with one integer tensor."""

LEAST = 16
"""Elements per scale below which a scale that fits is no evidence."""

CHUNK = 1 << 20
"""Elements worked on at once."""

SLACK = 1e-5
"""Relative widening of the bounds: the division and the rounding happened in float32."""

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """Bounds of the scale of each group, and its zero point, shape ``(groups,)``."""

    low: Vector
    high: Vector
    zero: Vector

    @property
    def exists(self) -> npt.NDArray[np.bool_]:
        """Whether some scale satisfies every element of the group."""
        possible: npt.NDArray[np.bool_] = (self.low <= self.high * (1 + SLACK)) & (self.high > 0)
        return possible


def match_quantized(pairing: Pairing) -> None:
    """Match free integer tensors with free float tensors of the other side that they quantise."""
    for side in (0, 1):
        floats: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.distinctive and unit.tensor.dtype.name in ROUNDOFF:
                floats[_axes(unit)].append(unit)
        scales: dict[int, list[Unit]] = defaultdict(list)
        for unit in pairing.free[side].values():
            if unit.digest is not None and unit.tensor.dtype.name in ROUNDOFF:
                scales[unit.tensor.elements].append(unit)
        for unit in list(pairing.free[side].values()):
            if _quantized(unit):
                fit = _match_one(pairing, unit, floats.get(_axes(unit), []))
                if fit is not None:
                    _place_scale(pairing, unit, fit, scales.get(len(fit.low), []))


def _place_scale(pairing: Pairing, integers: Unit, fit: Fit, rivals: list[Unit]) -> None:
    """Find the scale among free floats near by: one number a group, which every element allows.

    A graph need not say it: behind a MatMulInteger the scale is one more factor of a product.
    """
    if not np.isfinite(fit.high).any():
        return
    at = bisect_left(rivals, integers.index, key=lambda unit: unit.index)
    nearest = rivals[max(at - CANDIDATES, 0) : at + CANDIDATES]
    for unit in sorted(nearest, key=lambda unit: abs(unit.index - integers.index)):
        values = _array(pairing.inventories[unit.side], unit) if pairing.is_free(unit) else None
        if values is None:
            continue
        scale = values.reshape(-1).astype(np.float64)
        if np.all((scale >= fit.low * (1 - SLACK)) & (scale <= fit.high * (1 + SLACK))):
            pairing.scale(unit, integers, "a scale that every element allows, of")
            return


def _match_one(pairing: Pairing, integers: Unit, rivals: list[Unit]) -> Fit | None:
    """Match one integer tensor; the bounds of its scale, None where it quantises no rival."""
    codes = _array(pairing.inventories[integers.side], integers)
    if codes is None:
        return None
    limits = _limits(integers.tensor.dtype.name)
    free = [unit for unit in rivals if pairing.is_free(unit)][:CANDIDATES]
    for unit in free:
        values = _array(pairing.inventories[unit.side], unit)
        if values is None:
            continue
        for turned in _turned(values, codes.shape):
            found = _fit(codes, turned, limits)
            if found is not None:
                how, difference, fit = found
                pairing.pair(unit, integers, "proved", how, difference)
                return fit
    return None


def _fit(codes: Array, values: Array, limits: tuple[int, int]) -> tuple[str, float, Fit] | None:
    """How the integers quantise the values, the largest difference and the bounds of the scale.

    None when no scale does.
    """
    for words, groups in _groupings(codes.shape):
        q, w = groups(codes), groups(values)
        if q.shape[1] < LEAST:
            continue
        # A few groups refuse nearly every wrong candidate.
        for part in (slice(0, 4), slice(None)):
            fit = _scales(q[part], w[part], limits)
            if not fit.exists.all():
                break
        else:
            zero = "" if not fit.zero.any() else ", with zero points"
            how = f"quantised {words}{zero}: one scale puts every element within half a step"
            return how, _difference(q, w, fit), fit
    return None


def _difference(q: Array, w: Array, fit: Fit) -> float:
    """Largest ``|w - s (q - z)|`` with the scale in the middle of what is possible."""
    high = np.where(np.isfinite(fit.high), fit.high, fit.low)
    scale = ((fit.low + high) / 2)[:, None]
    step = max(CHUNK // max(len(q), 1), 1)
    return max(
        float(np.abs(w[:, at : at + step] - scale * (q[:, at : at + step] - fit.zero[:, None])).max())
        for at in range(0, q.shape[1], step)
    )


def _groupings(shape: tuple[int, ...]) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Ways to share scales: in words, and as a view of shape (groups, elements per group)."""
    yield "per tensor", lambda array: array.reshape(1, -1)
    for axis in range(min(len(shape), 2)):
        if shape[axis] > 1:
            yield (
                f"per channel of axis {axis}",
                partial(_channels, axis=axis),
            )
    for block in BLOCKS:
        for axis in range(min(len(shape), 2)):
            if shape[axis] % block == 0 and shape[axis] > block:
                yield (
                    f"in blocks of {block} along axis {axis}",
                    partial(_blocks, axis=axis, block=block),
                )


def _channels(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _blocks(array: Array, axis: int, block: int) -> Array:
    return np.moveaxis(array, axis, -1).reshape(-1, block)


def _scales(q: Array, w: Array, limits: tuple[int, int]) -> Fit:
    """The scale interval of each group, for the zero point that allows one."""
    nearest = np.abs(w).argmin(axis=1)[:, None]
    # What stands for the value closest to zero is the zero point, give or take one.
    guess = np.take_along_axis(q, nearest, axis=1)[:, 0].astype(np.float64)
    best = _bounds(q, w, np.zeros(len(q)), limits)
    for offset in (0, -1, 1):
        if best.exists.all():
            break
        fit = _bounds(q, w, guess + offset, limits)
        better = fit.exists & ~best.exists
        best = Fit(*(np.where(better, new, old) for new, old in zip(fit, best, strict=True)))
    return best


def _bounds(q: Array, w: Array, zero: Vector, limits: tuple[int, int]) -> Fit:
    """``s (k - 1/2) <= w <= s (k + 1/2)`` with ``k = q - zero``, solved for ``s``.

    The smallest and the largest code are what values beyond the range are clamped to, so they
    bound on one side only.
    """
    low, high = np.zeros(len(q)), np.full(len(q), np.inf)
    step = max(CHUNK // max(len(q), 1), 1)
    for first in range(0, q.shape[1], step):
        part = slice(first, first + step)
        codes, values = q[:, part].astype(np.float64), w[:, part].astype(np.float64)
        k = codes - zero[:, None]
        # Dividing by a negative edge turns the inequality, so each edge bounds both ways.
        least, most = values / (k - 0.5), values / (k + 0.5)
        bounding, capping = codes > limits[0], codes < limits[1]
        uppers = np.minimum(
            np.where(bounding & (k > 0.5), least, np.inf),
            np.where(capping & (k < -0.5), most, np.inf),
        )
        lowers = np.maximum(
            np.where(bounding & (k < 0.5), least, 0.0),
            np.where(capping & (k > -0.5), most, 0.0),
        )
        high = np.minimum(high, uppers.min(axis=1))
        low = np.maximum(low, lowers.max(axis=1))
    return Fit(low, high, zero)


def _turned(values: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The values with their axes in every order that gives ``shape``."""
    squeezed = values.reshape([size for size in values.shape if size != 1] or [1])
    wanted = tuple(size for size in shape if size != 1) or (1,)
    for order in permutations(range(squeezed.ndim)):
        turned = squeezed.transpose(order)
        if turned.shape == wanted:
            yield np.ascontiguousarray(turned).reshape(shape)


def _quantized(unit: Unit) -> bool:
    return (
        unit.distinctive
        and unit.tensor.dtype.kind in ("int", "uint")
        and unit.tensor.dtype.bits <= 16
        and len(unit.tensor.shape) > 1
    )


def _axes(unit: Unit) -> tuple[int, ...]:
    return tuple(sorted(size for size in unit.tensor.shape if size != 1))


def _limits(name: str) -> tuple[int, int]:
    dtype = DTYPES[name]
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _array(inventory: Inventory, unit: Unit) -> Array | None:
    flat = elements(unit.tensor.dtype, packed(inventory, unit.tensor), unit.tensor.elements)
    if flat is None:
        return None
    plain = flat if flat.dtype.kind in "iuf" else flat.astype(np.float32)
    return plain.reshape(unit.tensor.shape)
