"""Where an ONNX model says its external tensor data lie, and the tiling of the files they lie in.

Source: onnx ``docs/ExternalData.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sizeforensics.formats.beside import NotReadError
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.spans import ALIGNMENT, TENSOR_DATA, UNCLAIMED, Owners, Spans, SpanSink

LARGEST_ALIGNMENT = 1 << 16
"""Bytes; the allocation granularity of Windows, the largest alignment ExternalData.md names."""

_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)  # 19 digits hold every 64-bit offset


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a tensor's bytes are: ``length`` None means up to the end of the file."""

    location: str
    offset: int
    length: int | None


def reference(entries: Iterable[tuple[str, str]]) -> tuple[Reference, list[str]]:
    """The key-value pairs of ``TensorProto.external_data``, and what is odd about them.

    A ``checksum`` is accepted and not verified: it is a SHA-1 of the whole file that no exporter
    writes. Raises NotReadError where the pairs do not name a place.
    """
    values: dict[str, str] = {}
    oddities = []
    for key, value in entries:
        if key not in _KEYS:
            oddities.append(f"external data has an unknown key {key!r}")
        elif key in values:
            oddities.append(f"external data has the key {key!r} twice, the last one counts")
        if key == "checksum":
            oddities.append("external data has a checksum, which is not verified")
        values[key] = value
    if not values.get("location"):
        raise NotReadError("it has no location")
    offset = _digits(values.get("offset", "0"), "offset")
    length = _digits(values["length"], "length") if "length" in values else None
    return Reference(values["location"], offset, length), oddities


def _digits(text: str, what: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise NotReadError(f"its {what} {text[:40]!r} is not a decimal number of at most 19 digits")
    return int(text)


@dataclass(frozen=True, slots=True)
class Extent:
    """``[start, end)`` of an external file that one or more tensors refer to."""

    start: int
    end: int
    members: tuple[int, ...]


def extents(ranges: list[tuple[int, int]]) -> list[Extent]:
    """Join ranges that share bytes, so that every byte is owned once; ascending.

    ``members`` are positions in ``ranges``, in their order. Empty ranges are left out.
    """
    found: list[Extent] = []
    order = sorted((start, end, at) for at, (start, end) in enumerate(ranges) if end > start)
    joined: list[int] = []
    first = last = -1
    for start, end, at in order:
        if joined and start < last:
            joined.append(at)
            last = max(last, end)
            continue
        if joined:
            found.append(Extent(first, last, tuple(sorted(joined))))
        first, last, joined = start, end, [at]
    if joined:
        found.append(Extent(first, last, tuple(sorted(joined))))
    return found


def tile(
    source: Source, used: list[tuple[int, int, int]], owners: Owners, limits: Limits
) -> Spans:
    """Spans of an external file of which ``used`` (start, end, owner) hold tensors.

    A gap is ``alignment`` when it is all zero, ends at a multiple of a power of two up to
    ``LARGEST_ALIGNMENT`` and is shorter than it. Everything else is ``unclaimed``.
    """
    nobody = owners.add("external data nobody refers to", "external data nobody refers to")
    padding = owners.add("padding between tensors", "padding between tensors")
    sink = SpanSink(source.path, limits)
    position = 0
    for start, end, owner in [*used, (source.size, source.size, -1)]:
        if start > position:
            padded = _is_padding(source, position, start)
            role, gap = (ALIGNMENT, padding) if padded else (UNCLAIMED, nobody)
            sink.add(position, start, role, gap)
        sink.add(start, end, TENSOR_DATA, owner)
        position = end
    return sink.finish(source.size, nobody)


def _is_padding(source: Source, start: int, end: int) -> bool:
    alignment = min(end & -end, LARGEST_ALIGNMENT)
    return end - start < alignment and not source.array(start, end).any()
