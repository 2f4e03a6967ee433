"""Read the constants that a node stores in plain attributes, without a TensorProto, as tensors.

Source: onnx ``docs/Operators.md``, Constant, and ``onnx/onnx.proto``, AttributeProto.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import I32, LEN, VARINT
from sizeforensics.formats.onnx_parts.onnx_declared import Declared, Piece, add_piece
from sizeforensics.formats.onnx_parts.onnx_schema import FLOAT_DATA, INT64_DATA, STRING_DATA, TAGS
from sizeforensics.formats.onnx_parts.onnx_tensors import count_values


class _Kind(NamedTuple):
    """Which field of the attribute holds the elements, and what they are in a TensorProto."""

    number: int
    code: int
    """``TensorProto.DataType``."""
    typed: int
    """Number of the field that would hold them."""
    repeated: bool


_KINDS = {
    "value_float": _Kind(2, 1, FLOAT_DATA, False),
    "value_floats": _Kind(7, 1, FLOAT_DATA, True),
    "value_int": _Kind(3, 7, INT64_DATA, False),
    "value_ints": _Kind(8, 7, INT64_DATA, True),
    "value_string": _Kind(4, 8, STRING_DATA, False),
    "value_strings": _Kind(9, 8, STRING_DATA, True),
}

ELEMENTS = np.isin(
    np.arange(TAGS + 1),
    [
        2 << 3 | I32, 3 << 3 | VARINT, 4 << 3 | LEN, 7 << 3 | I32, 7 << 3 | LEN, 8 << 3 | VARINT,
        8 << 3 | LEN, 9 << 3 | LEN,
    ],
)  # fmt: skip
"""Tags of the fields of an attribute that hold elements."""


def declare_constant(
    fields: Fields, rows: list[int], attribute: str, *, head: int, name: str, graph: int
) -> tuple[Declared, list[int]] | None:
    """The tensor that an attribute of a Constant node is, and which of ``rows`` hold its elements.

    ``rows`` are the fields of the attribute with a tag of ELEMENTS. None for an attribute of
    another name, and for one without elements: one whose value is left to the caller of a function,
    and a number so oddly often repeated that it comes as a run.
    """
    kind = _KINDS.get(attribute)
    if kind is None:
        return None
    rows = [row for row in rows if fields.tags[row] >> 3 == kind.number]
    pieces: list[Piece] = []
    if not kind.repeated:
        rows = rows[-1:]  # protobuf: of a field that is there twice the last one counts
    for row in rows:
        tag = int(fields.tags[row])
        start, payload, end = int(fields.starts[row]), int(fields.payloads[row]), int(fields.ends[row])
        if kind.repeated or kind.typed == STRING_DATA:
            packed = tag & 7 == LEN and kind.typed != STRING_DATA
            add_piece(fields, (tag, start, payload, end), pieces, packed=packed)
        elif payload > start:
            pieces.append(Piece(payload, end, True))
    if not pieces:
        return None
    dims = (count_values(fields.source, pieces, kind.typed),) if kind.repeated else ()
    return Declared(head, name, graph, "constant", "", kind.code, dims, {kind.typed: pieces}), rows
