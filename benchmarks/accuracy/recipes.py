"""All recipes, in the order of the table in CAUSES.md: importing a module registers its own."""

from __future__ import annotations

from benchmarks.accuracy import dtypes, training
from benchmarks.accuracy.planted import RECIPES, Recipe

__all__ = ["MODULES", "RECIPES", "Recipe"]

MODULES = (dtypes, training)
