"""All recipes: importing a module registers its own, in the order of the table."""

from __future__ import annotations

from benchmarks.accuracy import (
    combinations,
    constants,
    containers,
    dtypes,
    duplicates,
    encodings,
    folds,
    metadata,
    quantisation,
    sidecars,
    training,
    weights,
)
from benchmarks.accuracy.planted import RECIPES

__all__ = ["MODULES", "RECIPES"]

MODULES = (
    dtypes, training, duplicates, constants, encodings, metadata, sidecars, folds, quantisation,
    containers, weights, combinations,
)  # fmt: skip
"""Each registers its recipes when it is imported; this is the order in which they are shown."""
