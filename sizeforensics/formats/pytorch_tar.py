"""Checkpoints of PyTorch 0.1: a tar archive of ``sys_info``, ``storages``, ``tensors``, ``pickle``.

The layout is what ``legacy_load`` inside ``_legacy_load`` of ``torch/serialization.py`` reads:
``storages`` and ``tensors`` are counted sequences of pickles with binary data behind each, and the
objects in ``pickle`` refer to tensors, not to storages, by number.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from sizeforensics.dtypes import DTYPES, DType
from sizeforensics.errors import Corrupt, Truncated
from sizeforensics.formats.encodings.pickle_values import DictValue, ListValue, PersistentId, Pickle
from sizeforensics.formats.encodings.tar_archive import Member, TarArchive
from sizeforensics.formats.torch_parts.checkpoint_roles import assign_uses
from sizeforensics.formats.torch_parts.torch_rebuild import check, storage_dtype
from sizeforensics.formats.torch_parts.torch_stream import TRAILING, Stream, scalar
from sizeforensics.formats.torch_parts.torch_values import PickledTensor, StorageRef
from sizeforensics.inventory import DESCRIPTIONS, Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.spans import PICKLE, UNCLAIMED

FRAMING = "legacy framing"
UNREFERENCED = "records nothing refers to"
"""Subjects of owners."""

_NEEDED = ("storages", "tensors", "pickle")


class _Stored(NamedTuple):
    """A storage, or a part of one that has a number of its own."""

    place: int
    """Index into the storages of the inventory."""
    dtype: DType | None
    offset: int
    """Elements before it in the storage at that place."""
    numel: int


class _Described(NamedTuple):
    """A tensor of the ``tensors`` member, whose description is ``[start, end)`` of the file."""

    key: int
    storage: _Stored
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    start: int
    end: int


def holds_checkpoint(archive: TarArchive) -> bool:
    """Whether the members are there without which PyTorch cannot load."""
    return all(archive.find(name) is not None for name in _NEEDED)


def read(source: Source, archive: TarArchive, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of the checkpoint in ``archive``, for which ``holds_checkpoint`` is true."""
    return _Reader(source, archive, limits).read()


class _Reader:
    def __init__(self, source: Source, archive: TarArchive, limits: Limits) -> None:
        self.source = source
        self.archive = archive
        self.stream = Stream(source, limits)
        self.stream.notes = archive.notes
        self.rank = limits.tensor_rank
        self.storages: dict[int, _Stored] = {}
        self.tensors: dict[int, _Described] = {}

    def read(self) -> Inventory:
        stream, archive = self.stream, self.archive
        for piece in archive.framing:
            stream.claim(*piece)
        used = {name: archive.find(name) for name in ("sys_info", *_NEEDED)}
        for member in archive.members:
            if member.end > member.start and used.get(member.name) is not member:
                stream.claim(member.start, member.end, UNCLAIMED, member.name, UNREFERENCED)
                stream.notes.count("have data that nothing in the archive refers to", member.name,
                                   "member")  # fmt: skip
        system, storages, tensors, objects = used.values()
        if system is not None:
            self.read_system(system)
        if storages is not None and tensors is not None and objects is not None:
            self.read_storages(storages)
            self.read_tensors(tensors)
            self.read_objects(objects)
        return stream.finish("pytorch-tar")

    def read_system(self, member: Member) -> None:
        system = self.stream.framing(member.start, member.end, "system info", FRAMING)
        if isinstance(system.root, DictValue):
            for key, value in zip(system.root.keys, system.root.values, strict=True):
                text = scalar(value)
                if type(key) is str and text is not None:
                    self.stream.metadata.append((key[:200], text))
        self.behind(system.end, member)

    def read_storages(self, member: Member) -> None:
        """Each is described by ``(key, location, type)``, then comes as in the later format."""
        stream = self.stream
        number, position = self.count(member, "storages")
        for _ in range(number):
            args = stream.framing(position, member.end, "storage", FRAMING)
            key, _location, kind = self.three(args, "(key, location, type) of a storage")
            dtype, bits = storage_dtype(kind)
            if key in self.storages:
                stream.notes.count("are stored again, the last time counts", str(key), "storage")
            position = stream.add_storage(str(key), dtype, args.end, member.end, FRAMING)
            storage = stream.storages[-1]
            self.storages[key] = _Stored(
                len(stream.storages) - 1, dtype, 0, storage.nbytes * 8 // bits
            )
        views = stream.framing(position, member.end, "storage views", FRAMING)
        self.read_views(views)
        self.behind(views.end, member)

    def read_views(self, views: Pickle) -> None:
        """Parts of storages that have a number of their own: ``(key, root, offset, numel)``."""
        for row in _items(views.root):
            values = tuple(_items(row))
            root = self.storages.get(values[1]) if len(values) == 4 and _all_int(values) else None
            if root is None or not (values[2] >= 0 and 0 <= values[3] <= root.numel - values[2]):
                raise self.wrong(views, "(key, root, offset, elements) of views of storages")
            key, _, offset, numel = values
            self.storages[key] = _Stored(root.place, root.dtype, root.offset + offset, numel)

    def read_tensors(self, member: Member) -> None:
        """``(key, storage, type)``, then number of dimensions, sizes, strides, offset."""
        number, position = self.count(member, "tensors")
        for _ in range(number):
            args = self.stream.load_short(position, member.end)
            key, storage_key, _type = self.three(args, "(key, storage, type) of a tensor")
            storage = self.storages.get(storage_key) if type(storage_key) is int else None
            if storage is None:
                raise self.wrong(args, "a tensor of a storage that exists")
            end = self.need(args.end, 8, member)
            rank = int.from_bytes(self.source.read(args.end, args.end + 4), "little", signed=True)
            if not 0 <= rank <= self.rank:
                raise Corrupt(self.source.path, self.source.origin() + args.end,
                              f"a number of dimensions of at most {self.rank}", str(rank))  # fmt: skip
            last = self.need(end, 16 * rank + 8, member)
            numbers = struct.unpack(f"<{2 * rank + 1}q", self.source.read(end, last))
            self.tensors[key] = _Described(
                key, storage, numbers[:rank], numbers[rank:-1], numbers[-1], position, last
            )
            position = last
        self.behind(position, member)

    def read_objects(self, member: Member) -> None:
        pickle = self.stream.load(member.start, member.end)
        objects = self.stream.objects(pickle, self.persistent)
        self.behind(pickle.end, member)
        by_key = {str(key): found.storage.place for key, found in self.tensors.items()}
        # Tensors and storages are numbered by their addresses, so the numbers are different.
        by_key |= {str(key): stored.place for key, stored in self.storages.items()}
        names: dict[str, str] = {}
        for tensor in objects.tensors:
            if isinstance(tensor.storage, StorageRef):
                names.setdefault(tensor.storage.key, tensor.name)
        for key, found in self.tensors.items():
            name = names.get(str(key), f"tensor {key}")
            self.stream.claim(found.start, found.end, PICKLE, name, DESCRIPTIONS)
        self.stream.add_tensors(pickle, objects, assign_uses, by_key)

    def persistent(self, value: PersistentId) -> PickledTensor | None:
        """The tensor or storage whose number a persistent id is."""
        number = value.value
        if type(number) is str and number.isascii() and number.isdecimal() and len(number) < 40:
            number = int(number)
        if type(number) is not int:
            return None
        found = self.tensors.get(number)
        if found is None:
            stored = self.storages.get(number)
            if stored is None:
                return None
            found = _Described(number, stored, (stored.numel,), (1,), 0, 0, 0)
        dtype = found.storage.dtype or DTYPES["uint8"]
        nbytes = self.stream.storages[found.storage.place].nbytes
        offset = found.storage.offset + found.offset
        problem = check(found.shape, found.strides, offset, dtype, nbytes)
        ref = StorageRef(str(number), found.storage.dtype, found.storage.numel, nbytes, "")
        return PickledTensor("", "", dtype, found.shape, found.strides, offset, ref, False, None, problem)

    # -- small things ------------------------------------------------------------------------------

    def count(self, member: Member, what: str) -> tuple[int, int]:
        """How many items a member has, and where the first one begins."""
        pickle = self.stream.framing(member.start, member.end, f"number of {what}", FRAMING)
        if type(pickle.root) is not int or pickle.root < 0:
            raise self.wrong(pickle, f"the number of {what}")
        return pickle.root, pickle.end

    def three(self, pickle: Pickle, what: str) -> tuple[Any, Any, Any]:
        values = pickle.root
        if type(values) is not tuple or len(values) != 3 or type(values[0]) is not int:
            raise self.wrong(pickle, what)
        return values

    def need(self, position: int, length: int, member: Member) -> int:
        if position + length > member.end:
            raise Truncated(self.source.path, self.source.origin() + position,
                            f"{length} bytes of a tensor's description",
                            f"{member.end - position} bytes of member {member.name!r}")  # fmt: skip
        return position + length

    def wrong(self, pickle: Pickle, expected: str) -> Corrupt:
        root = pickle.root
        return Corrupt(self.source.path, self.source.origin() + pickle.start, expected,
                       scalar(root) or f"a {type(root).__name__}")  # fmt: skip

    def behind(self, position: int, member: Member) -> None:
        """Flag what is left of a member behind its last pickle."""
        if position < member.end:
            self.stream.claim(position, member.end, UNCLAIMED, member.name, TRAILING)
            self.stream.notes.count("have bytes behind the pickle", member.name, "member")


def _items(value: Any) -> tuple[Any, ...] | list[Any]:
    if isinstance(value, ListValue):
        value = value.values
    return value if isinstance(value, (tuple, list)) else ()


def _all_int(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int for value in values)
