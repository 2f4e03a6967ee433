"""Pruning masks: a weight that is another one where a mask is one, and zero where it is zero.

``torch.nn.utils.prune`` stores the original and the mask in place of their product. Which three
tensors belong together is decided by their elements: the product has to be that of the original,
bit for bit after a cast, wherever the mask holds a one, and nothing but zeros elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

import numpy as np

from sizeforensics.excerpts import FEW
from sizeforensics.matching.casts import cast_sample, castable, equal_after_cast
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.relations import typed_blocks
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Masks, and originals, of equal samples that are compared in full."""

Shape = tuple[int, ...]


def match_masked(pairing: Pairing) -> None:
    """Match free weights with the originals that a free mask makes them of; masks are absorbed."""
    for side in (0, 1):
        masks = _masks(pairing, side)
        if not masks:
            continue
        targets = [
            unit
            for unit in pairing.free[1 - side].values()
            if unit.tensor.shape in masks and _usable(unit)
        ]
        originals = _originals(pairing, side, masks, {unit.tensor.dtype.name for unit in targets})
        for target in targets:
            for original, mask in islice(_tries(target, originals, masks), CANDIDATES**2):
                if (
                    pairing.is_free(original)
                    and pairing.is_free(mask)
                    and _makes(pairing, original, mask, target)
                ):
                    _place(pairing, original, mask, target)
                    break


def _place(pairing: Pairing, original: Unit, mask: Unit, target: Unit) -> None:
    names = original.tensor.dtype.name, target.tensor.dtype.name
    cast = "" if names[0] == names[1] else f", cast {names[0]} -> {names[1]}"
    pairing.pair(original, target, "proved", f"pruning mask {mask.tensor.name} applied{cast}")
    pairing.fold(mask, target, "pruning mask of")


def _masks(pairing: Pairing, side: int) -> dict[Shape, dict[bytes, list[Unit]]]:
    """Shape, then which sampled elements are ones, to the free tensors of zeros and ones."""
    found: dict[Shape, dict[bytes, list[Unit]]] = defaultdict(lambda: defaultdict(list))
    for unit in pairing.free[side].values():
        # A mask that prunes little may have nothing but ones in its sample.
        many = unit.digest is not None and unit.tensor.elements > FEW
        if many and unit.sample is not None and castable(unit.tensor.dtype.name):
            ones = unit.sample == 1
            if np.all(ones | (unit.sample == 0)):
                found[unit.tensor.shape][ones.tobytes()].append(unit)
    return found


def _usable(unit: Unit) -> bool:
    return (
        unit.sample is not None
        and unit.distinctive
        and unit.tensor.dtype.kind == "float"
        and castable(unit.tensor.dtype.name)
    )


def _originals(
    pairing: Pairing, side: int, masks: dict[Shape, dict[bytes, list[Unit]]], types: set[str]
) -> dict[tuple[Shape, str, int, bytes], list[Unit]]:
    """Weights by each of their sampled elements: a mask leaves any of them as it is, or none."""
    found: dict[tuple[Shape, str, int, bytes], list[Unit]] = defaultdict(list)
    for unit in pairing.free[side].values():
        if unit.tensor.shape in masks and _usable(unit) and unit.sample is not None:
            for name in types:
                for at, value in enumerate(cast_sample(unit.sample, unit.tensor.dtype.name, name)):
                    found[unit.tensor.shape, name, at, value.tobytes()].append(unit)
    return found


def _tries(
    target: Unit,
    originals: dict[tuple[Shape, str, int, bytes], list[Unit]],
    masks: dict[Shape, dict[bytes, list[Unit]]],
) -> Iterator[tuple[Unit, Unit]]:
    """Originals and masks whose samples make the target's."""
    sample = target.sample
    if sample is None:
        return
    kept = sample != 0
    if not kept.any():
        return
    first = int(np.argmax(kept))
    key = target.tensor.shape, target.tensor.dtype.name, first, sample[first].tobytes()
    for original in originals.get(key, ())[:CANDIDATES]:
        for mask in masks[target.tensor.shape].get(kept.tobytes(), ())[:CANDIDATES]:
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
