"""Tier 7: one tensor is put together from rows of others: fused, split, stacked, reordered.

Fused query-key-value weights, split gates, the gates of an LSTM that ONNX stores in another order
(``iofc`` where torch has ``ifgo``), a vocabulary that grew: in all of them whole rows of a tensor
come from rows of other tensors. A tensor is looked at as rows along its first axis and, if it has
two axes, also along its second.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.content import decoded
from sizeforensics.dtypes import DTYPES
from sizeforensics.matching.casts import cast_sample, castable, equal_after_cast
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.parts.beginnings import Beginnings
from sizeforensics.matching.units import Unit, cast_between
from sizeforensics.spans import Integers

WINDOW = 8
"""Elements that have to agree before two rows are compared."""

LEAST = 4
"""Elements below which agreement may be chance."""

CANDIDATES = 8
"""Rows of equal beginning that are compared in full."""

MOST_ROWS = 1 << 20
"""Rows of a tensor that are indexed; a longer vector is no part of a fused weight."""

DIRECTIONS = 2
"""Rows of the biases of a bidirectional layer in ONNX: each is made of pieces of vectors."""

KEPT_BYTES = 256 << 20
"""Bytes of rows kept in memory."""

BLOCK_ELEMENTS = 1 << 20
"""Elements of rows compared at once."""


class Sheet(NamedTuple):
    """A unit seen as rows of equal length: along its first axis, its second (``columns``), all but
    its last (``inner rows``), or one element each (``elements``)."""

    unit: Unit
    along: str
    height: int
    length: int


class Sheets:
    """The elements of sheets, shape (height, length); the last ones used are kept in memory."""

    def __init__(self, pairing: Pairing) -> None:
        self._pairing = pairing
        self._kept: OrderedDict[tuple[int, int, str], npt.NDArray[Any]] = OrderedDict()
        self._nbytes = 0

    def rows(self, sheet: Sheet) -> npt.NDArray[Any]:
        """All elements of a sheet; read again when it was not used for a while."""
        key = sheet.unit.side, sheet.unit.index, sheet.along
        rows = self._kept.pop(key, None)
        if rows is None:
            rows = self._read(sheet)
            self._nbytes += rows.nbytes
        self._kept[key] = rows
        while self._nbytes > KEPT_BYTES and len(self._kept) > 1:
            self._nbytes -= self._kept.popitem(last=False)[1].nbytes
        return rows

    def _read(self, sheet: Sheet) -> npt.NDArray[Any]:
        tensor = sheet.unit.tensor
        flat = decoded(self._pairing.inventories[sheet.unit.side], tensor)
        if flat is None:
            raise ValueError(f"type {tensor.dtype.name} has no numpy equivalent")
        if sheet.along == "columns":
            return np.ascontiguousarray(flat.reshape(sheet.length, sheet.height).T)
        return flat.reshape(sheet.height, sheet.length)


class Run(NamedTuple):
    """``height`` rows of a whole, from ``start``, that equal rows of a part from ``part_start``."""

    start: int
    part: Sheet
    part_start: int
    height: int


class Place(NamedTuple):
    """One row of a part."""

    part: Sheet
    row: int


class Index:
    """Where each row of some units can be found, by its length, an element type and how it begins."""

    def __init__(self) -> None:
        self.sheets: list[Sheet] = []
        self.rows = Beginnings()
        self.types: dict[int, set[str]] = defaultdict(set)
        """The element types that rows of each length can be looked up in."""

    def add(self, sheet: Sheet, target: str, rows: Integers, windows: npt.NDArray[Any]) -> None:
        """Rows of a sheet and how they begin, cast to ``target``."""
        if len(rows):
            self.sheets.append(sheet)
            self.types[sheet.length].add(target)
            self.rows.add((sheet.length, target), len(self.sheets) - 1, rows, windows)

    def find(
        self, length: int, target: str, windows: npt.NDArray[Any]
    ) -> Iterator[tuple[int, list[Place]]]:
        """(which window, the first rows of that length that begin like it), where there are any."""
        for at, pairs in self.rows.find((length, target), windows, CANDIDATES):
            yield at, [Place(self.sheets[number], row) for number, row in pairs]


def match_slices(pairing: Pairing) -> None:
    """Match free tensors that are, row by row, made of free tensors of the other side.

    The largest are looked at first: a fused weight is made of its parts, not the reverse.
    """
    sheets = Sheets(pairing)
    eligible = [unit for free in pairing.free for unit in free.values() if may_be_sliced(unit)]
    indices = _index(sheets, eligible, 0), _index(sheets, eligible, 1)
    for unit in sorted(eligible, key=lambda unit: (-unit.tensor.elements, unit.index)):
        for sheet in sheets_of(unit) if pairing.is_free(unit) else ():
            other = 1 - unit.side
            runs = _cover(pairing, sheets, sheet, indices[other])
            if runs and _settled(sheet, runs):
                pairing.slices([_part(sheet, run) for run in _first_uses(runs)])
                break


def may_be_sliced(unit: Unit) -> bool:
    """Whether rows of a unit may be rows of others: of its own bytes, and more than chance."""
    return (
        unit.digest is not None
        and unit.distinctive
        and castable(unit.tensor.dtype.name)
        and unit.claimed == unit.tensor.nbytes
    )


def sheets_of(unit: Unit) -> Iterator[Sheet]:
    """The ways in which a unit is seen as rows."""
    shape = [size for size in unit.tensor.shape if size != 1]
    if shape and shape[0] <= MOST_ROWS:
        yield Sheet(unit, "rows", shape[0], unit.tensor.elements // shape[0])
    if len(shape) > 2 and shape[-1] >= LEAST and prod(shape[:-1]) <= MOST_ROWS:
        # A stack of matrices: experts, or the two directions of a recurrent layer.
        yield Sheet(unit, "inner rows", prod(shape[:-1]), shape[-1])
    if len(shape) == 2 and shape[1] <= MOST_ROWS:
        yield Sheet(unit, "columns", shape[1], shape[0])
    if len(shape) == 2 and shape[0] == DIRECTIONS and unit.tensor.elements <= MOST_ROWS:
        yield Sheet(unit, "elements", unit.tensor.elements, 1)


def _index(sheets: Sheets, eligible: list[Unit], side: int) -> Index:
    """Where each row of the eligible units of one side can be found by how it begins.

    Rows of a length that the other side does not have are nobody's parts.
    """
    index = Index()
    others = [unit for unit in eligible if unit.side != side]
    wanted = {unit.tensor.dtype.name for unit in others}
    lengths = {sheet.length for unit in others for sheet in sheets_of(unit)}
    for unit in eligible if wanted else ():
        if unit.side == side:
            for sheet in sheets_of(unit):
                here = filter(_like(unit), wanted | {unit.tensor.dtype.name})
                for target in here if sheet.length in lengths else ():
                    index.add(sheet, target, *_windows(sheets, sheet, target))
    return index


def _like(unit: Unit) -> Callable[[str], bool]:
    """Whether a type is of the same kind as a unit's: of a few floats between -1 and 1 the integers
    are zeros and ones, which some rows anywhere are by chance."""
    return lambda target: DTYPES[target].kind == unit.tensor.dtype.kind


def _windows(sheets: Sheets, sheet: Sheet, target: str) -> tuple[Integers, npt.NDArray[Any]]:
    """Rows but fills, and the first elements of what begins there, cast to ``target``."""
    flat = sheets.rows(sheet).reshape(-1)
    size = min(WINDOW, sheet.length) if sheet.length >= LEAST else LEAST
    starts = np.arange(0, len(flat) - size + 1, sheet.length)
    windows = flat[starts[:, None] + np.arange(size)]
    rows = np.flatnonzero((windows != windows[:, :1]).any(axis=1))
    name = sheet.unit.tensor.dtype.name
    return rows, windows[rows] if name == target else cast_sample(windows[rows], name, target)


def _cover(pairing: Pairing, sheets: Sheets, sheet: Sheet, index: Index) -> list[Run]:
    """The runs of rows of ``sheet`` that are found in free parts."""
    guesses = _guesses(pairing, sheets, sheet, index)
    found: dict[int, Place] = {}
    for attempt in range(1 + max(map(len, guesses.values()), default=-1)):
        chosen: dict[tuple[int, str], list[tuple[int, Place]]] = defaultdict(list)
        for row, place in _choices(sheet.height, guesses, found, attempt):
            if 0 <= place.row < place.part.height:
                chosen[place.part.unit.index, place.part.along].append((row, place))
        for choices in chosen.values():
            found.update(_agreeing(sheets, sheet, choices))
        if len(found) == sheet.height:
            break
    return [run for run in _runs(found) if run.height * sheet.length >= LEAST]


def _guesses(
    pairing: Pairing, sheets: Sheets, sheet: Sheet, index: Index
) -> dict[int, list[Place]]:
    """For each row but fills, a few rows of free parts that begin like it."""
    alike: dict[int, list[Place]] = defaultdict(list)
    # Either side may be the one that was rounded: rows are looked up as they are, and as cast.
    for target in sorted(filter(_like(sheet.unit), index.types.get(sheet.length, ()))):
        rows, windows = _windows(sheets, sheet, target)
        for at, places in index.find(sheet.length, target, windows):
            alike[int(rows[at])] += places
    guesses = {
        row: [place for place in places[:CANDIDATES] if pairing.is_free(place.part.unit)]
        for row, places in sorted(alike.items(), key=itemgetter(0))
    }
    return {row: places for row, places in guesses.items() if places}


def _choices(
    height: int, guesses: Mapping[int, list[Place]], found: Mapping[int, Place], attempt: int
) -> Iterator[tuple[int, Place]]:
    """Where the rows that are not found yet may be.

    The first attempt takes each run for as long as its part; a further one looks up every row by
    its beginning. Rows that nothing begins like, such as fills, may follow those before them.
    """
    before: Place | None = None
    fills: list[int] = []
    for row in range(height):
        place = found.get(row)
        if place is None:
            tries = []
            if before is not None and before.row + 1 < before.part.height:
                tries.append(Place(before.part, before.row + 1))
            alike = guesses.get(row, [])
            if attempt == 0 and not tries:
                tries += alike[:1]
            elif attempt:
                tries += alike[attempt - 1 : attempt]
            yield from ((row, place) for place in tries)
            place = tries[-1] if tries else None
        before = place
        if place is None:
            fills.append(row)
            continue
        for fill in fills:
            yield fill, Place(place.part, place.row - row + fill)
        fills = []


def _agreeing(
    sheets: Sheets, sheet: Sheet, choices: list[tuple[int, Place]]
) -> Iterator[tuple[int, Place]]:
    """The choices, all of one part, that are equal in full."""
    part = choices[0][1].part
    names = part.unit.tensor.dtype.name, sheet.unit.tensor.dtype.name
    theirs, ours = sheets.rows(part), sheets.rows(sheet)
    step = max(BLOCK_ELEMENTS // sheet.length, 1)
    for first in range(0, len(choices), step):
        block = choices[first : first + step]
        equal = _equal_rows(
            theirs[[place.row for _, place in block]], names[0],
            ours[[row for row, _ in block]], names[1],
        )  # fmt: skip
        yield from (choice for choice, agrees in zip(block, equal.tolist(), strict=True) if agrees)


def _runs(found: Mapping[int, Place]) -> list[Run]:
    """Rows in a row that are rows in a row of one part, joined."""
    runs: list[Run] = []
    for row, (part, part_row) in sorted(found.items(), key=itemgetter(0)):
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.part.unit is part.unit
            and last.part.along == part.along
            and last.start + last.height == row
            and last.part_start + last.height == part_row
        ):
            runs[-1] = last._replace(height=last.height + 1)
        else:
            runs.append(Run(row, part, part_row, 1))
    return runs


def _equal_rows(
    theirs: npt.NDArray[Any], source: str, ours: npt.NDArray[Any], target: str
) -> npt.NDArray[np.bool_]:
    flat = theirs.reshape(-1), ours.reshape(-1)
    equal = equal_after_cast(flat[0], source, flat[1], target).reshape(ours.shape)
    if source != target and not equal.all():
        equal |= equal_after_cast(flat[1], target, flat[0], source).reshape(ours.shape)
    rows: npt.NDArray[np.bool_] = np.logical_and.reduce(equal, axis=1)
    return rows


def _settled(sheet: Sheet, runs: list[Run]) -> bool:
    """Whether the runs explain the whole tensor, or use up the parts they come from.

    Anything less is a coincidence of some rows, not a tensor made of others.
    """
    if sum(run.height for run in runs) == sheet.height:
        return True
    used: dict[int, int] = defaultdict(int)
    size: dict[int, int] = {}
    for run in runs:
        used[run.part.unit.index] += run.height
        size[run.part.unit.index] = run.part.height
    return all(used[index] == size[index] for index in used)


def _first_uses(runs: list[Run]) -> list[Run]:
    """The runs without rows that were used before: what is there once is carried once."""
    seen_along: dict[int, str] = {}
    used: set[tuple[int, int]] = set()
    found: dict[int, Place] = {}
    for run in runs:
        index = run.part.unit.index
        for at in range(run.height if seen_along.setdefault(index, run.part.along) == run.part.along else 0):
            row = run.part_start + at
            if (index, row) not in used:
                used.add((index, row))
                found[run.start + at] = Place(run.part, row)
    return _runs(found)


def _part(sheet: Sheet, run: Run) -> tuple[Unit, Unit, int, str]:
    words = (
        f"{sheet.along} {run.start} to {run.start + run.height - 1} are {run.part.along} "
        f"{run.part_start} to {run.part_start + run.height - 1} of the other"
    )
    words += cast_between(sheet.unit, run.part.unit)
    return sheet.unit, run.part.unit, run.height * sheet.length, words
