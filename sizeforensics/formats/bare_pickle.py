"""Pickles that are a file of their own and hold tensors: dicts of numpy arrays, objects of any kind."""

from __future__ import annotations

from sizeforensics.errors import FormatError, Unrecognized
from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.torch_parts.checkpoint_roles import assign_uses
from sizeforensics.formats.torch_parts.pickle_globals import harmful
from sizeforensics.formats.torch_parts.torch_stream import TRAILING, Stream
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source

_NEWEST_PROTOCOL = 5
_JOBLIB = b"joblib.numpy_pickle"
"""Module of the placeholder that joblib pickles in front of the raw elements of an array."""
_LOOKED_AT = 1 << 16
_OLD_BEGINNINGS = b"(cdl]}"
"""First opcodes of a container or an object in protocols 0 and 1: MARK, GLOBAL, DICT, LIST,
EMPTY_LIST, EMPTY_DICT."""


def looks_like(source: Source, head: bytes, limits: Limits) -> bool:
    """Whether the file begins with PROTO, or is a whole pickle of a protocol without it."""
    if head[:1] == b"\x80":
        return len(head) > 1 and head[1] <= _NEWEST_PROTOCOL
    if not head or head[0] not in _OLD_BEGINNINGS:
        return False
    try:
        return pickle_stream.load_first(source, 0, source.size, limits).end == source.size
    except FormatError:
        return False


def read(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of a pickle, protocols 0 to 5. Raises Unrecognized when it holds no tensor."""
    stream = Stream(source, limits)
    try:
        pickle = stream.load(0, source.size)
    except FormatError:
        if _JOBLIB in source.read(0, min(_LOOKED_AT, source.size)):
            raise Unrecognized(source.path, source.origin(), "a model",
                               "a joblib file, whose arrays lie between the opcodes of its pickle") from None  # fmt: skip
        raise
    objects = stream.objects(pickle)
    # Protocols 0 and 1 do not say which of them they are.
    protocol = str(pickle.protocol or "0 or 1")
    # Storages that an old protocol keeps in text are not read, but they are there.
    if not objects.tensors and not any(found.module.startswith("torch") for found in pickle.globals.values()):
        acts = "".join(f" and refers to callable {path}" for path in harmful(pickle)[:1])
        raise Unrecognized(source.path, source.origin(), "a model",
                           f"a pickle (protocol {protocol}) that holds no tensor{acts}")  # fmt: skip
    stream.metadata.append(("pickle protocol", protocol))
    stream.add_tensors(pickle, objects, assign_uses, {})
    stream.trailing(pickle.end, TRAILING, "the pickle")
    return stream.finish("pickle")
