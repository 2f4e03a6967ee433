"""What is fuzzed: a function of bytes for each reader, for ``inspect`` and for ``diff``.

Each lets FormatError pass, which is how a reader refuses, and nothing else: an exception of any
other kind is a finding, and so is a law that does not hold.
"""

from __future__ import annotations

import json as oracle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from unicodedata import category

import numpy as np

from fuzz import seeds
from fuzz.framings import unpair
from sizeforensics import api, formats
from sizeforensics.errors import FormatError, LawBroken
from sizeforensics.formats.encodings import (
    bounded_json,
    pickle_stream,
    protobuf_wire,
    tar_archive,
    zip_archive,
)
from sizeforensics.formats.torch_parts.torch_objects import read_objects
from sizeforensics.inventory import Inventory
from sizeforensics.limits import Limits
from sizeforensics.report import console, json, save, snapshots
from sizeforensics.report.styled import View
from sizeforensics.source import MemorySource, Source
from sizeforensics.spans import TENSOR_DATA, Integers, Owners, SpanSink

SMALL = Limits(inflated_bytes=1 << 22, pickle_opcodes=200_000, pickle_objects=50_000)
"""Bounds under which an input that is slow is a finding, not a large file."""


_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what moves a cursor, changes direction, hides, or cannot be encoded."""


def check(name: str, data: bytes) -> None:
    """Run a harness: raises for a finding, and for nothing else."""
    harness, _ = HARNESSES[name]
    try:
        harness(data)
    except FormatError as refusal:
        _law(str(refusal).isprintable(), f"a refusal is not printable: {refusal!r}")


def _law(holds: bool, what: str) -> None:
    if not holds:
        raise LawBroken(what)


def zip_records(data: bytes) -> None:
    """The records and the framing of an archive tile it."""
    archive = zip_archive.read(MemorySource("zip", data), SMALL)
    sink, owners = SpanSink(), Owners()
    archive.claim_framing(sink, owners)
    for entry in archive.entries:
        sink.add(entry.start, entry.end, TENSOR_DATA, owners.add(entry.name, "data"))
        _payload(archive.content(entry))
    sink.finish(len(data), owners.add("gap", "gap"))


def tar_members(data: bytes) -> None:
    """The members and the framing of an archive tile it."""
    archive = tar_archive.read(MemorySource("tar", data), SMALL)
    sink, owners = SpanSink(), Owners()
    for piece in archive.framing:
        sink.add(piece.start, piece.end, piece.role, owners.add(piece.name, "framing"))
    for member in archive.members:
        sink.add(member.start, member.end, TENSOR_DATA, owners.add(member.name, "data"))
    sink.finish(len(data), owners.add("gap", "gap"))


def pickle(data: bytes) -> None:
    """What a pickle holds tiles it, up to its STOP."""
    found = pickle_stream.load(MemorySource("pickle", data), 0, len(data), SMALL)
    objects = read_objects(found)
    starts, ends = objects.starts, objects.ends
    _law(bool(starts[0] == 0 and ends[-1] == found.size <= len(data)), "a pickle is not covered")
    _law(bool((starts[1:] == ends[:-1]).all() and (ends > starts).all()), "its spans do not tile")
    for text in (*objects.owner_names, *objects.owner_subjects, *objects.warnings):
        text.encode()


def protobuf(data: bytes) -> None:
    """The fields of a message tile it, and so do those of fields that may be messages themselves."""
    source = MemorySource("protobuf", data)
    starts, ends = _fields(source, np.array([0]), np.array([len(data)]))
    with suppress(FormatError):  # text is no message
        for _ in range(5):
            starts, ends = _fields(source, starts, ends)


def _fields(source: Source, starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """The payloads of the fields of these messages that may be messages."""
    inner_starts, inner_ends = [starts[:0]], [ends[:0]]
    for fields in protobuf_wire.scan(source, starts, ends):
        same = fields.message[1:] == fields.message[:-1]
        _law(bool((fields.starts[1:] == fields.ends[:-1])[same].all()), "fields do not tile")
        _law(bool((fields.payloads <= fields.ends).all()), "a payload leaves its field")
        nested = fields.tags & 7 == 2
        inner_starts.append(fields.payloads[nested])
        inner_ends.append(fields.ends[nested])
        fields.texts(np.flatnonzero(nested))
        fields.varints(np.flatnonzero(fields.tags & 7 == 0))
    return np.concatenate(inner_starts), np.concatenate(inner_ends)


def bounded(data: bytes) -> None:
    """JSON that is accepted is what Python's own reader says."""
    ours = bounded_json.loads(MemorySource("json", data), 0, len(data), SMALL)
    _law(repr(ours) == repr(oracle.loads(data, parse_int=_same_zero)), "JSON is read differently")


def _same_zero(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def model(data: bytes) -> None:
    """A file of any format is explained to the byte, and its payloads can be read."""
    _explained(data)


def inspect(data: bytes) -> None:
    """The whole of ``inspect`` and ``map``: every report can be made, and is safe to show."""
    inventory = _explained(data)
    report = api.look_into(inventory).report
    _inert(console.inspect(report, View(verbose=True)))
    _inert("".join(console.spans(inventory)))
    oracle.loads("".join(json.render_map(inventory)))
    _reports(report)


def diff(data: bytes) -> None:
    """The ledger of two files sums, turns its signs with its sides, and is empty for one file."""
    both = unpair(data)
    if both is None:
        return
    before, after = (_read(side) for side in both)
    there, back = api.compare(before, after), api.compare(after, before)
    _law(there.delta_bytes == after.nbytes - before.nbytes, "a ledger does not sum to the sizes")
    _law(sum(row.delta_bytes for row in there.rows) == there.delta_bytes, "rows do not sum")
    _law(sum(entry.delta_bytes for entry in there.causes) == there.delta_bytes, "causes do not sum")
    _law(_signed(there, 1) == _signed(back, -1), "diff(B, A) is not diff(A, B) turned")
    _law(not any(row.delta_bytes for row in api.compare(before, before).rows), "diff(A, A) is not empty")
    _inert(console.diff(there.report, View(verbose=True)))
    _reports(there.report)


def _signed(found: api.Diff, sign: int) -> dict[str, int]:
    totals: dict[str, int] = {}
    for row in found.rows:
        totals[row.cause] = totals.get(row.cause, 0) + sign * row.delta_bytes
    return {cause: delta for cause, delta in totals.items() if delta}


def _reports(report: save.Report) -> None:
    for kind in ("csv", "md", "html"):
        _inert("".join(save.pieces(report, kind)))
    oracle.loads("".join(save.pieces(report, "json")))


def _read(data: bytes) -> Inventory:
    """The inventory of one file; of a model with what lies beside it, both written down."""
    both = unpair(data)
    if both is None:
        return formats.read_source(MemorySource("model", data), SMALL)
    folder = _folder()
    for name, content in zip(("model", seeds.SIDECAR), both, strict=True):
        (folder / name).write_bytes(content)
    return formats.read(str(folder / "model"), SMALL)


@cache
def _folder() -> Path:
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))


def _explained(data: bytes) -> Inventory:
    inventory = _read(data)
    if unpair(data) is None:
        _law(inventory.nbytes == len(data), "an inventory has not the size of its file")
    for warning in inventory.warnings:
        _law(warning.isprintable(), f"a warning is not printable: {warning!r}")
    for storage in inventory.storages:
        if storage.payload is not None:
            _payload(storage.payload)
    return inventory


def _payload(source: Source) -> None:
    """Read what was promised; deflated bytes are allowed to turn out broken only now."""
    with suppress(FormatError):
        source.read(0, min(source.size, 1 << 20))


def _inert(text: str) -> None:
    acting = [sign for sign in text if category(sign) in _ACTING and sign not in "\r\n"]
    _law(not acting, f"a report holds {acting[:3]}")


def snapshot(data: bytes) -> None:
    """What is taken for a snapshot can be shown, compared and written again as it is."""
    inventory = formats.read_source(MemorySource("snapshot", data), SMALL)
    if inventory.excerpts is not None:
        api.look_into(inventory)
        _law(api.compare(inventory, inventory).delta_bytes == 0, "a snapshot differs from itself")
        text = "".join(snapshots.text(inventory)).encode()
        again = formats.read_source(MemorySource("again", text))
        _law("".join(snapshots.text(again)).encode() == text, "a snapshot is not what it says")


HARNESSES: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "zip": (zip_records, seeds.archives),
    "pickle": (pickle, seeds.pickles),
    "protobuf": (protobuf, seeds.onnx_models),
    "tar": (tar_members, seeds.tars),
    "json": (bounded, seeds.jsons),
    "onnx": (model, seeds.onnx_models),
    "onnx-external": (model, seeds.external),
    "safetensors": (model, seeds.safetensors),
    "pytorch": (model, seeds.checkpoints),
    "pytorch-legacy": (model, seeds.legacy),
    "pytorch-tar": (model, seeds.tars),
    "torchscript": (model, seeds.torchscripts),
    "model-json": (model, seeds.model_jsons),
    "torch-export": (model, seeds.exports),
    "bare-pickle": (model, seeds.bare_pickles),
    "snapshot": (snapshot, seeds.snapshots),
    "inspect": (inspect, seeds.everything),
    "diff": (diff, seeds.pairs),
}
"""Name, what runs, and where its first inputs come from."""
