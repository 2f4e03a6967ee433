"""Pruning masks: a weight that is another one where a mask is one, and zero where it is zero.

``torch.nn.utils.prune`` stores the original and the mask in place of their product. Which three
tensors belong together is decided by their elements: the product has to be that of the original,
bit for bit after a cast, wherever the mask holds a one, and nothing but zeros elsewhere. Candidates are
looked up by where a weight begins to differ from zero, for a sample of one that is nearly all zeros says
nothing.

Of snapshots the elements kept have to be such a product, and the bag of the mask that of some ones and
otherwise zeros.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.bags import MODULUS, bag_of
from sizeforensics.dtypes import numpy_dtype
from sizeforensics.excerpts import FEW
from sizeforensics.matching.arrays import nearest
from sizeforensics.matching.casts import cast_sample, castable, equal_after_cast, is_cast
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.relations import typed_blocks
from sizeforensics.matching.units import Unit, cast_words

CANDIDATES = 16
"""Masks, and originals, of equal elements that are compared in full."""

FIRST = 8
"""Elements other than zero, from the beginning, that a mask and what it made are found by."""

Shape = tuple[int, ...]


class Pattern(NamedTuple):
    """Where a tensor is not zero, as far as needed to tell it from others of its shape."""

    sampled: bytes
    first: tuple[int, ...]
    """The first ``FIRST`` places, or all of them if there are fewer."""


class Pruned(NamedTuple):
    """A weight with zeros, and where they are not."""

    unit: Unit
    pattern: Pattern
    value: bytes
    """Its first element that is not zero."""


Masks = dict[Shape, dict[Pattern, list[Unit]]]
Originals = dict[tuple[Shape, str, int, bytes], list[Unit]]


def match_masked(pairing: Pairing) -> None:
    """Match free weights with the originals that a free mask makes them of; masks are absorbed."""
    for side in (0, 1):
        masks = _masks(pairing, side)
        if not masks:
            continue
        targets = [
            pruned
            for unit in pairing.free[1 - side].values()
            if unit.tensor.shape in masks and (pruned := _pruned(pairing, unit)) is not None
        ]
        originals = _originals(pairing, side, targets)
        for target in targets:
            for original, mask in islice(_tries(target, originals, masks), CANDIDATES**2):
                if (
                    pairing.is_free(original)
                    and pairing.is_free(mask)
                    and _makes(pairing, original, mask, target.unit)
                ):
                    _place(pairing, original, mask, target.unit)
                    break


def match_sampled(pairing: Pairing) -> None:
    """Infer of excerpts what ``match_masked`` proves."""
    for side in (0, 1):
        masks = [unit for unit in pairing.free[side].values() if _holds_ones(unit)]
        shapes = {mask.tensor.shape for mask in masks}
        targets: dict[tuple[Shape, bytes], list[Unit]] = defaultdict(list)
        originals: dict[Shape, list[Unit]] = defaultdict(list)
        for unit in pairing.free[1 - side].values():
            if unit.tensor.shape in shapes and _is_weight(unit) and unit.sample is not None:
                targets[unit.tensor.shape, (unit.sample != 0).tobytes()].append(unit)
        for unit in pairing.free[side].values():
            if unit.tensor.shape in shapes and _is_weight(unit):
                originals[unit.tensor.shape].append(unit)
        for mask in masks:
            ones = np.array(mask.sample) != 0
            found = next(
                (
                    (original, target)
                    for target in targets.get((mask.tensor.shape, ones.tobytes()), ())[:CANDIDATES]
                    for original in nearest(mask, originals[mask.tensor.shape], CANDIDATES)
                    if original is not mask and _all_free(pairing, mask, original, target)
                    and _keeps(original, target, ones)
                ),
                None,
            )
            if found is not None:
                _place(pairing, found[0], mask, found[1], "inferred")


def _all_free(pairing: Pairing, *units: Unit) -> bool:
    return all(map(pairing.is_free, units))


def _is_weight(unit: Unit) -> bool:
    return unit.distinctive and unit.tensor.dtype.kind == "float" and castable(unit.tensor.dtype.name)


def _holds_ones(unit: Unit) -> bool:
    """Whether the bag of an excerpt is that of ones, as many as there is room for, and of zeros."""
    bags = {} if unit.excerpt is None else unit.excerpt.bags
    bag, one = bags.get(unit.tensor.dtype.name), _bag_of_one(unit.tensor.dtype.name)
    if not bag or unit.sample is None or bag % gcd(one, MODULUS):
        return False
    shared = gcd(one, MODULUS)
    ones = bag // shared * pow(one // shared, -1, MODULUS // shared) % (MODULUS // shared)
    return bool(ones <= unit.tensor.elements and np.all((unit.sample == 0) | (unit.sample == 1)))


def _bag_of_one(name: str) -> int:
    dtype = numpy_dtype(name)
    return bag_of(np.ones(1, dtype=dtype), name) if dtype is not None and castable(name) else 1


def _keeps(original: Unit, target: Unit, ones: npt.NDArray[np.bool_]) -> bool:
    """Whether the elements kept are equal, after a cast, where the mask holds ones, and some do."""
    if original.sample is None or target.sample is None or not ones.any():
        return False
    names = original.tensor.dtype.name, target.tensor.dtype.name
    return is_cast(original.sample[ones], names[0], target.sample[ones], names[1])


def _place(
    pairing: Pairing, original: Unit, mask: Unit, target: Unit, evidence: str = "proved"
) -> None:
    words = f"pruning mask {mask.tensor.name} applied{cast_words(original, target)}"
    pairing.pair(original, target, evidence, words)
    pairing.fold(mask, target, "pruning mask of", evidence)


def _masks(pairing: Pairing, side: int) -> Masks:
    """Shape, then where the ones are, to the free tensors of zeros and ones."""
    found: Masks = defaultdict(lambda: defaultdict(list))
    for unit in pairing.free[side].values():
        # A mask that prunes little may have nothing but ones in its sample, another one none.
        many = unit.digest is not None and unit.tensor.elements > FEW
        if many and unit.sample is not None and castable(unit.tensor.dtype.name):
            ones = unit.sample == 1
            if np.all(ones | (unit.sample == 0)):
                places, _ = _first(pairing, unit)
                if places:
                    found[unit.tensor.shape][Pattern(ones.tobytes(), places)].append(unit)
    return found


def _pruned(pairing: Pairing, unit: Unit) -> Pruned | None:
    """A tensor as what a mask may have made; None where it holds too few numbers to tell."""
    name = unit.tensor.dtype.name
    if unit.digest is None or unit.sample is None or not castable(name):
        return None
    if unit.tensor.dtype.kind != "float":
        return None
    places, value = _first(pairing, unit)
    if len(places) <= FEW:
        return None
    return Pruned(unit, Pattern((unit.sample != 0).tobytes(), places), value)


def _first(pairing: Pairing, unit: Unit) -> tuple[tuple[int, ...], bytes]:
    """The first places where a tensor is not zero, and its element at the first of them."""
    places: list[int] = []
    value, at = b"", 0
    for block in typed_blocks(pairing.inventories[unit.side], unit.tensor):
        here = np.flatnonzero(block)[: FIRST - len(places)]
        if len(here) and not places:
            value = block[here[0]].tobytes()
        places += (here + at).tolist()
        at += len(block)
        if len(places) == FIRST:
            break
    return tuple(places), value


def _originals(pairing: Pairing, side: int, targets: list[Pruned]) -> Originals:
    """Weights by those of their elements with which a weight of their shape begins."""
    wanted: dict[Shape, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for target in targets:
        tensor = target.unit.tensor
        wanted[tensor.shape][tensor.dtype.name].add(target.pattern.first[0])
    found: Originals = defaultdict(list)
    for unit in pairing.free[side].values():
        tensor = unit.tensor
        usable = unit.distinctive and tensor.dtype.kind == "float" and castable(tensor.dtype.name)
        for name, chosen in wanted[tensor.shape].items() if usable and tensor.shape in wanted else ():
            places = np.array(sorted(chosen))
            at = 0
            for block in typed_blocks(pairing.inventories[side], tensor):
                here = places[(places >= at) & (places < at + len(block))]
                values = cast_sample(block[here - at], tensor.dtype.name, name)
                for place, value in zip(here.tolist(), values, strict=True):
                    found[tensor.shape, name, place, value.tobytes()].append(unit)
                at += len(block)
                if at > places[-1]:
                    break
    return found


def _tries(target: Pruned, originals: Originals, masks: Masks) -> Iterator[tuple[Unit, Unit]]:
    """Originals and masks that make the elements by which the target is known."""
    tensor = target.unit.tensor
    key = tensor.shape, tensor.dtype.name, target.pattern.first[0], target.value
    for original in originals.get(key, ())[:CANDIDATES]:
        for mask in masks[tensor.shape].get(target.pattern, ())[:CANDIDATES]:
            if mask is not original:
                yield original, mask


def _makes(pairing: Pairing, original: Unit, mask: Unit, target: Unit) -> bool:
    names = original.tensor.dtype.name, target.tensor.dtype.name
    columns = (
        typed_blocks(pairing.inventories[unit.side], unit.tensor)
        for unit in (original, mask, target)
    )
    for ours, cover, made in zip(*columns, strict=True):
        ones, zeros = cover == 1, cover == 0
        kept = equal_after_cast(ours, names[0], made, names[1])
        if not np.all((ones & kept) | (zeros & (made == 0))):
            return False
    return True
