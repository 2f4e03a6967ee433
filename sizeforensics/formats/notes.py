"""Oddities of one file as warnings: those that many records share become one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from sizeforensics.escape import one_line
from sizeforensics.units import counted

_SINGULAR = {"are": "is", "carry": "carries", "have": "has", "reach": "reaches"}


@dataclass(slots=True)
class Notes:
    """Collects warnings; ``finish`` words them."""

    _said: list[str] = field(default_factory=list)
    _counted: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def say(self, warning: str) -> None:
        self._said.append(warning)

    def count(self, what: str, first: str, noun: str = "record") -> None:
        """One more record of which ``what`` is true, a phrase in the plural: ``carry a zero CRC``."""
        number, first = self._counted.get((noun, what), (0, first))
        self._counted[noun, what] = (number + 1, first)

    def finish(self) -> tuple[str, ...]:
        return (*self._said, *(
            f"{counted(number, noun)} {_agree(number, what)}: {one_line(first, 100)!r}"
            + (f" and {number - 1:,} more" if number > 1 else "")
            for (noun, what), (number, first) in self._counted.items()
        ))


def _agree(number: int, what: str) -> str:
    verb, _, rest = what.partition(" ")
    return what if number > 1 else f"{_SINGULAR.get(verb, verb + 's')} {rest}"
