"""Give every tensor of an ONNX model the one storage its elements are in, inside or beside the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from sizeforensics.formats.beside import NotReadError, Sidecars
from sizeforensics.formats.onnx_parts.external_data import Reference, extents, reference, tile
from sizeforensics.formats.onnx_parts.onnx_declared import Declared
from sizeforensics.formats.onnx_parts.onnx_tensors import Resolved, Stored, resolve
from sizeforensics.formats.onnx_parts.onnx_walk import Warnings
from sizeforensics.inventory import File, Storage, Tensor, c_strides
from sizeforensics.limits import Limits
from sizeforensics.source import Source, Window
from sizeforensics.spans import Owners
from sizeforensics.units import counted


@dataclass(frozen=True, slots=True)
class _Range:
    """Bytes of an external file that a tensor refers to; it views them if their number is right."""

    tensor: int
    start: int
    end: int
    fits: bool


@dataclass(slots=True)
class _Placed:
    """A tensor on its way to the inventory."""

    declared: Declared
    resolved: Resolved
    owner: int
    storage: int | None = None
    offset: int = 0


class Shelf:
    """Collects storages; ``place`` every tensor in file order, then ``finish``."""

    def __init__(
        self, source: Source, owners: Owners, notes: Warnings, limits: Limits
    ) -> None:
        self._source = source
        self._limits = limits
        self._owners = owners
        self._notes = notes
        self._sidecars = Sidecars(source)
        self._ranges: list[list[_Range]] = []
        self._not_read: dict[tuple[str, str], list[str]] = {}
        self._placed: list[_Placed] = []
        self.storages: list[Storage] = []

    def place(self, tensor: Declared, owner: int) -> None:
        """Add the storages of one tensor; ``owner`` owns the bytes of its payload."""
        placed = _Placed(tensor, resolve(self._source, tensor), owner)
        for kind, text in placed.resolved.oddities:
            self._notes.add(f"tensor {kind}", f"tensor {tensor.name!r} {text}")
        if placed.resolved.data is not None:
            placed.storage = self._add(tensor.name, placed.resolved.data)
        for stored in placed.resolved.unviewed:
            self._add(tensor.name, stored)
        self._placed.append(placed)
        if tensor.external:
            self._refer(placed, len(self._placed) - 1)

    def _add(self, name: str, stored: Stored) -> int:
        self.storages.append(Storage(
            name, 0, stored.offset, stored.stored_bytes, stored.payload.size, stored.payload,
            stored.encoding,
        ))  # fmt: skip
        return len(self.storages) - 1

    # External data

    def _refer(self, placed: _Placed, at: int) -> None:
        name = placed.declared.name
        location = dict(placed.declared.entries).get("location", "")
        try:
            place, oddities = reference(placed.declared.entries)
            if placed.declared.use in {"constant", "sparse-index"}:
                oddities.append("external data of a tensor that is no dense initializer")
            for text in oddities:
                self._notes.add(text, f"tensor {name!r}: {text}")
            file = self._sidecars.find(place.location)
            found = self._range(placed, at, place, self._sidecars.files[file].size)
        except NotReadError as why:
            self._not_read.setdefault((location, str(why)), []).append(name)
            return
        finally:
            self._ranges += [[] for _ in self._sidecars.files[len(self._ranges) :]]
        self._ranges[file].append(found)

    def _range(self, placed: _Placed, at: int, place: Reference, size: int) -> _Range:
        name, resolved = placed.declared.name, placed.resolved
        expected = resolved.dtype.nbytes(prod(resolved.shape))
        length = place.length
        if length is None:
            length = expected
            if place.offset + length != size:
                kind = "external data without a length does not end with its file"
                self._notes.add(kind, f"tensor {name!r}: {kind}; its shape decides")
        end = place.offset + length
        if end > size:
            raise NotReadError(
                f"its bytes reach past the end of a file of {counted(size, 'byte')}"
            )
        fits = length == expected and resolved.dtype.name != "string"
        if not fits:
            self._notes.add(
                "external data of another size than the shape",
                f"tensor {name!r} has {counted(length, 'byte')} of external data, its shape and type "
                f"{expected:,}",
            )
        return _Range(at, place.offset, end, fits)

    def finish(self) -> tuple[list[File], list[Tensor]]:
        """The external files, tiled, and the tensors in the order in which they were placed."""
        self._note_not_read()
        files = [
            self._shelve(number, source, self._ranges[number])
            for number, source in enumerate(self._sidecars.files)
        ]
        return files, [_tensor(placed) for placed in self._placed]

    def _note_not_read(self) -> None:
        """One warning per file, however many tensors are in it."""
        for (location, why), names in self._not_read.items():
            kind = f"external data not read: {why}"
            tensors = f"tensor {names[0]!r}"
            if len(names) > 1:
                tensors = f"{len(names):,} tensors, {names[0]!r} the first"
            self._notes.add(kind, f"{kind} (location {location[:100]!r}, {tensors})")

    def _shelve(self, number: int, source: Source, ranges: list[_Range]) -> File:
        """One storage for each run of bytes that tensors share; a byte is never counted twice."""
        used = []
        for extent in extents([(found.start, found.end) for found in ranges]):
            members = [ranges[at] for at in extent.members]
            first = self._placed[members[0].tensor]
            self.storages.append(Storage(
                first.declared.name, number + 1, extent.start, extent.end - extent.start,
                extent.end - extent.start, Window(source, extent.start, extent.end),
            ))  # fmt: skip
            used.append((extent.start, extent.end, first.owner))
            for member in members:
                self._view(member, extent.start, extent.end)
        return File(source.path, tile(source, used, self._owners, self._limits))

    def _view(self, member: _Range, start: int, end: int) -> None:
        placed = self._placed[member.tensor]
        if (member.start, member.end) != (start, end):
            kind = "external data that overlaps another tensor's"
            self._notes.add(
                kind,
                f"tensor {placed.declared.name!r} shares some bytes of its external data with "
                "other tensors",
            )
        offset, rest = divmod((member.start - start) * 8, placed.resolved.dtype.bits)
        if member.fits and rest == 0:
            placed.storage, placed.offset = len(self.storages) - 1, offset
        elif member.fits:
            self._notes.add(
                "external data that overlaps another tensor's out of step",
                f"tensor {placed.declared.name!r} begins inside an element of another tensor",
            )


def _tensor(placed: _Placed) -> Tensor:
    declared, resolved = placed.declared, placed.resolved
    dtype = resolved.dtype
    if dtype.name == "string" and placed.storage is not None and resolved.data is not None:
        dtype = replace(dtype, total=resolved.data.payload.size)
    return Tensor(
        declared.name, dtype, resolved.shape, c_strides(resolved.shape), placed.offset,
        placed.storage, declared.use, declared.scope,
    )  # fmt: skip
