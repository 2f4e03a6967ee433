"""The batch-norms of one artifact: found by module, graph or file order, never by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sizeforensics.inventory import Inventory
from sizeforensics.matching.arrays import ROUNDOFF, Vector, array_of
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.spreads import SLACK
from sizeforensics.matching.quantization.stored_codes import StoredCodes
from sizeforensics.matching.units import Unit


class Vectors:
    """The one-dimensional tensors of both sides in double precision, each read once."""

    def __init__(self, pairing: Pairing) -> None:
        self.pairing = pairing
        self.quantised = StoredCodes(pairing, 0), StoredCodes(pairing, 1)
        """The quantised tensors of each side, with the numbers stored for them."""
        indices = [codes.indices for codes in self.quantised]
        self._values: dict[tuple[int, int], Vector | None] = {}
        self._of_length: tuple[dict[int, list[Unit]], dict[int, list[Unit]]] = (
            defaultdict(list), defaultdict(list))  # fmt: skip
        for side in pairing.units:
            for unit in side:
                floats = unit.tensor.dtype.name in ROUNDOFF or unit.index in indices[unit.side]
                if len(unit.tensor.shape) == 1 and floats:
                    self._of_length[unit.side][unit.tensor.elements].append(unit)

    def lengths(self, side: int) -> set[int]:
        """How many elements the free vectors of one side have."""
        units = self.pairing.free[side].values()
        return {
            unit.tensor.elements
            for unit in units
            if len(unit.tensor.shape) == 1 and unit.tensor.dtype.name in ROUNDOFF
        }

    def free(self, side: int, length: int) -> Iterator[tuple[Unit, Vector]]:
        """The free vectors of one side with ``length`` elements, in the order of the file."""
        for unit in self._of_length[side].get(length, ()):
            if self.pairing.is_free(unit):
                value = self.value(unit)
                if value is not None:
                    yield unit, value

    def biases(self, side: int, length: int) -> Iterator[tuple[Unit, Vector, float | Vector]]:
        """The same and how far each may be rounded; quantised ones too, as what they stand for."""
        for unit in self._of_length[side].get(length, ()):
            if self.pairing.is_free(unit):
                for codes, spread, _ in self.quantised[side].of(unit):
                    step = np.abs(spread.scale) / 2 * (1 + SLACK)
                    value = spread.scale * (codes - spread.zero_point)
                    yield unit, value, np.broadcast_to(step, codes.shape)
        yield from ((unit, value, 0.0) for unit, value in self.free(side, length))

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
    gammas: Vector
    betas: Vector
    means: Vector
    variances: Vector
    eps: float | None
    """None where the file does not say it."""

    @property
    def width(self) -> int:
        """Channels; the vectors have as many elements, unless they are those of an excerpt."""
        return self.mean.tensor.elements

    @property
    def units(self) -> list[Unit]:
        found = (self.gamma, self.beta, self.mean, self.variance, self.counter)
        return [unit for unit in found if unit is not None]

    def under(self, eps: float) -> Scaling:
        """What the norm does to each channel under an eps."""
        with np.errstate(all="ignore"):
            scale = self.gammas / np.sqrt(self.variances + eps)
        moved = scale * self.means
        return Scaling(scale, self.betas - moved, np.abs(self.betas) + np.abs(moved), eps)


class Scaling(NamedTuple):
    """A batch-norm as one product and one sum for each channel."""

    scale: Vector
    shift: Vector
    """``beta - scale * mean``."""
    magnitude: Vector
    """``|beta| + |scale * mean|``: what cancels in ``shift``, for tolerances."""
    eps: float


class Parts(NamedTuple):
    """The tensors of one batch-norm as indices, and eps where the file says it."""

    gamma: int | None
    beta: int | None
    mean: int
    variance: int
    counter: int | None
    eps: float | None


def batch_norms(vectors: Vectors, side: int) -> Iterator[BatchNorm]:
    """Every batch-norm whose tensors are free: from modules, graph nodes, or file order."""
    free = vectors.pairing.free[side]
    seen: set[tuple[int | None, ...]] = set()
    for parts in _all_parts(vectors.pairing.inventories[side]):
        needed = {index for index in parts[:5] if index is not None}
        if parts[:4] not in seen and needed <= free.keys():
            norm = _batch_norm(vectors, free, parts)
            if norm is not None:
                seen.add(parts[:4])
                yield norm


def _all_parts(inventory: Inventory) -> Iterator[Parts]:
    yield from declared_parts(inventory)
    yield from _parts_in_order(inventory)


def declared_parts(inventory: Inventory) -> Iterator[Parts]:
    """The tensors of every batch-norm that a module or a node of the artifact is."""
    for module in inventory.modules:
        own = module.tensors
        if "running_mean" in own and "running_var" in own:
            eps = module.attributes.get("eps")
            yield Parts(
                own.get("weight"), own.get("bias"), own["running_mean"], own["running_var"],
                own.get("num_batches_tracked"),
                float(eps) if isinstance(eps, (int, float)) else None,
            )
    yield from _parts_in_graph(inventory)


def _parts_in_graph(inventory: Inventory) -> Iterator[Parts]:
    """Inputs X, scale, B, input_mean, input_var of BatchNormalization (ONNX operators)."""
    nodes = inventory.nodes
    if "BatchNormalization" not in nodes.op_names:
        return
    by_name = {tensor.name: index for index, tensor in enumerate(inventory.tensors)}
    reads: dict[int, list[int | None]] = defaultdict(list)
    chosen = (nodes.ops == nodes.op_names.index("BatchNormalization"))[nodes.read_nodes]
    for node, value in zip(
        nodes.read_nodes[chosen].tolist(), nodes.read_values[chosen].tolist(), strict=True
    ):
        reads[node].append(by_name.get(nodes.values[value]))
    for inputs in reads.values():
        if len(inputs) >= 5 and inputs[3] is not None and inputs[4] is not None:
            yield Parts(inputs[1], inputs[2], inputs[3], inputs[4], None, None)


def _parts_in_order(inventory: Inventory) -> Iterator[Parts]:
    """Vectors of one length in a row, as a state dict lists a batch-norm, or one sorted by name.

    A counter follows the variance, or in sorted order the shift; safetensors files hold the counters
    of all batch-norms elsewhere. Two vectors alone, or with a counter, have neither scale nor shift.
    """
    tensors = inventory.tensors
    counters = {
        index for index, tensor in enumerate(tensors)
        if tensor.shape == () and tensor.dtype.kind == "int"
    }  # fmt: skip
    others = [index for index in range(len(tensors)) if index not in counters]
    for at in range(len(others) - 1):
        one, two, *more = others[at : at + 4]
        shape = tensors[one].shape
        if len(shape) != 1 or tensors[two].shape != shape:
            continue
        if len(more) == 2 and all(tensors[index].shape == shape for index in more):
            three, four = more
            yield Parts(one, two, three, four, four + 1 if four + 1 in counters else None, None)
            yield Parts(four, one, two, three, one + 1 if one + 1 in counters else None, None)
        if two + 1 in counters:
            yield Parts(None, None, one, two, two + 1, None)
        elif counters and not any(tensors[index].shape == shape for index in _beside(others, at)):
            yield Parts(None, None, one, two, None, None)


def _beside(others: list[int], at: int) -> list[int]:
    """What is in front of the two tensors that start at a place, and what is behind them."""
    return [*others[max(at - 1, 0) : at], *others[at + 2 : at + 3]]


def _batch_norm(vectors: Vectors, free: Mapping[int, Unit], parts: Parts) -> BatchNorm | None:
    gamma, beta, counter = (
        None if index is None else free[index] for index in (parts.gamma, parts.beta, parts.counter)
    )
    mean, variance = free[parts.mean], free[parts.variance]
    means, variances = vectors.value(mean), vectors.value(variance)
    if means is None or variances is None or not np.all(variances >= 0):
        return None
    gammas = np.ones_like(means) if gamma is None else vectors.value(gamma)
    betas = np.zeros_like(means) if beta is None else vectors.value(beta)
    if gammas is None or betas is None:
        return None
    if not means.shape == variances.shape == gammas.shape == betas.shape:
        return None
    return BatchNorm(
        gamma, beta, mean, variance, counter, gammas, betas, means, variances, parts.eps
    )
