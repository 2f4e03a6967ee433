"""Rows of tensors that correspond to something: matched, copied, folded, or a scale of another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sizeforensics.attribution.sides import Side
from sizeforensics.dtypes import DTYPES, DType
from sizeforensics.ledger import Row
from sizeforensics.matching import Copy, Fold, Match, Matching, Scale


def matched(sides: tuple[Side, Side], match: Match) -> Iterator[Row]:
    """What both sides hold, and how the rest of a pair splits into dtype and element count."""
    one = sides[0].inventory.tensors[match.before]
    two = sides[1].inventory.tensors[match.after]
    claimed = sides[0].claimed_elements(match.before), sides[1].claimed_elements(match.after)
    types, how = (one.dtype, two.dtype), match.how
    mixed = (one.dtype.kind == "complex") != (two.dtype.kind == "complex")
    if mixed or match.packed or match.elements is not None:
        # Complex numbers are matched as pairs of real ones, and slices of them so counted; integers
        # that hold several codes as these.
        types = _counted(one.dtype, match), _counted(two.dtype, match)
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
            sides[0].claimed[match.before] - wide[0],
            sides[1].claimed[match.after] - wide[1],
        )
        if any(rest):
            # The same content in fewer stored elements: that side broadcasts, or leaves out zeros.
            yield row("shape" if match.by_name else "densified", "", rest)


def _big_endian(side: Side, index: int) -> bool:
    """Whether a tensor is stored in another byte order than the one it is read in."""
    number = side.inventory.tensors[index].storage
    payload = None if number is None else side.inventory.storages[number].payload
    return payload is not None and payload.big_endian


def _counted(dtype: DType, match: Match) -> DType:
    """The type of what is matched of a tensor."""
    packed = match.packed and dtype.kind in ("int", "uint")
    return DTYPES[match.packed] if packed else _part(dtype)


def _part(dtype: DType) -> DType:
    """The type of the real and imaginary parts of a complex type; any other type itself."""
    return DTYPES[f"float{dtype.bits // 2}"] if dtype.kind == "complex" else dtype


def beyond_slices(sides: tuple[Side, Side], matching: Matching) -> Iterator[Row]:
    """What is left of tensors of which only slices were matched."""
    for number, side in enumerate(sides):
        matched: dict[int, int] = defaultdict(int)
        evidence: dict[int, str] = {}
        for match in matching.matches:
            if match.elements is not None:
                index = match.on(number)
                dtype = _part(side.inventory.tensors[index].dtype)
                matched[index] += dtype.nbytes(match.elements)
                if evidence.get(index) != "inferred":
                    evidence[index] = match.evidence
        for index, nbytes in matched.items():
            rest = side.claimed[index] - nbytes
            if rest:
                yield side.row(
                    "shape", side.name(index), rest, evidence[index], "beyond the slice both sides hold",
                    place=side.place(index),
                )


def copied(sides: tuple[Side, Side], copy: Copy) -> Row:
    """A second or later copy of a tensor of either side."""
    side = sides[copy.side]
    original = sides[copy.of_side].inventory.tensors[copy.of_tensor].name
    where = "" if copy.of_side == copy.side else " of the other side"
    return side.row(
        "duplicate", side.name(copy.tensor), side.claimed[copy.tensor], copy.evidence,
        f"copy of {original}{where}: {copy.how}", place=side.place(copy.tensor),
        elements=side.claimed_elements(copy.tensor),
    )


def folded(sides: tuple[Side, Side], fold: Fold) -> Row:
    """A tensor that another one of the other side has absorbed."""
    side = sides[fold.side]
    into = sides[1 - fold.side].inventory.tensors[fold.into].name
    return side.row(
        "folded", side.name(fold.tensor), side.claimed[fold.tensor], fold.evidence,
        f"{fold.how} {into}", place=side.place(fold.tensor),
        elements=side.claimed_elements(fold.tensor),
    )


def scaling(side: Side, scale: Scale) -> Row:
    """The scale or zero point under which a tensor equals another."""
    return side.row(
        "quantization-parameters", side.name(scale.tensor),
        side.claimed[scale.tensor], scale.evidence,
        f"{scale.how} {side.name(scale.of)}", place=side.place(scale.tensor),
        elements=side.claimed_elements(scale.tensor),
    )
