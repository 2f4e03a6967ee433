"""Warn of names of tensors and nodes that nobody gives: they would steer a terminal, or fill it."""

from __future__ import annotations

from collections.abc import Sequence

from sizeforensics.escape import LONGEST
from sizeforensics.formats.notes import Notes
from sizeforensics.inventory import Inventory


def warnings(inventory: Inventory) -> tuple[str, ...]:
    """One line for each kind of odd name, whatever the format. Marks of other alphabets and of HTML
    are no oddity; what ``escape.visible`` has to escape is."""
    notes = Notes()
    _look([tensor.name for tensor in inventory.tensors], "tensor", notes)
    _look(inventory.nodes.names, "node", notes)
    return notes.finish()


def _look(names: Sequence[str], noun: str, notes: Notes) -> None:
    for name in names:
        if len(name) > LONGEST:
            notes.count(f"have a name of more than {LONGEST:,} characters", name, noun)
        if not name.isprintable():
            notes.count("have a name with control or invisible characters (shown with escapes)", name, noun)
