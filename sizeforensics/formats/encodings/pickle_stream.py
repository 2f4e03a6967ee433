"""Read one pickle, protocols 0 to 5, into inert values that know where their bytes are.

Nothing is imported, called or hashed, and nothing is allocated on a declared length. The machine
follows CPython's ``Lib/pickle.py`` and ``Lib/pickletools.py`` opcode by opcode; where those would
call something, a ``Call`` records what and with which arguments. This module knows nothing of torch.

Offsets count from the first byte of the pickle and nest: a value on the stack owns the bytes from
its start to the start of the value above it, so the bytes that build an item lie inside those that
build its container, and a reference through the memo owns only its own two to five bytes.
"""

from __future__ import annotations

from io import BytesIO
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import Any

from sizeforensics.errors import LimitExceeded, Truncated
from sizeforensics.formats.encodings.pickle_machine import LONG_TEXT, Machine
from sizeforensics.formats.encodings.pickle_opcodes import RARE
from sizeforensics.formats.encodings.pickle_values import (
    Call,
    DictValue,
    Global,
    ListValue,
    PersistentId,
    Pickle,
)
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.units import counted

FIRST_WINDOW = 1 << 20
"""Bytes ``load_first`` reads at first, when nobody knows how long the pickle is."""

_CHUNK = 1 << 16  # opcodes between two looks at what must not grow too much
_COUNTED = ("pickle_opcodes", "pickle_stack", "pickle_memo", "pickle_objects")

_INT32 = Struct("<i").unpack_from
_UINT16 = Struct("<H").unpack_from
_UINT32 = Struct("<I").unpack_from
_DOUBLE = Struct(">d").unpack_from


def load(source: Source, start: int, end: int, limits: Limits = DEFAULT_LIMITS) -> Pickle:
    """The pickle that begins at ``start`` and ends, with its STOP opcode, at or before ``end``.

    Reads ``[start, end)`` once. Raises Truncated without STOP, Corrupt where CPython's unpickler
    would fail on the stream itself, LimitExceeded beyond the ``pickle_*`` limits.
    """
    if end - start > limits.pickle_bytes:
        raise LimitExceeded(
            source.path, source.origin() + start, "pickle_bytes", limits.pickle_bytes,
            counted(end - start, "byte"),
        )  # fmt: skip
    # A BytesIO hands its buffer over; read() would hold the bytes twice for a moment.
    data = BytesIO()
    for block in source.blocks(start, end):
        data.write(block.data)
    return _pickle(Machine(source, start, data.getvalue(), limits))


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


def _pickle(machine: Machine) -> Pickle:
    """Run the whole pickle."""
    root = _run(machine)
    if machine.stack or machine.marks:
        machine.odd("pickle leaves values on the stack that nothing uses")
    if machine.framed and machine.position < machine.stop:
        machine.odd("pickle stops before the end of its frame")
    return Pickle(
        root, machine.data, machine.position, machine.start, machine.protocol, machine.opcodes,
        machine.framing, machine.globals, machine.persistent_ids, list(machine.oddities),
    )  # fmt: skip


def _run(machine: Machine) -> Any:
    """Run opcodes until STOP; between chunks of them look at what must not grow too much.

    Everything counted grows by at most one per opcode, so a chunk as long as what is left of the
    smallest allowance cannot overstep it unseen.
    """
    allowed = {name: getattr(machine.limits, name) for name in _COUNTED}
    finished = False
    while True:
        used = (
            machine.opcodes, machine.below + len(machine.stack), len(machine.memo), machine.objects
        )  # fmt: skip
        left = _CHUNK
        for (name, most), count in zip(allowed.items(), used, strict=True):
            left = min(left, most - count)
            if count > most:
                raise LimitExceeded(
                    machine.path, machine.origin + machine.at, name, most, f"{count:,} and more"
                )
        if finished:
            return machine.stack.pop()
        try:
            finished = _opcodes(machine, max(1, left))
        except (IndexError, StructError):
            machine.fail_short()
        except KeyError as error:
            machine.fail("a memo entry that was set before", f"entry {error.args[0]}")


def _opcodes(machine: Machine, chunk: int) -> bool:
    """Run at most ``chunk`` opcodes; True when the last one was STOP.

    One long loop on purpose: a function call per opcode would double the time. The branches
    are in the order of frequency in checkpoints of protocol 2 and 4; ``RARE`` has the others. Too
    short a stack or too few bytes raise IndexError or struct.error.
    """
    data, memo, marks = machine.data, machine.memo, machine.marks
    persistent_ids = machine.persistent_ids
    stack, starts, below, stop = machine.stack, machine.starts, machine.below, machine.stop
    position = at = machine.position
    done = 0
    try:
        for done in range(1, chunk + 1):  # noqa: B007 - used when the loop is left
            at = position
            if at >= stop:
                machine.at = at
                stop = machine.leave_frame()
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
                        machine.at = at
                        machine.check_call(func, args)
                    machine.objects += 1
                    stack[-1] = Call("reduce", func, args, starts[-1], args_start, position)
                elif op == 0x29:  # EMPTY_TUPLE
                    stack.append(())
                    starts.append(at)
                    position = at + 1
                elif op == 0x58:  # BINUNICODE
                    position = at + 5 + _UINT32(data, at + 1)[0]
                    text = data[at + 5 : position]
                    if len(text) != position - at - 5 or len(text) > LONG_TEXT:
                        machine.at = at
                        stack.append(machine.long_text(at + 5, position))
                    else:
                        try:
                            stack.append(text.decode())
                        except UnicodeDecodeError:
                            stack.append(machine.odd_text(text))
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
                    machine.objects += 1
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
                    machine.objects += 1
                    starts.append(at)
                elif op == 0x2E:  # STOP
                    position = at + 1
                    machine.framing.append((at, position))
                    if not stack:
                        raise IndexError
                    return True
                else:
                    machine.stack, machine.starts, machine.below = stack, starts, below
                    machine.at, machine.position = at, at + 1
                    RARE[op](machine)
                    stack, starts, below = machine.stack, machine.starts, machine.below
                    position = machine.position
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
                machine.objects += 1
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
                    stack.append(machine.odd_text(text))
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
                machine.stack, machine.starts, machine.below = stack, starts, below
                machine.at, machine.position = at, at + 1
                RARE[op](machine)
                stack, starts, below = machine.stack, machine.starts, machine.below
                position, stop = machine.position, machine.stop
    finally:
        machine.stack, machine.starts, machine.below = stack, starts, below
        machine.at, machine.position = at, position
        machine.opcodes += done
    return False
