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
    planted,
    quantisation,
    quantised_folds,
    quantisers,
    sidecars,
    training,
    weights,
)
from benchmarks.accuracy.planted import Recipe

MODULES = (
    dtypes, training, duplicates, constants, encodings, metadata, sidecars, folds, quantisation,
    quantisers, quantised_folds, containers, weights, combinations,
)  # fmt: skip
"""Each registers its recipes when it is imported."""

RECIPES: dict[str, Recipe] = {
    name: recipe
    for module in MODULES
    for name, recipe in planted.RECIPES.items()
    if recipe.plant.__module__ == module.__name__
}
"""By name, in the order of the modules: the one in which they are shown."""
