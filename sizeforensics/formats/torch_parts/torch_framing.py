"""The short pickles that frame storages: magic number, version, keys; and storages inside bytes.

A storage that is pickled on its own, not by ``torch.save``, is a call of ``_load_from_bytes`` with a
whole file in the legacy format as its argument (``UntypedStorage.__reduce__``, ``torch/storage.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sizeforensics.errors import FormatError, Truncated
from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.encodings.pickle_values import PersistentId, Pickle
from sizeforensics.limits import Limits
from sizeforensics.source import MemorySource, Source

MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of a legacy file is (``MAGIC_NUMBER``, ``torch/serialization.py``)."""
PROTOCOL = 1001
COUNT = 8
"""Bytes of the number of elements in front of every storage."""

_SHORT = 1 << 12


class Embedded(NamedTuple):
    """A storage whose elements are ``[start, end)`` of the pickle it is part of."""

    described: PersistentId
    start: int
    end: int


def load_short(source: Source, start: int, end: int, limits: Limits) -> Pickle:
    """As ``load_first``, for a pickle that is likely to be short: there may be one per tensor."""
    if end - start > _SHORT:
        try:
            return pickle_stream.load(source, start, start + _SHORT, limits)
        except Truncated:
            pass
    return pickle_stream.load_first(source, start, end, limits)


def embedded_storage(pickle: Pickle, start: int, end: int, limits: Limits) -> Embedded | None:
    """The storage in the legacy file at ``[start, end)`` of a pickle.

    None when it is no such file, or one that holds something else or more.
    """
    source = MemorySource("", np.frombuffer(pickle.data, dtype=np.uint8)[start:end])
    pickles: list[Pickle] = []
    position = 0
    try:
        for _ in range(5):
            pickles.append(load_short(source, position, source.size, limits))
            position = pickles[-1].end
        number = source.read(position, position + COUNT)
    except FormatError:
        return None
    magic, protocol, _, objects, _ = (found.root for found in pickles)
    if not (type(magic) is type(protocol) is int and (magic, protocol) == (MAGIC, PROTOCOL)):
        return None
    first = start + position + COUNT
    if type(objects) is not PersistentId or number != _number(objects):
        return None
    return Embedded(objects, first, end)


def _number(described: PersistentId) -> bytes:
    """How a file says how many elements a storage has; nothing when its id does not say."""
    value = described.value
    numel = value[4] if type(value) is tuple and len(value) > 4 else None
    if type(numel) is not int or not 0 <= numel < 1 << 63:
        return b""
    return numel.to_bytes(COUNT, "little")
