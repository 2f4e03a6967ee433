"""Limits on what a model may weigh, and of what: an inventory, or a ledger, becomes a verdict."""

from __future__ import annotations

from sizeforensics.budget.rules import Budget, Waiver
from sizeforensics.budget.verdict import Verdict

__all__ = ["Budget", "Verdict", "Waiver"]
