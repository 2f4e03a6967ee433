"""Orthogonal parametrisations: weights that are an orthogonal map of a stored parameter.

``torch.nn.utils.parametrizations.orthogonal`` stores a parameter ``X`` and computes the weight from
its lower triangle: the exponential or the Cayley transform of ``A = tril(X) - tril(X)'``, or a
product of Householder reflections, each multiplied by a fixed orthogonal ``base`` where the module
keeps one (``torch/nn/utils/parametrizations.py``, class ``_Orthogonal``). The map is computed in
double precision here and compared with every element of the weight.

Tolerance: an element of an orthogonal matrix of order n is a sum of n products below 1 that torch
rounds in float32, through some ten products of matrices: ``ROUNDINGS`` units of its roundoff times
the root of n, absolute, and one rounding to the type of the weight. Two different rotations differ
by about ``1 / sqrt(n)``, thousands of times more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.arrays import ROUNDOFF, Doubles, doubles, nearest
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

ROUNDINGS = 64

CANDIDATES = 4
"""Bases, those stored nearest, that are tried with one parameter."""

MOST_ROWS = 1024
"""Order of a matrix that is exponentiated; the work grows with its third power."""

MOST_WORK = 1 << 32
"""Sum of the third powers of the orders that are tried: seconds, whatever a file holds."""

LEAST_ROWS = 3
"""Order below which a rotation has one angle, and agreement may be chance."""


class _Target(NamedTuple):
    """An orthogonal weight of the other side, as a tall matrix."""

    unit: Unit
    tall: Doubles
    tolerance: float


def match_orthogonal(pairing: Pairing) -> None:
    """Match free orthogonal weights with the parameters they are computed from."""
    for side in (0, 1):
        targets = _targets(pairing, side)
        orders = {len(target.tall) for target in targets}
        bases = [
            (unit, matrix)
            for unit in (pairing.free[side].values() if targets else ())
            if _fits(unit)
            and unit.tensor.shape[0] == unit.tensor.shape[1]
            and unit.tensor.shape[0] in orders
            and (matrix := doubles(pairing, unit)) is not None
            and _orthogonal(matrix, _tolerance(unit))
        ]
        work = 0
        for parameter in _parameters(pairing, side, targets, [unit for unit, _ in bases]):
            work += max(parameter.tensor.shape) ** 3
            if work > MOST_WORK:
                break
            _match_parameter(pairing, parameter, bases, targets)


def _targets(pairing: Pairing, side: int) -> list[_Target]:
    """The free orthogonal weights of the other side of shapes that ``side`` has free as well."""
    shapes = {unit.tensor.shape for unit in pairing.free[side].values() if _fits(unit)}
    found = []
    for unit in pairing.free[1 - side].values():
        array = doubles(pairing, unit) if unit.tensor.shape in shapes and _fits(unit) else None
        if array is not None and _orthogonal(array, _tolerance(unit)):
            found.append(_Target(unit, _tall(array), _tolerance(unit)))
    return found


def _parameters(
    pairing: Pairing, side: int, targets: list[_Target], bases: list[Unit]
) -> list[Unit]:
    """Free tensors of the targets' shapes, those stored next to an orthogonal base first."""
    shapes = {target.unit.tensor.shape for target in targets}
    places = np.array([base.index for base in bases])
    found = [
        unit for unit in pairing.free[side].values() if unit.tensor.shape in shapes and _fits(unit)
    ]

    def distance(unit: Unit) -> int:
        return int(np.abs(places - unit.index).min()) if len(places) else 0

    return sorted(found, key=lambda unit: (distance(unit), unit.index))


def _match_parameter(
    pairing: Pairing,
    parameter: Unit,
    bases: list[tuple[Unit, Doubles]],
    targets: list[_Target],
) -> None:
    waiting = [
        target
        for target in targets
        if pairing.is_free(target.unit) and target.unit.tensor.shape == parameter.tensor.shape
    ]
    stored = doubles(pairing, parameter) if waiting else None
    if stored is None:
        return
    tall = _tall(stored)
    matrices = {unit.index: matrix for unit, matrix in bases}
    square = [unit for unit, matrix in bases if len(matrix) == len(tall) and pairing.is_free(unit)]
    near: list[Unit | None] = [*nearest(parameter, square, CANDIDATES), None]
    for words, mapped in _maps(tall):
        for base in near:
            made = mapped if base is None else matrices[base.index] @ mapped
            for target in waiting:
                # One row refuses nearly every other rotation.
                if np.abs(made[0] - target.tall[0]).max() > target.tolerance:
                    continue
                error = float(np.abs(made - target.tall).max())
                if error <= target.tolerance:
                    pairing.pair(parameter, target.unit, "proved", f"{words} computed", error)
                    if base is not None:
                        pairing.fold(base, target.unit, "base of the orthogonal map of")
                    return


def _tall(matrix: Doubles) -> Doubles:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def _maps(tall: Doubles) -> Iterator[tuple[str, Doubles]]:
    """Every orthogonal map of a parameter of shape (n, k), n >= k, as (words, columns)."""
    order, columns = tall.shape
    if not np.all(np.isfinite(tall)):
        return
    skew = np.zeros((order, order))
    skew[:, :columns] = np.tril(tall)
    skew -= skew.T.copy()
    steps: tuple[tuple[str, Callable[[], Doubles]], ...] = (
        ("orthogonal map (matrix exponential)", lambda: _exponential(skew)[:, :columns]),
        ("orthogonal map (Cayley)", lambda: _cayley(skew)[:, :columns]),
        ("orthogonal map (Householder)", lambda: _householder(tall)),
    )
    for words, compute in steps:
        try:
            with np.errstate(all="ignore"):
                mapped = compute()
        except np.linalg.LinAlgError:  # numbers too large for the eigenvalues to converge
            continue
        if np.all(np.isfinite(mapped)):
            yield words, mapped


def _exponential(skew: Doubles) -> Doubles:
    # i times a skew-symmetric matrix is Hermitian: its eigenvalues are real, its vectors unitary.
    values, vectors = np.linalg.eigh(1j * skew)
    made: Doubles = ((vectors * np.exp(-1j * values)) @ vectors.conj().T).real
    return made


def _cayley(skew: Doubles) -> Doubles:
    identity: Doubles = np.eye(len(skew))
    return np.linalg.solve(identity - skew / 2, identity + skew / 2).astype(np.float64)


def _householder(tall: Doubles) -> Doubles:
    """The first columns of ``H_1 H_2 ... H_k``, times the signs on the parameter's diagonal."""
    order, columns = tall.shape
    made: Doubles = np.eye(order, columns)
    below = np.tril(tall, -1)
    for column in reversed(range(columns)):
        vector = below[:, column].copy()
        vector[column] = 1.0
        # torch.linalg.householder_product takes the head of each vector as 1, tau as given.
        tau = 2 / (1 + float(below[:, column] @ below[:, column]))
        made -= tau * np.outer(vector, vector @ made)
    made *= np.trunc(np.diagonal(tall))
    return made


def _fits(unit: Unit) -> bool:
    shape = unit.tensor.shape
    return (
        len(shape) == 2
        and LEAST_ROWS <= max(shape) <= MOST_ROWS
        and unit.digest is not None
        and unit.tensor.dtype.name in ROUNDOFF
    )


def _orthogonal(matrix: Doubles, tolerance: float) -> bool:
    """Whether the columns of a tall matrix, or the rows of a wide one, are orthonormal."""
    tall = _tall(matrix)
    # The length of one column refuses nearly every matrix.
    first = tall[:, 0]
    slack = 4 * tolerance
    if not abs(float(first @ first) - 1) <= slack:
        return False
    return bool(np.all(np.abs(tall.T @ tall - np.eye(tall.shape[1])) <= slack))


def _tolerance(unit: Unit) -> float:
    order = max(unit.tensor.shape)
    computing = ROUNDINGS * ROUNDOFF["float32"] * float(np.sqrt(order))
    return computing + 2 * ROUNDOFF[unit.tensor.dtype.name]
