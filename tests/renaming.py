"""An inventory whose tensors all have other names: what is known by content must not change."""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from sizeforensics.attribution import attribute
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Row
from sizeforensics.matching import match

LENGTH = 12


def renamed(inventory: Inventory, seed: int) -> Inventory:
    """The same artifact with a random name for every tensor; the graph reads the new ones."""
    generator = random.Random(seed)
    names = {
        tensor.name: "".join(generator.choices(string.ascii_letters, k=LENGTH))
        for tensor in inventory.tensors
    }
    tensors = tuple(replace(tensor, name=names[tensor.name]) for tensor in inventory.tensors)
    nodes = replace(
        inventory.nodes, values=[names.get(value, value) for value in inventory.nodes.values]
    )
    return replace(inventory, tensors=tensors, nodes=nodes)


def without_labels(rows: Iterable[Row]) -> Counter[tuple[object, ...]]:
    """What rows say beside the names they say it of."""
    return Counter(
        (row.cause, row.label, row.before_bytes, row.after_bytes, row.evidence) for row in rows
    )


def changed_by_renaming(before: Inventory, after: Inventory) -> list[Row]:
    """The rows of a diff that it does not have once all tensors of both sides are renamed."""
    rows = attribute(before, after, match(before, after)).rows
    others = renamed(before, 1), renamed(after, 2)
    kept = without_labels(attribute(*others, match(*others)).rows)
    changed = []
    for row in rows:
        (key,) = without_labels([row])
        if kept[key]:
            kept[key] -= 1
        else:
            changed.append(row)
    return changed
