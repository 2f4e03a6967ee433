"""What is kept of a tensor's content where its payload is not: digests, and a grid of elements.

The grid is the same for every tensor of a shape: a few places along each axis that depend on nothing
but the length of the axis and the number of axes. So the grid of a cast tensor is the cast grid, that
of a permuted one the permuted grid, and that of a weight scaled per channel the scaled grid; and the
places that a weight keeps along an axis are among those that a vector of that length keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DTYPES

SCHEMA = "sizeforensics.snapshot/2"
"""Name and version of the documents that hold excerpts."""

ORIGIN = "snapshot of"
"""The metadata of a snapshot that says which format it was taken from."""

KEY_BYTES = 8
"""Bytes of a digest that is only compared with others: chance makes two equal once in 2**64."""

MARKS = 4
"""Rows of a matrix that are kept a mark of."""

MARK_BYTES = 4
"""Bytes that a row of a matrix is known by among those of its length."""

CASTS = {
    "float64": ("float32", "float16", "bfloat16"),
    "float32": ("float16", "bfloat16"),
    "float16": ("float32",),
    "bfloat16": ("float32",),
    **dict.fromkeys(("bool", "int8", "uint8", "int16", "int32"), ("int64",)),
}
"""The types whose digest is kept beside a tensor's own: those that writers cast to."""

FEW = 4
"""Elements up to which equal content may be chance."""

_PLACES = {0: 1, 1: 16, 2: 4, 3: 2, 4: 2}
"""Axes longer than 1, to places kept along each. The smaller numbers divide the larger ones' steps,
so that the places of one are among those of the other."""

MOST_AXES = 4
"""Axes that more than the first place is kept of."""


@dataclass(frozen=True, slots=True, eq=False)
class Excerpt:
    """The content of one tensor, seen once in full and kept in a few dozen bytes.

    ``digest`` is xxh3-128 of the packed elements, None where they could not be read; ``casts`` hold
    the first ``KEY_BYTES`` of the same digest of the elements cast to other types, ``transposed``
    those of a matrix written column by column. ``bags`` say which elements there are, as they are and
    cast to narrower floats, see ``bags``. ``grid`` are some elements, None where the type has no numpy
    equivalent.
    """

    claimed: int
    """Bytes of its storage that the tensor is the first to view."""
    digest: bytes | None = None
    grid: npt.NDArray[Any] | None = None
    casts: dict[str, bytes] = field(default_factory=dict)
    bags: dict[str, int] = field(default_factory=dict)
    transposed: bytes | None = None
    distinctive: bool = False
    """Whether equal content means more than chance."""
    narrower: str = ""
    """The narrowest type that holds every element exactly; empty where it is the tensor's own."""
    core: tuple[int, bytes] | None = None
    """What it repeats, where it repeats itself: elements, and the key of their digest."""
    marks: tuple[int, ...] = ()
    """Of those rows of a matrix that have the smallest ones, see ``matching.parts.cuts``."""
    distinct: tuple[int, int] | None = None
    """Of rows that occur several times each: the elements of the different ones, and their bag."""
    recipe: tuple[str, int] | None = None
    """What regenerates it, in words, and how many bytes of numbers that takes."""

    @property
    def key(self) -> bytes | None:
        """What the casts and transpositions of other tensors are compared with."""
        return None if self.digest is None else self.digest[:KEY_BYTES]


def bags_kept(name: str) -> list[str]:
    """The types a bag is kept of: a tensor's own, and those to which casting it rounds."""
    return [name, *(cast for cast in CASTS.get(name, ()) if DTYPES[cast].bits < DTYPES[name].bits)]


@lru_cache(maxsize=4096)
def places(size: int, axes: int) -> tuple[int, ...]:
    """The indices kept along an axis of ``size`` of a tensor with so many axes longer than 1."""
    kept = _PLACES.get(axes, 2)
    if size <= kept:
        return tuple(range(size))
    return tuple(at * (size - 1) // max(kept - 1, 1) for at in range(kept))


def grid_places(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """The indices kept along each axis of a tensor; one of an axis that is not kept."""
    axes = sum(size != 1 for size in shape)
    found: list[tuple[int, ...]] = []
    left = MOST_AXES
    for size in shape:
        found.append(places(size, axes) if size == 1 or left > 0 else places(min(size, 1), axes))
        left -= size != 1
    return found


def grid_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the grid of a tensor of this shape."""
    return tuple(len(kept) for kept in grid_places(shape))


def flat_places(shape: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where the elements of the grid are in C order, ascending, shape ``(grid size,)``."""
    flat = np.zeros(1, dtype=np.int64)
    for size, kept in zip(shape, grid_places(shape), strict=True):
        flat = (flat[:, None] * size + np.array(kept, dtype=np.int64)).reshape(-1)
    return flat


def along_vector(size: int, axes: int) -> npt.NDArray[np.int64]:
    """Which elements of a vector's grid belong to the channels that a weight's grid keeps.

    ``size`` is the number of channels, ``axes`` the number of the weight's axes longer than 1.
    """
    return np.searchsorted(np.array(places(size, 1)), np.array(places(size, axes)))
