"""Low-rank adapters that were merged: a weight that is another one plus ``s B A``.

LoRA (Hu et al. 2021, section 4.1) trains a thin matrix ``A`` and a flat one ``B`` beside a frozen
weight and adds ``s B A`` to it when they are merged, ``s`` being ``alpha / r``, or ``alpha / sqrt(r)``.
PEFT, loralib and kohya's scripts store them under different names and in different shapes, so names
are not looked at: ``A`` sends its null space to zero, hence both weights map a vector of it to the
same image, which finds the two; ``s`` is solved from all elements, and all elements are compared.

A fused projection may have adapters for some of its parts (loralib's ``MergedLinear``): the ``A`` of
all parts are stacked, and so are the ``B``, each of which belongs to the rows of its part. DoRA (Liu et
al. 2024, section 4.1) gives each row of the sum a length of its own, a vector beside the two.

Tolerance: merging rounds the product, the product times ``s``, and the sum, in the type of the
weight: ``ROUNDINGS`` units of roundoff of what is added and of the result, and the accumulated
roundoff of the product itself in single precision. So that this is no licence to call any small
change an adapter, ``s B A`` has to account for most of the difference between the two weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.matching.arrays import (
    ROUNDOFF,
    Doubles,
    array_of,
    doubles,
    nearest,
)
from sizeforensics.matching.folding.scaling import read_floats
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.parts.factors import computable, is_there, layouts, pairs_of_factors
from sizeforensics.matching.units import Unit, cast_words

ROUNDINGS = 4

EXPLAINED = 0.5
"""Share of the squared difference of two weights that the adapter has to explain."""

CANDIDATES = 4
"""Weights of nearest images, and numbers stored nearest to a factor, that are tried."""

PARTNERS = 16
"""Weights whose first rows are most like those of another one, of which it may be the sum."""

PARTNERED = 1024
"""Weights whose partners are looked for at once."""

PROBED = 4
"""Rows of a weight that are multiplied with two vectors of the null space."""

ALIKE = 0.1
"""Sine of the angle of two images above which rounding cannot be what separates them."""

BLOCK_ELEMENTS = 1 << 20
"""Elements compared at once."""


class _Matrix(NamedTuple):
    """A unit seen as a matrix; ``turned`` where its transpose is stored."""

    unit: Unit
    rows: int
    columns: int
    turned: bool


class _Merge(NamedTuple):
    scale: float
    error: float
    lengths: Unit | None = None
    """The lengths of the rows, where the sum was given others than its own."""


def match_merged(pairing: Pairing) -> None:
    """Match free weights that differ by a low-rank product of two tensors of one side."""
    weights = _Weights(pairing, 0), _Weights(pairing, 1)
    shared = weights[0].by_elements.keys() & weights[1].by_elements.keys()
    pairs = _Pairs(pairing, *weights), _Pairs(pairing, *weights[::-1])
    with np.errstate(all="ignore"):  # what is not finite fails every comparison below
        for side in (0, 1):
            for first, seconds in pairs_of_factors(pairing, side, shared):
                if is_there(pairing, first):
                    _match(pairing, first, seconds, pairs[side])


class _Weights:
    """The free weights of one side as matrices, and a few rows of each, read once."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._pairing = pairing
        self.by_elements: dict[int, list[Unit]] = defaultdict(list)
        for unit in pairing.free[side].values():
            if computable(unit):
                self.by_elements[unit.tensor.elements].append(unit)
        self._probes: dict[tuple[int, int], tuple[list[_Matrix], Doubles]] = {}

    def probes(self, size: tuple[int, int]) -> tuple[list[_Matrix], Doubles]:
        """The matrices of a size, and the first rows of each."""
        if size not in self._probes:
            views = [view for unit in self.by_elements[prod(size)] for view in _views(unit, size)]
            first_rows = [_rows(self._pairing, view)(0, PROBED) for view in views]
            self._probes[size] = views, np.array(first_rows, dtype=np.float64)
        return self._probes[size]


class _Pairs:
    """Weights of one side, and those of the other that each may have become.

    What a merge adds is small beside a weight, so first rows that are no more alike than those of
    other weights are not looked at again for every adapter.
    """

    def __init__(self, pairing: Pairing, ours: _Weights, theirs: _Weights) -> None:
        self._pairing, self._ours, self._theirs = pairing, ours, theirs
        self._partners: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def alike(
        self, size: tuple[int, int], vectors: Doubles, factors: tuple[Unit, Unit]
    ) -> Iterator[tuple[_Matrix, _Matrix]]:
        """Free matrices whose rows make nearly parallel images of vectors, a few for each target."""
        (sources, own), (targets, rows) = self._ours.probes(size), self._theirs.probes(size)
        if not sources or not targets:
            return
        partners = self._partners_of(size)
        others, image = (own @ vectors)[partners], (rows @ vectors)[:, None]
        cross = np.abs(others[..., 0] * image[..., 1] - others[..., 1] * image[..., 0])
        sizes = np.linalg.norm(others, axis=-1) * np.linalg.norm(image, axis=-1)
        sines = np.divide(cross, sizes, out=np.zeros_like(cross), where=sizes > 0).max(axis=2)
        for at in np.flatnonzero((sines <= ALIKE).any(axis=1)).tolist():
            order = np.argsort(sines[at], kind="stable")
            for source in partners[at][order[sines[at][order] <= ALIKE]][:CANDIDATES].tolist():
                units = sources[source].unit, targets[at].unit
                if all(self._pairing.is_free(unit) and unit not in factors for unit in units):
                    yield sources[source], targets[at]

    def _partners_of(self, size: tuple[int, int]) -> npt.NDArray[np.int64]:
        """For each target the sources most like it, in the order of the file."""
        if size not in self._partners:
            own, rows = (
                _directions(side.probes(size)[1]) for side in (self._ours, self._theirs)
            )
            parts = [
                np.argsort(-(rows[first : first + PARTNERED] @ own.T), axis=1, kind="stable")
                for first in range(0, len(rows), PARTNERED)
            ]
            self._partners[size] = np.sort(np.concatenate([part[:, :PARTNERS] for part in parts]), axis=1)
        return self._partners[size]


def _directions(rows: Doubles) -> Doubles:
    """Of the first rows of matrices one vector of length 1 for each; NaN and infinities count as nothing."""
    flat = np.nan_to_num(rows.reshape(len(rows), -1), posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    directions: Doubles = flat / np.where(lengths > 0, lengths, 1.0)
    return directions


def _match(pairing: Pairing, first: Unit, seconds: list[Unit], pairs: _Pairs) -> None:
    thin = _matrix(pairing, first)
    if thin is None:
        return
    probes = np.random.default_rng(0).standard_normal((thin.shape[1], 2))
    # The rank is small, so this is faster than an orthogonal basis; it need not be as exact.
    gram = thin @ thin.T
    gram += np.eye(len(gram)) * (1e-12 * np.trace(gram))
    vectors = np.asarray(probes - thin.T @ np.linalg.solve(gram, thin @ probes))
    for second in seconds:
        flat = _matrix(pairing, second) if is_there(pairing, second) else None
        if flat is None:
            continue
        for spread in layouts(flat, len(thin)):
            size, factors = (len(spread), thin.shape[1]), (first, second)
            for source, target in pairs.alike(size, vectors, factors):
                merge = _merged(pairing, source, target, thin, spread)
                if merge is None:
                    merge = _decomposed(pairing, source, target, thin, spread)
                if merge is not None:
                    _place(pairing, factors, source, target, merge)
                    return


def _matrix(pairing: Pairing, unit: Unit) -> Doubles | None:
    """A factor as a matrix, all axes but the first joined; None unless all of it is finite."""
    found = doubles(pairing, unit)
    if found is None or not np.all(np.isfinite(found)):
        return None
    return found.reshape(len(found), -1)


def _views(unit: Unit, size: tuple[int, int]) -> Iterator[_Matrix]:
    """A unit as matrices of a size: in the order of its elements, or transposed."""
    if unit.tensor.contiguous:
        yield _Matrix(unit, *size, turned=False)
    if unit.tensor.shape == size[::-1]:
        yield _Matrix(unit, *size, turned=True)


def _rows(pairing: Pairing, view: _Matrix) -> Callable[[int, int], npt.NDArray[np.floating]]:
    """Reads rows [first, last) of a matrix."""
    inventory, columns = pairing.inventories[view.unit.side], view.columns
    if not view.turned:
        return lambda first, last: read_floats(
            inventory, view.unit, first * columns, min(last, view.rows) * columns
        ).reshape(-1, columns)
    whole = array_of(inventory, view.unit)
    if whole is None:
        raise ValueError(f"tensor {view.unit.tensor.name!r} cannot be read as floats")
    return lambda first, last: whole.T[first:last]


def _merged(
    pairing: Pairing, source: _Matrix, target: _Matrix, first: Doubles, second: Doubles
) -> _Merge | None:
    """The scale with which the product leads from one weight to the other, in all elements."""
    ours, theirs = _rows(pairing, source), _rows(pairing, target)
    step = max(BLOCK_ELEMENTS // source.columns, 1)
    edges = range(0, source.rows, step)
    along = product_square = square = 0.0
    for start in edges:
        change = theirs(start, start + step).astype(np.float64) - ours(start, start + step)
        product = second[start : start + step] @ first
        along += float(np.vdot(change, product))
        product_square += float(np.vdot(product, product))
        square += float(np.vdot(change, change))
    if not product_square > 0 or not along * along >= EXPLAINED * square * product_square:
        return None
    scale = along / product_square
    roundoff = ROUNDINGS * max(
        ROUNDOFF[unit.tensor.dtype.name] for unit in (source.unit, target.unit)
    )
    accumulated = len(first) * ROUNDOFF["float32"] * abs(scale)
    lengths = np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=1)
    worst = 0.0
    for start in edges:
        own, stored = ours(start, start + step), theirs(start, start + step).astype(np.float64)
        added = scale * (second[start : start + step] @ first)
        bound = roundoff * (np.abs(own) + np.abs(stored) + np.abs(added))
        bound += accumulated * np.outer(lengths[1][start : start + step], lengths[0])
        error = np.abs(stored - own - added)
        if not np.all(error <= bound):
            return None
        worst = max(worst, float(error.max()))
    return _Merge(scale, worst)


def _decomposed(
    pairing: Pairing, source: _Matrix, target: _Matrix, first: Doubles, second: Doubles
) -> _Merge | None:
    """The scale of a sum whose rows then get the lengths that a free vector of that side holds."""
    own, stored = (
        _rows(pairing, matrix)(0, matrix.rows).astype(np.float64) for matrix in (source, target)
    )
    product = second @ first
    # Two unknowns a row: what both are multiplied with, and that times the scale.
    squares = [(one * other).sum(axis=1) for one, other in (
        (own, own), (own, product), (product, product), (own, stored), (product, stored))]  # fmt: skip
    determinant = squares[0] * squares[2] - squares[1] ** 2
    factors = (squares[2] * squares[3] - squares[1] * squares[4]) / determinant
    shares = (squares[0] * squares[4] - squares[1] * squares[3]) / determinant
    usable = determinant > 1e-6 * squares[0] * squares[2]
    if not usable.any() or not np.all(factors[usable]):
        return None
    weights = squares[2][usable]
    scale = float((weights * shares[usable] / factors[usable]).sum() / weights.sum())
    summed = own + scale * product
    lengths = np.linalg.norm(summed, axis=1)
    factors = (summed * stored).sum(axis=1) / lengths**2
    roundoff = ROUNDINGS * max(
        ROUNDOFF[unit.tensor.dtype.name] for unit in (source.unit, target.unit)
    )
    error = np.abs(stored - factors[:, None] * summed)
    size = np.abs(factors)[:, None] * (np.abs(own) + np.abs(scale * product)) + np.abs(stored)
    if not np.isfinite(scale) or not np.all(error <= 2 * roundoff * size):
        return None
    without = stored - (squares[3] / squares[0])[:, None] * own
    if not np.vdot(error, error) <= (1 - EXPLAINED) * np.vdot(without, without):
        return None
    vectors = [
        unit
        for unit in pairing.units[source.unit.side]
        if is_there(pairing, unit) and unit.tensor.elements == source.rows and unit.tensor.dtype.name in ROUNDOFF
    ]
    for unit in nearest(source.unit, vectors, CANDIDATES):
        values = doubles(pairing, unit)
        if values is not None and np.all(
            np.abs(values.reshape(-1) - factors * lengths) <= roundoff * np.abs(factors * lengths)
        ):
            return _Merge(scale, float(error.max()), unit)
    return None


def _place(
    pairing: Pairing,
    factors: tuple[Unit, Unit],
    source: _Matrix,
    target: _Matrix,
    merge: _Merge,
) -> None:
    first, second = factors
    words = f"{merge.scale:.4g} times {second.tensor.name} @ {first.tensor.name} added"
    if merge.lengths is not None:
        words += f", rows of the lengths {merge.lengths.tensor.name}"
    if source.turned != target.turned:
        words += ", axes permuted (1, 0)"
    words += cast_words(source.unit, target.unit)
    pairing.pair(source.unit, target.unit, "proved", words, merge.error)
    for unit in (*factors, *(() if merge.lengths is None else (merge.lengths,))):
        if pairing.is_free(unit):
            pairing.fold(unit, target.unit, "low-rank adapter merged into")
    rank = prod(second.tensor.shape[1:])
    alpha = _alpha(pairing, second, (merge.scale * rank, merge.scale * sqrt(rank)))
    if alpha is not None:
        pairing.fold(alpha, target.unit, "scale of the adapter merged into")


def _alpha(pairing: Pairing, near: Unit, wanted: tuple[float, ...]) -> Unit | None:
    """The scalar stored nearest that says how much of an adapter is added."""
    scalars = [unit for unit in pairing.free[near.side].values() if unit.tensor.elements == 1]
    for unit in nearest(near, scalars, CANDIDATES):
        value = doubles(pairing, unit)
        if value is not None and any(
            abs(float(value.reshape(-1)[0]) - number) <= 0.01 * abs(number) for number in wanted
        ):
            return unit
    return None
