"""Walk protobuf messages batch by batch and claim every byte for a role and an owner.

All messages of one kind below one chunk of their parents are a batch: their fields are decoded
together and stay columns, never objects. What the messages of ONNX mean is ``onnx_messages``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import LimitExceeded
from sizeforensics.escape import one_line
from sizeforensics.formats.encodings.protobuf_fields import Fields
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.encodings.protobuf_wire import scan
from sizeforensics.formats.onnx_parts.onnx_declared import Piece
from sizeforensics.formats.onnx_parts.onnx_schema import INHERIT, STRING_DATA, TABLES
from sizeforensics.formats.onnx_parts.onnx_tensors import check_packed
from sizeforensics.layout import Messages
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.spans import DEBUG_INFO, TENSOR_DATA, Integers, Owners, SpanSink
from sizeforensics.units import counted

_STREAMED = frozenset({"ModelProto", "GraphProto"})
_RUNS = frozenset({"AttributeProto", "TensorProto"})
_FRAMED: dict[str, tuple[list[int], list[int]]] = {
    "TensorProto": ([], [STRING_DATA]), "AttributeProto": ([2, 3], [4, 9]),
}  # fmt: skip
"""Numbers of the fields that hold one number, and of those that hold strings of a tensor."""
_PACKED_FLOATS = 7 << 3 | LEN
"""Tag of the floats of an attribute; all other packed scalars outside of tensors are varints."""
_SHOWN = 3
"""Warnings of one kind that are spelt out."""


class Warnings:
    """Warnings; of one kind the first few are spelt out and the others counted."""

    def __init__(self, path: str) -> None:
        self._path = one_line(path)
        self._kinds: dict[str, list[str]] = {}
        self._more: dict[str, int] = {}

    def add(self, kind: str, text: str, count: int = 1) -> None:
        """Note ``text``; ``count`` occurrences of this kind, of which it describes the first."""
        shown = self._kinds.setdefault(kind, [])
        if len(shown) < _SHOWN:
            shown.append(f"{self._path}: {one_line(text)}")
            count -= 1
        self._more[kind] = self._more.get(kind, 0) + count

    def lines(self) -> tuple[str, ...]:
        """All warnings, kind by kind in the order in which the kinds came up."""
        lines = []
        for kind, shown in self._kinds.items():
            lines += shown
            if self._more[kind]:
                lines.append(f"{self._path}: {self._more[kind]:,} more: {one_line(kind)}")
        return tuple(lines)


@dataclass(slots=True)
class Batch:
    """Messages of one kind at one depth; columns of equal length, ascending.

    A message is framed by the field ``[heads, ends)`` of its parent; its fields are in ``[starts,
    ends)``. ``owners`` own what has no better owner, ``graphs`` and ``nodes`` say which graph and
    which node (below a tensor, which tensor) the message belongs to, ``parents`` which message of
    the batch above. ``purpose`` and ``labels`` are for the handler.
    """

    kind: str
    heads: Integers
    starts: Integers
    ends: Integers
    depth: int
    role: int
    owners: Integers
    graphs: Integers
    nodes: Integers
    parents: Integers
    purpose: str = ""
    labels: list[str] | None = None

    def __len__(self) -> int:
        return len(self.starts)


class _Claim(NamedTuple):
    """Ranges of the file and who they belong to; columns of equal length."""

    starts: Integers
    ends: Integers
    roles: npt.NDArray[np.uint8] | int
    owners: Integers


class Walk(ABC):
    """Claims the bytes of one file; a subclass says what the messages mean."""

    def __init__(self, source: Source, limits: Limits, notes: Warnings) -> None:
        self.source = source
        self.limits = limits
        self.notes = notes
        self.owners = Owners()
        self.sink = SpanSink(source.path, limits)
        self._structure = 0
        self._lengths: list[Messages] = []
        """The fields whose length may have to change."""

    @abstractmethod
    def handle(self, batch: Batch) -> None:
        """Claim the messages of this batch, chunk by chunk, and walk the ones below."""

    def walk(self, batch: Batch) -> None:
        """Claim these messages and all messages below them."""
        if batch.depth > self.limits.protobuf_nesting:
            raise LimitExceeded(
                self.source.path, self.source.origin() + int(batch.heads[0]), "protobuf_nesting",
                self.limits.protobuf_nesting, f"messages nested {batch.depth:,} deep",
            )
        self.handle(batch)

    def chunks(self, batch: Batch) -> Iterator[Fields]:
        """The fields of the messages of a batch, many messages or a part of a large one at a time."""
        return scan(
            self.source, batch.starts, batch.ends, stream=batch.kind in _STREAMED,
            runs=batch.kind in _RUNS, most=self.limits.graph_nodes,
        )

    def claim(
        self, batch: Batch, fields: Fields, owners: Integers | None = None,
        elements: list[int] | None = None,
    ) -> dict[int, Batch]:
        """Claim the framing of the messages that begin in this chunk, and all fields but messages.

        ``owners`` are those of the fields, where the message's own are too coarse; ``elements``
        the fields that hold elements of a tensor though the message is none. Returns the messages
        below by field number; their framing is claimed with them.
        """
        table = TABLES[batch.kind]
        at = table.rows(fields.tags)
        roles = table.roles[at]
        if owners is None:
            owners = batch.owners[fields.message]
        documented = roles == DEBUG_INFO
        if documented.any():
            owners[documented] = self.owners.add("doc_string", "doc_string")
        roles[roles == INHERIT] = batch.role
        if elements:
            roles[elements] = TENSOR_DATA
        if not table.known[at].all():
            unknown = np.flatnonzero(~table.known[at])
            owners[unknown] = self._unknown(batch.kind, fields, unknown)

        packed = table.packed[at]
        if packed.any() and batch.kind != "TensorProto":  # those of tensors are decoded anyway
            self._check_packed(fields, np.flatnonzero(packed))
        nested = table.nested[at]
        begun = slice(fields.first, fields.first + fields.count)
        self._keep_lengths(
            batch.heads[begun], batch.starts[begun], batch.ends[begun], batch.depth, batch.role
        )
        claims = [_Claim(batch.heads[begun], batch.starts[begun], batch.role, batch.owners[begun])]
        leaves = ~nested
        if batch.kind == "TensorProto" or elements:
            # The tag and the length in front of a payload are framing; strings and repeated
            # elements that are not packed are stored with theirs.
            numbers, (alone, strings) = fields.tags >> 3, _FRAMED[batch.kind]
            framed = (fields.tags & 7 == LEN) & ~np.isin(numbers, strings) | np.isin(numbers, alone)
            framed &= roles == TENSOR_DATA
            leaves &= ~framed
            payloads, headers = fields.payloads[framed], batch.owners[fields.message[framed]]
            lengthy = framed & (fields.tags & 7 == LEN)
            self._keep_lengths(
                fields.starts[lengthy], fields.payloads[lengthy], fields.ends[lengthy], batch.depth + 1,
                batch.role,
            )
            claims.append(_Claim(fields.starts[framed], payloads, batch.role, headers))
            claims.append(_Claim(payloads, fields.ends[framed], TENSOR_DATA, owners[framed]))
        claims.append(
            _Claim(fields.starts[leaves], fields.ends[leaves], roles[leaves], owners[leaves])
        )
        self._paint(claims)
        return self._below(batch, fields, np.flatnonzero(nested)) if nested.any() else {}

    def _keep_lengths(
        self, heads: Integers, starts: Integers, ends: Integers, depth: int, role: int
    ) -> None:
        # The model itself is no field: nothing says how long it is. Nothing can be cut out of an empty one.
        held = starts < ends
        count = int(np.count_nonzero(held))
        if depth and count:
            self._lengths.append(Messages(
                heads[held], starts[held], ends[held], np.full(count, depth, dtype=np.uint16),
                np.full(count, role, dtype=np.uint8),
            ))  # fmt: skip

    def layout(self) -> Messages:
        """The fields walked so far that have a length, by where they begin."""
        return Messages.ordered(self._lengths)

    def _below(self, batch: Batch, fields: Fields, nested: Integers) -> dict[int, Batch]:
        """The messages in the fields ``nested``; they inherit what the one around them has."""
        table = TABLES[batch.kind]
        tags = fields.tags[nested]
        found = {}
        for number, kind in table.children.items():
            tag = number << 3 | LEN
            rows = nested[tags == tag]
            if len(rows):
                message = fields.message[rows]
                role = int(table.roles[tag])
                found[number] = Batch(
                    kind, fields.starts[rows], fields.payloads[rows], fields.ends[rows],
                    batch.depth + 1, batch.role if role == INHERIT else role,
                    batch.owners[message], batch.graphs[message], batch.nodes[message], message,
                )  # fmt: skip
        return found

    def _paint(self, claims: list[_Claim]) -> None:
        """Hand ranges to the sink, those that touch and have one role and owner as one."""
        starts = np.concatenate([claim.starts for claim in claims])
        order = np.argsort(starts, kind="stable")
        starts = starts[order]
        ends = np.concatenate([claim.ends for claim in claims])[order]
        owners = np.concatenate([claim.owners for claim in claims])[order]
        roles = np.concatenate([
            np.full(len(claim.starts), claim.roles, dtype=np.uint8) for claim in claims
        ])[order]  # fmt: skip
        if not (ends > starts).all():
            kept = np.flatnonzero(ends > starts)
            starts, ends, roles, owners = starts[kept], ends[kept], roles[kept], owners[kept]
        if not len(starts):
            return
        differs = starts[1:] != ends[:-1]
        differs |= roles[1:] != roles[:-1]
        differs |= owners[1:] != owners[:-1]
        first = np.append(0, np.flatnonzero(differs) + 1)
        last = np.append(first[1:], len(starts)) - 1
        starts, ends, roles, owners = starts[first], ends[last], roles[first], owners[first]
        self.sink.extend(starts, ends, roles, owners)

        self._structure += int((ends - starts)[roles != TENSOR_DATA].sum())
        if self._structure > self.limits.structure_bytes:
            raise LimitExceeded(
                self.source.path, self.source.origin() + int(starts[0]), "structure_bytes",
                self.limits.structure_bytes, f"{counted(self._structure, 'byte')} that are no tensor's",
            )

    def _check_packed(self, fields: Fields, rows: Integers) -> None:
        """Raise Corrupt where packed scalars are not whole; only attributes have floats."""
        columns = (fields.tags[rows], fields.payloads[rows], fields.ends[rows])
        for tag, start, end in zip(*(column.tolist() for column in columns), strict=True):
            width = 4 if tag == _PACKED_FLOATS else None
            check_packed(self.source, [Piece(start, end, True)], width)

    def _unknown(self, kind: str, fields: Fields, rows: Integers) -> int:
        numbers = fields.tags[rows] >> 3
        for number in np.unique(numbers).tolist():
            same = rows[numbers == number]
            offset = self.source.origin() + int(fields.starts[same[0]])
            text = f"unknown field {number} in {kind}"
            self.notes.add(text, f"{text} at {offset:#x}", len(same))
        return self.owners.add("unknown fields", "unknown fields")
