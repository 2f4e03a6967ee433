"""What the script of an HTML report reads: columns, gzip, base64.

A hundred thousand tensors as JSON objects take 23 MB. Here every property is one column; names say
how much they share with the name before, offsets how far they are from where the tensor before
ended, sizes how far they are from what type and shape say, and texts that repeat are a table and
indices into it. Rows are in the order of the file, where neighbours resemble each other.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any

from sizeforensics.dtypes import DTYPES
from sizeforensics.escape import one_line
from sizeforensics.ledger import Place
from sizeforensics.report.contents import InspectReport, TensorRow
from sizeforensics.report.rows import DiffReport, TensorPair

NAME_LIMIT = 512
"""Characters of a name in the page; a longer one is cut in the middle."""
OTHERS_LIMIT = 400
"""Rows about no tensor; the smallest ones beyond are summed per cause or role."""

_EXACT = 1 << 52
"""Bits of a tensor up to which a script can multiply its shape without rounding."""

_Other = tuple[str, str, int, int, int]


def of_diff(report: DiffReport) -> dict[str, Any]:
    """Tensor pairs and the rest of the ledger; both together sum to both sizes."""
    pairs = sorted(report.tensors, key=_file_order)
    places = [pair.after or pair.before for pair in pairs]
    names = [one_line(place.name if place else "", NAME_LIMIT) for place in places]
    # Where both sides have one name the other is left out.
    matched = [
        one_line(pair.before.name, NAME_LIMIT)
        if pair.before and pair.after and pair.before.name != pair.after.name else ""
        for pair in pairs
    ]  # fmt: skip
    return {
        "kind": "diff",
        "names": _names(names),
        "matched": _names(matched),
        "side": [(pair.before is None) * 2 + (pair.after is None) for pair in pairs],
        "before": [pair.before_bytes - _usual(pair.before) for pair in pairs],
        "after": [pair.after_bytes - _usual(pair.after) for pair in pairs],
        "bits": _bits(place.dtype for pair in pairs for place in (pair.before, pair.after) if place),
        "dtype": _table(pair.dtype for pair in pairs),
        "shape": _table(pair.shape for pair in pairs),
        "cause": _table(" ".join(pair.causes) for pair in pairs),
        "evidence": _table(pair.evidence for pair in pairs),
        "how": _table(one_line(pair.how, NAME_LIMIT) for pair in pairs),
        "file": [place.file if place else -1 for place in places],
        "offset": _offsets([
            (place.offset, pair.after_bytes if pair.after else pair.before_bytes) if place else None
            for place, pair in zip(places, pairs, strict=True)
        ]),
        "others": _others(
            (row.cause, " ".join(filter(None, (row.label, row.subject))), row.before_bytes,
             row.after_bytes, row.members)
            for row in report.others
        ),
    }  # fmt: skip


def of_inspect(report: InspectReport) -> dict[str, Any]:
    """Tensors and everything else; ``after`` is what the file spends, and sums to its size."""
    tensors = sorted(
        report.tensors,
        key=lambda row: (-1 if row.file is None else row.file, row.offset or 0, row.name),
    )
    waste = _waste(report)
    return {
        "kind": "inspect",
        "names": _names([one_line(tensor.name, NAME_LIMIT) for tensor in tensors]),
        "before": [tensor.bytes - _usual(tensor) for tensor in tensors],
        "after": [tensor.stored_bytes - _usual(tensor) for tensor in tensors],
        "bits": _bits(tensor.dtype for tensor in tensors),
        "dtype": _table(tensor.dtype for tensor in tensors),
        "shape": _table(tensor.shape_text for tensor in tensors),
        "cause": _table(waste.get(tensor.name, "") for tensor in tensors),
        "use": _table(tensor.use for tensor in tensors),
        "file": [-1 if tensor.file is None else tensor.file for tensor in tensors],
        "offset": _offsets([
            None if tensor.offset is None else (tensor.offset, tensor.stored_bytes)
            for tensor in tensors
        ]),
        "others": _others((row.role, row.subject, 0, row.bytes, row.spans) for row in report.subjects),
    }


def packed(data: dict[str, Any]) -> str:
    """``data`` as base64 of gzip of JSON; the same bytes for the same data."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def _file_order(pair: TensorPair) -> tuple[bool, int, int, str]:
    place = pair.after or pair.before
    if place is None:
        return True, 0, 0, ""
    return pair.after is None, place.file, place.offset, place.name


def _names(names: Sequence[str]) -> dict[str, Any]:
    """Each name as the number of UTF-16 units it shares with the one before, and its remainder."""
    keep, rest = [], []
    previous = ""
    for name in names:
        shared = len(commonprefix((previous, name)))  # noqa: RUF071  of texts, not of paths
        # JavaScript counts UTF-16 units, Python characters.
        keep.append(shared if name.isascii() else len(name[:shared].encode("utf-16-le")) // 2)
        rest.append(name[shared:])
        previous = name
    # A name holds no line break: control characters are escaped.
    return {"keep": keep, "rest": "\n".join(rest)}


def _bits(dtypes: Iterable[str]) -> dict[str, int]:
    return {name: DTYPES[name].bits for name in sorted(set(dtypes) & DTYPES.keys())}


def _usual(tensor: Place | TensorRow | None) -> int:
    """Bytes that type and shape ask for; 0 where there is no tensor or a script could not tell."""
    bits = DTYPES[tensor.dtype].bits if tensor and tensor.dtype in DTYPES else 0
    for size in tensor.shape if tensor else ():
        bits *= size
        if not 0 <= bits <= _EXACT:
            return 0
    return -(-bits // 8)


def _table(values: Iterable[str]) -> dict[str, Any]:
    """The distinct values in the order they come, and for every row how far back its value is from
    the end of what came before: 0 for a new one, so that a column without repeats costs nothing."""
    known: dict[str, int] = {}
    at = [len(known) - known.setdefault(value, len(known)) for value in values]
    return {"values": [value.replace(" -> ", " → ") for value in known], "at": at}


def _offsets(places: Sequence[tuple[int, int] | None]) -> list[int | None]:
    """Distances of (offset, bytes) from the end of the tensor before; None for no offset."""
    distances: list[int | None] = []
    end = 0
    for place in places:
        distances.append(None if place is None else place[0] - end)
        if place is not None:
            end = place[0] + place[1]
    return distances


def _others(rows: Iterable[_Other]) -> list[_Other]:
    rows = list(rows)
    safe = [(cause, one_line(name, NAME_LIMIT), *rest) for cause, name, *rest in rows[:OTHERS_LIMIT]]
    sums: dict[str, list[int]] = {}
    for cause, _, before, after, count in rows[OTHERS_LIMIT:]:
        total = sums.setdefault(cause, [0, 0, 0, 0])
        for column, amount in enumerate((before, after, count, 1)):
            total[column] += amount
    folded = [
        (cause, f"{entries:,} more", before, after, count)
        for cause, (before, after, count, entries) in sums.items()
    ]
    return [*safe, *folded]  # type: ignore[list-item]  # the unpacked rest are the three integers


def _waste(report: InspectReport) -> dict[str, str]:
    """Name of a tensor to the finding about it; a narrower type follows the name after ``as``."""
    found: dict[str, str] = {}
    for finding in report.findings:
        for subject in finding.subjects:
            name = subject.rpartition(" as ")[0] if finding.finding == "dtype" else subject
            found.setdefault(name, finding.finding)
    return found
