"""Weights that differ by one factor per channel, found by their peaks and compared in full.

Tolerance: exporters compute a fold in the element type of the weights, with about four roundings
for the scale and one for the product, in an order that is theirs to choose. ``ROUNDINGS`` units of
roundoff of the target's type bound that with a factor of three to spare, and are a thousand times
finer than the difference between two batch-norms.

Without a batch-norm to explain the factors the bound has to be tighter: one more training step moves
a half-precision weight by a unit in the last place, and a factor of one with a generous tolerance
would call that a proof. There only the rounding of one product is allowed, and most factors have to
be away from one by more than any rounding.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Container, Iterator
from itertools import pairwise, permutations
from math import prod
from typing import NamedTuple

import numpy as np

from sizeforensics.content import payload_of
from sizeforensics.dtypes import elements
from sizeforensics.excerpts import along_vector
from sizeforensics.inventory import Inventory
from sizeforensics.matching.arrays import ROUNDOFF, SMALLEST_NORMAL, Array, Vector, array_of
from sizeforensics.matching.casts import as_float
from sizeforensics.matching.folding.likely import Likely
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.likeness import CHANNELS, SortedRows, evenly, shares
from sizeforensics.matching.units import Unit, cast_words
from sizeforensics.spans import Integers
from sizeforensics.views import extent

ROUNDINGS = 16

PLAIN_ROUNDINGS = 4
"""Units of roundoff allowed where no batch-norm explains the factors: the factor is itself taken
from a rounded product."""

FAR = 64
"""Units of roundoff by which most factors must differ from one to be a scaling at all."""

CANDIDATES = 8
"""Weights with peaks at the same places that are compared with another before giving up."""

LIKELY = 4
"""Weights that are compared besides, along every axis and in every layout: all, or where there are
more those that no factor per channel tells apart, then those of like name."""

PREFIX = 64
"""Elements of the first row in which peaks are looked for."""

BLOCK_ELEMENTS = 1 << 16
"""Elements compared at once: all temporary arrays of a block stay in the processor's cache."""


class Scaled(NamedTuple):
    """``target`` is ``source`` times one factor per channel of ``axis`` (of the source)."""

    source: Unit
    target: Unit
    axis: int
    factors: Vector
    slack: Vector
    """How far each factor may be off because its channel is too small for the target's type:
    infinite in a channel of zeros, which any factor leaves alone."""
    plain: bool
    """Whether the factors stand on their own: exact to one rounding, and mostly not one."""
    error: float
    """The largest absolute difference from exactly scaled channels."""
    channels: int
    roundoff: float
    """That of the type in which the product was computed."""
    how: str = ""
    """What else happened to the source, as words to add."""
    kept: Integers | None = None
    """Of excerpts: which elements of a vector's grid belong to the factors."""

    def of_channels(self, vector: Vector) -> Vector:
        """The elements of a vector of all channels that belong to the factors."""
        return vector if self.kept is None else vector[self.kept]


class Layout(NamedTuple):
    """How two weights are seen as rows of one channel each.

    ``order`` permutes the source's axes into the target's; ``axis`` is the channel's, counted in
    the source; transposed convolutions keep their output channels in ``groups`` of the first axis
    and the second.
    """

    order: tuple[int, ...]
    axis: int
    groups: int = 1


def scaled_weights(
    pairing: Pairing, side: int, widths: Collection[int], settled: Container[tuple[int, int]]
) -> Iterator[Scaled]:
    """Free weights of the other side that are a free weight of ``side`` scaled per channel.

    Further candidates follow until the caller has ``settled`` the target, by side and index; a
    source that is settled is no candidate any more.
    Candidates share the positions of the largest elements of their first rows, which a factor per
    output channel leaves alone. Where ``side`` has batch-norms, ``widths`` of channels wide,
    others of the same axes are tried too, for scales along another axis and for permuted weights.
    """
    wholes = _Wholes(pairing)
    by_peaks: dict[object, list[Unit]] = defaultdict(list)
    crowds: dict[object, _Crowd] = {}
    by_axes: dict[tuple[int, ...], list[Unit]] = defaultdict(list)
    for unit in pairing.free[side].values():
        if scalable(unit):
            by_peaks[_peaks(pairing, unit)].append(unit)
            by_axes[tuple(sorted(unit.tensor.shape))].append(unit)
    likely = Likely(pairing, by_axes, ROUNDINGS)
    for target in list(pairing.free[1 - side].values()):
        alike = by_axes.get(tuple(sorted(target.tensor.shape))) if scalable(target) else None
        if not alike:
            continue
        key = _peaks(pairing, target)
        peers = by_peaks.get(key, [])
        if len(peers) > CANDIDATES and target.tensor.contiguous and target.excerpt is None:
            if key not in crowds:
                crowds[key] = _Crowd(pairing, peers)
            peers = crowds[key].like(target)
        for source, layout in _tries(target, peers, alike, likely, widths):
            if (source.side, source.index) not in settled:
                found = _factors(wholes, source, target, layout)
                if found is not None:
                    yield Scaled(
                        source, target, layout.axis, *found,
                        channels=source.tensor.shape[layout.axis] * layout.groups,
                        roundoff=ROUNDOFF[target.tensor.dtype.name], how=cast_words(source, target),
                        kept=_kept(source, layout),
                    )
                    if (target.side, target.index) in settled:
                        break


class _Crowd:
    """Weights of one shape with peaks at the same places, told apart by more of their rows.

    Of the first elements of some rows each has a share of the sum of their squares, which a factor for
    the row leaves alone.
    """

    def __init__(self, pairing: Pairing, units: list[Unit]) -> None:
        self._pairing = pairing
        self._units = units
        self._rows = SortedRows(np.array([self._shares(unit) for unit in units]))

    def like(self, target: Unit) -> list[Unit]:
        """Those that a target may be, scaled."""
        wanted, around = self._shares(target), 4 * ROUNDINGS * ROUNDOFF[target.tensor.dtype.name]
        found = self._rows.between(wanted * (1 - around) - around, wanted * (1 + around) + around)
        return [self._units[row] for row in found.tolist()]

    def _shares(self, unit: Unit) -> Array:
        shape, inventory = unit.tensor.shape, self._pairing.inventories[unit.side]
        length = unit.tensor.elements // shape[0]
        rows = [
            read_floats(inventory, unit, row * length, row * length + min(length, CHANNELS))
            for row in evenly(shape[0], CHANNELS).tolist()
        ]
        return shares(np.array(rows, dtype=np.float64) ** 2).reshape(-1)


def _tries(
    target: Unit, peers: list[Unit], alike: list[Unit], likely: Likely, widths: Collection[int]
) -> Iterator[tuple[Unit, Layout]]:
    """Sources and layouts worth comparing with a target, the likeliest first."""
    identity = Layout(tuple(range(len(target.tensor.shape))), 0)
    for source in peers[:CANDIDATES]:
        yield source, identity
    if not widths:
        return
    few = len(alike) <= LIKELY
    if not few and target.excerpt is None:
        for source in likely.of(target, widths, LIKELY):
            for layout in _layouts(source, target, widths):
                yield source, layout
    # What no table tells: excerpts, and transposed convolutions in groups.
    if few or target.excerpt is not None or _grouped(target.tensor.shape, widths):
        for source in sorted(alike, key=_unlike(target))[:LIKELY]:
            for layout in _layouts(source, target, widths):
                yield source, layout


def _grouped(shape: tuple[int, ...], widths: Collection[int]) -> list[tuple[int, int]]:
    """Widths of the channels that a transposed convolution may have, and in how many groups."""
    found = [(width, width // shape[1]) for width in widths if width % shape[1] == 0]
    return [(width, groups) for width, groups in found if groups > 1 and shape[0] % groups == 0]


def scalable(unit: Unit) -> bool:
    """Whether a unit is a weight with channels of its own, in floats that can be read."""
    return (
        len(unit.tensor.shape) >= 2
        and unit.tensor.dtype.name in ROUNDOFF
        and unit.distinctive
        and unit.digest is not None
    )


def _layouts(source: Unit, target: Unit, widths: Collection[int]) -> Iterator[Layout]:
    shape = source.tensor.shape
    for order in permutations(range(len(shape))):
        if tuple(shape[axis] for axis in order) != target.tensor.shape:
            continue
        for axis in (0, 1):
            if shape[axis] in widths:
                yield Layout(order, axis)
        if order != tuple(range(len(shape))):
            continue  # no exporter permutes a transposed convolution
        for _, groups in _grouped(shape, widths):
            yield Layout(order, 1, groups)


def _peaks(pairing: Pairing, unit: Unit) -> object:
    """Shape, and where in the first elements of the first row the three largest are."""
    tensor = unit.tensor
    if unit.excerpt is not None:
        whole = array_of(pairing.inventories[unit.side], unit)
        if whole is None:
            return tensor.shape
        row = whole[0].reshape(-1)
    elif not tensor.contiguous:
        return tensor.shape
    else:
        row = read_floats(pairing.inventories[unit.side], unit, 0, min(prod(tensor.shape[1:]), PREFIX))
    return tensor.shape, *np.argsort(np.abs(row), kind="stable")[-3:].tolist()


def _unlike(target: Unit) -> Callable[[Unit], tuple[int, int]]:
    """Sort key: sources whose name ends like the target's come first, then the file's order."""
    wanted = target.tensor.name[::-1]

    def key(source: Unit) -> tuple[int, int]:
        pairs = zip(source.tensor.name[::-1], wanted, strict=False)
        common = next((at for at, (ours, theirs) in enumerate(pairs) if ours != theirs), len(wanted))
        return -common, source.index

    return key


def _factors(
    wholes: _Wholes, source: Unit, target: Unit, layout: Layout
) -> tuple[Vector, Vector, bool, float] | None:
    """``Scaled`` from ``factors`` to ``error``; None unless every channel has a factor."""
    if source.excerpt is not None:
        return _kept_factors(wholes, source, target, layout)
    ours = _rows(wholes, source, layout)
    theirs = _rows(
        wholes, target,
        layout._replace(order=tuple(range(len(layout.order))), axis=layout.order.index(layout.axis)),
    )
    channels = source.tensor.shape[layout.axis] * layout.groups
    length = source.tensor.elements // channels
    type_name = target.tensor.dtype.name

    factors: list[Vector] = []
    slack: list[Vector] = []
    worst = most_roundings = 0.0
    # The first channel alone refuses nearly every wrong candidate.
    step = max(BLOCK_ELEMENTS // length, 1)
    edges = [0, *range(1, channels, step), channels]
    for first, last in pairwise(edges):
        found = _row_factors(ours(first, last), theirs(first, last), type_name)
        if found is None:
            return None
        factors.append(found[0])
        slack.append(found[1])
        most_roundings = max(most_roundings, found[2])
        worst = max(worst, found[3])
    every = np.concatenate(factors)
    # One element per channel has a factor whatever it is: there only a batch-norm is a reason.
    plain = length > 1 and _stand_alone(every, most_roundings, type_name)
    return every, np.concatenate(slack), plain, worst


def _stand_alone(factors: Vector, roundings: float, type_name: str) -> bool:
    away = np.abs(factors - 1) > FAR * ROUNDOFF[type_name]
    return bool(roundings <= PLAIN_ROUNDINGS and 2 * np.count_nonzero(away) > len(factors))


def _kept_factors(
    wholes: _Wholes, source: Unit, target: Unit, layout: Layout
) -> tuple[Vector, Vector, bool, float] | None:
    """``_factors`` of the channels that two excerpts keep."""
    if layout.groups > 1:
        return None
    ours, theirs = wholes.read(source), wholes.read(target)
    turned = ours.transpose(layout.order)
    if turned.shape != theirs.shape:
        return None
    at = layout.order.index(layout.axis)
    rows, wanted = (
        np.ascontiguousarray(np.moveaxis(grid, at, 0)).reshape(grid.shape[at], -1)
        for grid in (turned, theirs)
    )
    type_name = target.tensor.dtype.name
    found = _row_factors(rows, wanted, type_name)
    if found is None:
        return None
    factors, slack, roundings, worst = found
    plain = rows.shape[1] > 1 and _stand_alone(factors, roundings, type_name)
    return factors, slack, plain, worst


def _kept(source: Unit, layout: Layout) -> Integers | None:
    if source.excerpt is None:
        return None
    shape = source.tensor.shape
    return along_vector(shape[layout.axis], sum(size != 1 for size in shape))


class _Wholes:
    """Weights read in full, the last few kept: each is compared with several, in several layouts."""

    def __init__(self, pairing: Pairing) -> None:
        self.inventories = pairing.inventories
        self._kept: OrderedDict[tuple[int, int], Array] = OrderedDict()

    def read(self, unit: Unit) -> Array:
        key = unit.side, unit.index
        whole = self._kept.pop(key, None)
        if whole is None:
            whole = array_of(self.inventories[unit.side], unit)
        if whole is None:
            raise ValueError(f"tensor {unit.tensor.name!r} cannot be read as floats")
        self._kept[key] = whole
        if len(self._kept) > LIKELY + 1:
            self._kept.popitem(last=False)
        return whole


def _rows(wholes: _Wholes, unit: Unit, layout: Layout) -> Callable[[int, int], Array]:
    """Reads rows [first, last) of a weight, one per channel, as floats."""
    shape = unit.tensor.shape
    ordered = layout.order == tuple(range(len(shape)))
    if ordered and layout.axis == 0 and layout.groups == 1 and unit.tensor.contiguous:
        length = unit.tensor.elements // shape[0]
        inventory = wholes.inventories[unit.side]
        return lambda first, last: read_floats(inventory, unit, first * length, last * length).reshape(
            -1, length
        )
    whole = wholes.read(unit)
    # Views, of which only the rows that are compared are copied: most candidates fail at the first.
    if layout.groups > 1:
        grouped = whole.reshape(layout.groups, shape[0] // layout.groups, shape[1], -1)
        channels = grouped.transpose(0, 2, 1, 3)
        return lambda first, last: channels[np.divmod(np.arange(first, last), shape[1])].reshape(
            last - first, -1
        )
    rows = np.moveaxis(whole.transpose(layout.order), layout.order.index(layout.axis), 0)
    return lambda first, last: rows[first:last].reshape(last - first, -1)


def read_floats(inventory: Inventory, unit: Unit, first: int, last: int) -> Array:
    """Elements [first, last) of a contiguous float tensor, float32 or wider."""
    dtype = unit.tensor.dtype
    start, _ = extent(unit.tensor)
    size = dtype.bits // 8
    data = payload_of(inventory, unit.tensor).array(start + first * size, start + last * size)
    flat = elements(dtype, data, last - first)
    if flat is None:
        raise ValueError(f"type {dtype.name} has no numpy equivalent")
    return flat if dtype.bits >= 32 else as_float(flat, dtype.name, "float32")


def _row_factors(
    rows: Array, wanted: Array, type_name: str
) -> tuple[Vector, Vector, float, float] | None:
    """Factors and their slack, the largest error in units of roundoff, and in absolute terms."""
    roundoff, smallest = ROUNDOFF[type_name], SMALLEST_NORMAL[type_name]
    at = np.abs(rows).argmax(axis=1)[:, None]
    peaks = np.take_along_axis(rows, at, axis=1).astype(np.float64)
    with np.errstate(all="ignore"):
        factors = np.take_along_axis(wanted, at, axis=1).astype(np.float64) / peaks
        factors[peaks == 0] = 1.0
        error = rows * factors.astype(rows.dtype)
        error -= wanted
        np.abs(error, out=error)
        worst = float(error.max())
        # Next to its channel's peak an element may lose all but the last bits.
        floor = (np.abs(peaks * factors) * 2.0**-10).astype(wanted.dtype)
        size = np.abs(wanted)
        size += np.maximum(floor, smallest, dtype=size.dtype)  # of a channel of zeros too
        error /= size
        roundings = float(error.max()) / roundoff
        slack = ROUNDINGS * roundoff * smallest / np.abs(peaks)
    if not roundings <= ROUNDINGS or not np.all(np.isfinite(factors)):
        return None
    return factors[:, 0], slack[:, 0], roundings, worst
