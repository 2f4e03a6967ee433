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
from itertools import combinations
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.matching.arrays import (
    MOST_ELEMENTS,
    ROUNDOFF,
    Doubles,
    array_of,
    doubles,
    nearest,
)
from sizeforensics.matching.folding.scaling import read_floats
from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit, cast_words

ROUNDINGS = 4

EXPLAINED = 0.5
"""Share of the squared difference of two weights that the adapter has to explain."""

CANDIDATES = 4
"""Second factors stored nearest to a first one, and weights of nearest images, that are tried."""

PROBED = 4
"""Rows of a weight that are multiplied with two vectors of the null space."""

ALIKE = 0.1
"""Sine of the angle of two images above which rounding cannot be what separates them."""

MOST_PARTS = 3
"""Parts of a fused projection, such as query, key and value."""

MOST_RANK = 256
"""Rank of the largest adapters; finding the null space of a larger factor takes its cube."""

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
    with np.errstate(all="ignore"):  # what is not finite fails every comparison below
        for side in (0, 1):
            for first, seconds in _factors(pairing, side, shared):
                if _is_there(pairing, first):
                    _match(pairing, first, seconds, weights[side], weights[1 - side])


def fold_named(pairing: Pairing) -> None:
    """Infer of excerpts what ``match_merged`` computes: factors inside the module of a weight that
    has other values on the other side.

    Training changes more than the weights that have adapters, so it is inferred only where most of
    what changed has one.
    """
    for side in (0, 1):
        changed = _changed(pairing, side)
        found = list(_named(pairing, side, changed))
        merged = {target.index for target, _ in found}
        if 2 * len(merged) > sum(map(len, changed.values())):
            for target, members in found:
                for unit in filter(pairing.is_free, members):
                    how = "by its name and shape, low-rank adapter merged into"
                    pairing.fold(unit, target, how, "inferred")


_Changed = dict[tuple[str, ...], list[tuple[Unit, Unit]]]
"""Path of a module to its tensors that have a counterpart of their shape and name, and to those."""


def _changed(pairing: Pairing, side: int) -> _Changed:
    ours, theirs = ({unit.index: unit for unit in pairing.units[at]} for at in (side, 1 - side))
    changed: _Changed = defaultdict(list)
    for match in pairing.matches:
        source, target = ours[match.on(side)], theirs[match.on(1 - side)]
        if match.by_name and source.tensor.elements == target.tensor.elements:
            changed[components(source.tensor.name)[:-1]].append((source, target))
    return changed


def _named(pairing: Pairing, side: int, changed: _Changed) -> Iterator[tuple[Unit, list[Unit]]]:
    """Weights of the other side, and what was merged into each: factors, lengths of rows, a scale."""
    shared = {source.tensor.elements for pairs in changed.values() for source, _ in pairs}
    others: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in pairing.free[side].values() if shared else ():
        if len(unit.tensor.shape) <= 1 and components(unit.tensor.name)[-1:] != ("bias",):
            others[_enclosing(unit, changed)].append(unit)
    for first, seconds in _factors(pairing, side, shared):
        module, columns = _enclosing(first, changed), prod(first.tensor.shape[1:])
        for second in seconds:
            groups = first.tensor.shape[0] // prod(second.tensor.shape[1:])
            sizes = {rows * columns for rows in _heights(second.tensor.shape[0], groups)}
            fitting = [
                target for source, target in changed.get(module, ()) if source.tensor.elements in sizes
            ]
            if len(fitting) == 1 and _enclosing(second, changed) == module:
                rows = fitting[0].tensor.elements // columns
                around = [unit for unit in others[module] if unit.tensor.elements in (1, rows)]
                yield fitting[0], [first, second, *around]


def _enclosing(unit: Unit, changed: _Changed) -> tuple[str, ...]:
    """The innermost module around a tensor that holds a changed one; no path where none does."""
    path = components(unit.tensor.name)
    return next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in changed), ())


class _Weights:
    """The free weights of one side as matrices, and a few rows of each, read once."""

    def __init__(self, pairing: Pairing, side: int) -> None:
        self._pairing = pairing
        self.by_elements: dict[int, list[Unit]] = defaultdict(list)
        for unit in pairing.free[side].values():
            if _computable(unit):
                self.by_elements[unit.tensor.elements].append(unit)
        self._probes: dict[tuple[int, int], tuple[list[_Matrix], Doubles]] = {}

    def images(
        self, size: tuple[int, int], vectors: Doubles, factors: tuple[Unit, Unit]
    ) -> tuple[list[_Matrix], Doubles]:
        """The matrices of a size that are still free, and what their first rows make of vectors."""
        if size not in self._probes:
            views = [view for unit in self.by_elements[prod(size)] for view in _views(unit, size)]
            first_rows = [_rows(self._pairing, view)(0, PROBED) for view in views]
            self._probes[size] = views, np.array(first_rows, dtype=np.float64)
        views, rows = self._probes[size]
        free = [
            at
            for at, view in enumerate(views)
            if self._pairing.is_free(view.unit) and view.unit not in factors
        ]
        return [views[at] for at in free], rows[free] @ vectors if free else np.zeros(0)


def _computable(unit: Unit) -> bool:
    return (
        len(unit.tensor.shape) >= 2
        and unit.distinctive
        and unit.tensor.dtype.name in ROUNDOFF
        and unit.tensor.elements <= MOST_ELEMENTS
    )


def _factors(pairing: Pairing, side: int, shared: set[int]) -> Iterator[tuple[Unit, list[Unit]]]:
    """Every A and the Bs of its rank whose product has as many elements as weights of both sides."""
    by_rank: dict[int, list[Unit]] = defaultdict(list)
    units = [
        unit for unit in pairing.units[side] if _computable(unit) and _is_there(pairing, unit)
    ]
    for unit in units if shared else ():
        by_rank[prod(unit.tensor.shape[1:])].append(unit)
    for first in units if shared else ():
        rank, columns = first.tensor.shape[0], prod(first.tensor.shape[1:])
        if rank > MOST_RANK:
            continue
        seconds = [
            second
            for groups in range(1, MOST_PARTS + 1)
            if rank % groups == 0
            for second in nearest(first, by_rank.get(rank // groups, []), CANDIDATES)
            if second is not first
            and any(rows * columns in shared for rows in _heights(second.tensor.shape[0], groups))
            and 2 * rank <= min(second.tensor.shape[0], columns)
        ]
        if seconds:
            yield first, seconds


def _is_there(pairing: Pairing, unit: Unit) -> bool:
    """Whether a factor was not absorbed yet; where both sides keep the adapter it is matched."""
    return pairing.is_free(unit) or unit.index in pairing.matched[unit.side]


def _heights(rows: int, groups: int) -> list[int]:
    """Rows that a weight may have to whose parts ``rows`` rows of as many Bs belong."""
    if rows % groups:
        return []
    return [rows // groups * parts for parts in range(groups, MOST_PARTS + 1)]


def _layouts(flat: Doubles, rank: int) -> Iterator[Doubles]:
    """B as a matrix of as many columns as A has rows: each part's own in its rows and columns."""
    groups = rank // flat.shape[1]
    height, width = len(flat) // groups, flat.shape[1]
    for parts in range(groups, MOST_PARTS + 1):
        for chosen in combinations(range(parts), groups):
            spread = np.zeros((parts * height, rank))
            for number, part in enumerate(chosen):
                own = flat[number * height : (number + 1) * height]
                spread[part * height :][:height, number * width :][:, :width] = own
            yield spread


def _match(
    pairing: Pairing, first: Unit, seconds: list[Unit], ours: _Weights, theirs: _Weights
) -> None:
    thin = _matrix(pairing, first)
    if thin is None:
        return
    probes = np.random.default_rng(0).standard_normal((thin.shape[1], 2))
    # The rank is small, so this is faster than an orthogonal basis; it need not be as exact.
    gram = thin @ thin.T
    gram += np.eye(len(gram)) * (1e-12 * np.trace(gram))
    vectors = np.asarray(probes - thin.T @ np.linalg.solve(gram, thin @ probes))
    for second in seconds:
        flat = _matrix(pairing, second) if _is_there(pairing, second) else None
        if flat is None:
            continue
        for spread in _layouts(flat, len(thin)):
            size, factors = (len(spread), thin.shape[1]), (first, second)
            sources, targets = (side.images(size, vectors, factors) for side in (ours, theirs))
            for source, target in _alike(sources, targets):
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


def _alike(
    sources: tuple[list[_Matrix], Doubles], targets: tuple[list[_Matrix], Doubles]
) -> Iterator[tuple[_Matrix, _Matrix]]:
    """Matrices whose rows have nearly parallel images, a few for each target."""
    for target, image in zip(*targets, strict=True) if sources[0] else ():
        others = sources[1]
        cross = np.abs(others[..., 0] * image[:, 1] - others[..., 1] * image[:, 0])
        sizes = np.linalg.norm(others, axis=-1) * np.linalg.norm(image, axis=-1)
        sines = np.divide(cross, sizes, out=np.zeros_like(cross), where=sizes > 0).max(axis=1)
        for at in np.argsort(sines, kind="stable")[:CANDIDATES].tolist():
            if sines[at] <= ALIKE:
                yield sources[0][at], target


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
        if _is_there(pairing, unit) and unit.tensor.elements == source.rows and unit.tensor.dtype.name in ROUNDOFF
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
