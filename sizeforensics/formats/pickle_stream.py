"""Read one pickle, protocols 0 to 5, into inert values that know where their bytes are.

Nothing is imported, called or hashed, and nothing is allocated on a declared length. The machine
follows CPython's ``Lib/pickle.py`` and ``Lib/pickletools.py`` opcode by opcode; where those would
call something, a ``Call`` records what and with which arguments. This module knows nothing of torch.

Offsets count from the first byte of the pickle and nest: a value on the stack owns the bytes from
its start to the start of the value above it, so the bytes that build an item lie inside those that
build its container, and a reference through the memo owns only its own two to five bytes.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any, NoReturn

from sizeforensics.errors import Corrupt, LimitExceeded, Truncated
from sizeforensics.formats.pickle_values import (
    BigInt,
    Bytes,
    Call,
    DictValue,
    Extension,
    Global,
    ListValue,
    OutOfBand,
    PersistentId,
    Pickle,
    SetValue,
    Text,
    decode_utf8,
)
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source

FIRST_WINDOW = 1 << 20
"""Bytes ``load_first`` reads at first, when nobody knows how long the pickle is."""

_CHUNK = 1 << 16  # opcodes between two looks at the depth of the stack and the size of the memo
_LONG_TEXT = 1 << 16  # bytes from which a string is left undecoded
_ODDITIES = 100  # different oddities that are kept
_INT_DIGITS = 4300  # what CPython converts at most (sys.get_int_max_str_digits)
_LONG_INT = 1785  # bytes of a binary integer of as many digits

_INT32 = Struct("<i").unpack_from
_UINT16 = Struct("<H").unpack_from
_UINT32 = Struct("<I").unpack_from
_UINT64 = Struct("<Q").unpack_from
_DOUBLE = Struct(">d").unpack_from


def load(source: Source, start: int, end: int, limits: Limits = DEFAULT_LIMITS) -> Pickle:
    """The pickle that begins at ``start`` and ends, with its STOP opcode, at or before ``end``.

    Reads ``[start, end)`` once. Raises Truncated without STOP, Corrupt where CPython's unpickler
    would fail on the stream itself, LimitExceeded beyond the ``pickle_*`` limits.
    """
    if end - start > limits.pickle_bytes:
        raise LimitExceeded(
            source.path, source.origin() + start, "pickle_bytes", limits.pickle_bytes,
            f"{end - start:,} bytes",
        )  # fmt: skip
    return _Machine(source, start, source.read(start, end), limits).run()


def load_first(source: Source, start: int, end: int, limits: Limits = DEFAULT_LIMITS) -> Pickle:
    """The pickle that begins at ``start``, followed by anything up to ``end``.

    For formats that write payload behind a pickle whose length they do not say. Reads a window
    that grows until it holds the STOP opcode; raises as ``load`` does.
    """
    window = min(FIRST_WINDOW, limits.pickle_bytes)
    while window < end - start:
        try:
            return load(source, start, start + window, limits)
        except Truncated:
            if window == limits.pickle_bytes:
                raise LimitExceeded(
                    source.path, source.origin() + start, "pickle_bytes", window, "no STOP by then"
                ) from None
        window = min(window * 16, limits.pickle_bytes)
    return load(source, start, end, limits)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from looking for garbage, again and again, among values that are all in use.

    It would take two thirds of the time of reading a pickle of many containers.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class _Machine:
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
        self.protocol = 0
        self.buffers = 0
        self.framing: list[tuple[int, int]] = []
        self.globals: dict[tuple[str, str], Global] = {}
        self.persistent_ids: list[PersistentId] = []
        self.oddities: dict[str, None] = {}

    def run(self) -> Pickle:
        with collector_paused():
            root = self._run()
        if self.stack or self.marks:
            self.odd("pickle leaves values on the stack that nothing uses")
        if self.framed and self.position < self.stop:
            self.odd("pickle stops before the end of its frame")
        return Pickle(
            root, self.data, self.position, self.start, self.protocol, self.opcodes, self.framing,
            self.globals, self.persistent_ids, list(self.oddities),
        )  # fmt: skip

    def _run(self) -> Any:
        """Run opcodes until STOP; between chunks of them look at what must not grow too much.

        Stack and memo grow by at most one per opcode, so a chunk as long as what is left of the
        smallest allowance cannot overstep it unseen.
        """
        limits = self.limits
        allowances = (limits.pickle_opcodes, limits.pickle_stack, limits.pickle_memo)
        finished = False
        while True:
            used = (self.opcodes, self.below + len(self.stack), len(self.memo))
            left = [allowed - count for allowed, count in zip(allowances, used, strict=True)]
            if min(left) < 0:
                which = left.index(min(left))
                raise LimitExceeded(
                    self.path, self.origin + self.at,
                    ("pickle_opcodes", "pickle_stack", "pickle_memo")[which], allowances[which],
                    f"{used[which]:,} and more to come",
                )  # fmt: skip
            if finished:
                return self.stack.pop()
            try:
                finished = self._opcodes(max(1, min(*left, _CHUNK)))
            except (IndexError, StructError):
                self._fail_short()
            except KeyError as error:
                self.fail("a memo entry that was set before", f"entry {error.args[0]}")

    def _opcodes(self, chunk: int) -> bool:
        """Run at most ``chunk`` opcodes; True when the last one was STOP.

        One long loop on purpose: a function call per opcode would double the time. The branches
        are in the order of frequency in checkpoints of protocol 2 and 4; the rare opcodes are the
        functions below. Too short a stack or too few bytes raise IndexError or struct.error.
        """
        data, memo, marks, persistent_ids = self.data, self.memo, self.marks, self.persistent_ids
        stack, starts, below, stop = self.stack, self.starts, self.below, self.stop
        position = at = self.position
        done = 0
        try:
            for done in range(1, chunk + 1):  # noqa: B007 - used when the loop is left
                at = position
                if at >= stop:
                    self.at = at
                    stop = self._leave_frame()
                op = data[at]
                if op == 0x71:  # BINPUT
                    memo[data[at + 1]] = stack[-1]
                    position = at + 2
                elif op == 0x72:  # LONG_BINPUT
                    memo[_UINT32(data, at + 1)[0]] = stack[-1]
                    position = at + 5
                elif op == 0x68:  # BINGET
                    stack.append(memo[data[at + 1]])
                    starts.append(at)
                    position = at + 2
                elif op < 0x60:
                    if op == 0x4B:  # BININT1
                        stack.append(data[at + 1])
                        starts.append(at)
                        position = at + 2
                    elif op == 0x52:  # REDUCE
                        args = stack.pop()
                        func = stack[-1]
                        args_start = starts.pop()
                        position = at + 1
                        if type(func) is Global and type(args) is tuple:
                            func.called = True
                        else:
                            self.at = at
                            self.check_call(func, args)
                        stack[-1] = Call("reduce", func, args, starts[-1], args_start, position)
                    elif op == 0x29:  # EMPTY_TUPLE
                        stack.append(())
                        starts.append(at)
                        position = at + 1
                    elif op == 0x58:  # BINUNICODE
                        position = at + 5 + _UINT32(data, at + 1)[0]
                        text = data[at + 5 : position]
                        if len(text) != position - at - 5 or len(text) > _LONG_TEXT:
                            self.at = at
                            stack.append(self.long_text(at + 5, position))
                        else:
                            try:
                                stack.append(text.decode())
                            except UnicodeDecodeError:
                                stack.append(self.odd_text(text))
                        starts.append(at)
                    elif op == 0x28:  # MARK
                        marks.append((stack, starts, at))
                        below += len(stack) + 1
                        stack = []
                        starts = []
                        position = at + 1
                    elif op == 0x4D:  # BININT2
                        stack.append(_UINT16(data, at + 1)[0])
                        starts.append(at)
                        position = at + 3
                    elif op == 0x51:  # BINPERSID
                        position = at + 1
                        persistent = PersistentId(stack[-1], starts[-1], position)
                        stack[-1] = persistent
                        persistent_ids.append(persistent)
                    elif op == 0x47:  # BINFLOAT
                        stack.append(_DOUBLE(data, at + 1)[0])
                        starts.append(at)
                        position = at + 9
                    elif op == 0x4E:  # NONE
                        stack.append(None)
                        starts.append(at)
                        position = at + 1
                    elif op == 0x4A:  # BININT
                        stack.append(_INT32(data, at + 1)[0])
                        starts.append(at)
                        position = at + 5
                    elif op == 0x5D:  # EMPTY_LIST
                        position = at + 1
                        stack.append(ListValue(at, position))
                        starts.append(at)
                    elif op == 0x2E:  # STOP
                        position = at + 1
                        self.framing.append((at, position))
                        if not stack:
                            raise IndexError
                        return True
                    else:
                        self.stack, self.starts, self.below = stack, starts, below
                        self.at, self.position = at, at + 1
                        _RARE[op](self)
                        stack, starts, below = self.stack, self.starts, self.below
                        position = self.position
                elif op == 0x74:  # TUPLE
                    items = stack
                    stack, starts, begin = marks.pop()
                    below -= len(stack) + 1
                    stack.append(tuple(items))
                    starts.append(begin)
                    position = at + 1
                elif op == 0x89:  # NEWFALSE
                    stack.append(False)
                    starts.append(at)
                    position = at + 1
                elif op == 0x86:  # TUPLE2
                    item = stack.pop()
                    stack[-1] = (stack[-1], item)
                    starts.pop()
                    position = at + 1
                elif op == 0x94:  # MEMOIZE
                    memo[len(memo)] = stack[-1]
                    position = at + 1
                elif op == 0x7D:  # EMPTY_DICT
                    position = at + 1
                    stack.append(DictValue(at, position))
                    starts.append(at)
                elif op == 0x85:  # TUPLE1
                    stack[-1] = (stack[-1],)
                    position = at + 1
                elif op == 0x8C:  # SHORT_BINUNICODE
                    position = at + 2 + data[at + 1]
                    text = data[at + 2 : position]
                    if len(text) != position - at - 2:
                        raise IndexError
                    try:
                        stack.append(text.decode())
                    except UnicodeDecodeError:
                        stack.append(self.odd_text(text))
                    starts.append(at)
                elif op == 0x6A:  # LONG_BINGET
                    stack.append(memo[_UINT32(data, at + 1)[0]])
                    starts.append(at)
                    position = at + 5
                elif op == 0x88:  # NEWTRUE
                    stack.append(True)
                    starts.append(at)
                    position = at + 1
                elif op == 0x87:  # TUPLE3
                    last = stack.pop()
                    item = stack.pop()
                    stack[-1] = (stack[-1], item, last)
                    del starts[-2:]
                    position = at + 1
                else:
                    self.stack, self.starts, self.below = stack, starts, below
                    self.at, self.position = at, at + 1
                    _RARE[op](self)
                    stack, starts, below = self.stack, self.starts, self.below
                    position, stop = self.position, self.stop
        finally:
            self.stack, self.starts, self.below = stack, starts, below
            self.at, self.position = at, position
            self.opcodes += done
        return False

    def _leave_frame(self) -> int:
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

    def _fail_short(self) -> NoReturn:
        """Say which was missing, bytes or values."""
        opcode = self.data[self.at]
        needed = _FIXED_ARGUMENTS.get(opcode, 0)
        if opcode == 0x8C and self.at + 1 < len(self.data):
            needed += self.data[self.at + 1]
        left = len(self.data) - self.at - 1
        if needed > left:
            raise Truncated(
                self.path, self.origin + self.at, f"{needed:,} bytes of argument", f"{left:,} bytes"
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

    def take(self, length: int) -> int:
        """Start of the next ``length`` bytes, which are there; moves behind them."""
        start = self.position
        left = len(self.data) - start
        if length > left:
            raise Truncated(
                self.path, self.origin + self.at, f"{length:,} bytes of argument", f"{left:,} bytes"
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
            self.fail("a class or function to call", _kind(func))
        if type(args) is not tuple and type(args) is not Call:
            self.fail("a tuple of arguments", _kind(args))

    def filled(self, target: Any) -> None:
        """Extend the bytes of ``target`` to here, unless it is filled through a reference."""
        if self.starts[-1] == getattr(target, "start", -1):
            target.end = self.position

    def long_text(self, start: int, end: int) -> Any:
        if end > len(self.data):
            raise Truncated(
                self.path, self.origin + self.at, f"{end - start:,} bytes of text",
                f"{len(self.data) - start:,} bytes",
            )  # fmt: skip
        return Text(start, end, "utf-8")

    def odd_text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.odd("pickle has text that is not UTF-8")
            return decode_utf8(data)


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


# -- integers, floats and strings ------------------------------------------------------------------


def _int(machine: _Machine) -> None:
    line = machine.line()
    if line in (b"00", b"01"):
        machine.push(line == b"01")
    else:
        machine.push(_decimal(machine, line, 0))


def _long(machine: _Machine) -> None:
    machine.push(_decimal(machine, machine.line().removesuffix(b"L"), 0))


def _decimal(machine: _Machine, line: bytes, base: int) -> int | BigInt:
    if len(line) > _INT_DIGITS:
        return BigInt(machine.position - 1 - len(line), machine.position - 1, binary=False)
    try:
        return int(line, base)
    except ValueError:
        machine.fail("an integer", repr(line[:40]))


def _long1(machine: _Machine) -> None:
    length = machine.data[machine.take(1)]
    start = machine.take(length)
    machine.push(int.from_bytes(machine.data[start : start + length], "little", signed=True))


def _long4(machine: _Machine) -> None:
    length = _INT32(machine.data, machine.take(4))[0]
    if length < 0:
        machine.fail("a length", f"{length:,}")
    start = machine.take(length)
    if length > _LONG_INT:
        machine.push(BigInt(start, start + length, binary=True))
    else:
        machine.push(int.from_bytes(machine.data[start : start + length], "little", signed=True))


def _float(machine: _Machine) -> None:
    line = machine.line()
    try:
        machine.push(float(line))
    except ValueError:
        machine.fail("a number", repr(line[:40]))


def _unicode(machine: _Machine) -> None:
    line = machine.line()
    if len(line) > _LONG_TEXT:
        end = machine.position - 1
        machine.push(Text(end - len(line), end, "raw-unicode-escape"))
        return
    try:
        machine.push(line.decode("raw-unicode-escape"))
    except UnicodeDecodeError:
        machine.fail("text in raw-unicode-escape", repr(line[:40]))


def _binunicode8(machine: _Machine) -> None:
    length = _UINT64(machine.data, machine.take(8))[0]
    start = machine.take(length)
    if length > _LONG_TEXT:
        machine.push(Text(start, start + length, "utf-8"))
    else:
        machine.push(machine.odd_text(machine.data[start : start + length]))


def _string(machine: _Machine) -> None:
    line = machine.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        machine.fail("a quoted string", repr(line[:40]))
    end = machine.position - 2
    _push_byte_string(machine, end - len(line) + 2, end, "string-escape")


def _binstring(machine: _Machine) -> None:
    length = _INT32(machine.data, machine.take(4))[0]
    if length < 0:
        machine.fail("a length", f"{length:,}")
    start = machine.take(length)
    _push_byte_string(machine, start, start + length, "raw")


def _short_binstring(machine: _Machine) -> None:
    start = machine.take(machine.data[machine.take(1)])
    _push_byte_string(machine, start, machine.position, "raw")


def _push_byte_string(machine: _Machine, start: int, end: int, codec: str) -> None:
    """A Python 2 string: text where it is short and reads like text, as names do, else bytes."""
    if end - start <= _LONG_TEXT:
        data = machine.data[start:end]
        if codec == "string-escape":
            data = unescape(data)
        if not _BINARY.search(data):
            try:
                machine.push(data.decode("utf-8"))
            except UnicodeDecodeError:
                pass
            else:
                return
    machine.push(Bytes(start, end, codec))


_BINARY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


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


def _short_binbytes(machine: _Machine) -> None:
    start = machine.take(machine.data[machine.take(1)])
    machine.push(Bytes(start, machine.position))


def _binbytes(machine: _Machine) -> None:
    start = machine.take(_UINT32(machine.data, machine.take(4))[0])
    machine.push(Bytes(start, machine.position))


def _binbytes8(machine: _Machine) -> None:
    """BINBYTES8 and BYTEARRAY8."""
    start = machine.take(_UINT64(machine.data, machine.take(8))[0])
    machine.push(Bytes(start, machine.position))


def _next_buffer(machine: _Machine) -> None:
    machine.push(OutOfBand(machine.buffers))
    machine.buffers += 1


def _readonly_buffer(machine: _Machine) -> None:
    if not isinstance(machine.stack[-1], (OutOfBand, Bytes)):
        machine.fail("a buffer", _kind(machine.stack[-1]))


# -- the stack and the memo ------------------------------------------------------------------------


def _pop(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
        machine.starts.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: _Machine) -> None:
    machine.pop_mark()


def _dup(machine: _Machine) -> None:
    machine.push(machine.stack[-1])


def _get(machine: _Machine) -> None:
    machine.push(machine.memo[_memo_index(machine)])


def _put(machine: _Machine) -> None:
    machine.memo[_memo_index(machine)] = machine.stack[-1]


def _memo_index(machine: _Machine) -> int:
    index = _decimal(machine, machine.line(), 10)
    if not isinstance(index, int) or index < 0:
        machine.fail("a memo index", "a negative or endless number")
    return index


# -- containers ------------------------------------------------------------------------------------


def _list(machine: _Machine) -> None:
    values, _, begin = machine.pop_mark()
    machine.stack.append(ListValue(begin, machine.position, values))
    machine.starts.append(begin)


def _dict(machine: _Machine) -> None:
    values, starts, begin = machine.pop_mark()
    found = DictValue(begin, machine.position)
    _set_items(machine, found, values, starts)
    machine.stack.append(found)
    machine.starts.append(begin)


def _empty_set(machine: _Machine) -> None:
    machine.push(SetValue(machine.at, machine.position))


def _frozenset(machine: _Machine) -> None:
    values, _, begin = machine.pop_mark()
    machine.stack.append(SetValue(begin, machine.position, values, frozen=True))
    machine.starts.append(begin)


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.starts.pop()
    _add_items(machine, [value], ListValue)


def _appends(machine: _Machine) -> None:
    _add_items(machine, machine.pop_mark()[0], ListValue)


def _additems(machine: _Machine) -> None:
    _add_items(machine, machine.pop_mark()[0], SetValue)


def _add_items(machine: _Machine, values: list[Any], builtin: type[ListValue]) -> None:
    target = machine.stack[-1]
    if type(target) is builtin:
        target.extend(values)
    elif isinstance(target, (Call, PersistentId)):
        if target.list_items is None:
            target.list_items = ListValue(machine.at, machine.position)
        target.list_items.extend(values)
    else:
        machine.fail("a list, a set or an object to add items to", _kind(target))
    machine.filled(target)


def _setitem(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    value_start, key_start = machine.starts.pop(), machine.starts.pop()
    target = machine.stack[-1]
    _set_items(machine, target, [key, value], [key_start, value_start])
    machine.filled(target)


def _setitems(machine: _Machine) -> None:
    values, starts, _ = machine.pop_mark()
    target = machine.stack[-1]
    _set_items(machine, target, values, starts)
    machine.filled(target)


def _set_items(machine: _Machine, target: Any, values: list[Any], starts: list[int]) -> None:
    if len(values) % 2:
        machine.fail("keys and values in pairs", f"{len(values):,} of them")
    if isinstance(target, (Call, PersistentId)):
        if target.dict_items is None:
            target.dict_items = DictValue(machine.at, machine.position)
        target.dict_items.extend(values, starts, machine.at)
    elif type(target) is DictValue:
        target.extend(values, starts, machine.at)
    else:
        machine.fail("a dict or an object to set items of", _kind(target))


# -- classes, functions and objects ----------------------------------------------------------------


def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.push(machine.global_(machine.odd_text(module), machine.odd_text(name)))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    if isinstance(name, str) and isinstance(module, str):
        machine.stack[-1] = machine.global_(module, name)
        return
    machine.odd("pickle computes the name of what it refers to (shown as data, never imported)")
    start = machine.starts[-1]
    machine.stack[-1] = Call("stack_global", None, (module, name), start, start, machine.position)


def _extension(machine: _Machine, code: int) -> None:
    if code <= 0:
        machine.fail("a positive extension code", f"{code:,}")
    machine.odd(f"pickle refers to extension code {code:,} (shown as data, never imported)")
    machine.push(Extension(code, machine.at, machine.position))


def _ext1(machine: _Machine) -> None:
    _extension(machine, machine.data[machine.take(1)])


def _ext2(machine: _Machine) -> None:
    _extension(machine, _UINT16(machine.data, machine.take(2))[0])


def _ext4(machine: _Machine) -> None:
    _extension(machine, _INT32(machine.data, machine.take(4))[0])


def _newobj(machine: _Machine) -> None:
    args, cls = machine.stack.pop(), machine.stack[-1]
    args_start = machine.starts.pop()
    machine.check_call(cls, args)
    machine.stack[-1] = Call(
        "newobj", cls, args, machine.starts[-1], args_start, machine.position
    )


def _newobj_ex(machine: _Machine) -> None:
    kwargs, args, cls = machine.stack.pop(), machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    args_start = machine.starts.pop()
    machine.check_call(cls, args)
    machine.stack[-1] = Call(
        "newobj_ex", cls, args, machine.starts[-1], args_start, machine.position, kwargs
    )


def _inst(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    cls = machine.global_(machine.odd_text(module), machine.odd_text(name))
    values, _, begin = machine.pop_mark()
    cls.called = True
    machine.stack.append(Call("inst", cls, tuple(values), begin, begin, machine.position))
    machine.starts.append(begin)


def _obj(machine: _Machine) -> None:
    values, starts, begin = machine.pop_mark()
    cls, args = values[0], tuple(values[1:])
    machine.check_call(cls, args)
    args_start = starts[1] if args else machine.at
    machine.stack.append(Call("obj", cls, args, begin, args_start, machine.position))
    machine.starts.append(begin)


def _build(machine: _Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    if not isinstance(target, (Call, PersistentId, Global, Extension)):
        machine.fail("an object to set the state of", _kind(target))
    if target.states is None:
        target.states = [state]
    else:
        target.states.append(state)
    machine.filled(target)


def _persid(machine: _Machine) -> None:
    line = machine.line()
    if not line.isascii():
        machine.fail("a persistent id in ASCII", repr(line[:40]))
    machine.push(PersistentId(line.decode(), machine.at, machine.position))
    machine.persistent_ids.append(machine.stack[-1])


# -- protocol and frames ---------------------------------------------------------------------------


def _proto(machine: _Machine) -> None:
    protocol = machine.data[machine.take(1)]
    if protocol > 5:
        machine.fail("a pickle protocol up to 5", f"{protocol}")
    machine.protocol = max(machine.protocol, protocol)
    machine.framing.append((machine.at, machine.position))


def _frame(machine: _Machine) -> None:
    length = _UINT64(machine.data, machine.take(8))[0]
    if machine.framed:
        machine.fail(
            f"a frame after the end of the one before at {machine.origin + machine.stop:#x}",
            "one inside it",
        )
    left = len(machine.data) - machine.position
    if length > left:
        raise Truncated(
            machine.path, machine.origin + machine.at, f"a frame of {length:,} bytes",
            f"{left:,} bytes",
        )  # fmt: skip
    machine.stop = machine.position + length
    machine.framed = True
    machine.framing.append((machine.at, machine.position))


def _unknown(machine: _Machine) -> None:
    machine.fail("a pickle opcode", f"{machine.data[machine.at]:#04x}")


def _rare() -> list[Callable[[_Machine], None]]:
    """The functions above by opcode (Lib/pickletools.py), ``_unknown`` for all others."""
    table: list[Callable[[_Machine], None]] = [_unknown] * 256
    for opcode, function in {
        b"I": _int, b"L": _long, b"\x8a": _long1, b"\x8b": _long4, b"F": _float,
        b"V": _unicode, b"\x8d": _binunicode8, b"S": _string, b"T": _binstring,
        b"U": _short_binstring, b"C": _short_binbytes, b"B": _binbytes, b"\x8e": _binbytes8,
        b"\x96": _binbytes8, b"\x97": _next_buffer, b"\x98": _readonly_buffer,
        b"0": _pop, b"1": _pop_mark, b"2": _dup, b"g": _get, b"p": _put,
        b"l": _list, b"d": _dict, b"\x8f": _empty_set, b"\x91": _frozenset,
        b"a": _append, b"e": _appends, b"\x90": _additems, b"s": _setitem, b"u": _setitems,
        b"c": _global, b"\x93": _stack_global, b"\x82": _ext1, b"\x83": _ext2, b"\x84": _ext4,
        b"\x81": _newobj, b"\x92": _newobj_ex, b"i": _inst, b"o": _obj, b"b": _build,
        b"P": _persid, b"\x80": _proto, b"\x95": _frame,
    }.items():  # fmt: skip
        table[opcode[0]] = function
    return table


_RARE = _rare()
_FIXED_ARGUMENTS = {
    0x71: 1, 0x72: 4, 0x68: 1, 0x6A: 4, 0x4B: 1, 0x4D: 2, 0x4A: 4, 0x47: 8, 0x58: 4, 0x8C: 1,
}  # fmt: skip
