"""What is matched: the tensors that own stored bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES
from sizeforensics.fingerprints import Fingerprint
from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.views import Coverage

DECIDED_USES = frozenset({"optimizer-state", "quantization-parameters", "unreferenced"})
"""Tensors whose role or deadness already says why they are there; that comes before content."""

FEW = 4
"""Elements up to which equal content may be chance."""


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


def as_pairs(inventory: Inventory) -> Inventory:
    """The same artifact with every complex tensor seen as pairs of real and imaginary parts.

    That is what ``torch.view_as_real`` gives, and how ONNX has to store complex numbers.
    """
    if all(tensor.dtype.kind != "complex" for tensor in inventory.tensors):
        return inventory
    return replace(inventory, tensors=tuple(map(_pairs, inventory.tensors)))


def _pairs(tensor: Tensor) -> Tensor:
    if tensor.dtype.kind != "complex":
        return tensor
    return replace(
        tensor,
        dtype=DTYPES[f"float{tensor.dtype.bits // 2}"],
        shape=(*tensor.shape, 2),
        strides=(*(2 * stride for stride in tensor.strides), 1),
        offset=2 * tensor.offset,
    )


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
            distinctive = digest is not None and _distinctive(tensor, sample)
            unit = Unit(side, index, tensor, claimed, digest, sample, distinctive)
            found.append(unit)
    return found


def _distinctive(tensor: Tensor, sample: npt.NDArray[Any] | None) -> bool:
    if tensor.elements <= FEW:
        return False
    # The first two tell most tensors from a fill.
    return sample is None or bool(sample[0] != sample[1] or np.any(sample != sample[0]))
