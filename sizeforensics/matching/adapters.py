"""Low-rank adapters that were merged: a weight that is another one plus ``s B A``.

LoRA (Hu et al. 2021, section 4.1) trains a thin matrix ``A`` and a flat one ``B`` beside a frozen
weight and adds ``s B A`` to it when they are merged, ``s`` being ``alpha / r``. PEFT, loralib and
kohya's scripts store them under different names and in different shapes, so names are not looked at:
``A`` sends its null space to zero, hence both weights map a vector of it to the same image, which
finds the two; ``s`` is solved from all elements, and all elements are compared.

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

from sizeforensics.matching.arrays import MOST_ELEMENTS, Doubles, doubles, nearest
from sizeforensics.matching.batch_norms import ROUNDOFF, array_of
from sizeforensics.matching.names import components
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.scaling import read_floats
from sizeforensics.matching.units import Unit

ROUNDINGS = 4

EXPLAINED = 0.5
"""Share of the squared difference of two weights that the adapter has to explain."""

CANDIDATES = 4
"""Second factors stored nearest to a first one, and weights of nearest images, that are tried."""

PROBED = 4
"""Rows of a weight that are multiplied with a vector of the null space."""

ALIKE = 0.1
"""Relative distance of two images above which rounding cannot be what separates them."""

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


def match_merged(pairing: Pairing) -> None:
    """Match free weights that differ by a low-rank product of two free tensors of one side."""
    weights = _Weights(pairing, 0), _Weights(pairing, 1)
    shared = weights[0].by_elements.keys() & weights[1].by_elements.keys()
    with np.errstate(all="ignore"):  # what is not finite fails every comparison below
        for side in (0, 1):
            for first, seconds in _factors(pairing, side, shared):
                if pairing.is_free(first):
                    _match(pairing, first, seconds, weights[side], weights[1 - side])


def fold_named(pairing: Pairing) -> None:
    """Infer of excerpts what ``match_merged`` computes: factors inside the module of a weight that
    has other values on the other side."""
    for side in (0, 1):
        ours, theirs = ({unit.index: unit for unit in pairing.units[at]} for at in (side, 1 - side))
        changed: dict[tuple[str, ...], list[tuple[Unit, Unit]]] = defaultdict(list)
        for match in pairing.matches:
            source, target = ours[match.on(side)], theirs[match.on(1 - side)]
            if match.by_name and source.tensor.elements == target.tensor.elements:
                changed[components(source.tensor.name)[:-1]].append((source, target))
        shared = {source.tensor.elements for pairs in changed.values() for source, _ in pairs}
        for first, seconds in _factors(pairing, side, shared):
            inside = _enclosing(first, changed)
            for second in seconds:
                size = second.tensor.shape[0] * prod(first.tensor.shape[1:])
                fitting = [
                    target
                    for source, target in inside
                    if source.tensor.elements == size and _enclosing(second, changed) is inside
                ]
                if len(fitting) == 1 and pairing.is_free(first) and pairing.is_free(second):
                    for unit in (first, second):
                        how = "by its name and shape, low-rank adapter merged into"
                        pairing.fold(unit, fitting[0], how, "inferred")


def _enclosing(
    factor: Unit, changed: dict[tuple[str, ...], list[tuple[Unit, Unit]]]
) -> list[tuple[Unit, Unit]]:
    """The weights of the innermost module around a factor that has any."""
    path = components(factor.tensor.name)
    for length in range(len(path) - 1, 0, -1):
        if path[:length] in changed:
            return changed[path[:length]]
    return []


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
        self, size: tuple[int, int], vector: Doubles, factors: tuple[Unit, Unit]
    ) -> tuple[list[_Matrix], Doubles]:
        """The matrices of a size that are still free, and what their first rows make of a vector."""
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
        return [views[at] for at in free], rows[free] @ vector if free else np.zeros(0)


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
    units = [unit for unit in pairing.free[side].values() if _computable(unit)]
    for unit in units if shared else ():
        by_rank[prod(unit.tensor.shape[1:])].append(unit)
    for first in units if shared else ():
        rank, columns = first.tensor.shape[0], prod(first.tensor.shape[1:])
        if rank > MOST_RANK:
            continue
        seconds = [
            second
            for second in nearest(first, by_rank.get(rank, []), CANDIDATES)
            if second is not first
            and second.tensor.shape[0] * columns in shared
            and 2 * rank <= min(second.tensor.shape[0], columns)
        ]
        if seconds:
            yield first, seconds


def _match(
    pairing: Pairing, first: Unit, seconds: list[Unit], ours: _Weights, theirs: _Weights
) -> None:
    thin = _matrix(pairing, first)
    if thin is None:
        return
    probe = np.random.default_rng(0).standard_normal((thin.shape[1],))
    # The rank is small, so this is faster than an orthogonal basis; it need not be as exact.
    gram = thin @ thin.T
    gram += np.eye(len(gram)) * (1e-12 * np.trace(gram))
    vector = np.asarray(probe - thin.T @ np.linalg.solve(gram, thin @ probe))
    for second in seconds:
        flat = _matrix(pairing, second) if pairing.is_free(second) else None
        if flat is None:
            continue
        size, factors = (len(flat), thin.shape[1]), (first, second)
        sources, targets = (side.images(size, vector, factors) for side in (ours, theirs))
        for source, target in _alike(sources, targets):
            merge = _merged(pairing, source, target, thin, flat)
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
    """Matrices of nearly the same images, a few for each target."""
    for target, image in zip(*targets, strict=True) if sources[0] else ():
        distances = np.abs(sources[1] - image).max(axis=1)
        for at in np.argsort(distances, kind="stable")[:CANDIDATES].tolist():
            if distances[at] <= ALIKE * np.abs(image).max():
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


def _place(
    pairing: Pairing,
    factors: tuple[Unit, Unit],
    source: _Matrix,
    target: _Matrix,
    merge: _Merge,
) -> None:
    first, second = factors
    names = source.unit.tensor.dtype.name, target.unit.tensor.dtype.name
    words = f"{merge.scale:.4g} times {second.tensor.name} @ {first.tensor.name} added"
    if source.turned != target.turned:
        words += ", axes permuted (1, 0)"
    if names[0] != names[1]:
        words += f", cast {names[0]} -> {names[1]}"
    pairing.pair(source.unit, target.unit, "proved", words, merge.error)
    for unit in factors:
        pairing.fold(unit, target.unit, "low-rank adapter merged into")
    rank = first.tensor.shape[0]
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
