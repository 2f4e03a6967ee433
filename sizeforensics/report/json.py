"""Reports as JSON: the contract of ``sizeforensics/schemas``, one list item a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sizeforensics.escape import cut
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Place, Row
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.presentation import warnings_of
from sizeforensics.report.rows import CauseRow, DiffReport, Fix, Side
from sizeforensics.spans import ROLES

DIFF_SCHEMA = "sizeforensics.diff/1"
INVENTORY_SCHEMA = "sizeforensics.inventory/1"
MAP_SCHEMA = "sizeforensics.map/1"

# Controls beyond ASCII, zero-width and bidirectional characters, line separators, tags, lone
# surrogates: legal inside JSON text, but a terminal or an editor would act on them.
_UNSAFE = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff\ud800-\udfff]"
)
_PIECE = 4096
"""Spans per piece of output."""


def diff(report: DiffReport) -> dict[str, Any]:
    """A diff as plain values, keys in the order of the contract."""
    return {
        "schema": DIFF_SCHEMA,
        "headline": report.headline,
        "before": _side(report.before),
        "after": _side(report.after),
        "delta_bytes": report.delta_bytes,
        "causes": [_cause(entry) for entry in report.causes],
        "rows": [_row(row) for row in report.rows],
        "evidence": {f"{kind}_bytes": size for kind, size in report.evidence._asdict().items()},
        "tensor_evidence": {
            f"{kind}_bytes": size for kind, size in report.tensor_evidence._asdict().items()
        },
        "fixes": [_fix(fix) for fix in report.fixes],
        "warnings": list(report.warnings),
        "unexplained_bytes": report.unexplained_bytes,
    }


def inspect(report: InspectReport) -> dict[str, Any]:
    """An inventory as plain values, keys in the order of the contract."""
    return {
        "schema": INVENTORY_SCHEMA,
        "headline": report.headline,
        **_side(report.side),
        "roles": [{"role": part.name, "bytes": part.bytes, "count": part.count} for part in report.roles],
        "dtypes": [
            {"dtype": part.name, "bytes": part.bytes, "count": part.count} for part in report.dtypes
        ],
        "tensors": [row._asdict() for row in report.tensors],
        "ops": [{"op": part.name, "count": part.count, "bytes": part.bytes} for part in report.ops],
        "findings": [
            {
                "finding": row.finding, "bytes": row.bytes, "subjects": list(row.subjects),
                "remedy": row.remedy,
            }
            for row in report.findings
        ],
        "metadata": [{"key": key, "value": value} for key, value in report.metadata],
        "warnings": list(report.warnings),
        "unclaimed_bytes": report.unclaimed_bytes,
    }  # fmt: skip


def render(document: dict[str, Any]) -> Iterator[str]:
    """A document as text, piece by piece: a line per key, and per item of a list."""
    lead = "{"
    for key, value in document.items():
        yield f"{lead}\n  {_text(key)}: "
        lead = ","
        if isinstance(value, list) and value:
            separator = "[\n    "
            for item in value:
                yield separator + _text(item)
                separator = ",\n    "
            yield "\n  ]"
        else:
            yield _text(value)
    yield "\n}\n"


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it is read back: lists and dicts of its own, as the schema describes them."""
    found: dict[str, Any] = json.loads("".join(render(document)))
    return found


def render_map(inventory: Inventory) -> Iterator[str]:
    """Every span of an artifact as ``[start, end, role, owner]``, streamed."""
    head = {
        "schema": MAP_SCHEMA, "path": inventory.path, "format": inventory.format,
        "bytes": inventory.nbytes,
    }  # fmt: skip
    yield "{" + "".join(f"\n  {_text(key)}: {_text(value)}," for key, value in head.items())
    yield '\n  "files": ['
    owners = [_text(cut(name)) for name in inventory.owners.names]
    for number, file in enumerate(inventory.files):
        yield f'{"," * bool(number)}\n    {{"path": {_text(file.path)}, "bytes": {file.nbytes}, "spans": ['
        spans = file.spans
        for first in range(0, len(spans), _PIECE):
            piece = slice(first, first + _PIECE)
            rows = zip(
                spans.starts[piece].tolist(), spans.ends[piece].tolist(),
                spans.roles[piece].tolist(), spans.owners[piece].tolist(), strict=True,
            )  # fmt: skip
            lines = [f'\n[{start},{end},"{ROLES[role]}",{owners[owner]}]' for start, end, role, owner in rows]
            yield "," * bool(first) + ",".join(lines)
        yield "]}"
    yield f'\n  ],\n  "warnings": {_text(list(warnings_of(inventory)))}\n}}\n'


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() and "\x7f" not in text else _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    """An escape that a strict parser reads; a lone surrogate, which has none, as visible text."""
    code = ord(match.group())
    if 0xD800 <= code <= 0xDFFF:
        return f"\\\\u{code:04x}"
    return json.dumps(match.group(), ensure_ascii=True)[1:-1] if code > 0x7F else "\\u007f"


def _side(side: Side) -> dict[str, Any]:
    files = [file._asdict() for file in side.files]
    return {"path": side.path, "format": side.format, "bytes": side.bytes, "files": files}


def _cause(entry: CauseRow) -> dict[str, Any]:
    return {
        "cause": entry.cause,
        "label": entry.title,
        "before_bytes": entry.before_bytes,
        "after_bytes": entry.after_bytes,
        "delta_bytes": entry.delta_bytes,
        "count": entry.count,
        "elements": entry.elements,
        "proved_bytes": entry.evidence.proved,
        "parsed_bytes": entry.evidence.parsed,
        "inferred_bytes": entry.evidence.inferred,
        "unexplained_bytes": entry.evidence.unexplained,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "cause": row.cause,
        "label": row.label,
        "subject": row.subject,
        "before_bytes": row.before_bytes,
        "after_bytes": row.after_bytes,
        "delta_bytes": row.delta_bytes,
        "evidence": row.evidence,
        "how": row.how,
        "count": row.members,
        "elements": row.elements,
        "difference": row.difference,
        "before": _place(row.before),
        "after": _place(row.after),
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    return place._asdict() if place else None


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "cause": fix.cause,
        "label": fix.label,
        "action": fix.action,
        "saves_bytes": fix.saves_bytes,
        "exact": fix.exact,
        "risk": fix.risk,
        "remedy": fix.remedy,
    }


def chunks(pieces: Iterable[str], size: int = 1 << 16) -> Iterator[str]:
    """The same text in fewer pieces, so that writing it is not what takes the time."""
    held: list[str] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield "".join(held)
            held, length = [], 0
    yield "".join(held)
