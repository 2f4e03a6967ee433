"""Read what a TensorProto declares: type, dimensions, and where its elements are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LimitExceeded, Unsupported
from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import LEN, VARINT, varint_blocks
from sizeforensics.formats.onnx_parts.onnx_schema import RAW_DATA, STRING_DATA, TABLES, TAGS
from sizeforensics.limits import Limits
from sizeforensics.spans import TENSOR_DATA

_DIM, _DATA_TYPE, _DATA_LOCATION = 1 << 3 | VARINT, 2 << 3 | VARINT, 14 << 3 | VARINT
_PACKED_DIMS = 1 << 3 | LEN
_SEGMENT, _NAME, _RAW, _DOC, _EXTERNAL = (number << 3 | LEN for number in (3, 8, 9, 12, 13))
_PAYLOADS = frozenset(np.flatnonzero(TABLES["TensorProto"].roles == TENSOR_DATA).tolist())
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
    """The tensors that begin in this chunk; None for one that has neither a name nor data, or that
    is an empty message.

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
    solid |= (np.bincount(message, minlength=fields.count) > 0) & [name != "" for name in names]

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
        if not is_solid:
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
            add_piece(fields, row, dims, packed=tag & 7 == LEN)
        elif tag == _DATA_LOCATION:
            tensor.external = int(fields.varints(np.array([at]))[0]) == 1
        elif tag == _SEGMENT:
            tensor.segment = True
        elif tag == _RAW:
            tensor.pieces.setdefault(number, []).append(Piece(payload, end, True))
        elif tag in _PAYLOADS:
            pieces = tensor.pieces.setdefault(number, [])
            add_piece(fields, row, pieces, packed=tag & 7 == LEN and number != STRING_DATA)
    tensor.dims = _dims(fields, dims, limits)


def add_piece(fields: Fields, row: _Row, pieces: list[Piece], *, packed: bool) -> None:
    """Add a field that holds elements to the ``pieces`` of its tensor."""
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
