"""The inert values a pickle is read into: what would have been built, and from which bytes.

None, bool, int, float, str and tuple stand for themselves; everything else is one of the classes
below. They compare by identity and have no ``repr`` that looks inside, because a pickle of a few
bytes can describe a value whose comparison, hash or text never ends.

Offsets count bytes from the start of the pickle; ``[start, end)`` are the opcodes that built a
value in the place where it was first put on the stack, up to the last one that filled it there. A
memo store that follows is not included (``Pickle.after_memo``).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

_NO_OFFSETS: array[int] = array("q")


class Global:
    """A reference ``module.name`` to a class or function; one object per name and pickle."""

    __slots__ = ("called", "module", "name", "states")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self.called = False
        """Whether unpickling would call it, or create an instance of it."""
        self.states: list[Any] | None = None
        """What BUILD would have set on the class or function itself; never in an honest file."""

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


class Bytes:
    """A bytes, bytearray or buffer payload at ``[start, end)``, read when asked for."""

    __slots__ = ("codec", "end", "start")

    def __init__(self, start: int, end: int, codec: str = "raw") -> None:
        self.start = start
        self.end = end
        self.codec = codec
        """``raw``, or ``string-escape`` for the quoted line of a STRING opcode."""


class Text:
    """A string too long to decode for nothing: its encoded bytes are at ``[start, end)``."""

    __slots__ = ("codec", "end", "start")

    def __init__(self, start: int, end: int, codec: str) -> None:
        self.start = start
        self.end = end
        self.codec = codec
        """``utf-8``, or ``raw-unicode-escape`` for the line of a UNICODE opcode."""


class BigInt:
    """An integer of more than 4,300 decimal digits: its digits are at ``[start, end)``."""

    __slots__ = ("binary", "end", "start")

    def __init__(self, start: int, end: int, *, binary: bool) -> None:
        self.start = start
        self.end = end
        self.binary = binary


class OutOfBand:
    """The ``index``-th buffer that the pickle expects from elsewhere (protocol 5)."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Extension:
    """A class or function by its number in the reader's ``copyreg`` registry."""

    __slots__ = ("code", "end", "start", "states")

    def __init__(self, code: int, start: int, end: int) -> None:
        self.code = code
        self.start = start
        self.end = end
        self.states: list[Any] | None = None


class ListValue:
    """A list; ``values`` in order."""

    __slots__ = ("end", "start", "values")

    def __init__(self, start: int, end: int, values: Sequence[Any] = ()) -> None:
        self.start = start
        self.end = end
        self.values = values

    def extend(self, values: list[Any]) -> None:
        # Empty lists share one tuple: a hostile pickle makes one of them per byte.
        if self.values:
            cast("list[Any]", self.values).extend(values)
        else:
            self.values = values


class SetValue(ListValue):
    """A set or frozenset; ``values`` as stored, duplicates kept."""

    __slots__ = ("frozen",)

    def __init__(
        self, start: int, end: int, values: Sequence[Any] = (), *, frozen: bool = False
    ) -> None:
        super().__init__(start, end, values)
        self.frozen = frozen


class DictValue:
    """A dict as stored, duplicate keys kept: entry ``i`` has its key at
    ``[key_starts[i], value_starts[i])`` and its value at ``[value_starts[i], ends[i])``.
    """

    __slots__ = ("end", "ends", "key_starts", "keys", "start", "value_starts", "values")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.keys: Sequence[Any] = ()
        self.values: Sequence[Any] = ()
        self.key_starts = self.value_starts = self.ends = _NO_OFFSETS

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, items: list[Any], starts: list[int], end: int) -> None:
        """Add the alternating keys and values of ``items``, which lie at ``starts`` up to ``end``."""
        if not items:
            return
        key_starts = starts[::2]
        ends = key_starts[1:]
        ends.append(end)
        if self.keys:
            cast("list[Any]", self.keys).extend(items[::2])
            cast("list[Any]", self.values).extend(items[1::2])
            self.key_starts.extend(key_starts)
            self.value_starts.extend(starts[1::2])
            self.ends.extend(ends)
        else:
            self.keys = items[::2]
            self.values = items[1::2]
            self.key_starts = array("q", key_starts)
            self.value_starts = array("q", starts[1::2])
            self.ends = array("q", ends)

    def entries(self) -> Iterator[tuple[Any, Any, int, int, int]]:
        """(key, value, start of the key, start of the value, end of the value) of each entry."""
        return zip(
            self.keys, self.values, self.key_starts, self.value_starts, self.ends, strict=True
        )

    def get(self, name: str, default: Any = None) -> Any:
        """The last value stored under the string ``name``, as a dict would keep it."""
        found = default
        for key, value in zip(self.keys, self.values, strict=True):
            if type(key) is str and key == name:
                found = value
        return found


class PersistentId:
    """An object the pickle refers to by ``value`` and expects from elsewhere."""

    __slots__ = ("dict_items", "end", "list_items", "start", "states", "value")

    def __init__(self, value: Any, start: int, end: int) -> None:
        self.value = value
        self.start = start
        self.end = end
        self.states: list[Any] | None = None
        self.list_items: ListValue | None = None
        self.dict_items: DictValue | None = None


class Call:
    """What unpickling would have got by calling ``func`` with ``args``, and how it was filled.

    ``kind`` is the opcode: ``reduce``, ``newobj``, ``newobj_ex``, ``inst`` or ``obj``. ``states``
    are the arguments of BUILD, normally one; ``list_items`` and ``dict_items`` what APPENDS, ADDITEMS
    and SETITEMS put into it. ``args_start`` is where the opcodes of the argument tuple begin.
    """

    __slots__ = (
        "args", "args_start", "dict_items", "end", "func", "kind", "kwargs", "list_items", "start",
        "states",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - made by the thousand, where keywords cost time
        self, kind: str, func: Any, args: Any, start: int, args_start: int, end: int,
        kwargs: Any = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.func = func
        self.args = args
        self.start = start
        self.args_start = args_start
        self.end = end
        self.kwargs = kwargs
        self.states: list[Any] | None = None
        self.list_items: ListValue | None = None
        self.dict_items: DictValue | None = None

    @property
    def state(self) -> Any:
        """The argument of the last BUILD; None without one."""
        return self.states[-1] if self.states else None


@dataclass(slots=True, eq=False)
class Pickle:
    """One pickle: its value and where it lies in its source.

    ``data`` are its bytes and perhaps more; the pickle is ``data[:size]``, at ``start`` of the
    source, and what follows ``end`` there is the caller's business.
    """

    root: Any
    data: bytes = field(repr=False)
    size: int
    start: int
    protocol: int
    opcodes: int
    framing: list[tuple[int, int]]
    """``[start, end)`` of every PROTO, FRAME and STOP opcode, ascending."""
    globals: dict[tuple[str, str], Global]
    """Every class or function it names, in the order of their first mention."""
    persistent_ids: list[PersistentId]
    """Every PERSID and BINPERSID in the order of the stream, whether or not the root reaches it."""
    oddities: list[str]
    """What no pickler writes but an unpickler accepts; one short line each."""

    @property
    def end(self) -> int:
        """Offset in the source just after STOP."""
        return self.start + self.size

    def payload(self, value: Bytes | Text) -> bytes:
        """The bytes as stored; for ``Text`` and codec ``string-escape`` they are still encoded."""
        return self.data[value.start : value.end]

    def text(self, value: Text) -> str:
        """The decoded string, bytes that do not decode escaped."""
        if value.codec == "utf-8":
            return decode_utf8(self.payload(value))
        return self.payload(value).decode("raw-unicode-escape", "replace")

    def after_memo(self, end: int) -> int:
        """``end``, or the end of the memo store (PUT, BINPUT, LONG_BINPUT, MEMOIZE) that follows."""
        opcode = self.data[end]
        if opcode == 0x94:
            return end + 1
        if opcode == 0x71:
            return end + 2
        if opcode == 0x72:
            return end + 5
        if opcode == 0x70:
            return self.data.index(b"\n", end) + 1
        return end


def decode_utf8(data: bytes) -> str:
    """UTF-8 as pickle writes it, surrogates included; other bytes become surrogates (PEP 383)."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(\n)|(.))", re.DOTALL)
_ESCAPED = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
    b"\\": b"\\", b"'": b"'", b'"': b'"',
}  # fmt: skip


def unescape(data: bytes) -> bytes:
    """The bytes that the inside of a Python 2 string literal, as STRING stores it, stands for."""

    def one(match: re.Match[bytes]) -> bytes:
        hexadecimal, octal, newline, other = match.groups()
        if hexadecimal:
            return bytes((int(hexadecimal, 16),))
        if octal:
            return bytes((int(octal, 8) & 0xFF,))
        return b"" if newline else _ESCAPED.get(other, match.group())

    return _ESCAPE.sub(one, data)
