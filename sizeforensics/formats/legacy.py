"""Checkpoints that ``torch.save`` wrote before PyTorch 1.6, and still writes when asked to.

The layout is that of ``_legacy_save`` and ``_legacy_load`` in ``torch/serialization.py``: five
pickles (magic number, protocol version, system info, the objects, the keys of their storages), then
for each key the number of elements and the elements.
"""

from __future__ import annotations

from typing import Any

from sizeforensics.errors import Corrupt, FormatError, Unsupported
from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.encodings.pickle_values import DictValue, ListValue, Pickle
from sizeforensics.formats.torch_parts.checkpoint_roles import assign_uses
from sizeforensics.formats.torch_parts.torch_framing import MAGIC, PROTOCOL
from sizeforensics.formats.torch_parts.torch_rebuild import str_of
from sizeforensics.formats.torch_parts.torch_stream import Stream, scalar
from sizeforensics.formats.torch_parts.torch_values import Objects
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source

FRAMING = "legacy framing"
"""Subject of the four pickles around the objects and of the counts before the storages."""

_LONGEST_MAGIC = 64
"""Bytes; protocol 0 writes 26, the others fewer."""


def looks_like(source: Source) -> bool:
    """Whether the first pickle is the magic number. One that would compute it is not."""
    try:
        first = pickle_stream.load(source, 0, min(_LONGEST_MAGIC, source.size))
    except FormatError:
        return False
    return type(first.root) is int and first.root == MAGIC

_LISTED = 5
"""Bytes of a key in the list of keys beside its text: an opcode and a length (BINUNICODE)."""
_FIRST_LONG = 255
"""The first key whose place in the memo, behind that of the list, takes four bytes."""


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of a checkpoint. Raises FormatError where PyTorch would not find a storage."""
    stream = Stream(source, limits)
    magic = stream.framing(0, source.size, "magic number", FRAMING)
    protocol = stream.framing(magic.end, source.size, "protocol version", FRAMING)
    if type(protocol.root) is not int or protocol.root != PROTOCOL:
        raise Unsupported(source.path, source.origin() + protocol.start,
                          f"protocol version {PROTOCOL}", _shown(protocol.root))  # fmt: skip
    system = stream.framing(protocol.end, source.size, "system info", FRAMING)
    _note_system(stream, system)
    pickle = stream.load(system.end, source.size)
    objects = stream.objects(pickle)
    keys = stream.framing(pickle.end, source.size, "storage keys", FRAMING)
    by_key, end = _storages(stream, objects, keys)
    stream.add_tensors(pickle, objects, assign_uses, by_key)
    again = looks_like(source.window(end, source.size))
    stream.trailing(end, "bytes behind the last storage", "the last storage" + (
        " and begin like another checkpoint" if again else ""
    ))  # fmt: skip
    return stream.finish("pytorch-legacy")


def _note_system(stream: Stream, system: Pickle) -> None:
    if not isinstance(system.root, DictValue):
        stream.notes.say("the system info is no dict")
        return
    for key, value in zip(system.root.keys, system.root.values, strict=True):
        text = scalar(value)
        if type(key) is str and text is not None:
            stream.metadata.append((key[:200], text))
    if system.root.get("little_endian") is False:
        stream.notes.say("the system info says big-endian, but PyTorch writes and reads storages of "
                         "this format in little-endian order on every machine")  # fmt: skip


def _storages(stream: Stream, objects: Objects, keys: Pickle) -> tuple[dict[str, int], int]:
    """The storages by key, and where the last one ends."""
    source, position = stream.source, keys.end
    named = {ref.key: ref for ref in objects.storages}
    by_key: dict[str, int] = {}
    for number, key in enumerate(_listed(source, keys)):
        ref = named.get(key)
        if ref is None:
            raise Corrupt(source.path, source.origin() + position,
                          "the elements of a storage that the objects refer to", f"key {key!r}")  # fmt: skip
        if key in by_key:
            stream.notes.count("are stored again, the last time counts", key, "storage")
        by_key[key] = len(stream.storages)
        listed = _LISTED + len(key.encode()) + (2 if number < _FIRST_LONG else 5)
        position = stream.add_storage(key, ref.dtype, position, source.size, FRAMING, listed)
        if ref.nbytes not in (-1, stream.storages[-1].nbytes):
            stream.notes.count("have another size than the pickle declares", key, "storage")
    for ref in objects.storages:
        if ref.key not in by_key and ref.location != "meta":
            stream.notes.count("are missing", ref.key, "storage")
    return by_key, position


def _listed(source: Source, keys: Pickle) -> list[str]:
    root = keys.root
    values = root.values if isinstance(root, ListValue) else root
    if not isinstance(values, (list, tuple)) or any(type(key) not in (str, int) for key in values):
        raise Corrupt(source.path, source.origin() + keys.start, "a list of the keys of storages",
                      _shown(root))  # fmt: skip
    return [str_of(key) for key in values]


def _shown(value: Any) -> str:
    return scalar(value) or f"a {type(value).__name__}"
