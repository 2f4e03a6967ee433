"""The narrowest element type that holds every value of a tensor exactly."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from sizeforensics.dtypes import DTYPES, DType
from sizeforensics.inventory import Inventory
from sizeforensics.matching.casts import cast_sample, equal_after_cast
from sizeforensics.matching.relations import typed_blocks
from sizeforensics.matching.units import Unit

NARROWER = {
    "float64": ("float16", "bfloat16", "float32"),
    "float32": ("float16", "bfloat16"),
    "int64": ("bool", "uint8", "int8", "int16", "int32"),
    "int32": ("bool", "uint8", "int8", "int16"),
}
"""Types to try, narrowest first; float8 is left out: no checkpoint is trained to fit it."""

LEAST_BYTES = 256
"""Bytes below which a narrower type is not worth a line: shape vectors have to be int64."""


def exact_narrower_type(inventory: Inventory, unit: Unit) -> DType | None:
    """The narrowest type that all elements survive a round trip through; None if it is their own.

    The sample refuses nearly every tensor without reading it again.
    """
    if unit.excerpt is not None:
        return DTYPES.get(unit.excerpt.narrower)
    source = unit.tensor.dtype.name
    if unit.sample is None or unit.claimed < LEAST_BYTES:
        return None
    for target in NARROWER.get(source, ()):
        if _survives(unit.sample, source, target) and all(
            _survives(block, source, target) for block in typed_blocks(inventory, unit.tensor)
        ):
            return DTYPES[target]
    return None


def _survives(values: npt.NDArray[Any], source: str, target: str) -> bool:
    narrow = cast_sample(values, source, target)
    return bool(equal_after_cast(narrow, target, values, source).all())
