"""Put pickles and raw storages that lie one after the other in a file together as an inventory.

What ``torch_inventory`` does for archives, for PyTorch's containers that are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sizeforensics.dtypes import DType
from sizeforensics.errors import Corrupt, Truncated, Unsupported
from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.encodings.pickle_values import Pickle
from sizeforensics.formats.notes import Notes
from sizeforensics.formats.torch_parts import torch_objects
from sizeforensics.formats.torch_parts.observers import with_quantizers
from sizeforensics.formats.torch_parts.pickle_globals import harmful, shown
from sizeforensics.formats.torch_parts.torch_framing import COUNT, load_short
from sizeforensics.formats.torch_parts.torch_payloads import arrays_in, held, placed, quantizations
from sizeforensics.formats.torch_parts.torch_rebuild import Persistent, storage_view
from sizeforensics.formats.torch_parts.torch_values import (
    STORAGES,
    Objects,
    Payload,
    PickledTensor,
    StorageRef,
)
from sizeforensics.inventory import File, Inventory, Module, Quantization, Storage, Tensor, ranges
from sizeforensics.layout import Records
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.spans import CONTAINER, TENSOR_DATA, UNCLAIMED, Owners, SpanSink
from sizeforensics.units import counted

_MOST_SHOWN = 20
"""Callables of a pickle that frames others which are named."""

TRAILING = "bytes behind the pickle"
"""Subject of an owner that is not named after a pickled object."""

Assign = Callable[[object, Sequence[PickledTensor]], Sequence[PickledTensor]]
"""Gives the tensors of a pickle, in their order, the names and uses they get."""


class Stream:
    """An inventory in the making: ranges are claimed one after the other, then ``finish``."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.notes = Notes()
        self.storages: list[Storage] = []
        self.metadata: list[tuple[str, str]] = []
        self._sink = SpanSink(source.path, limits)
        self._owners = Owners()
        self._tensors: list[Tensor] = []
        self._holders: dict[int, tuple[int, int]] = {}
        self._framed: list[tuple[int, int, int]] = []
        self._modules: list[Module] = []
        self._quantizations: list[Quantization] = []
        self._pickled: list[str] = []

    def claim(self, start: int, end: int, role: int, name: str, subject: str) -> None:
        """Give ``[start, end)`` to one owner."""
        self._sink.add(start, end, role, self._owners.add(name, subject))

    def load(self, start: int, end: int) -> Pickle:
        """The pickle that begins at ``start`` and ends somewhere before ``end``."""
        return pickle_stream.load_first(self.source, start, end, self.limits)

    def load_short(self, start: int, end: int) -> Pickle:
        """As ``load``, for a pickle that is likely to be short: there may be one per tensor."""
        return load_short(self.source, start, end, self.limits)

    def framing(self, start: int, end: int, name: str, subject: str) -> Pickle:
        """A pickle that frames others: all its bytes are ``container``."""
        pickle = self.load_short(start, end)
        self.claim(start, pickle.end, CONTAINER, name, subject)
        self.remember(name, [*pickle.oddities, *map(shown, harmful(pickle)[:_MOST_SHOWN])])
        return pickle

    def add_storage(  # noqa: PLR0917
        self, name: str, dtype: DType | None, start: int, end: int, subject: str, listed: int = 0
    ) -> int:
        """The storage whose number of elements is at ``start``; where it ends.

        ``listed`` are the bytes that a list elsewhere spends on it.

        ``THPStorage_readFileRaw`` in ``torch/csrc/serialization.cpp``: a signed 64-bit number, then
        the elements, both little-endian on every machine. Raises Truncated when the elements are
        not there, Corrupt for a negative number, Unsupported for an unknown type of element.
        """
        source, first = self.source, start + COUNT
        if first > end:
            raise Truncated(source.path, source.origin() + start,
                            f"the number of elements of storage {name}", f"{end - start} bytes")  # fmt: skip
        numel = int.from_bytes(source.read(start, first), "little", signed=True)
        if numel < 0:
            raise Corrupt(source.path, source.origin() + start,
                          f"the number of elements of storage {name}", str(numel))  # fmt: skip
        if dtype is not None and dtype.name == "unknown":
            raise Unsupported(source.path, source.origin() + start, "elements of a known type",
                              f"storage {name} of an unknown one")  # fmt: skip
        # Several elements that share a byte are one element of their storage.
        last = first + numel * (1 if dtype is None else max(dtype.bits // 8, 1))
        if last > end:
            raise Truncated(source.path, source.origin() + first,
                            f"{counted(last - first, 'byte')} of storage {name}", counted(end - first, "byte"))  # fmt: skip
        self.claim(start, first, CONTAINER, name, subject)
        self.claim(first, last, TENSOR_DATA, name, STORAGES)
        self._framed.append((first, last, listed))
        self.storages.append(
            Storage(name, 0, first, last - first, last - first, source.window(first, last))
        )
        return last

    def objects(self, pickle: Pickle, persistent: Persistent = storage_view) -> Objects:
        """What a pickle holds, its bytes given to their owners."""
        objects = torch_objects.read_objects(pickle, self.limits, persistent)
        indices = self._owners.extend(objects.owner_names, objects.owner_subjects)
        self._sink.extend(
            objects.starts + pickle.start, objects.ends + pickle.start, objects.roles,
            indices[objects.owners],
        )  # fmt: skip
        return objects

    def add_tensors(
        self, pickle: Pickle, objects: Objects, assign: Assign, by_key: Mapping[str, int]
    ) -> None:
        """The tensors and modules of a pickle; ``by_key`` are the storages outside of it."""
        tensors = with_quantizers(assign(pickle.root, objects.tensors))
        arrays: dict[int, int] = {}
        for array in arrays_in(pickle, objects, tensors, self.source, pickle.start):
            arrays[array.offset - pickle.start] = len(self.storages)
            self.storages.append(array)
        first = len(self._tensors)
        self._quantizations += quantizations(dict(enumerate(tensors, first)))
        self._holders |= held(dict(enumerate(tensors, first)), objects, pickle.start)
        for tensor in tensors:
            storage = None
            if isinstance(tensor.storage, StorageRef):
                storage = by_key.get(tensor.storage.key)
            elif isinstance(tensor.storage, Payload):
                storage = arrays.get(tensor.storage.start)
            self._tensors.append(placed(tensor, storage, self.storages, self.notes))
        for module in objects.modules:
            members = {key: first + number for key, number in module.tensors.items()}
            self._modules.append(
                Module(module.path, module.class_path, module.attributes, members)
            )
        self._pickled += objects.warnings

    def remember(self, name: str, oddities: Sequence[str]) -> None:
        """Oddities of a pickle, as warnings."""
        self._pickled += [f"{name}: {oddity}" for oddity in oddities]

    def trailing(self, start: int, name: str, what: str) -> None:
        """Flag the bytes from ``start`` to the end of the file, which nothing announces."""
        left = self.source.size - start
        if left:
            self.claim(start, self.source.size, UNCLAIMED, name, name)
            self.notes.say(f"{counted(left, 'byte')} {'follows' if left == 1 else 'follow'} {what}")

    def finish(self, file_format: str) -> Inventory:
        """The inventory; what nothing has claimed is ``unclaimed``."""
        nobody = self._owners.add("unclaimed", "unclaimed")
        spans = self._sink.finish(self.source.size, nobody)
        return Inventory(
            self.source.path, file_format, (File(self.source.path, spans),), self._owners,
            tuple(self.storages), tuple(self._tensors), modules=tuple(self._modules),
            quantizations=tuple(self._quantizations), metadata=tuple(self.metadata),
            warnings=(*self.notes.finish(), *self._pickled), limits=self.limits,
            layouts=(self._layout(),), holders=ranges(self._holders, len(self._tensors)),
        )  # fmt: skip

    def _layout(self) -> Records:
        """Every storage with the number in front of it and what lists it; nothing is padded."""
        starts, ends, listed = np.array(self._framed, dtype=np.int64).reshape(-1, 3).T
        none = np.zeros_like(starts)
        return Records(starts, ends, none + COUNT, none, none, listed)


def scalar(value: Any) -> str | None:
    """The text of a plain value that is a fact to show; None for all else."""
    return str(value)[:200] if type(value) in (int, float, str, bool) else None
