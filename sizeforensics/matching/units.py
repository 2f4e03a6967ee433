"""What is matched: the tensors that own stored bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.excerpts import FEW, Excerpt
from sizeforensics.fingerprints import Fingerprint
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.views import Coverage

DECIDED_USES = frozenset({"optimizer-state", "quantization-parameters", "unreferenced"})
"""Tensors whose role or deadness already says why they are there; that comes before content."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One tensor that is the first to view some stored bytes of its side.

    ``claimed`` are those bytes, decoded. ``digest`` is xxh3-128 of its packed elements, None where
    they cannot be read; ``sample`` some of them, None where the type has no numpy equivalent.
    """

    side: int
    """0 for the artifact before, 1 for the one after."""
    index: int
    """Into ``Inventory.tensors`` of that side."""
    tensor: Tensor
    claimed: int
    digest: bytes | None
    sample: npt.NDArray[Any] | None
    distinctive: bool
    """Whether equal content means more than chance: readable, and neither a scalar nor a fill."""
    excerpt: Excerpt | None = None
    """What stands for its elements where only a snapshot is there."""


def as_pairs(inventory: Inventory) -> Inventory:
    """The same artifact with every complex tensor seen as pairs of real and imaginary parts."""
    if all(tensor.dtype.kind != "complex" for tensor in inventory.tensors):
        return inventory
    return replace(inventory, tensors=tuple(tensor.as_pairs() for tensor in inventory.tensors))


def units_of(
    inventory: Inventory,
    coverage: Coverage,
    prints: Sequence[Fingerprint | None],
    side: int,
) -> list[Unit]:
    """The units of one side, in the order of its tensors."""
    found = []
    claims = coverage.claimed.tolist()
    for index, (tensor, fingerprint, claimed) in enumerate(
        zip(inventory.tensors, prints, claims, strict=True)
    ):
        if claimed and tensor.use not in DECIDED_USES:
            digest = fingerprint.digest if fingerprint else None
            sample = fingerprint.sample if fingerprint else None
            excerpt = inventory.excerpts[index] if inventory.excerpts is not None else None
            if excerpt is not None:
                distinctive = excerpt.distinctive
            else:
                distinctive = digest is not None and is_distinctive(tensor, sample)
            unit = Unit(side, index, tensor, claimed, digest, sample, distinctive, excerpt)
            found.append(unit)
    return found


def cast_words(source: Unit, target: Unit) -> str:
    """What a transformation of one unit into another says further where their types differ."""
    names = source.tensor.dtype.name, target.tensor.dtype.name
    return "" if names[0] == names[1] else f", cast {names[0]} -> {names[1]}"


def cast_between(one: Unit, other: Unit) -> str:
    """The same of two units neither of which is made from the other."""
    names = sorted({one.tensor.dtype.name, other.tensor.dtype.name})
    return f", cast between {' and '.join(names)}" if len(names) > 1 else ""


def is_distinctive(tensor: Tensor, sample: npt.NDArray[Any] | None) -> bool:
    """Whether a readable tensor is neither a few numbers nor a fill, as far as its sample tells."""
    if tensor.elements <= FEW:
        return False
    # The first two tell most tensors from a fill.
    return sample is None or bool(sample[0] != sample[1] or np.any(sample != sample[0]))
