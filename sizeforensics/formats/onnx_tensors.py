"""Turn tensors of ONNX as they were declared into typed views of stored bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DType, opaque
from sizeforensics.errors import Corrupt, LimitExceeded, Unsupported
from sizeforensics.formats.onnx_schema import RAW_DATA, STRING_DATA, TABLES, TAGS, data_type
from sizeforensics.formats.protobuf_wire import LEN, VARINT, Fields, scan, varint_blocks
from sizeforensics.limits import Limits
from sizeforensics.source import DerivedSource, Source, Window
from sizeforensics.spans import TENSOR_DATA

_DIM, _DATA_TYPE, _DATA_LOCATION = 1 << 3 | VARINT, 2 << 3 | VARINT, 14 << 3 | VARINT
_PACKED_DIMS = 1 << 3 | LEN
_SEGMENT, _NAME, _RAW, _DOC, _EXTERNAL = (number << 3 | LEN for number in (3, 8, 9, 12, 13))
_FIXED_WIDTHS = {4: 4, 10: 8}
"""Typed fields of fixed width: float_data and double_data, bytes of one value."""
_PAYLOADS = frozenset(
    np.flatnonzero(TABLES["TensorProto"].roles == TENSOR_DATA).tolist()
)
"""Tags of the fields that hold elements."""
_PLAIN = np.isin(np.arange(TAGS + 1), [_DIM, _DATA_TYPE, _NAME, _RAW, _DOC])
"""Tags of the fields that almost every tensor has, at most once but for its dimensions."""
_SUBSTANCE = np.isin(np.arange(TAGS + 1), [_NAME, _EXTERNAL, *_PAYLOADS])
"""Tags of the fields without which nobody can refer to a tensor or read it."""


class Piece(NamedTuple):
    """Stored elements: the payload of a packed field, or unpacked fields back to back, tags and all."""

    start: int
    end: int
    packed: bool

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(slots=True)
class Declared:
    """A TensorProto as it is in the file; nothing of it has been checked against anything."""

    head: int
    """Offset of the tag of the field that holds it."""
    name: str
    graph: int
    use: str
    scope: str = ""
    code: int = 0
    dims: tuple[int, ...] = ()
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    """Payload fields by number."""
    external: bool = False
    entries: list[tuple[str, str]] = field(default_factory=list)
    segment: bool = False


_Row = tuple[int, int, int, int]
"""Tag, start, payload and end of a field."""


def declare(
    fields: Fields, names: list[str], heads: list[int], graphs: list[int], *, use: str,
    limits: Limits,
) -> list[Declared | None]:
    """The tensors that begin in this chunk; None for one that has neither a name nor data.

    What a tensor usually consists of (unpacked dimensions, a type, a name, raw_data) is read for
    all tensors at once, anything else tensor by tensor.
    """
    tags, message = fields.tags, fields.message - fields.first
    at = np.minimum(tags, TAGS)
    odd = ~_PLAIN[at] | ((tags == _DIM) & (fields.payloads - fields.starts != 1))
    raw = np.flatnonzero(tags == _RAW)
    special = np.bincount(message[odd], minlength=fields.count) > 0
    special |= np.bincount(message[raw], minlength=fields.count) > 1
    solid = np.bincount(message[_SUBSTANCE[at]], minlength=fields.count) > 0

    codes = np.zeros(fields.count, dtype=np.int64)
    rows = np.flatnonzero(tags == _DATA_TYPE)
    codes[message[rows]] = fields.varints(rows)
    dims, dim_edges = _dims_of_all(fields, special, limits)
    starts, ends = np.full((2, fields.count), -1)
    starts[message[raw]], ends[message[raw]] = fields.payloads[raw], fields.ends[raw]

    found: list[Declared | None] = []
    edges = np.searchsorted(message, np.arange(fields.count + 1)) if special.any() else [0]
    columns = zip(
        names, heads, graphs, special.tolist(), solid.tolist(), codes.astype(np.int32).tolist(),
        starts.tolist(), ends.tolist(), strict=True,
    )
    for index, (name, head, graph, is_special, is_solid, code, start, end) in enumerate(columns):
        if not (is_solid or name):
            found.append(None)
            continue
        pieces = {RAW_DATA: [Piece(start, end, True)]} if start >= 0 else {}
        shape = tuple(dims[dim_edges[index] : dim_edges[index + 1]])
        tensor = Declared(head, name, graph, use, "", code, shape, pieces)
        if is_special:
            _declare_fully(fields, range(edges[index], edges[index + 1]), tensor, limits)
        found.append(tensor)
    return found


def _dims_of_all(
    fields: Fields, special: npt.NDArray[np.bool_], limits: Limits
) -> tuple[list[int], list[int]]:
    """The unpacked dimensions of the tensors that are not special, and where each one's begin."""
    message = fields.message - fields.first
    rows = np.flatnonzero((fields.tags == _DIM) & ~special[message])
    edges = np.searchsorted(message[rows], np.arange(fields.count + 1))
    ranks = np.diff(edges)
    if ranks.max(initial=0) > limits.tensor_rank:
        row = int(rows[edges[int(ranks.argmax())]])
        raise _too_many(fields, int(fields.starts[row]), limits, int(ranks.max()))
    return fields.varints(rows).tolist(), edges.tolist()


def _declare_fully(fields: Fields, rows: range, tensor: Declared, limits: Limits) -> None:
    """Fill in what the fields ``rows`` of one tensor say, whatever they are."""
    dims: list[Piece] = []
    tensor.pieces = {}
    columns = (fields.tags, fields.starts, fields.payloads, fields.ends)
    bounds = slice(rows.start, rows.stop)
    for at, row in zip(
        rows, zip(*(column[bounds].tolist() for column in columns), strict=True), strict=True
    ):
        tag, _, payload, end = row
        number = tag >> 3
        if tag in {_DIM, _PACKED_DIMS}:
            _add_piece(fields, row, dims, packed=tag & 7 == LEN)
        elif tag == _DATA_LOCATION:
            tensor.external = int(fields.varints(np.array([at]))[0]) == 1
        elif tag == _SEGMENT:
            tensor.segment = True
        elif tag == _RAW:
            tensor.pieces.setdefault(number, []).append(Piece(payload, end, True))
        elif tag in _PAYLOADS:
            pieces = tensor.pieces.setdefault(number, [])
            _add_piece(fields, row, pieces, packed=tag & 7 == LEN and number != STRING_DATA)
    tensor.dims = _dims(fields, dims, limits)


def _add_piece(fields: Fields, row: _Row, pieces: list[Piece], *, packed: bool) -> None:
    tag, start, payload, end = row
    if packed:
        pieces.append(Piece(payload, end, True))
        return
    if tag & 7 != LEN and payload - start > 1:
        raise Unsupported(
            fields.source.path, fields.source.origin() + start,
            "elements with tags of one byte", f"a tag of {payload - start} bytes",
        )
    if pieces and not pieces[-1].packed and pieces[-1].end == start:
        pieces[-1] = Piece(pieces[-1].start, end, False)
    else:
        pieces.append(Piece(start, end, False))


def _dims(fields: Fields, pieces: list[Piece], limits: Limits) -> tuple[int, ...]:
    dims: list[int] = []
    for piece in pieces:
        if piece.nbytes > 11 * (limits.tensor_rank + 1):
            raise _too_many(fields, piece.start, limits, piece.nbytes // 11)
        blocks = varint_blocks(fields.source, piece.start, piece.end, unpacked=not piece.packed)
        dims += [size for block in blocks for size in block.view(np.int64).tolist()]
    if len(dims) > limits.tensor_rank:
        raise _too_many(fields, pieces[0].start, limits, len(dims))
    return tuple(dims)


def _too_many(fields: Fields, start: int, limits: Limits, rank: int) -> LimitExceeded:
    return LimitExceeded(
        fields.source.path, fields.source.origin() + start, "tensor_rank", limits.tensor_rank,
        f"a tensor of {rank:,} dimensions or more",
    )


class Stored(NamedTuple):
    """Bytes of the model file that one storage accounts for."""

    offset: int
    stored_bytes: int
    payload: Source
    encoding: str


class Resolved(NamedTuple):
    """What a declared tensor is: its view, the bytes it views, and bytes that nothing views."""

    dtype: DType
    shape: tuple[int, ...]
    data: Stored | None
    unviewed: list[Stored]
    oddities: list[tuple[str, str]]
    """What is odd about it, as predicates of the tensor: the kind, and the words for this one."""


def resolve(source: Source, tensor: Declared) -> Resolved:
    """Check the payload of a tensor against its shape and type; external data is the caller's.

    Bytes of payload fields that the tensor does not view, because another field takes precedence
    or because their number is wrong, come back as ``unviewed``: no byte is lost.
    """
    plain = _resolve_plain(source, tensor)
    if plain is not None:
        return plain
    oddities: list[tuple[str, str]] = []
    shape = tensor.dims
    if any(size < 0 for size in shape):
        _note(oddities, "has a negative dimension, which is read as 0")
        shape = tuple(max(size, 0) for size in shape)
    if tensor.segment:
        _note(oddities, "is a segment of a tensor")
    elements = prod(shape)
    dtype, typed = _element_type(tensor, elements, oddities)
    chosen = _chosen(tensor, typed, oddities)

    data: Stored | None = None
    if chosen is not None:
        pieces = tensor.pieces[chosen]
        data = (
            _raw(source, pieces[-1], dtype, elements) if chosen == RAW_DATA
            else _typed(source, pieces, chosen, dtype, elements)
        )
        viewed = [pieces[-1]] if chosen == RAW_DATA else pieces
        if data is None and (elements or any(piece.nbytes for piece in viewed)):
            stored = sum(piece.nbytes for piece in viewed)
            _note(
                oddities, "has a payload of another size than its shape",
                f"stores {stored:,} bytes, which are not the {elements:,} elements of {dtype.name} "
                "that its shape says"
            )
        if len(pieces) > 1 and chosen == RAW_DATA:
            _note(oddities, "has raw_data more than once, the last one counts")
    elif elements and not tensor.external:
        _note(oddities, "has no data")

    unviewed = []
    for number, pieces in sorted(tensor.pieces.items()):
        kept = (pieces[:-1] if number == RAW_DATA else []) if number == chosen else pieces
        if data is None:
            kept = pieces
        unviewed += [_as_stored(source, piece) for piece in kept if piece.nbytes]
        if number not in {chosen, RAW_DATA, STRING_DATA}:
            check_packed(source, pieces, _FIXED_WIDTHS.get(number))
    return Resolved(dtype, shape, data, unviewed, oddities)


def _resolve_plain(source: Source, tensor: Declared) -> Resolved | None:
    """A tensor with nothing but a whole raw_data, as almost all are; None for any other."""
    pieces, known = tensor.pieces.get(RAW_DATA), data_type(tensor.code)
    if pieces is None or known is None or len(tensor.pieces) > 1 or len(pieces) > 1:
        return None
    if tensor.external or tensor.segment or min(tensor.dims, default=0) < 0:
        return None
    data = _raw(source, pieces[0], known[0], prod(tensor.dims))
    return Resolved(known[0], tensor.dims, data, [], []) if data is not None else None


def _note(oddities: list[tuple[str, str]], kind: str, text: str = "") -> None:
    oddities.append((kind, text or kind))


def _element_type(
    tensor: Declared, elements: int, oddities: list[tuple[str, str]]
) -> tuple[DType, int | None]:
    known = data_type(tensor.code)
    if known is not None:
        return known
    _note(oddities, "has an unknown data type", f"has the unknown data type {tensor.code}")
    pieces = tensor.pieces.get(RAW_DATA)
    bits = 8
    if pieces and elements and pieces[-1].nbytes * 8 % elements == 0:
        bits = pieces[-1].nbytes * 8 // elements or 8
    return opaque(f"onnx-{tensor.code}", bits), None


def _chosen(tensor: Declared, typed: int | None, oddities: list[tuple[str, str]]) -> int | None:
    """The payload field that counts: external data before raw_data before the type's own field."""
    present = [number for number, pieces in tensor.pieces.items() if pieces]
    if tensor.external:
        if any(piece.nbytes for pieces in tensor.pieces.values() for piece in pieces):
            _note(oddities, "has external data and data in the model, which is ignored")
        return None
    if RAW_DATA in present:
        chosen = RAW_DATA
    elif typed in present:
        chosen = typed
    else:
        chosen = None
    if any(piece.nbytes for number in present if number != chosen for piece in tensor.pieces[number]):
        _note(oddities, "has data in a field that does not count for it")
    return chosen


def _as_stored(source: Source, piece: Piece) -> Stored:
    return Stored(piece.start, piece.nbytes, Window(source, piece.start, piece.end), "raw")


def _raw(source: Source, piece: Piece, dtype: DType, elements: int) -> Stored | None:
    if dtype.name == "string" or not piece.nbytes or piece.nbytes != dtype.nbytes(elements):
        return None
    return _as_stored(source, piece)


def _typed(
    source: Source, pieces: list[Piece], number: int, dtype: DType, elements: int
) -> Stored | None:
    """Elements of a typed field as the bytes that raw_data would hold; None on a wrong count."""
    stored = sum(piece.nbytes for piece in pieces)
    if not stored:
        return None
    if number == STRING_DATA:
        return _strings(source, pieces, stored, elements)
    nbytes = dtype.nbytes(elements)
    width = _FIXED_WIDTHS.get(number)
    if width is not None:
        if sum(_fixed_bytes(source, piece, width) for piece in pieces) != nbytes:
            return None
        if len(pieces) == 1 and pieces[0].packed:
            return _as_stored(source, pieces[0])
    else:
        per_value = 1 if dtype.bits >= 8 or dtype.bits == 6 else 8 // dtype.bits
        if sum(_count(source, piece) for piece in pieces) != -(-elements // per_value):
            return None

    def derive() -> npt.NDArray[np.uint8]:
        parts = [_decoded(source, piece, width, dtype) for piece in pieces]
        data = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return _packed_sixes(data) if dtype.bits == 6 else data

    origin = source.origin() + pieces[0].start
    payload = DerivedSource(source.path, nbytes, origin, derive)
    return Stored(pieces[0].start, stored, payload, "typed")


def check_packed(source: Source, pieces: list[Piece], width: int | None) -> None:
    """Raise Corrupt unless the pieces are whole scalars: of ``width`` bytes, or varints if None."""
    for piece in pieces:
        if width is None:
            _count(source, piece)
        else:
            _fixed_bytes(source, piece, width)


def _fixed_bytes(source: Source, piece: Piece, width: int) -> int:
    """Bytes of the values in a piece of fixed-width values."""
    stride = width if piece.packed else width + 1
    if piece.nbytes % stride:
        raise Corrupt(
            source.path, source.origin() + piece.start, f"packed values of {width} bytes",
            f"{piece.nbytes:,} bytes",
        )
    return piece.nbytes // stride * width


def _count(source: Source, piece: Piece) -> int:
    """Number of varints in a piece; raises Corrupt where one is broken."""
    blocks = varint_blocks(source, piece.start, piece.end, unpacked=not piece.packed)
    return sum(len(values) for values in blocks)


def _decoded(
    source: Source, piece: Piece, width: int | None, dtype: DType
) -> npt.NDArray[np.uint8]:
    if width is not None:
        data = source.array(piece.start, piece.end)
        return data if piece.packed else data.reshape(-1, width + 1)[:, 1:].reshape(-1)
    blocks = varint_blocks(source, piece.start, piece.end, unpacked=not piece.packed)
    parts = [_narrowed(values, dtype) for values in blocks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)


def _narrowed(values: npt.NDArray[np.uint64], dtype: DType) -> npt.NDArray[np.uint8]:
    """Varints as stored elements: the low bits, as casting an int32 does."""
    if dtype.name == "bool":
        flags: npt.NDArray[np.bool_] = np.not_equal(values.astype(np.uint32), 0)
        return flags.view(np.uint8)
    size = max(dtype.bits // 8, 1)  # narrow types come packed, a whole byte per varint
    narrow: npt.NDArray[np.uint8] = values.astype(f"<u{size}").view(np.uint8)
    return narrow


def _packed_sixes(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """One six-bit value per byte to a stream of bits, the first in the low ones."""
    bits = np.unpackbits(values[:, None], axis=1, bitorder="little")[:, :6]
    return np.packbits(bits.reshape(-1), bitorder="little")


def _strings(source: Source, pieces: list[Piece], stored: int, elements: int) -> Stored | None:
    """The strings of string_data, one after the other, without lengths or terminators."""
    count = nbytes = 0
    for piece in pieces:
        for fields in _string_fields(source, piece):
            count += len(fields)
            nbytes += int((fields.ends - fields.payloads).sum())
    if count != elements:
        return None

    def derive() -> npt.NDArray[np.uint8]:
        parts = [
            source.array(start, end)
            for piece in pieces
            for fields in _string_fields(source, piece)
            for start, end in zip(fields.payloads.tolist(), fields.ends.tolist(), strict=True)
        ]
        return np.concatenate([np.zeros(0, dtype=np.uint8), *parts])

    origin = source.origin() + pieces[0].start
    payload = DerivedSource(source.path, nbytes, origin, derive)
    return Stored(pieces[0].start, stored, payload, "typed")


def _string_fields(source: Source, piece: Piece) -> list[Fields]:
    bounds = np.array([piece.start]), np.array([piece.end])
    return list(scan(source, *bounds, stream=True))
