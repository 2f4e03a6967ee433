"""Tier 5: a batch-norm folded into a convolution or linear layer, proved from its parameters.

In evaluation a batch-norm computes ``y = s (x - mean) + beta`` with
``s = gamma / sqrt(variance + eps)``, one value per channel (Ioffe and Szegedy 2015, section 3.1).
Behind a layer it turns the weight into ``s W``, scaled along the output axis, and the bias into
``s (b - mean) + beta``; in front of one, into ``W s`` along the input axis and a bias
``b + W (beta - s mean)``. Nothing here looks at a name: the scale that relates two weights either
is that of a batch-norm of the file, in every channel, or it is not.

Tolerance: exporters compute the fold in the element type of the weights, with about four roundings
for the scale and one for the product, in an order that is theirs to choose. ``ROUNDINGS`` units of
roundoff of the coarser type bound that with a factor of three to spare, and are a thousand times
finer than the difference between two batch-norms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import permutations
from math import prod
from typing import NamedTuple

import numpy as np

from sizeforensics.content import payload_of
from sizeforensics.dtypes import elements
from sizeforensics.matching.batch_norms import (
    ROUNDOFF,
    Array,
    BatchNorm,
    Vector,
    Vectors,
    array_of,
    batch_norms,
)
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit
from sizeforensics.views import extent

ROUNDINGS = 16

CANDIDATES = 32
"""Weights with peaks at the same places that are compared with another before giving up."""

LIKELY = 8
"""Weights of like name that are compared besides."""

PREFIX = 64
"""Elements of the first row in which peaks are looked for."""


class Scaled(NamedTuple):
    """``target`` is ``source`` times one factor per channel of ``axis`` (of the source)."""

    source: Unit
    target: Unit
    axis: int
    factors: Vector
    error: float
    """The largest relative difference from exactly constant factors."""
    weight: Array
    """The source's elements, for a bias that needs them."""


def match_folded(pairing: Pairing) -> None:
    """Pair weights that differ by the scale of a batch-norm, and place what was absorbed."""
    vectors = Vectors(pairing)
    without_norm = []
    for side in (0, 1):
        norms: dict[int, list[BatchNorm]] = defaultdict(list)
        for norm in batch_norms(vectors, side):
            norms[len(norm.scale)].append(norm)
        for scaled in _scaled_weights(pairing, side, thorough=bool(norms)):
            rivals = norms[len(scaled.factors)]
            found = _find_norm(scaled, rivals)
            if found is None:
                without_norm.append(scaled)
            else:
                rivals.remove(found)
                _place(vectors, scaled, found)
    for scaled in without_norm:
        if pairing.is_free(scaled.source) and pairing.is_free(scaled.target):
            words = f"scaled per channel of axis {scaled.axis}{_cast_words(scaled)}"
            pairing.pair(scaled.source, scaled.target, "proved", words, scaled.error)


def _place(vectors: Vectors, scaled: Scaled, norm: BatchNorm) -> None:
    """Match the weight and the bias that the fold made; the rest of the batch-norm is absorbed."""
    pairing = vectors.pairing
    name = norm.mean.tensor.name.rpartition(".")[0] or norm.mean.tensor.name
    words = (
        f"batch-norm {name} (eps {norm.eps:g}) folded into axis {scaled.axis}"
        f"{_cast_words(scaled)}"
    )
    pairing.pair(scaled.source, scaled.target, "proved", words, scaled.error)
    found = _find_bias(vectors, scaled, norm)
    if found is not None:
        bias, own, error = found
        counterpart = own or norm.beta
        if counterpart is not None and pairing.is_free(counterpart):
            words = f"bias recomputed from batch-norm {name}"
            pairing.pair(counterpart, bias, "proved", words, error)
    for unit in norm.units:
        if pairing.is_free(unit):
            pairing.fold(unit, scaled.target, f"batch-norm {name} folded into the weight")


def _cast_words(scaled: Scaled) -> str:
    names = scaled.source.tensor.dtype.name, scaled.target.tensor.dtype.name
    return "" if names[0] == names[1] else f", cast {names[0]} -> {names[1]}"


# Weights that differ by one factor per channel


def _scaled_weights(pairing: Pairing, side: int, *, thorough: bool) -> Iterator[Scaled]:
    """Free weights of the other side that are a free weight of ``side`` scaled per channel.

    Candidates share the positions of the largest elements of their first rows, which a factor per
    output channel leaves alone. ``thorough`` also tries weights of like name, for scales along
    another axis and for permuted weights.
    """
    by_peaks: dict[object, list[Unit]] = defaultdict(list)
    by_axes: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
    for unit in pairing.free[side].values():
        if _scalable(unit):
            by_peaks[_peaks(pairing, unit)].append(unit)
            by_axes[tuple(sorted(unit.tensor.shape))].append(unit)
    for target in list(pairing.free[1 - side].values()):
        if not _scalable(target) or not by_axes.get(tuple(sorted(target.tensor.shape))):
            continue
        rivals = by_peaks.get(_peaks(pairing, target), [])[:CANDIDATES]
        if thorough:
            alike = sorted(by_axes[tuple(sorted(target.tensor.shape))], key=_unlike(target))
            rivals = rivals + [unit for unit in alike[:LIKELY] if unit not in rivals]
        for source in rivals:
            scaled = _scaled(pairing, source, target) if pairing.is_free(source) else None
            if scaled is not None:
                yield scaled
                break


def _scalable(unit: Unit) -> bool:
    return (
        len(unit.tensor.shape) >= 2
        and unit.tensor.dtype.name in ROUNDOFF
        and unit.distinctive
    )


def _peaks(pairing: Pairing, unit: Unit) -> object:
    """Shape, and where in the first elements of the first row the three largest are."""
    tensor = unit.tensor
    count = min(prod(tensor.shape[1:]), PREFIX)
    if not tensor.contiguous:
        return tensor.shape
    payload = payload_of(pairing.inventories[unit.side], tensor)
    start, _ = extent(tensor)
    row = elements(tensor.dtype, payload.array(start, start + tensor.dtype.nbytes(count)), count)
    if row is None:
        return tensor.shape
    return tensor.shape, *np.argsort(np.abs(row.astype(np.float64)), kind="stable")[-3:].tolist()


def _unlike(target: Unit) -> Callable[[Unit], tuple[int, int]]:
    """Sort key: sources whose name ends like the target's come first, then the file's order."""
    wanted = target.tensor.name[::-1]

    def key(source: Unit) -> tuple[int, int]:
        pairs = zip(source.tensor.name[::-1], wanted, strict=False)
        common = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(wanted))
        return -common, source.index

    return key


def _scaled(pairing: Pairing, source: Unit, target: Unit) -> Scaled | None:
    ours = array_of(pairing.inventories[source.side], source)
    theirs = array_of(pairing.inventories[target.side], target)
    if ours is None or theirs is None:
        return None
    tolerance = ROUNDINGS * max(
        ROUNDOFF[target.tensor.dtype.name],
        ROUNDOFF[source.tensor.dtype.name] if source.tensor.dtype.bits > 32 else 0.0,
    )
    for order in permutations(range(ours.ndim)):
        turned = ours.transpose(order)
        if turned.shape != theirs.shape:
            continue
        for axis in range(min(ours.ndim, 2)):
            found = _factors(turned, theirs, order.index(axis), tolerance)
            if found is not None:
                return Scaled(source, target, axis, found[0], found[1], ours)
    return None


def _factors(
    ours: Array, theirs: Array, axis: int, tolerance: float
) -> tuple[Vector, float] | None:
    """The factor of each channel and the largest relative error; None unless they are constant."""
    channels = ours.shape[axis]
    rows = np.moveaxis(ours, axis, 0).reshape(channels, -1)
    wanted = np.moveaxis(theirs, axis, 0).reshape(channels, -1)
    if rows.shape[1] < 2:
        return None  # one element per channel has a factor whatever it is
    # The first channel refuses nearly every wrong candidate for the price of one row.
    for part in (slice(0, 1), slice(None)):
        found = _row_factors(rows[part], wanted[part], tolerance)
        if found is None:
            return None
    return found


def _row_factors(rows: Array, wanted: Array, tolerance: float) -> tuple[Vector, float] | None:
    at = np.argmax(np.abs(rows), axis=1)[:, None]
    peaks = np.take_along_axis(rows, at, axis=1).astype(np.float64)
    with np.errstate(all="ignore"):
        factors = np.take_along_axis(wanted, at, axis=1).astype(np.float64) / peaks
        factors[peaks == 0] = 1.0
        expected = rows * factors.astype(rows.dtype)
        error = np.abs(expected - wanted)
        bound = np.abs(wanted) * tolerance + np.abs(peaks * factors).astype(rows.dtype) * (
            tolerance * 2.0**-10
        )
        if not np.all(error <= bound) or not np.all(np.isfinite(factors)):
            return None
        relative = float(np.max(error / np.maximum(np.abs(peaks * factors), np.float64(1e-300))))
    return factors[:, 0], relative


def _find_norm(scaled: Scaled, norms: list[BatchNorm]) -> BatchNorm | None:
    """The batch-norm whose scale is the factor of every channel; the closest if several are."""
    tolerance = 2 * ROUNDINGS * ROUNDOFF[scaled.target.tensor.dtype.name]
    best: tuple[float, BatchNorm] | None = None
    for norm in norms:
        # One channel refuses nearly every other batch-norm of the same width.
        if abs(norm.scale[0] - scaled.factors[0]) > tolerance * abs(norm.scale[0]):
            continue
        errors = np.abs(norm.scale - scaled.factors)
        worst = float(np.max(errors))
        if np.all(errors <= tolerance * np.abs(norm.scale)) and (best is None or worst < best[0]):
            best = worst, norm
    return best[1] if best else None


# The bias that the fold made


def _find_bias(
    vectors: Vectors, scaled: Scaled, norm: BatchNorm
) -> tuple[Unit, Unit | None, float] | None:
    """(new bias, the layer's own bias if it had one, largest difference)."""
    tolerance = 4 * ROUNDINGS * ROUNDOFF[scaled.target.tensor.dtype.name]
    absorbed = {unit.index for unit in norm.units}
    for base, spread, factor in _bias_terms(scaled, norm):
        owns: list[tuple[Unit | None, Vector]] = [(None, np.zeros_like(base))]
        owns += [
            (unit, value)
            for unit, value in vectors.free(scaled.source.side, len(base))
            if unit.index not in absorbed
        ]
        for bias, actual in vectors.free(scaled.target.side, len(base)):
            for own, value in owns:
                # One channel refuses nearly every wrong pair.
                for part in (slice(0, 1), slice(None)):
                    term = factor[part] * value[part]
                    error = np.abs(base[part] + term - actual[part])
                    bound = spread[part] + np.abs(term) + np.abs(actual[part])
                    if np.any(error > tolerance * bound):
                        break
                else:
                    return bias, own, float(error.max())
    return None


def _bias_terms(scaled: Scaled, norm: BatchNorm) -> Iterator[tuple[Vector, Vector, Vector]]:
    """(bias without the layer's own, what cancels in it, factor of the layer's own bias).

    Which axis of a weight is the output differs between convolutions and transposed ones, so the
    scale alone does not say whether the batch-norm was behind the layer or in front of it.
    """
    yield norm.shift, norm.magnitude, norm.scale
    weight = np.moveaxis(scaled.weight, scaled.axis, 1)
    weight = weight.reshape(*weight.shape[:2], -1)
    yield (
        weight.sum(axis=2, dtype=np.float64) @ norm.shift,
        np.abs(weight).sum(axis=2, dtype=np.float64) @ norm.magnitude,
        np.ones(len(weight)),
    )
