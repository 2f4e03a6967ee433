"""Tell when the containers of a pickle hold themselves, nest too deep, or would never end written out.

Only tuples, lists, dicts and sets count. Objects refer back to each other in honest pickles, a
module's hooks to the module, and are no tree to anyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sizeforensics.formats.encodings.pickle_values import DictValue, ListValue, SetValue

CONTAINERS = frozenset({tuple, ListValue, DictValue, SetValue})

_MOST_NESTED = 1_000
"""What Python's recursion allows unasked (``sys.getrecursionlimit``), and so what its pickler writes."""
_MOST_WRITTEN = 1_000_000_000
"""Values of one container; a pickle is refused long before it can store as many one by one."""


def oddities(shared: Iterable[Any], nested: int) -> list[str]:
    """One line for each oddity of a pickle of which the containers ``shared`` are reached more than
    once: whatever holds itself or grows by being shared has one of those in it.

    Looks once at each container inside them.
    """
    found = []
    if nested > _MOST_NESTED:
        found.append(f"pickle nests values {nested:,} deep, where Python's own recursion ends at {_MOST_NESTED:,}")
    cyclic, most = _measure(shared)
    if cyclic:
        found.append("pickle has containers that hold themselves")
    if most > _MOST_WRITTEN:
        found.append(
            f"pickle shares containers so often that one would be over {_MOST_WRITTEN:,} values written out "
            "(never expanded, never hashed)"
        )
    return found


def _measure(shared: Iterable[Any]) -> tuple[bool, int]:
    """Whether one of them holds itself, and the values that the largest would be, written out."""
    cyclic, most = False, 0
    sizes: dict[int, int] = {}  # 0 while what is inside is being looked at
    for outermost in shared:
        if id(outermost) in sizes:
            continue
        sizes[id(outermost)] = 0
        path: list[tuple[int, Iterator[Any]]] = [(id(outermost), _inside(outermost))]
        totals = [1]
        while path:
            identity, values = path[-1]
            for value in values:
                known = sizes.get(id(value)) if type(value) in CONTAINERS else 1
                if known is None:
                    sizes[id(value)] = 0
                    path.append((id(value), _inside(value)))
                    totals.append(1)
                    break
                cyclic |= not known
                totals[-1] += known
            else:
                path.pop()
                sizes[identity] = min(totals.pop(), _MOST_WRITTEN + 1)
                if totals:
                    totals[-1] += sizes[identity]
                most = max(most, sizes[identity])
    return cyclic, most


def _inside(container: Any) -> Iterator[Any]:
    if type(container) is DictValue:
        yield from container.keys
        yield from container.values
    else:
        yield from container if type(container) is tuple else container.values
