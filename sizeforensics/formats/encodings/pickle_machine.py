"""The state of the machine that runs a pickle: stack, memo, position, and what each step needs.

The opcodes themselves are in ``pickle_stream`` (the frequent ones) and ``pickle_opcodes``.
"""

from __future__ import annotations

from typing import Any, NoReturn

from sizeforensics.errors import Corrupt, Truncated
from sizeforensics.formats.encodings.pickle_values import (
    Call,
    Extension,
    Global,
    PersistentId,
    Text,
    decode_utf8,
)
from sizeforensics.limits import Limits
from sizeforensics.source import Source
from sizeforensics.units import counted

LONG_TEXT = 1 << 16
"""Bytes from which a string is left undecoded."""

_ODDITIES = 100  # different oddities that are kept


class Machine:
    """The unpickling machine: its stack, memo and position.

    ``starts[i]`` is where the opcodes of ``stack[i]`` begin. MARK sets both aside in ``marks`` and
    begins empty ones, so an opcode that reaches below a mark finds nothing, as in CPython.
    """

    def __init__(self, source: Source, start: int, data: bytes, limits: Limits) -> None:
        self.path = source.path
        self.origin = source.origin() + start
        self.start = start
        self.data = data
        self.limits = limits
        self.stack: list[Any] = []
        self.starts: list[int] = []
        self.marks: list[tuple[list[Any], list[int], int]] = []
        self.below = 0  # values and marks below the topmost mark
        self.memo: dict[int, Any] = {}
        self.at = 0  # the opcode being read
        self.position = 0  # the next byte to read
        self.stop = len(data)  # the end of the frame, or of the data
        self.framed = False
        self.opcodes = 0
        self.objects = 0  # values that take memory: containers, calls, payloads, globals
        self.protocol = 0
        self.buffers = 0
        self.framing: list[tuple[int, int]] = []
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistent_ids: list[PersistentId] = []
        self.oddities: dict[str, None] = {}

    def leave_frame(self) -> int:
        """The next stop, at the end of a frame or of the data. Frames end between two opcodes."""
        if self.at > self.stop:
            self.fail(
                f"an opcode that ends with its frame at {self.origin + self.stop:#x}",
                "one that crosses it",
            )
        if self.at == len(self.data):
            raise Truncated(
                self.path, self.origin + self.at, "a STOP opcode", "the end of the pickle"
            )
        self.stop = len(self.data)
        self.framed = False
        return self.stop

    def fail_short(self) -> NoReturn:
        """Say which was missing, bytes or values."""
        opcode = self.data[self.at]
        needed = _FIXED_ARGUMENTS.get(opcode, 0)
        if opcode == 0x8C and self.at + 1 < len(self.data):
            needed += self.data[self.at + 1]
        left = len(self.data) - self.at - 1
        if needed > left:
            raise Truncated(
                self.path, self.origin + self.at, f"{counted(needed, 'byte')} of argument", counted(left, "byte")
            )
        self.fail(
            f"values on the stack, above a mark, for opcode {opcode:#04x}", "too few of them"
        )

    def fail(self, expected: str, got: str) -> NoReturn:
        raise Corrupt(self.path, self.origin + self.at, expected, got)

    def odd(self, what: str) -> None:
        if len(self.oddities) < _ODDITIES:
            self.oddities.setdefault(what)

    def push(self, value: Any) -> None:
        self.stack.append(value)
        self.starts.append(self.at)

    def push_object(self, value: Any, start: int) -> None:
        self.objects += 1
        self.stack.append(value)
        self.starts.append(start)

    def take(self, length: int) -> int:
        """Start of the next ``length`` bytes, which are there; moves behind them."""
        start = self.position
        left = len(self.data) - start
        if length > left:
            raise Truncated(
                self.path, self.origin + self.at, f"{counted(length, 'byte')} of argument", counted(left, "byte")
            )
        self.position = start + length
        return start

    def line(self) -> bytes:
        """The bytes up to a newline; moves behind it."""
        start = self.position
        end = self.data.find(b"\n", start)
        if end < 0:
            raise Truncated(
                self.path, self.origin + self.at, "an argument that ends with a newline",
                "the end of the pickle",
            )  # fmt: skip
        self.position = end + 1
        return self.data[start:end]

    def pop_mark(self) -> tuple[list[Any], list[int], int]:
        """The values above the topmost mark, where they start, and where the mark is."""
        values, starts = self.stack, self.starts
        self.stack, self.starts, begin = self.marks.pop()
        self.below -= len(self.stack) + 1
        return values, starts, begin

    def global_(self, module: str, name: str) -> Global:
        found = self.globals.get((module, name))
        if found is None:
            found = self.globals[module, name] = Global(module, name)
        return found

    def check_call(self, func: Any, args: Any) -> None:
        """What can be called with what: an inert result may turn out to be a tuple or a class."""
        if type(func) is Global:
            func.called = True
        elif type(func) is Extension or type(func) is Call:
            self.odd("pickle calls an object that it computes (shown as data, never called)")
        elif type(func) is not PersistentId:
            self.fail("a class or function to call", kind_of(func))
        if type(args) is not tuple and type(args) is not Call:
            self.fail("a tuple of arguments", kind_of(args))

    def filled(self, target: Any) -> None:
        """Extend the bytes of ``target`` to here, unless it is filled through a reference."""
        if self.starts[-1] == getattr(target, "start", -1):
            target.end = self.position

    def long_text(self, start: int, end: int) -> Any:
        if end > len(self.data):
            raise Truncated(
                self.path, self.origin + self.at, f"{counted(end - start, 'byte')} of text",
                counted(len(self.data) - start, "byte"),
            )  # fmt: skip
        return Text(start, end, "utf-8")

    def odd_text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.odd("pickle has text that is not UTF-8")
            return decode_utf8(data)


def kind_of(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


_FIXED_ARGUMENTS = {
    0x71: 1, 0x72: 4, 0x68: 1, 0x6A: 4, 0x4B: 1, 0x4D: 2, 0x4A: 4, 0x47: 8, 0x58: 4, 0x8C: 1,
}  # fmt: skip
"""Bytes of argument of the frequent opcodes, the length itself of those that begin with one."""
