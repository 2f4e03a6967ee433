"""Two inventories and their matching become a ledger that sums exactly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sizeforensics.dtypes import DTYPES, DType
from sizeforensics.inventory import Inventory, Record
from sizeforensics.ledger import Ledger, Place, Row
from sizeforensics.matching import Copy, Fold, Match, Matching, Scale
from sizeforensics.program_data import program_data
from sizeforensics.spans import ROLES, TENSOR_DATA, UNCLAIMED
from sizeforensics.views import Coverage

UNREAD = "payload not read"
"""Label of tensors that the other side lists without their payload."""
ABSENT = "the other side lists this tensor, but its payload is not there"
GRAMMAR = "the format's grammar"
NO_REFERENCE = "nothing in the artifact refers to it"


@dataclass(frozen=True, slots=True)
class Side:
    """One artifact with what each of its tensors claims; ``after`` says which column it fills."""

    inventory: Inventory
    coverage: Coverage
    after: bool
    data: set[int]
    """Tensors that the program holds as data, not as weights."""

    @classmethod
    def of(cls, inventory: Inventory, coverage: Coverage, *, after: bool) -> Side:
        return cls(inventory, coverage, after, program_data(inventory))

    def row(
        self, cause: str, subject: str, amount: int, evidence: str, how: str,
        *, label: str = "", members: int = 1, place: Place | None = None, elements: int = 0,
    ) -> Row:
        """A row with bytes on this side only."""
        before, after = (0, amount) if self.after else (amount, 0)
        places = (None, place) if self.after else (place, None)
        return Row(cause, label, subject, before, after, evidence, how, members, elements, *places)

    def place(self, index: int) -> Place:
        """Where a tensor of this side is stored."""
        tensor = self.inventory.tensors[index]
        claimed = int(self.coverage.claimed[index])
        if tensor.storage is None:
            return Place(tensor.name, 0, 0, claimed, tensor.dtype.name, tensor.shape)
        storage = self.inventory.storages[tensor.storage]
        offset = storage.offset
        if storage.encoding == "raw":
            offset += tensor.offset * tensor.dtype.bits // 8
        return Place(tensor.name, storage.file, offset, claimed, tensor.dtype.name, tensor.shape)

    def claimed_elements(self, index: int) -> int:
        """Elements a tensor is the first to view; fewer than it has when it broadcasts."""
        tensor = self.inventory.tensors[index]
        return min(int(self.coverage.claimed[index]) * 8 // tensor.dtype.bits, tensor.elements)


def attribute(before: Inventory, after: Inventory, matching: Matching) -> Ledger:
    """Give every byte of both artifacts to one cause, in the order that the catalogue asks for.

    Raises LawBroken when the rows do not sum to the sizes of the artifacts.
    """
    ours, theirs = matching.coverages
    sides = Side.of(before, ours, after=False), Side.of(after, theirs, after=True)
    placed: tuple[set[int], set[int]] = (set(), set())
    rows: list[Row] = []
    for match in matching.matches:
        rows += _matched(sides, match)
        placed[0].add(match.before)
        placed[1].add(match.after)
    rows += _beyond_slices(sides, matching)
    for copy in matching.copies:
        rows.append(_copied(sides, copy))
        placed[copy.side].add(copy.tensor)
    for fold in matching.folds:
        rows.append(_folded(sides, fold))
        placed[fold.side].add(fold.tensor)
    for scale in matching.scales:
        rows.append(_scaling(sides[scale.side], scale))
        placed[scale.side].add(scale.tensor)
    twins: list[set[int]] = []
    for side in (0, 1):
        absent = {
            tensor.name
            for tensor in sides[1 - side].inventory.tensors
            if tensor.storage is None and tensor.elements
        }
        averaged = _twins_of_averaged(sides[side].inventory, matching, placed[side], side)
        for index in range(len(sides[side].inventory.tensors)):
            if index not in placed[side] and sides[side].coverage.claimed[index]:
                recipe = matching.recipes.get((side, index))
                row = _alone(sides[side], index, averaged=index in averaged, recipe=recipe)
                if row.cause == "unmatched" and _listed(row.subject, absent):
                    row = row._replace(evidence="inferred", how=ABSENT, label=UNREAD)
                rows.append(row)
        rows += _slack(sides[side])
        rows += _encodings(sides[side], placed[side])
        twins.append(averaged)
    rows += _structure(sides, (_moved(*sides, twins[0]), _moved(*sides[::-1], twins[1])))
    rows = _joined(rows)
    rows.sort(key=lambda row: (row.cause, row.label, -abs(row.delta_bytes), row.subject))
    return Ledger(before.nbytes, after.nbytes, tuple(rows))


def _joined(rows: list[Row]) -> list[Row]:
    """One row where each side has one for the same subject and reason, whatever its amount.

    Optimizer state, slack and encodings are counted side by side; what both artifacts have alike
    is no difference between them.
    """
    joined: list[Row] = []
    waiting: dict[tuple[bool, object], list[int]] = defaultdict(list)
    for row in rows:
        one_sided = (row.before_bytes == 0) != (row.after_bytes == 0)
        if not one_sided or row.cause == "unmatched":
            joined.append(row)
            continue
        key = row.cause, row.label, row.subject, row.evidence, row.how
        after = row.before_bytes == 0
        partners = waiting[not after, key]
        if not partners:
            waiting[after, key].append(len(joined))
            joined.append(row)
            continue
        at = partners.pop(0)
        first, second = (joined[at], row) if after else (row, joined[at])
        joined[at] = first._replace(
            after_bytes=second.after_bytes, after=second.after,
            members=max(first.members, second.members),
            elements=max(first.elements, second.elements),
        )
    return joined


# Tensors


def _matched(sides: tuple[Side, Side], match: Match) -> Iterator[Row]:
    """What both sides hold, and how the rest of a pair splits into dtype and element count."""
    one = sides[0].inventory.tensors[match.before]
    two = sides[1].inventory.tensors[match.after]
    claimed = sides[0].claimed_elements(match.before), sides[1].claimed_elements(match.after)
    types, how = (one.dtype, two.dtype), match.how
    mixed = (one.dtype.kind == "complex") != (two.dtype.kind == "complex")
    if mixed or match.elements is not None:
        # Complex numbers are matched as pairs of real ones, and slices of them so counted.
        types = _part(one.dtype), _part(two.dtype)
        claimed = (
            claimed[0] * one.dtype.bits // types[0].bits,
            claimed[1] * two.dtype.bits // types[1].bits,
        )
        how = f"complex numbers as pairs of real ones, {how}" if mixed else how
    if _big_endian(sides[0], match.before) != _big_endian(sides[1], match.after):
        how = f"byte order reversed, {how.replace('identical bytes', 'identical elements')}"
    common = min(claimed) if match.elements is None else match.elements
    wide = types[0].nbytes(common), types[1].nbytes(common)
    carried = min(wide)
    places = sides[0].place(match.before), sides[1].place(match.after)

    def row(cause: str, label: str, amounts: tuple[int, int]) -> Row:
        return Row(
            cause, label, two.name, *amounts, match.evidence, how, 1, common, *places,
            match.difference,
        )

    yield row("carried", "", (carried, carried))
    if types[0].name != types[1].name:
        label = f"{types[0].name} -> {types[1].name}"
        yield row("dtype", label, (wide[0] - carried, wide[1] - carried))
    elif wide[0] != wide[1]:  # strings of other lengths
        yield row("shape", "", (wide[0] - carried, wide[1] - carried))
    if match.elements is None:
        rest = (
            int(sides[0].coverage.claimed[match.before]) - wide[0],
            int(sides[1].coverage.claimed[match.after]) - wide[1],
        )
        if any(rest):
            # Proved with fewer stored elements on one side: that side broadcasts.
            yield row("densified" if match.evidence == "proved" else "shape", "", rest)


def _big_endian(side: Side, index: int) -> bool:
    """Whether a tensor is stored in another byte order than the one it is read in."""
    number = side.inventory.tensors[index].storage
    payload = None if number is None else side.inventory.storages[number].payload
    return payload is not None and payload.big_endian


def _part(dtype: DType) -> DType:
    """The type of the real and imaginary parts of a complex type; any other type itself."""
    return DTYPES[f"float{dtype.bits // 2}"] if dtype.kind == "complex" else dtype


def _beyond_slices(sides: tuple[Side, Side], matching: Matching) -> Iterator[Row]:
    """What is left of tensors of which only slices were matched."""
    for number, side in enumerate(sides):
        matched: dict[int, int] = defaultdict(int)
        for match in matching.matches:
            if match.elements is not None:
                index = match.on(number)
                dtype = _part(side.inventory.tensors[index].dtype)
                matched[index] += dtype.nbytes(match.elements)
        for index, nbytes in matched.items():
            rest = int(side.coverage.claimed[index]) - nbytes
            if rest:
                yield side.row(
                    "shape", _name(side, index), rest, "proved", "beyond the slice both sides hold",
                    place=side.place(index),
                )


def _copied(sides: tuple[Side, Side], copy: Copy) -> Row:
    side = sides[copy.side]
    original = sides[copy.of_side].inventory.tensors[copy.of_tensor].name
    where = "" if copy.of_side == copy.side else " of the other side"
    return side.row(
        "duplicate", _name(side, copy.tensor), int(side.coverage.claimed[copy.tensor]), copy.evidence,
        f"copy of {original}{where}: {copy.how}", place=side.place(copy.tensor),
        elements=side.claimed_elements(copy.tensor),
    )


def _folded(sides: tuple[Side, Side], fold: Fold) -> Row:
    side = sides[fold.side]
    into = sides[1 - fold.side].inventory.tensors[fold.into].name
    return side.row(
        "folded", _name(side, fold.tensor), int(side.coverage.claimed[fold.tensor]), fold.evidence,
        f"{fold.how} {into}", place=side.place(fold.tensor),
        elements=side.claimed_elements(fold.tensor),
    )


def _scaling(side: Side, scale: Scale) -> Row:
    return side.row(
        "quantization-parameters", _name(side, scale.tensor),
        int(side.coverage.claimed[scale.tensor]), "proved",
        f"{scale.how} {_name(side, scale.of)}", place=side.place(scale.tensor),
        elements=side.claimed_elements(scale.tensor),
    )


_USE_ROWS = {
    "optimizer-state": ("optimizer-state", "parsed", "held under the optimizer's key"),
    "quantization-parameters": (
        "quantization-parameters", "parsed", "scales or shifts another tensor"),
    "unreferenced": ("unreferenced", "proved", NO_REFERENCE),
    "ema-copy": ("ema-copy", "inferred", "a network of the same names and shapes under another key"),
    "sparse-index": ("sparse-index", "parsed", "indices of a sparse tensor"),
    "constant": ("constant", "parsed", "stored by the program as a constant"),
}  # fmt: skip


def _alone(
    side: Side, index: int, *, averaged: bool = False, recipe: tuple[str, int] | None = None
) -> Row:
    """A tensor that corresponds to nothing on the other side: its use says why it is there."""
    tensor = side.inventory.tensors[index]
    use = "ema-copy" if averaged else tensor.use
    cause, evidence, how = _USE_ROWS.get(
        use, ("unmatched", "parsed", "no tensor of the other side equals it or has its name")
    )
    if cause == "unmatched" and len(side.inventory.nodes) and (recipe or index in side.data):
        cause, how = "constant", "data that the program computes with"
    if cause == "constant" and recipe is not None:
        evidence, how = "proved", f"{recipe[0]}: {recipe[1]:,} bytes regenerate it"
    return side.row(
        cause, tensor.name, int(side.coverage.claimed[index]), evidence, how,
        place=side.place(index), elements=side.claimed_elements(index),
    )


def _listed(name: str, names: set[str]) -> bool:
    """Whether ``names`` has this name, or what is left of it without some of its first parts."""
    parts = name.split(".")
    return bool(names) and any(".".join(parts[first:]) in names for first in range(len(parts)))


def _twins_of_averaged(
    inventory: Inventory, matching: Matching, placed: set[int], side: int
) -> set[int]:
    """Tensors of the network whose averaged copy is what the other side holds.

    One of the two networks is the further copy; it is the one that the other side does not have.
    Networks are the same where at least half of the tensors of one have the shapes of the other's.
    """
    taken = {match.on(side) for match in matching.matches}
    taken |= {fold.tensor for fold in matching.folds if fold.side == side}
    averaged = {
        inventory.tensors[index].scope
        for index in taken
        if inventory.tensors[index].use == "ema-copy"
    }
    if not averaged:
        return set()
    networks: dict[str, list[int]] = defaultdict(list)
    for index, tensor in enumerate(inventory.tensors):
        if tensor.scope and tensor.use in ("weight", "buffer", "ema-copy"):
            networks[tensor.scope].append(index)
    twins: set[int] = set()
    for scope in sorted(networks.keys() - averaged):
        for other in sorted(averaged):
            waiting = Counter(inventory.tensors[index].shape for index in networks[other])
            alike = set()
            for index in networks[scope]:
                shape = inventory.tensors[index].shape
                if waiting[shape] > 0:
                    waiting[shape] -= 1
                    alike.add(index)
            if 2 * len(alike) >= len(networks[scope]):
                twins |= alike
    return twins - placed


def _slack(side: Side) -> Iterator[Row]:
    for number, storage in enumerate(side.inventory.storages):
        amount = int(side.coverage.slack[number])
        if amount:
            place = Place(storage.name, storage.file, storage.offset, storage.stored_bytes, "", ())
            yield side.row(
                "storage-slack", storage.name, amount, "proved", "no tensor views these bytes",
                place=place,
            )


def _encodings(side: Side, placed: set[int]) -> Iterator[Row]:
    """What storages cost or save against raw elements.

    Where a tensor is matched that difference has a cause of its own. Where none is, the bytes stay
    with the cause that explains the tensor: it is there, however it is written.
    """
    viewers: dict[int, int] = {}
    for index, tensor in enumerate(side.inventory.tensors):
        if tensor.storage is not None and side.coverage.claimed[index]:
            known = viewers.setdefault(tensor.storage, index)
            if known not in placed and index in placed:
                viewers[tensor.storage] = index
    for number, storage in enumerate(side.inventory.storages):
        amount = storage.stored_bytes - storage.nbytes
        if amount:
            viewer = viewers.get(number)
            if viewer is None:
                cause, evidence = "storage-slack", "proved"
            elif viewer in placed:
                cause = "compression" if storage.encoding == "deflate" else "encoding"
                evidence = "parsed"
            else:
                alone = _alone(side, viewer)
                cause, evidence = alone.cause, alone.evidence
            yield side.row(cause, storage.name, amount, evidence, f"stored as {storage.encoding}")


def _name(side: Side, index: int) -> str:
    return side.inventory.tensors[index].name


# Everything that is not a tensor


_Moved = tuple[str, str] | None
"""Keys of an averaged network and of its twin, where the other side has the first under the second."""


def _moved(side: Side, other: Side, twins: set[int]) -> _Moved:
    tensors = side.inventory.tensors
    dropped = {tensors[index].scope for index in twins}
    kept = {tensor.scope for tensor in tensors if tensor.use == "ema-copy"} - dropped
    there = {tensor.scope for tensor in other.inventory.tensors}
    if len(dropped) == len(kept) == 1 and dropped <= there and not kept & there:
        return kept.pop(), dropped.pop()
    return None


def _followed(subject: str, moved: _Moved) -> tuple[str, str]:
    """What a pickled object is called where a network moved, and how that is known.

    The objects go with the tensors: those of the kept network are compared with the ones it has on
    the other side, and those of its twin are what went.
    """
    if moved is not None:
        kept, twin = moved
        if subject.startswith((f"{kept}.", f"{kept}[")):
            return f"{twin}{subject[len(kept):]}", GRAMMAR
        if subject.startswith((f"{twin}.", f"{twin}[")):
            return subject, f"{GRAMMAR}; of the network beside the one kept, which is under {kept!r}"
    return subject, GRAMMAR


def _structure(sides: tuple[Side, Side], moved: tuple[_Moved, _Moved]) -> Iterator[Row]:
    """One row for each role and subject, with the bytes of both sides."""
    totals: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for column, side in enumerate(sides):
        for (role, subject), (nbytes, spans) in side.inventory.bytes_by_subject().items():
            if role != TENSOR_DATA:
                cause, how = _cause_of(role), GRAMMAR
                if cause == "pickle":
                    subject, how = _followed(subject, moved[column])
                total = totals[cause, subject, how]
                total[column] += nbytes
                total[2] = max(total[2], spans)
    for (cause, subject, how), (before, after, count) in sorted(totals.items()):
        evidence = "proved" if cause == "unreferenced" else "parsed"
        how = NO_REFERENCE if cause == "unreferenced" else how
        yield Row(cause, "", subject, before, after, evidence, how, count)
    yield from _record_compression(sides)


def _cause_of(role: int) -> str:
    return "unreferenced" if role == UNCLAIMED else ROLES[role]


def _record_compression(sides: tuple[Side, Side]) -> Iterator[Row]:
    """Deflate of records that both archives hold and only one compresses."""
    ours, theirs = (_records_by_name(side.inventory) for side in sides)
    for name in sorted(ours.keys() & theirs.keys()):
        pair = ours[name], theirs[name]
        if pair[0].compressed == pair[1].compressed or pair[0].role == TENSOR_DATA:
            continue
        for side, record in zip(sides, pair, strict=True):
            if record.compressed:
                stored = record.stored_bytes
                parts = record.parts or ((record.role, record.subject, record.nbytes),)
                whole = sum(nbytes for _, _, nbytes in parts)
                how = f"{record.nbytes:,} bytes deflated to {stored:,}"
                yield side.row("compression", name, stored - whole, "parsed", how)
                yield side.row(_cause_of(record.role), record.subject, -stored, "parsed", how)
                for role, subject, nbytes in parts:
                    yield side.row(_cause_of(role), subject, nbytes, "parsed", how)


def _records_by_name(inventory: Inventory) -> dict[str, Record]:
    """Records by their name without the archive's own folder; names that occur twice are left."""
    names = Counter(_inner(record.name) for record in inventory.records)
    return {
        _inner(record.name): record
        for record in inventory.records
        if names[_inner(record.name)] == 1
    }


def _inner(name: str) -> str:
    return name.partition("/")[2] or name

