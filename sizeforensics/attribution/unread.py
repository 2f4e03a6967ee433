"""Which tensors of one side may be those that the other side lists without their payload.

Nobody can compare them: they are neither dropped nor added, whatever their bytes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from sizeforensics.inventory import Inventory, Tensor
from sizeforensics.ledger import Row
from sizeforensics.matching import components
from sizeforensics.matching.units import DECIDED_USES

UNREAD = "payload not read"
"""Label of the rows of such tensors."""
Name = tuple[str, ...]
"""The parts of a tensor's name."""

_PREFIXES = 8
"""Leading parts of a name that the other side may not have, such as ``model.`` and ``module.``."""


_ELSEWHERE = DECIDED_USES | {"ema-copy"}
"""Causes that the place of a tensor decides, whatever the other side holds."""


class Unread:
    """The tensors that an artifact lists without payload, each of which may be one of another."""

    def __init__(self, inventory: Inventory) -> None:
        self._tensors = unread_tensors(inventory)
        self._by_name: dict[Name, list[int]] = defaultdict(list)
        self._by_suffix: dict[Name, Name | None] = {}
        """The one whole name that ends so; None where there are several."""
        for number, tensor in enumerate(self._tensors):
            whole, *shorter = _suffixes(tensor.name)
            self._by_name[whole].append(number)
            for suffix in shorter:
                if self._by_suffix.setdefault(suffix, whole) != whole:
                    self._by_suffix[suffix] = None

    def lists(self, name: str) -> bool:
        """Whether there is one of that name, or of it without the first parts of either."""
        return self._name_of(name) is not None

    def relabel(self, rows: Mapping[int, Row], inventory: Inventory) -> dict[int, Row]:
        """The rows of tensors without counterpart, by index into ``inventory``: those that may be
        listed here say so. By name first, then by shape; what is listed and left over may be any."""
        found = dict(rows)
        if not self._tensors:
            return found
        mine = {
            index: inventory.tensors[index] for index, row in rows.items() if row.cause not in _ELSEWHERE
        }
        free = {name: list(numbers) for name, numbers in self._by_name.items()}
        for index in list(mine):
            name = self._name_of(mine[index].name)
            if name is not None:
                del mine[index], free[name][-1:]
                found[index] = _unread(rows[index], "this tensor")
        left = Counter(
            _axes(self._tensors[number]) for numbers in free.values() for number in numbers
        )
        for index, tensor in mine.items():
            if left[_axes(tensor)]:
                left[_axes(tensor)] -= 1
                found[index] = _unread(rows[index], "a tensor of this shape")
            elif rows[index].cause == "unmatched" and any(left.values()):
                found[index] = rows[index]._replace(
                    evidence="inferred", how="no tensor of the other side that could be read equals it"
                )
        return found

    def _name_of(self, name: str) -> Name | None:
        suffixes = _suffixes(name)
        known = next((suffix for suffix in suffixes if suffix in self._by_name), None)
        return known or self._by_suffix.get(suffixes[0])


def unread_tensors(inventory: Inventory) -> list[Tensor]:
    """The tensors that are listed without payload; not those that only wrap others, whose elements
    are stored under their name (``w`` of ``w._local_tensor``)."""
    wrappers = {
        tensor.name.rpartition(".")[0] for tensor in inventory.tensors if tensor.storage is not None
    }
    return [
        tensor for tensor in inventory.tensors
        if tensor.storage is None and tensor.elements and tensor.name not in wrappers
    ]


def _unread(row: Row, what: str) -> Row:
    how = f"the other side lists {what}, but its payload is not there"
    return row._replace(cause="unmatched", label=UNREAD, evidence="inferred", how=how)


def _suffixes(name: str) -> list[Name]:
    parts = components(name)
    return [parts[first:] for first in range(max(min(len(parts), _PREFIXES), 1))]


def _axes(tensor: Tensor) -> tuple[int, ...]:
    """What permutation and reshapes by axes of one element leave of a shape."""
    return tuple(sorted(size for size in tensor.shape if size != 1))
