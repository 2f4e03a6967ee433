"""Tier 5: a batch-norm folded into a convolution or linear layer, proved from its parameters.

In evaluation a batch-norm computes ``y = s (x - mean) + beta`` with
``s = gamma / sqrt(variance + eps)``, one value per channel (Ioffe and Szegedy 2015, section 3.1).
Behind a layer it turns the weight into ``s W``, scaled along the output axis, and the bias into
``s (b - mean) + beta``; in front of one, into ``W s`` along the input axis and a bias
``b + W (beta - s mean)``. Nothing here looks at a name: the scale that relates two weights either
is that of a batch-norm of the file, in every channel, or it is not.

Tolerances are those of ``scaling``, doubled for the scale itself and again for the bias, which
adds two more products.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.arrays import Vector, array_of
from sizeforensics.matching.folding.batch_norms import BatchNorm, Scaling, Vectors, batch_norms
from sizeforensics.matching.folding.epsilons import scalings_of
from sizeforensics.matching.folding.norms import Norm, Norms
from sizeforensics.matching.folding.scaled_codes import scaled_codes
from sizeforensics.matching.folding.scaling import ROUNDINGS, Scaled, scalable, scaled_weights
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.quantization.spreads import holds_codes
from sizeforensics.matching.units import Unit


class _Folding(NamedTuple):
    """A batch-norm, and what it may do to the channels of a weight, the likeliest first: only the bias
    tells how small an eps is that the weight does not show."""

    norm: BatchNorm
    scalings: list[Scaling]


class _Fold(NamedTuple):
    """A weight that is another one scaled, and the norm that scaled it; None where none did."""

    scaled: Scaled
    norm: _Folding | Norm | None


def match_folded(pairing: Pairing) -> None:
    """Pair weights that differ by the scale of a batch-norm, and place what was absorbed.

    Where both artifacts have a norm for one pair of weights, the closer one counts, whichever of
    the two comes first.
    """
    if not all(any(map(_may_be_folded, free.values())) for free in pairing.free):
        return
    vectors = Vectors(pairing)
    holders = [_Holder(vectors, side) for side in (0, 1)]
    found: list[_Fold] = []
    # A side without norms has nothing to say of weights that the norms of the other explain.
    settled: set[tuple[int, int]] = set()
    for holder in sorted(holders, key=lambda holder: not holder.widths):
        own = set() if holder.widths else settled
        found += holder.folds(own)
        settled |= own
    if all(holder.widths for holder in holders):
        found.sort(key=_closeness)
    # In the order of the file a bias is near the head of those that are left.
    bare: list[tuple[Unit, Unit]] = []
    for scaled, norm in sorted(found, key=lambda fold: fold.norm is None):
        if not (pairing.is_free(scaled.source) and pairing.is_free(scaled.target)):
            continue
        if isinstance(norm, _Folding):
            batch_norm = norm.norm
            if pairing.is_free(batch_norm.mean) and pairing.is_free(batch_norm.variance):
                _place(vectors, scaled, norm)
                if batch_norm.counter is None:
                    bare.append((batch_norm.mean, scaled.target))
        elif norm is not None:
            if all(map(pairing.is_free, norm.absorbed)):
                words = f"{norm.words} applied{scaled.how}"
                pairing.pair(scaled.source, scaled.target, pairing.computed, words, scaled.error)
                for unit in norm.absorbed:
                    pairing.fold(unit, scaled.target, f"{norm.words} of", pairing.computed)
        else:
            words = f"scaled per channel of axis {scaled.axis}{scaled.how}"
            pairing.pair(scaled.source, scaled.target, pairing.computed, words, scaled.error)
    _absorb_counters(pairing, bare)


def _may_be_folded(unit: Unit) -> bool:
    return scalable(unit) or (len(unit.tensor.shape) > 1 and holds_codes(unit.tensor.dtype.name))


def _absorb_counters(pairing: Pairing, bare: list[tuple[Unit, Unit]]) -> None:
    """Infer where the counters of batch-norms went that are not stored beside them.

    safetensors files hold all integers in front of all floats, sorted by name. A counter is that of
    the norm of its module; where names do not tell, as many counters as norms are theirs in order.
    ``bare`` are a running mean and what its norm was folded into.
    """
    for side in (0, 1):
        norms = sorted((pair for pair in bare if pair[0].side == side), key=lambda pair: pair[0].index)
        counters = [
            unit
            for unit in (pairing.free[side].values() if norms else ())
            if unit.tensor.shape == () and unit.tensor.dtype.name == "int64"
        ]
        by_module = {_module(unit): unit for unit in counters if _module(unit)}
        if len(norms) != len(counters):
            known = [(norm, by_module.get(_module(norm[0]))) for norm in norms]
        else:
            known = list(zip(norms, counters, strict=True))
        for (_, target), counter in known:
            if counter is not None and pairing.is_free(counter):
                pairing.fold(counter, target, "counter of the batch-norm folded into", "inferred")


def _module(unit: Unit) -> str:
    return unit.tensor.name.rpartition(".")[0]


class _Holder:
    """The norms of one side, and what they were folded into on the other."""

    def __init__(self, vectors: Vectors, side: int) -> None:
        self._vectors = vectors
        self._pairing = vectors.pairing
        self._side = side
        self._norms: dict[int, list[BatchNorm]] = defaultdict(list)
        for batch_norm in batch_norms(vectors, side):
            self._norms[batch_norm.width].append(batch_norm)
        self._others = Norms(vectors.pairing, side)
        self.widths = self._norms.keys() | self._others.widths

    def folds(self, settled: set[tuple[int, int]]) -> Iterator[_Fold]:
        """Each norm and each weight once; weights that a norm explains become ``settled``."""
        for scaled in scaled_weights(self._pairing, self._side, self.widths, settled):
            found = _find_norm(scaled, self._norms[scaled.channels])
            norm = found if found is not None else self._others.find(scaled)
            if found is not None:
                self._norms[scaled.channels].remove(found.norm)
            if norm is not None:
                settled |= {(unit.side, unit.index) for unit in (scaled.source, scaled.target)}
            if norm is not None or scaled.plain:
                yield _Fold(scaled, norm)
        for likely in scaled_codes(self._vectors, self._side, self._norms.keys(), settled):
            found = _find_norm(likely.scaled, self._norms[likely.scaled.channels])
            scaled = likely.scaled
            known = None if found is None else likely.under(scaled.of_channels(found.scalings[0].scale))
            if found is not None and known is not None:
                self._norms[known.channels].remove(found.norm)
                settled |= {(unit.side, unit.index) for unit in (known.source, known.target)}
                yield _Fold(known, found)


def _closeness(fold: _Fold) -> tuple[float, bytes, bytes]:
    """The closest first; content breaks ties, so that no side comes before the other."""
    scaled = fold.scaled
    return scaled.error, scaled.source.digest or b"", scaled.target.digest or b""


def _place(vectors: Vectors, scaled: Scaled, folding: _Folding) -> None:
    """Match the weight and the bias that the fold made; the rest of the batch-norm is absorbed."""
    pairing, norm = vectors.pairing, folding.norm
    name = norm.mean.tensor.name.rpartition(".")[0] or norm.mean.tensor.name
    biases = ((scaling, _find_bias(vectors, scaled, norm, scaling)) for scaling in folding.scalings)
    scaling, found = next(filter(itemgetter(1), biases), (folding.scalings[0], None))
    words = f"batch-norm {name} (eps {scaling.eps:g}) folded into axis {scaled.axis}{scaled.how}"
    pairing.pair(scaled.source, scaled.target, pairing.computed, words, scaled.error)
    if found is not None:
        bias, own, error = found
        # A batch-norm without shift leaves its mean in the bias.
        counterpart = own or norm.beta or norm.mean
        if pairing.is_free(counterpart):
            words = f"bias recomputed from batch-norm {name}"
            # One made by a batch-norm in front has as many elements as the layer has outputs.
            sizes = counterpart.tensor.elements, bias.tensor.elements
            shared = None if sizes[0] == sizes[1] else min(sizes)
            pairing.pair(counterpart, bias, pairing.computed, words, error, elements=shared)
    words = f"batch-norm {name} folded into the weight"
    for unit in norm.units:
        if pairing.is_free(unit):
            # The weight proves the scale; where mean and shift went, the bias alone can tell.
            known = found is not None or unit not in (norm.mean, norm.beta)
            pairing.fold(unit, scaled.target, words, pairing.computed if known else "inferred")


def _find_norm(scaled: Scaled, norms: list[BatchNorm]) -> _Folding | None:
    """The batch-norm whose scale is the factor of every channel; the closest if several are."""
    best: tuple[float, _Folding] | None = None
    for norm in norms:
        found = scalings_of(norm, scaled)
        if found and (best is None or found[0][1] < best[0]):
            best = found[0][1], _Folding(norm, [scaling for scaling, _ in found])
    return best[1] if best else None


# The bias that the fold made


def _find_bias(
    vectors: Vectors, scaled: Scaled, norm: BatchNorm, scaling: Scaling
) -> tuple[Unit, Unit | None, float] | None:
    """(new bias, the layer's own bias if it had one, largest difference)."""
    tolerance = 4 * ROUNDINGS * scaled.roundoff
    absorbed = {unit.index for unit in norm.units}
    for width, base, spread, factor in _bias_terms(vectors, scaled, scaling):
        owns: list[tuple[Unit | None, Vector]] = [(None, np.zeros_like(base))]
        owns += [
            (unit, value)
            for unit, value in vectors.free(scaled.source.side, width)
            if unit.index not in absorbed
        ]
        biases = list(vectors.biases(scaled.target.side, width))
        if not biases:
            continue
        # The first channel of all pairs at once refuses nearly every wrong one.
        term = factor[0] * np.array([value[0] for _, value in owns])
        actual = np.array([value[0] for _, value, _ in biases])[:, None]
        steps = np.array([np.ravel(step)[0] for _, _, step in biases])[:, None]
        error = np.abs(base[0] + term - actual) - steps
        likely = ~(error > tolerance * (spread[0] + np.abs(term) + np.abs(actual)))
        for at, number in np.argwhere(likely).tolist():
            (bias, wanted, step), (own, value) = biases[at], owns[number]
            whole = factor * value
            errors = np.abs(base + whole - wanted)
            if not np.any(errors - step > tolerance * (spread + np.abs(whole) + np.abs(wanted))):
                return bias, own, float(errors.max())
    return None


def _bias_terms(
    vectors: Vectors, scaled: Scaled, norm: Scaling
) -> Iterator[tuple[int, Vector, Vector, Vector]]:
    """(channels, bias without the layer's own, what cancels in it, factor of the layer's own bias).

    Which axis of a weight is the output differs between convolutions and transposed ones, so the
    scale alone does not say whether the batch-norm was behind the layer or in front of it.
    """
    yield scaled.channels, norm.shift, norm.magnitude, norm.scale
    if scaled.source.excerpt is not None:
        return  # sums over the weight are beyond a few of its elements
    weight = array_of(vectors.pairing.inventories[scaled.source.side], scaled.source)
    if weight is None or weight.shape[scaled.axis] != len(norm.scale):
        return
    weight = np.moveaxis(weight, scaled.axis, 1)
    weight = weight.reshape(*weight.shape[:2], -1)
    yield (
        len(weight),
        weight.sum(axis=2, dtype=np.float64) @ norm.shift,
        np.abs(weight).sum(axis=2, dtype=np.float64) @ norm.magnitude,
        np.ones(len(weight)),
    )
