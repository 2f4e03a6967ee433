"""Put the records of a PyTorch archive and the objects of its pickles together as an inventory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from sizeforensics.dtypes import DType
from sizeforensics.errors import Corrupt
from sizeforensics.formats.encodings import pickle_stream, zip_archive
from sizeforensics.formats.encodings.pickle_values import Pickle
from sizeforensics.formats.encodings.zip_archive import Entry
from sizeforensics.formats.encodings.zip_directory import DEFLATED
from sizeforensics.formats.notes import Notes
from sizeforensics.formats.torch_parts import torch_objects
from sizeforensics.formats.torch_parts.observers import with_quantizers
from sizeforensics.formats.torch_parts.torch_archive import TorchArchive, open_torch
from sizeforensics.formats.torch_parts.torch_payloads import (
    arrays_in,
    held,
    little_endian,
    placed,
    quantizations,
)
from sizeforensics.formats.torch_parts.torch_values import (
    Objects,
    Payload,
    PickledTensor,
    StorageRef,
)
from sizeforensics.inventory import (
    File,
    Inventory,
    Module,
    Quantization,
    Record,
    Storage,
    Tensor,
    ranges,
)
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.spans import (
    CONTAINER,
    METADATA,
    PICKLE,
    TENSOR_DATA,
    UNCLAIMED,
    Owners,
    SpanSink,
)

UNREFERENCED = "records nothing refers to"
STORAGES = "tensors"
TRAILING = "bytes behind the pickle"
EMPTY = "empty records"
"""Subjects of owners that are not named after a record or a pickled object."""

_METADATA_RECORDS = frozenset((
    "version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id",
    ".data/version",
))  # fmt: skip
_MOST_TEXT = 200


Assign = Callable[[object, list[PickledTensor]], Sequence[PickledTensor]]
"""Gives the tensors of a pickle, in their order, the names and uses they get; also gets the root
object."""


class Part(NamedTuple):
    """A pickle record of an archive."""

    record: str
    directory: str
    """Where its storages are, with the slash."""
    assign: Assign
    whole: tuple[int, str] | None = None
    """Role and subject of all its bytes, where the objects in it do not matter."""
    secondary: bool = False
    """Whether it repeats other tensors, or leaves their bytes out: only its own are kept."""


class Assembly:
    """An inventory in the making: records are claimed one after the other, then ``finish``."""

    def __init__(self, torch: TorchArchive, limits: Limits) -> None:
        self.torch = torch
        self.limits = limits
        self.notes = Notes()
        self._sink = SpanSink(torch.archive.source.path, limits)
        self._owners = Owners()
        self._storages: list[Storage] = []
        self._tensors: list[Tensor] = []
        self._holders: dict[int, tuple[int, int]] = {}
        self._modules: list[Module] = []
        self._quantizations: list[Quantization] = []
        self._metadata: list[tuple[str, str]] = []
        self._pickled: list[str] = []
        self._roles: dict[int, int] = {}
        self._subjects: dict[int, str] = {}
        self._parts: dict[int, tuple[tuple[int, str, int], ...]] = {}
        self._by_index: dict[int, int] = {}
        self._missing: set[str] = set()
        self._big_endian = self._byte_order()

    def _byte_order(self) -> bool:
        """Whether storages are big-endian (``byteorder`` record, torch/serialization.py)."""
        order = self.text("byteorder")
        if order == "big":
            self.notes.say("the storages are in big-endian byte order")
        elif order not in (None, "little"):
            self.notes.say(f"the byteorder record says {order!r}; little-endian is assumed")
        return order == "big"

    def text(self, name: str) -> str | None:
        """A short record as text without the line break at its end; None without such a record."""
        index = self.torch.find(name)
        if index is None or self._entry(index).nbytes > _MOST_TEXT:
            return None
        content = self.torch.archive.content(self._entry(index))
        return content.read(0, content.size).decode("utf-8", "backslashreplace").rstrip("\n")

    def add_pickle(self, part: Part) -> bool:
        """Claim a pickle record and the records of its storages; False without such a record."""
        index = self.torch.find(part.record)
        if index is None:
            return False
        content = self.torch.archive.content(self._entry(index))
        pickle = pickle_stream.load(content, 0, content.size, self.limits)
        objects = torch_objects.read_objects(pickle, self.limits)
        tensors = with_quantizers(part.assign(pickle.root, objects.tensors))
        self._pickled += [f"{part.record}: {warning}" for warning in objects.warnings]
        arrays = self._claim_pickle(index, part, pickle, objects, tensors)
        known = set(self._by_index.values())
        by_key = self._claim_storages(part, objects, tensors)
        first = len(self._tensors)
        kept: dict[int, PickledTensor] = {}
        for tensor in tensors:
            storage = None
            if isinstance(tensor.storage, StorageRef):
                storage = by_key.get(tensor.storage.key)
                if part.secondary and (storage is None or storage in known):
                    continue
            elif isinstance(tensor.storage, Payload):
                storage = arrays.get(tensor.storage.start)
            kept[len(self._tensors)] = tensor
            self._tensors.append(placed(tensor, storage, self._storages, self.notes))
        if self._entry(index).method != DEFLATED:
            self._holders |= held(kept, objects, self._entry(index).start)
        self._quantizations += quantizations(kept)
        if not part.secondary:
            self._add_modules(objects, first)
        return True

    def _add_modules(self, objects: Objects, first: int) -> None:
        for module in objects.modules:
            members = {key: first + number for key, number in module.tensors.items()}
            self._modules.append(
                Module(module.path, module.class_path, module.attributes, members)
            )

    # Pickles

    def _claim_pickle(
        self,
        index: int,
        part: Part,
        pickle: Pickle,
        objects: Objects,
        tensors: Sequence[PickledTensor],
    ) -> dict[int, int]:
        """Give the bytes of a pickle to their owners; the storages that lie in it, by position."""
        entry = self._entry(index)
        if entry.nbytes > pickle.size:
            self.notes.count("have bytes behind the pickle", entry.name)
        if part.whole is not None:
            self.claim(index, *part.whole)
            return {}
        if entry.method == DEFLATED:
            # Nobody can say which of the stored bytes hold what, only what they inflate to.
            self.claim(index, PICKLE, _base_name(entry))
            self._parts[index] = _parts(objects, entry.nbytes - pickle.size)
        else:
            self._roles[index], self._subjects[index] = PICKLE, _base_name(entry)
            indices = self._owners.extend(objects.owner_names, objects.owner_subjects)
            owners = indices[objects.owners]
            starts, ends = objects.starts + entry.start, objects.ends + entry.start
            self._sink.extend(starts, ends, objects.roles, owners)
            behind = self._owners.add(entry.name, TRAILING)
            self._sink.add(entry.start + pickle.size, entry.end, UNCLAIMED, behind)
        return self._add_arrays(entry, pickle, objects, tensors)

    def _add_arrays(
        self, entry: Entry, pickle: Pickle, objects: Objects, tensors: Sequence[PickledTensor]
    ) -> dict[int, int]:
        """One storage for each numpy array whose elements lie in the pickle."""
        arrays: dict[int, int] = {}
        for array in arrays_in(pickle, objects, tensors, self.torch.source, entry.start):
            offset, stored, encoding = array.offset, array.stored_bytes, array.encoding
            if entry.method == DEFLATED:
                offset, stored, encoding = entry.start, 0, "deflate"
            arrays[array.offset - entry.start] = len(self._storages)
            self._storages.append(replace(
                array, offset=offset, stored_bytes=stored, encoding=encoding
            ))  # fmt: skip
        return arrays

    # Storages

    def _claim_storages(
        self, part: Part, objects: Objects, tensors: Sequence[PickledTensor]
    ) -> dict[str, int]:
        """One storage for each record that the pickle refers to, by key."""
        viewed = {
            tensor.storage.key: tensor.dtype
            for tensor in reversed(tensors)
            if isinstance(tensor.storage, StorageRef)
        }
        by_key: dict[str, int] = {}
        for ref in objects.storages:
            index = self.torch.find(part.directory + ref.key)
            if index is None:
                if ref.location != "meta":
                    self.notes.count("are missing", part.directory + ref.key, "storage record")
                continue
            entry = self._entry(index)
            if index in self._roles:
                # PyTorch looks records up without regard to case: two keys can find one of them.
                if index in self._by_index:
                    by_key[ref.key] = self._by_index[index]
                if not part.secondary:
                    self.notes.count("are referred to under several names", entry.name)
                continue
            if not entry.nbytes and part.secondary:
                continue
            if ref.nbytes not in (-1, entry.nbytes):
                self.notes.count("have another size than the pickle declares", entry.name,
                                 "storage record")  # fmt: skip
            self.claim(index, TENSOR_DATA, STORAGES)
            by_key[ref.key] = self._by_index[index] = len(self._storages)
            self._storages.append(self._storage(entry, ref.dtype or viewed.get(ref.key)))
        return by_key

    def _storage(self, entry: Entry, dtype: DType | None) -> Storage:
        payload = self.torch.archive.content(entry)
        if self._big_endian and dtype is not None:
            payload = little_endian(payload, dtype)
        return Storage(
            entry.name, 0, entry.start, entry.stored_bytes, entry.nbytes, payload,
            "deflate" if entry.method == DEFLATED else "raw",
        )

    def add_storage(self, name: str, dtype: DType | None) -> int | None:
        """The storage that a record is, the same one however often it is asked for.

        None, and a warning, without such a record, or when it is something else already.
        """
        index = self.torch.find(name)
        if index is None:
            if name not in self._missing:
                self._missing.add(name)
                self.notes.count("are missing", name, "storage record")
            return None
        if index in self._roles and index not in self._by_index:
            self.notes.count("hold something else than a tensor that is said to be there", name)
            return None
        if index not in self._by_index:
            self.claim(index, TENSOR_DATA, STORAGES)
            self._by_index[index] = len(self._storages)
            self._storages.append(self._storage(self._entry(index), dtype))
        return self._by_index[index]

    def add_tensor(self, tensor: PickledTensor, storage: int | None) -> int:
        """A tensor that views one of the storages so far; its index."""
        self._tensors.append(placed(tensor, storage, self._storages, self.notes))
        return len(self._tensors) - 1

    def add_module(self, module: Module) -> None:
        self._modules.append(module)

    def add_fact(self, name: str, value: str) -> None:
        """A fact a reader wants to see, see ``Inventory.metadata``."""
        self._metadata.append((name, value))

    def graft(self, name: str, assign: Assign) -> bool:
        """A record that is a checkpoint of its own, as ``torch.save`` writes it: its spans, storages
        and tensors become those of this archive. False without such a record."""
        index = self.torch.find(name)
        if index is None or index in self._roles or not self._entry(index).nbytes:
            return False
        entry = self._entry(index)
        if entry.method == DEFLATED:
            self.claim(index, PICKLE, _base_name(entry))
            self.notes.count("hold a deflated checkpoint, whose tensors are not read", entry.name)
            return True
        inner = open_torch(zip_archive.read(self.torch.archive.content(entry), self.limits))
        assembly = Assembly(inner, self.limits)
        if not assembly.add_pickle(Part("data.pkl", "data/", assign)):
            raise Corrupt(self.torch.source.path, self.torch.source.origin() + entry.start,
                          f"a checkpoint in record {entry.name!r}", "an archive without data.pkl")  # fmt: skip
        assembly.claim_metadata()
        self._adopt(index, assembly.finish("pytorch-zip"))
        return True

    def _adopt(self, index: int, inner: Inventory) -> None:
        """Move what the inventory of a record holds to where the record is."""
        entry, spans = self._entry(index), inner.files[0].spans
        self._roles[index], self._subjects[index] = PICKLE, _base_name(entry)
        owners = self._owners.extend(inner.owners.names, inner.owners.subjects)[spans.owners]
        self._sink.extend(
            spans.starts + entry.start, spans.ends + entry.start, spans.roles, owners
        )
        first = len(self._storages)
        self._storages += [
            replace(storage, offset=storage.offset + entry.start) for storage in inner.storages
        ]
        self._tensors += [
            tensor if tensor.storage is None else replace(tensor, storage=first + tensor.storage)
            for tensor in inner.tensors
        ]
        self._pickled += [f"{entry.name}: {warning}" for warning in inner.warnings]

    # Other records

    def content(self, name: str) -> Source | None:
        """The bytes of a record; None without such a record."""
        index = self.torch.find(name)
        return None if index is None else self.torch.archive.content(self._entry(index))

    def claim_within(
        self, index: int, outer: tuple[int, str], inner: tuple[int, str],
        pieces: Sequence[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Give the ``pieces`` (start, end) of a record to one role and subject, the rest of it to
        another; all of it when it is deflated, where nobody can say which bytes hold what."""
        entry = self._entry(index)
        if entry.method == DEFLATED:
            self.claim(index, *outer)
            return
        self._roles[index], self._subjects[index] = outer
        rest, piece = (self._owners.add(entry.name, subject) for _, subject in (outer, inner))
        position = entry.start
        for start, end in pieces:
            self._sink.add(position, entry.start + start, outer[0], rest)
            self._sink.add(entry.start + start, entry.start + end, inner[0], piece)
            position = entry.start + end
        self._sink.add(position, entry.end, outer[0], rest)

    def claim(self, index: int, role: int, subject: str) -> None:
        """Give the data of one record that is no pickle and no storage to the record."""
        entry = self._entry(index)
        self._roles[index], self._subjects[index] = role, subject
        self._sink.add(entry.start, entry.end, role, self._owners.add(entry.name, subject))

    def unclaimed(self) -> list[tuple[int, str]]:
        """(index, name inside the directory) of the records that nothing has claimed yet and that
        PyTorch can find by their name."""
        rest = []
        for index, entry in enumerate(self.torch.archive.entries):
            name = self.torch.local_name(entry)
            if index not in self._roles and name is not None and self.torch.find(name) == index:
                rest.append((index, name))
        return rest

    def claim_metadata(self) -> None:
        """The records that every archive of PyTorch has, and the facts they hold."""
        stem = self.torch.stem.decode("utf-8", "backslashreplace").removesuffix("/")
        self._metadata.append(("archive name", stem))
        for index, name in self.unclaimed():
            if name in _METADATA_RECORDS:
                self.claim(index, METADATA, _base_name(self._entry(index)))
                self._metadata.append((name.removeprefix(".").replace("data/", ""), self.text(name) or ""))

    def finish(self, file_format: str) -> Inventory:
        """The inventory; records that nothing has claimed are said to be unreferenced."""
        archive = self.torch.archive
        for index, entry in enumerate(archive.entries):
            if index in self._roles:
                continue
            if entry.nbytes:
                self.claim(index, UNCLAIMED, UNREFERENCED)
                self.notes.count("have data that nothing in the archive refers to", entry.name)
            else:
                # Deflate takes two bytes to say nothing.
                self.claim(index, CONTAINER, EMPTY)
        archive.claim_framing(self._sink, self._owners)
        nobody = self._owners.add("unclaimed", "unclaimed")
        spans = self._sink.finish(self.torch.source.size, nobody)
        path = self.torch.source.path
        records = tuple(
            Record(
                entry.name, self._roles[index], self._subjects[index], entry.stored_bytes,
                entry.nbytes, self._parts.get(index, ()),
            )
            for index, entry in enumerate(archive.entries)
        )
        return Inventory(
            path, file_format, (File(path, spans),), self._owners, tuple(self._storages),
            tuple(self._tensors), modules=tuple(self._modules),
            quantizations=tuple(self._quantizations), records=records,
            metadata=tuple(self._metadata),
            warnings=(*self.torch.warnings, *self.notes.finish(), *self._pickled),
            limits=self.limits, layouts=(archive.layout(),),
            holders=ranges(self._holders, len(self._tensors)),
        )

    def _entry(self, index: int) -> Entry:
        return self.torch.archive.entries[index]


def _base_name(entry: Entry) -> str:
    return entry.name.rpartition("/")[2]


def _parts(objects: Objects, trailing: int) -> tuple[tuple[int, str, int], ...]:
    """(role, subject, bytes) of a pickle; elements of arrays in it are tensors, counted as such."""
    totals: Counter[tuple[int, str]] = Counter()
    sizes = (objects.ends - objects.starts).tolist()
    for role, owner, size in zip(
        objects.roles.tolist(), objects.owners.tolist(), sizes, strict=True
    ):
        if role != TENSOR_DATA:
            totals[role, objects.owner_subjects[owner]] += size
    if trailing:
        totals[UNCLAIMED, TRAILING] += trailing
    return tuple((role, subject, size) for (role, subject), size in totals.items())
