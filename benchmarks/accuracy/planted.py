"""What a recipe is: a function that writes two files and says what it planted between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.accuracy.oracle import Structure, structure

Size = Literal["mini", "full"]

Sides = tuple[int, int]
"""Bytes before and bytes after."""


PROVABLE = frozenset(("carried", "duplicate", "densified", "folded", "shape"))
"""Causes of bytes that only a comparison of the elements of both sides can tell. That of ``dtype``
follows from ``carried``; all others are told by one side, or by the grammar."""


@dataclass(frozen=True, slots=True)
class Planted:
    """Two artifacts and the truth about them: bytes before and after of every cause.

    A cause that comes with a pair of types is written with it: ``dtype float16 -> float32``.
    """

    before: Path
    after: Path
    causes: Mapping[str, Sides]
    inferred: int = 0
    """Bytes that nobody can prove: of tensors whose values differ. All others have to be proved."""

    @property
    def provable(self) -> int:
        """Bytes of both sides that a comparison of all elements has to prove."""
        stated = sum(sum(sides) for cause, sides in self.causes.items() if cause in PROVABLE)
        # An average is inferred and on one side; what else is inferred has a counterpart.
        averaged = sum(self.causes.get("ema-copy", (0, 0)))
        return stated - 2 * (self.inferred - averaged)

    @property
    def deltas(self) -> dict[str, int]:
        """Planted change of every cause that changes."""
        return {cause: b - a for cause, (a, b) in sorted(self.causes.items()) if b != a}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A cause worth planting: ``about`` is the cause that the recipe is named for."""

    name: str
    about: str
    plant: Callable[[Path, Size], Planted]
    words: str
    needs: tuple[str, ...] = ()
    """Packages beyond torch, onnx, onnxscript and numpy."""
    limit: str = ""
    """Why the score stays below 100 %; empty where it does not."""


RECIPES: dict[str, Recipe] = {}
"""By name, in the order of the table in CAUSES.md."""


def recipe(
    name: str, about: str, *, needs: tuple[str, ...] = (), limit: str = ""
) -> Callable[[Callable[[Path, Size], Planted]], Callable[[Path, Size], Planted]]:
    """Register a recipe; the first line of its docstring says what is planted."""

    def register(plant: Callable[[Path, Size], Planted]) -> Callable[[Path, Size], Planted]:
        words = (plant.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
        RECIPES[name] = Recipe(name, about, plant, words, needs, limit)
        return plant

    return register


def planted(
    before: Path, after: Path, tensors: Mapping[str, Sides], *, inferred: int = 0
) -> Planted:
    """The truth: what the recipe knows of its tensors, and structure bytes from the oracle.

    ``tensors`` are stored bytes of tensor elements by cause. Raises AssertionError unless they are
    all that the two files hold: a recipe that forgets a tensor is wrong, not the tool.
    """
    sides = structure(before), structure(after)
    for number, (path, side) in enumerate(zip((before, after), sides, strict=True)):
        stated = sum(amounts[number] for amounts in tensors.values())
        if stated != side.payload_bytes:
            held = ", ".join(f"{name or '-'} {stored:,}" for name, _, stored in side.payloads)
            raise AssertionError(
                f"{path}: the recipe states {stated:,} bytes of tensors, the file holds "
                f"{side.payload_bytes:,}: {held[:2000]}"
            )
    return Planted(before, after, total(sides, tensors), inferred)


def total(sides: tuple[Structure, Structure], tensors: Mapping[str, Sides]) -> dict[str, Sides]:
    """Structure and tensors of both sides by cause."""
    sums: list[Counter[str]] = [Counter(side.causes) for side in sides]
    for cause, amounts in tensors.items():
        for side, amount in zip(sums, amounts, strict=True):
            side[cause] += amount
    return {
        cause: (sums[0][cause], sums[1][cause])
        for cause in sorted(set().union(*sums))
        if sums[0][cause] or sums[1][cause]
    }


def pick(size: Size, mini: int, full: int) -> int:
    """A number that depends on the size of the run."""
    return mini if size == "mini" else full
