"""Tier 6: integers that stand for the other side's floats within half a step of a scale.

Where the file says which scale and zero point belong to a tensor, they have to put every element
within half a step (``stored_scales``); nothing else is tried.

Where it does not, as behind a MatMulInteger, whose scale is one more factor of a product, each
element bounds the scale from both sides (``|w - s (q - z)| <= s / 2`` unless it was clamped), and
whether any scale satisfies all of them is a question with an exact answer. It is proved when a scale
that all elements allow is stored beside the tensor; without one it is inferred.
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
from sizeforensics.dtypes import elements
from sizeforensics.inventory import Inventory
from sizeforensics.matching.batch_norms import ROUNDOFF
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.stored_scales import (
    SLACK,
    Stored,
    code_limits,
    difference,
    holds_codes,
    spreads,
    stored_scales,
)
from sizeforensics.matching.units import Unit

BLOCKS = (16, 32, 64, 128, 256)
"""Elements that share a scale in blocked quantisation."""

CANDIDATES = 16
"""Floats of one shape that are compared with one integer tensor."""

LEAST = 16
"""Elements per scale below which a scale that fits is no evidence."""

CHUNK = 1 << 20
"""Elements worked on at once."""

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
        stored = stored_scales(pairing.inventories[side])
        for unit in list(pairing.free[side].values()):
            rivals = floats.get(_axes(unit), [])
            if unit.index in stored:
                if unit.digest is not None and holds_codes(unit.tensor.dtype.name):
                    _match_stored(pairing, unit, rivals, stored[unit.index])
            elif _quantized(unit):
                _match_one(pairing, unit, rivals, scales)


def _match_stored(pairing: Pairing, codes: Unit, rivals: list[Unit], stored: Stored) -> None:
    """Match one tensor with the floats it stands for under the numbers stored for it."""
    name = codes.tensor.dtype.name
    for unit, own, values in _candidates(pairing, codes, rivals):
        for spread in spreads(own.shape, stored):
            found = difference(own, values, spread, name)
            if found is not None:
                zero = ", with zero points" if spread.zero_point.any() else ""
                how = f"quantised {spread.words}{zero}: within half a step of the stored {stored.name}"
                pairing.pair(unit, codes, "proved", how, found)
                return


def _candidates(
    pairing: Pairing, codes: Unit, rivals: list[Unit]
) -> Iterator[tuple[Unit, Array, Array]]:
    """Free floats of as many elements, and both tensors in the shape of the codes."""
    own = _array(pairing.inventories[codes.side], codes)
    for unit in [unit for unit in rivals if pairing.is_free(unit)][:CANDIDATES]:
        values = _array(pairing.inventories[unit.side], unit)
        if own is not None and values is not None:
            for turned in _turned(values, own.shape):
                yield unit, own, turned


def _scale_for(pairing: Pairing, integers: Unit, fit: Fit, rivals: list[Unit]) -> Unit | None:
    """The scale among free floats near by: one number a group, which every element allows."""
    if not np.isfinite(fit.high).any():
        return None
    at = bisect_left(rivals, integers.index, key=lambda unit: unit.index)
    nearest = rivals[max(at - CANDIDATES, 0) : at + CANDIDATES]
    for unit in sorted(nearest, key=lambda unit: abs(unit.index - integers.index)):
        values = _array(pairing.inventories[unit.side], unit) if pairing.is_free(unit) else None
        if values is None:
            continue
        scale = values.reshape(-1).astype(np.float64)
        if np.all((scale >= fit.low * (1 - SLACK)) & (scale <= fit.high * (1 + SLACK))):
            return unit
    return None


def _match_one(
    pairing: Pairing, integers: Unit, rivals: list[Unit], scales: dict[int, list[Unit]]
) -> None:
    """Match one integer tensor whose scale nobody names, and the scale if one is near by."""
    limits = code_limits(integers.tensor.dtype.name)
    for unit, codes, values in _candidates(pairing, integers, rivals):
        found = _fit(codes, values, limits)
        if found is None:
            continue
        how, worst, fit = found
        scale = _scale_for(pairing, integers, fit, scales.get(len(fit.low), []))
        if scale is None or scale is unit:
            pairing.pair(unit, integers, "inferred", f"{how}, but none is stored", worst)
        else:
            pairing.pair(unit, integers, "proved", f"{how}, as {scale.tensor.name} does", worst)
            pairing.scale(scale, integers, "a scale that every element allows, of")
        return


def _fit(codes: Array, values: Array, limits: tuple[float, float]) -> tuple[str, float, Fit] | None:
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


def _scales(q: Array, w: Array, limits: tuple[float, float]) -> Fit:
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


def _bounds(q: Array, w: Array, zero: Vector, limits: tuple[float, float]) -> Fit:
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


def _array(inventory: Inventory, unit: Unit) -> Array | None:
    flat = elements(unit.tensor.dtype, packed(inventory, unit.tensor), unit.tensor.elements)
    if flat is None:
        return None
    plain = flat if flat.dtype.kind in "iuf" else flat.astype(np.float32)
    return plain.reshape(unit.tensor.shape)
