"""The pickle opcodes that are rare in checkpoints, one function each (``Lib/pickletools.py``).

A function runs with ``machine.at`` at its opcode and ``machine.position`` behind it, and leaves
``position`` behind its argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Any

from sizeforensics.errors import Truncated
from sizeforensics.formats.encodings.pickle_machine import LONG_TEXT, Machine, kind_of
from sizeforensics.formats.encodings.pickle_values import (
    BigInt,
    Bytes,
    Call,
    DictValue,
    Extension,
    Global,
    ListValue,
    OutOfBand,
    PersistentId,
    SetValue,
    Text,
    unescape,
)
from sizeforensics.units import counted

_INT_DIGITS = 4300  # what CPython converts at most (sys.get_int_max_str_digits)
_LONG_INT = 1785  # bytes of a binary integer of as many digits

_INT32 = Struct("<i").unpack_from
_UINT16 = Struct("<H").unpack_from
_UINT32 = Struct("<I").unpack_from
_UINT64 = Struct("<Q").unpack_from


# -- integers, floats and strings ------------------------------------------------------------------


def _int(machine: Machine) -> None:
    line = machine.line()
    if line in (b"00", b"01"):
        machine.push(line == b"01")
    else:
        machine.push(_decimal(machine, line, 0))


def _long(machine: Machine) -> None:
    machine.push(_decimal(machine, machine.line().removesuffix(b"L"), 0))


def _decimal(machine: Machine, line: bytes, base: int) -> int | BigInt:
    if len(line) > _INT_DIGITS:
        return BigInt(machine.position - 1 - len(line), machine.position - 1, binary=False)
    try:
        return int(line, base)
    except ValueError:
        machine.fail("an integer", repr(line[:40]))


def _long1(machine: Machine) -> None:
    length = machine.data[machine.take(1)]
    start = machine.take(length)
    machine.push(int.from_bytes(machine.data[start : start + length], "little", signed=True))


def _long4(machine: Machine) -> None:
    length = _INT32(machine.data, machine.take(4))[0]
    if length < 0:
        machine.fail("a length", f"{length:,}")
    start = machine.take(length)
    if length > _LONG_INT:
        machine.push_object(BigInt(start, start + length, binary=True), machine.at)
    else:
        machine.push(int.from_bytes(machine.data[start : start + length], "little", signed=True))


def _float(machine: Machine) -> None:
    line = machine.line()
    try:
        machine.push(float(line))
    except ValueError:
        machine.fail("a number", repr(line[:40]))


def _unicode(machine: Machine) -> None:
    line = machine.line()
    if len(line) > LONG_TEXT:
        end = machine.position - 1
        machine.push_object(Text(end - len(line), end, "raw-unicode-escape"), machine.at)
        return
    try:
        machine.push(line.decode("raw-unicode-escape"))
    except UnicodeDecodeError:
        machine.fail("text in raw-unicode-escape", repr(line[:40]))


def _binunicode8(machine: Machine) -> None:
    length = _UINT64(machine.data, machine.take(8))[0]
    start = machine.take(length)
    if length > LONG_TEXT:
        machine.push_object(Text(start, start + length, "utf-8"), machine.at)
    else:
        machine.push(machine.odd_text(machine.data[start : start + length]))


def _string(machine: Machine) -> None:
    line = machine.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        machine.fail("a quoted string", repr(line[:40]))
    end = machine.position - 2
    _push_byte_string(machine, end - len(line) + 2, end, "string-escape")


def _binstring(machine: Machine) -> None:
    length = _INT32(machine.data, machine.take(4))[0]
    if length < 0:
        machine.fail("a length", f"{length:,}")
    start = machine.take(length)
    _push_byte_string(machine, start, start + length, "raw")


def _short_binstring(machine: Machine) -> None:
    start = machine.take(machine.data[machine.take(1)])
    _push_byte_string(machine, start, machine.position, "raw")


def _push_byte_string(machine: Machine, start: int, end: int, codec: str) -> None:
    """A Python 2 string: text where it is short and reads like text, as names do, else bytes."""
    if end - start <= LONG_TEXT:
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
    machine.push_object(Bytes(start, end, codec), machine.at)


_BINARY = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def _short_binbytes(machine: Machine) -> None:
    start = machine.take(machine.data[machine.take(1)])
    machine.push_object(Bytes(start, machine.position), machine.at)


def _binbytes(machine: Machine) -> None:
    start = machine.take(_UINT32(machine.data, machine.take(4))[0])
    machine.push_object(Bytes(start, machine.position), machine.at)


def _binbytes8(machine: Machine) -> None:
    """BINBYTES8 and BYTEARRAY8."""
    start = machine.take(_UINT64(machine.data, machine.take(8))[0])
    machine.push_object(Bytes(start, machine.position), machine.at)


def _next_buffer(machine: Machine) -> None:
    machine.push_object(OutOfBand(machine.buffers), machine.at)
    machine.buffers += 1


def _readonly_buffer(machine: Machine) -> None:
    if not isinstance(machine.stack[-1], (OutOfBand, Bytes)):
        machine.fail("a buffer", kind_of(machine.stack[-1]))


# -- the stack and the memo ------------------------------------------------------------------------


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
        machine.starts.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _dup(machine: Machine) -> None:
    machine.push(machine.stack[-1])


def _get(machine: Machine) -> None:
    machine.push(machine.memo[_memo_index(machine)])


def _put(machine: Machine) -> None:
    machine.memo[_memo_index(machine)] = machine.stack[-1]


def _memo_index(machine: Machine) -> int:
    index = _decimal(machine, machine.line(), 10)
    if not isinstance(index, int) or index < 0:
        machine.fail("a memo index", "a negative or endless number")
    return index


# -- containers ------------------------------------------------------------------------------------


def _list(machine: Machine) -> None:
    values, _, begin = machine.pop_mark()
    machine.push_object(ListValue(begin, machine.position, values), begin)


def _dict(machine: Machine) -> None:
    values, starts, begin = machine.pop_mark()
    found = DictValue(begin, machine.position)
    _set_items(machine, found, values, starts)
    machine.push_object(found, begin)


def _empty_set(machine: Machine) -> None:
    machine.push_object(SetValue(machine.at, machine.position), machine.at)


def _frozenset(machine: Machine) -> None:
    values, _, begin = machine.pop_mark()
    machine.push_object(SetValue(begin, machine.position, values, frozen=True), begin)


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    machine.starts.pop()
    _add_items(machine, [value], ListValue)


def _appends(machine: Machine) -> None:
    _add_items(machine, machine.pop_mark()[0], ListValue)


def _additems(machine: Machine) -> None:
    _add_items(machine, machine.pop_mark()[0], SetValue)


def _add_items(machine: Machine, values: list[Any], builtin: type[ListValue]) -> None:
    target = machine.stack[-1]
    if type(target) is builtin:
        target.extend(values)
    elif isinstance(target, (Call, PersistentId)):
        if target.list_items is None:
            target.list_items = ListValue(machine.at, machine.position)
        target.list_items.extend(values)
    else:
        machine.fail("a list, a set or an object to add items to", kind_of(target))
    machine.filled(target)


def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    value_start, key_start = machine.starts.pop(), machine.starts.pop()
    target = machine.stack[-1]
    _set_items(machine, target, [key, value], [key_start, value_start])
    machine.filled(target)


def _setitems(machine: Machine) -> None:
    values, starts, _ = machine.pop_mark()
    target = machine.stack[-1]
    _set_items(machine, target, values, starts)
    machine.filled(target)


def _set_items(machine: Machine, target: Any, values: list[Any], starts: list[int]) -> None:
    if len(values) % 2:
        machine.fail("keys and values in pairs", f"{len(values):,} of them")
    if isinstance(target, (Call, PersistentId)):
        if target.dict_items is None:
            target.dict_items = DictValue(machine.at, machine.position)
        target.dict_items.extend(values, starts, machine.at)
    elif type(target) is DictValue:
        target.extend(values, starts, machine.at)
    else:
        machine.fail("a dict or an object to set items of", kind_of(target))


# -- classes, functions and objects ----------------------------------------------------------------


def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.push_object(
        machine.global_(machine.odd_text(module), machine.odd_text(name)), machine.at
    )


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    machine.objects += 1
    if isinstance(name, str) and isinstance(module, str):
        machine.stack[-1] = machine.global_(module, name)
        return
    machine.odd("pickle computes the name of what it refers to (shown as data, never imported)")
    start = machine.starts[-1]
    machine.stack[-1] = Call("stack_global", None, (module, name), start, start, machine.position)


def _extension(machine: Machine, code: int) -> None:
    if code <= 0:
        machine.fail("a positive extension code", f"{code:,}")
    machine.odd(f"pickle refers to extension code {code:,} (shown as data, never imported)")
    machine.push_object(Extension(code, machine.at, machine.position), machine.at)


def _ext1(machine: Machine) -> None:
    _extension(machine, machine.data[machine.take(1)])


def _ext2(machine: Machine) -> None:
    _extension(machine, _UINT16(machine.data, machine.take(2))[0])


def _ext4(machine: Machine) -> None:
    _extension(machine, _INT32(machine.data, machine.take(4))[0])


def _newobj(machine: Machine) -> None:
    args, cls = machine.stack.pop(), machine.stack[-1]
    args_start = machine.starts.pop()
    machine.check_call(cls, args)
    machine.objects += 1
    machine.stack[-1] = Call(
        "newobj", cls, args, machine.starts[-1], args_start, machine.position
    )


def _newobj_ex(machine: Machine) -> None:
    kwargs, args, cls = machine.stack.pop(), machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    args_start = machine.starts.pop()
    machine.check_call(cls, args)
    machine.objects += 1
    machine.stack[-1] = Call(
        "newobj_ex", cls, args, machine.starts[-1], args_start, machine.position, kwargs
    )


def _inst(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    cls = machine.global_(machine.odd_text(module), machine.odd_text(name))
    values, _, begin = machine.pop_mark()
    cls.called = True
    machine.push_object(Call("inst", cls, tuple(values), begin, begin, machine.position), begin)


def _obj(machine: Machine) -> None:
    values, starts, begin = machine.pop_mark()
    cls, args = values[0], tuple(values[1:])
    machine.check_call(cls, args)
    args_start = starts[1] if args else machine.at
    machine.push_object(Call("obj", cls, args, begin, args_start, machine.position), begin)


def _build(machine: Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    machine.starts.pop()
    if not isinstance(target, (Call, PersistentId, Global, Extension)):
        machine.fail("an object to set the state of", kind_of(target))
    if target.states is None:
        target.states = [state]
    else:
        target.states.append(state)
    machine.filled(target)


def _persid(machine: Machine) -> None:
    line = machine.line()
    if not line.isascii():
        machine.fail("a persistent id in ASCII", repr(line[:40]))
    machine.push_object(PersistentId(line.decode(), machine.at, machine.position), machine.at)
    machine.persistent_ids.append(machine.stack[-1])


# -- protocol and frames ---------------------------------------------------------------------------


def _proto(machine: Machine) -> None:
    protocol = machine.data[machine.take(1)]
    if protocol > 5:
        machine.fail("a pickle protocol up to 5", f"{protocol}")
    machine.protocol = max(machine.protocol, protocol)
    machine.framing.append((machine.at, machine.position))


def _frame(machine: Machine) -> None:
    length = _UINT64(machine.data, machine.take(8))[0]
    if machine.framed:
        machine.fail(
            f"a frame after the end of the one before at {machine.origin + machine.stop:#x}",
            "one inside it",
        )
    left = len(machine.data) - machine.position
    if length > left:
        raise Truncated(
            machine.path, machine.origin + machine.at, f"a frame of {counted(length, 'byte')}",
            counted(left, "byte"),
        )  # fmt: skip
    machine.stop = machine.position + length
    machine.framed = True
    machine.framing.append((machine.at, machine.position))


def _unknown(machine: Machine) -> None:
    machine.fail("a pickle opcode", f"{machine.data[machine.at]:#04x}")


def _rare() -> list[Callable[[Machine], None]]:
    """The functions above by opcode (Lib/pickletools.py), ``_unknown`` for all others."""
    table: list[Callable[[Machine], None]] = [_unknown] * 256
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


RARE = _rare()
"""What to run for each opcode that ``pickle_stream`` does not handle itself."""
