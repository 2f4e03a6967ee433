"""Turn tensors of ONNX as they were declared into typed views of stored bytes."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DType, opaque
from sizeforensics.errors import Corrupt
from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import varint_blocks
from sizeforensics.formats.encodings.protobuf_wire import scan
from sizeforensics.formats.onnx_parts.onnx_declared import Declared, Piece
from sizeforensics.formats.onnx_parts.onnx_schema import RAW_DATA, STRING_DATA, data_type
from sizeforensics.source import DerivedSource, Source, Window
from sizeforensics.units import counted

_FIXED_WIDTHS = {4: 4, 10: 8}
"""Typed fields of fixed width: float_data and double_data, bytes of one value."""


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
                f"stores {counted(stored, 'byte')}, which are not the {elements:,} elements of {dtype.name} "
                "that its shape says"
            )
        if len({piece.packed for piece in pieces}) > 1:
            _note(oddities, "has elements packed and others one by one")
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
        per_value = max(8 // dtype.bits, 1)
        if sum(_count(source, piece) for piece in pieces) != -(-elements // per_value):
            return None

    def derive() -> npt.NDArray[np.uint8]:
        parts = [_decoded(source, piece, width, dtype) for piece in pieces]
        data = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return _packed_sixes(data) if dtype.bits == 6 else data

    origin = source.origin() + pieces[0].start
    payload = DerivedSource(source.path, nbytes, origin, derive)
    return Stored(pieces[0].start, stored, payload, "typed")


def count_values(source: Source, pieces: list[Piece], number: int) -> int:
    """How many values are in the pieces of a typed field; raises Corrupt where one is broken."""
    if number == STRING_DATA:
        return sum(len(fields) for piece in pieces for fields in _string_fields(source, piece))
    width = _FIXED_WIDTHS.get(number)
    if width is None:
        return sum(_count(source, piece) for piece in pieces)
    return sum(_fixed_bytes(source, piece, width) for piece in pieces) // width


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
            counted(piece.nbytes, "byte"),
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
