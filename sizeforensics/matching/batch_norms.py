"""The batch-norms of one artifact: found by module, graph or file order, never by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.content import packed
from sizeforensics.dtypes import elements
from sizeforensics.inventory import Inventory
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.units import Unit

EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6, 1e-2, 1e-12)
"""Tried where the file does not say: torch's default, then Keras' and those of common models."""

ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit of roundoff of each float type: half the distance between 1 and the next number."""

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Vectors:
    """The one-dimensional tensors of both sides in double precision, each read once."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing = pairing
        self._values: dict[tuple[int, int], Vector | None] = {}
        self._of_length: tuple[dict[int, list[Unit]], dict[int, list[Unit]]] = (
            defaultdict(list), defaultdict(list))  # fmt: skip
        for side in pairing.units:
            for unit in side:
                if len(unit.tensor.shape) == 1 and unit.tensor.dtype.name in ROUNDOFF:
                    self._of_length[unit.side][unit.tensor.elements].append(unit)

    def free(self, side: int, length: int) -> Iterator[tuple[Unit, Vector]]:
        """The free vectors of one side with ``length`` elements, in the order of the file."""
        for unit in self._of_length[side].get(length, ()):
            if self.pairing.is_free(unit):
                value = self.value(unit)
                if value is not None:
                    yield unit, value

    def value(self, unit: Unit) -> Vector | None:
        """The elements of a unit, shape ``(n,)``; None unless it is a readable float vector."""
        key = unit.side, unit.index
        if key not in self._values:
            fits = len(unit.tensor.shape) == 1 and unit.tensor.dtype.name in ROUNDOFF
            array = array_of(self.pairing.inventories[unit.side], unit) if fits else None
            self._values[key] = None if array is None else array.astype(np.float64)
        return self._values[key]


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """Four vectors of one length, in double precision, and the units that hold them."""

    gamma: Unit | None
    beta: Unit | None
    mean: Unit
    variance: Unit
    counter: Unit | None
    scale: Vector
    shift: Vector
    """``beta - scale * mean``."""
    magnitude: Vector
    """``|beta| + |scale * mean|``: what cancels in ``shift``, for tolerances."""
    eps: float

    @property
    def units(self) -> list[Unit]:
        found = (self.gamma, self.beta, self.mean, self.variance, self.counter)
        return [unit for unit in found if unit is not None]


def batch_norms(vectors: Vectors, side: int) -> Iterator[BatchNorm]:
    """Every batch-norm whose vectors are still free: from modules, graph nodes, or file order."""
    inventory = vectors.pairing.inventories[side]
    free = vectors.pairing.free[side]
    seen: set[int] = set()
    for parts, eps in _norm_parts(inventory):
        units = [None if index is None else free.get(index) for index in parts]
        gamma, beta, mean, variance, counter = units
        if mean is None or variance is None or mean.index in seen:
            continue
        if any(index is not None and unit is None for index, unit in zip(parts, units, strict=True)):
            continue
        for candidate in (eps,) if eps is not None else EPSILONS:
            norm = _batch_norm(vectors, gamma, beta, mean, variance, counter, candidate)
            if norm is not None:
                seen.add(mean.index)
                yield norm


Parts = tuple["int | None", "int | None", "int | None", "int | None", "int | None"]


def _norm_parts(inventory: Inventory) -> Iterator[tuple[Parts, float | None]]:
    """(gamma, beta, mean, variance, counter) as tensor indices, and eps where the file says it."""
    for module in inventory.modules:
        own = module.tensors
        if "running_mean" in own and "running_var" in own:
            eps = module.attributes.get("eps")
            parts = (
                own.get("weight"), own.get("bias"), own["running_mean"], own["running_var"],
                own.get("num_batches_tracked"),
            )
            yield parts, float(eps) if isinstance(eps, (int, float)) else None
    yield from _parts_in_graph(inventory)
    yield from _parts_in_order(inventory)


def _parts_in_graph(inventory: Inventory) -> Iterator[tuple[Parts, None]]:
    nodes = inventory.nodes
    if "BatchNormalization" not in nodes.op_names:
        return
    wanted = nodes.op_names.index("BatchNormalization")
    by_name = {tensor.name: index for index, tensor in enumerate(inventory.tensors)}
    reads: dict[int, list[int | None]] = defaultdict(list)
    is_norm = nodes.ops == wanted
    chosen = is_norm[nodes.read_nodes]
    for node, value in zip(
        nodes.read_nodes[chosen].tolist(), nodes.read_values[chosen].tolist(), strict=True
    ):
        reads[node].append(by_name.get(nodes.values[value]))
    for inputs in reads.values():
        if len(inputs) >= 5:
            yield (inputs[1], inputs[2], inputs[3], inputs[4], None), None


def _parts_in_order(inventory: Inventory) -> Iterator[tuple[Parts, None]]:
    """Four vectors of one length in a row, as every state dict lists a batch-norm."""
    tensors = inventory.tensors
    for first in range(len(tensors) - 3):
        shape = tensors[first].shape
        if len(shape) == 1 and all(tensors[first + k].shape == shape for k in (1, 2, 3)):
            counter = first + 4
            is_counter = (
                counter < len(tensors)
                and tensors[counter].shape == ()
                and tensors[counter].dtype.kind == "int"
            )
            yield (first, first + 1, first + 2, first + 3, counter if is_counter else None), None


def _batch_norm(
    vectors: Vectors,
    gamma: Unit | None,
    beta: Unit | None,
    mean: Unit,
    variance: Unit,
    counter: Unit | None,
    eps: float,
) -> BatchNorm | None:
    mu, var = vectors.value(mean), vectors.value(variance)
    if mu is None or var is None or mu.shape != var.shape:
        return None
    scale = np.ones_like(mu) if gamma is None else vectors.value(gamma)
    offset = np.zeros_like(mu) if beta is None else vectors.value(beta)
    if scale is None or offset is None or scale.shape != mu.shape or offset.shape != mu.shape:
        return None
    with np.errstate(all="ignore"):
        scale = scale / np.sqrt(var + eps)
    if not np.all(np.isfinite(scale)):
        return None
    return BatchNorm(
        gamma, beta, mean, variance, counter, scale, offset - scale * mu,
        np.abs(offset) + np.abs(scale * mu), eps,
    )


def array_of(inventory: Inventory, unit: Unit) -> Array | None:
    """The unit's elements in its shape: float32, or float64 where they are that already."""
    if unit.digest is None or unit.tensor.dtype.name not in ROUNDOFF:
        return None
    flat = elements(unit.tensor.dtype, packed(inventory, unit.tensor), unit.tensor.elements)
    if flat is None:
        return None
    wide = flat if unit.tensor.dtype.bits >= 32 else flat.astype(np.float32)
    return wide.reshape(unit.tensor.shape)
