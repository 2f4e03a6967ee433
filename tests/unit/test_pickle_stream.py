"""The pickle machine against CPython's: same values, same refusals, and every offset nested."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import enum
import io
import pathlib
import pickle
import pickletools
import struct
from dataclasses import replace
from itertools import pairwise

import pytest

from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated
from sizeforensics.formats.encodings.pickle_stream import FIRST_WINDOW, load, load_first
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
    Pickle,
    SetValue,
    Text,
    unescape,
)
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import MemorySource
from tests.work import grows_linearly, lines_run

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Pickle:
    return load(MemorySource("a.pkl", data), 0, len(data), limits)


def live(value: object, found: Pickle) -> object:
    """The Python object an inert value stands for, built-in containers only."""
    if isinstance(value, Bytes):
        return found.payload(value)
    if isinstance(value, Text):
        return found.text(value)
    if isinstance(value, BigInt):
        return int.from_bytes(found.data[value.start : value.end], "little", signed=True)
    if isinstance(value, tuple):
        return tuple(live(item, found) for item in value)
    if isinstance(value, SetValue):
        items = {live(item, found) for item in value.values}
        return frozenset(items) if value.frozen else items
    if isinstance(value, ListValue):
        return [live(item, found) for item in value.values]
    if isinstance(value, DictValue):
        pairs = zip(value.keys, value.values, strict=True)
        return {live(key, found): live(item, found) for key, item in pairs}
    if isinstance(value, Call):
        return live_call(value, found)
    return value


def live_call(call: Call, found: Pickle) -> object:
    args = live(call.args, found)
    assert isinstance(args, tuple)
    name = call.func.path.replace("__builtin__", "builtins")
    if name == "_codecs.encode":
        return args[0].encode(args[1])
    functions = {"builtins.set": set, "builtins.frozenset": frozenset, "builtins.bytes": bytes,
                 "builtins.bytearray": bytearray, "builtins.complex": complex}
    made = functions[name](*args)
    assert call.states is None
    return bytes(made) if isinstance(made, bytearray) else made


VALUES = [
    None, True, False, 0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 2**63,
    -(2**63), 2**2000, -(2**2039), 0.0, -0.0, 1.5, float("inf"), 1e300,
    "", "a", "naïve ☃ 𝄞", "line\nbreak \\ 'quote'", "x" * 255, "y" * 256, "\ud800",
    b"", b"a\x00\xff", b"z" * 300, bytearray(b"abc"),
    (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (((),),),
    [], [1], [1, [2, [3]]], list(range(2500)),
    {}, {"a": 1}, {"a": {"b": [1, (2, "c")]}}, {i: str(i) for i in range(2500)},
    set(), {1, 2, 3}, frozenset(), frozenset({"a"}), frozenset({1, 2}),
    [b"same"] * 3, [("shared",)] * 300,
]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_values_are_those_of_cpython(value: object, protocol: int) -> None:
    for dumps in (pickle.dumps, pickle._dumps):  # the C pickler and the Python one differ in bytes
        data = dumps(value, protocol)
        found = read(data)
        assert found.end == found.size == len(data)
        assert live(found.root, found) == pickle.loads(data)
        assert type(live(found.root, found)) is type(value if not isinstance(value, bytearray) else b"")


def test_every_opcode_of_cpython_is_known() -> None:
    for opcode in pickletools.opcodes:
        data = opcode.code.encode("latin1") + b"\x00" * 20
        with pytest.raises(FormatError) as caught:
            read(data)
        unknown = caught.value.expected == "a pickle opcode"
        assert not unknown or caught.value.offset > 0, opcode.name
    known = {opcode.code for opcode in pickletools.opcodes}
    for code in range(256):
        if chr(code) not in known:
            with pytest.raises(Corrupt, match="expected a pickle opcode"):
                read(bytes((code,)) + b".")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_opcodes_are_counted(protocol: int) -> None:
    data = pickle.dumps({"a": [1.5, ("x", None)], "b": {1, 2}}, protocol)
    assert read(data).opcodes == sum(1 for _ in pickletools.genops(data))
    assert read(data).protocol == (protocol if protocol > 1 else 0)


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self) -> None:
        self.lr = 0.1
        self.names = ["a"]


class Slots:
    __slots__ = ("a", "b")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_become_calls_that_are_never_made(protocol: int) -> None:
    found = read(pickle.dumps(argparse.Namespace(lr=0.1, epochs=3), protocol)).root
    assert type(found) is Call
    assert isinstance(found.state, DictValue)
    assert found.state.get("lr") == 0.1
    assert found.state.get("epochs") == 3
    assert found.state.get("missing", "?") == "?"
    cls = found.func if protocol >= 2 else found.args[0]
    assert (cls.module, cls.name) == ("argparse", "Namespace")
    assert found.func.called


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [
    collections.OrderedDict(a=1, b=2), collections.defaultdict(list, a=[1]),
    collections.Counter("aab"), collections.deque([1, 2]), dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
    pathlib.PurePosixPath("a/b"), Colour.RED, Plain(), 1 + 2j, range(3), Exception("x"),
])  # fmt: skip
def test_objects_of_the_library_are_read(value: object, protocol: int) -> None:
    found = read(pickle.dumps(value, protocol))
    assert type(found.root) is Call
    assert found.globals
    assert not found.oddities


def test_an_ordered_dict_keeps_items_and_state_apart() -> None:
    value: collections.OrderedDict[str, int] = collections.OrderedDict(a=1, b=2)
    value._metadata = {"version": 1}  # type: ignore[attr-defined]
    found = read(pickle.dumps(value, 2)).root
    assert list(found.dict_items.keys) == ["a", "b"]
    assert list(found.dict_items.values) == [1, 2]
    assert found.state.get("_metadata").get("version") == 1


def test_slots_and_keyword_arguments() -> None:
    value = Slots()
    value.a, value.b = 1, [2]
    found = read(pickle.dumps(value, 2)).root
    assert found.kind == "newobj"
    nothing, slots = found.state
    assert nothing is None
    assert slots.get("a") == 1

    class WithKeywords:
        def __reduce_ex__(self, _: object) -> tuple[object, ...]:
            import copyreg

            return copyreg.__newobj_ex__, (Plain, (1,), {"k": 2}), None

    found = read(pickle.dumps(WithKeywords(), 4)).root
    assert (found.kind, found.args, found.kwargs.get("k")) == ("newobj_ex", (1,), 2)


def test_old_instance_opcodes() -> None:
    found = read(b"(I1\nimod\nCls\n.").root
    assert (found.kind, found.func.path, found.args) == ("inst", "mod.Cls", (1,))
    found = read(b"(cmod\nCls\nI1\nI2\no.").root
    assert (found.kind, found.func.path, found.args) == ("obj", "mod.Cls", (1, 2))


def test_python_2_strings() -> None:
    assert read(b"S'a\\'b\\n\\x41\\101'\n.").root == "a'b\nAA"
    assert read(b"U\x03abc.").root == "abc"
    assert read(b"T\x03\x00\x00\x00abc.").root == "abc"
    found = read(b"U\x03\xff\x00\x01.")
    assert found.payload(found.root) == b"\xff\x00\x01"
    found = read(b"S'\\x00\\xff'\n.")
    assert (found.root.codec, unescape(found.payload(found.root))) == ("string-escape", b"\x00\xff")
    for literal in (rb"a\x4Zb", rb"\q", b"\\\n", rb"\\\'\"\a\b\f\n\r\t\v\0\12\123", b"\\"):
        if literal not in (rb"a\x4Zb", b"\\", rb"\q"):
            import ast

            assert unescape(literal) == ast.literal_eval("b'" + literal.decode() + "'")
        else:
            assert unescape(literal) == literal


def test_protocol_0_integers() -> None:
    assert read(b"I00\n.").root is False
    assert read(b"I01\n.").root is True
    assert read(b"I0x10\n.").root == 16
    assert read(b"L-5L\n.").root == -5


class Persistent(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return "thing" if isinstance(obj, Plain) else None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_persistent_ids(protocol: int) -> None:
    stream = io.BytesIO()
    Persistent(stream, protocol).dump([Plain(), 1])
    found = read(stream.getvalue())
    assert type(found.root.values[0]) is PersistentId
    assert found.root.values[0].value == "thing"
    assert found.persistent_ids == [found.root.values[0]]


def test_buffers_out_of_band_and_in() -> None:
    value = [pickle.PickleBuffer(b"abc"), pickle.PickleBuffer(bytearray(b"def"))]
    buffers: list[object] = []
    found = read(pickle.dumps(value, 5, buffer_callback=lambda b: buffers.append(b) and None))
    assert [type(item) for item in found.root.values] == [OutOfBand, OutOfBand]
    assert [item.index for item in found.root.values] == [0, 1]
    found = read(pickle.dumps(value, 5))
    assert [found.payload(item) for item in found.root.values] == [b"abc", b"def"]


# -- offsets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_entries_know_where_their_bytes_are(protocol: int) -> None:
    value = {"first": "x" * 10, "second": [1, 2], "third": 7}
    data = pickle.dumps(value, protocol)
    found = read(data)
    entries = list(found.root.entries())
    for (key, item, start, middle, end), name in zip(entries, value, strict=True):
        assert key == name
        assert found.root.start < start < middle < end < found.size
        assert name.encode() in data[start:middle]
        if isinstance(item, str):
            assert item.encode() in data[middle:end]
        if isinstance(item, ListValue):
            assert middle == item.start
            assert item.end <= end
    for (*_, end), (_, _, start, *_) in pairwise(entries):
        assert end <= start


def test_batches_end_with_their_opcode() -> None:
    """SETITEMS comes every thousand entries; its byte belongs to the dict, not to an entry."""
    data = pickle.dumps(dict.fromkeys(range(2500)), 2)
    found = read(data).root
    ends = [end for *_, end in found.entries()]
    starts = [start for _, _, start, _, _ in found.entries()]
    assert [data[ends[i] : ends[i] + 1] for i in (999, 1999, 2499)] == [b"u"] * 3
    assert all(ends[i] == starts[i + 1] for i in range(2499) if i not in (999, 1999))


def test_a_reference_owns_only_its_own_bytes() -> None:
    shared = ["shared"]
    data = pickle.dumps({"a": shared, "b": shared}, 2)
    first, second = read(data).root.entries()
    assert first[1] is second[1]
    assert data[second[3] : second[4]][:1] == b"h"
    assert second[4] - second[3] == 2
    assert first[3] == first[1].start


def test_an_object_filled_through_a_reference_keeps_its_place() -> None:
    # {"x": memo 0 = [], "y": memo 0 with an item appended}
    data = b"}(X\x01\x00\x00\x00x]q\x00X\x01\x00\x00\x00yh\x00K\x07au."
    found = read(data).root
    items = found.values[0]
    assert found.values[1] is items
    assert items.values == [7]
    assert data[items.start : items.end] == b"]"


def test_memo_stores_follow_their_object() -> None:
    for data, length in ((b"]q\x00.", 2), (b"]r\x00\x00\x00\x00.", 5), (b"]\x94.", 1), (b"]p0\n.", 3),
                         (b"].", 0)):  # fmt: skip
        found = read(data)
        assert found.after_memo(found.root.end) == 1 + length


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_framing_is_listed(protocol: int) -> None:
    data = pickle.dumps("x" * 200, protocol)
    framing = read(data).framing
    expected = [b"."]
    if protocol >= 4:
        expected.insert(0, b"\x95")
    if protocol >= 2:
        expected.insert(0, b"\x80")
    assert [data[start : start + 1] for start, _ in framing] == expected


def test_what_follows_the_stop_is_left_alone() -> None:
    found = load(MemorySource("a", b"xxN.rest"), 2, 8)
    assert (found.root, found.start, found.size, found.end) == (None, 2, 2, 4)


def test_large_payloads_are_not_copied() -> None:
    data = pickle.dumps([b"b" * 300_000, "t" * 300_000, bytearray(300_000)], 5)
    found = read(data)
    raw, text, array = found.root.values
    assert (type(raw), type(text), type(array)) == (Bytes, Text, Bytes)
    assert found.payload(raw) == b"b" * 300_000
    assert found.text(text) == "t" * 300_000
    long_line = read(pickle.dumps("é\\" + "u" * 70_000, 0))
    assert long_line.text(long_line.root) == "é\\" + "u" * 70_000


def test_a_pickle_of_unknown_length() -> None:
    short = pickle.dumps([1, 2], 2)
    long = pickle.dumps([b"x" * (3 * FIRST_WINDOW), "end"], 4)
    for data in (short, long):
        whole = data + b"\xff" * (2 * FIRST_WINDOW)
        found = load_first(MemorySource("a", b"??" + whole), 2, 2 + len(whole))
        assert found.end == 2 + len(data)
        with pytest.raises(Truncated):
            load_first(MemorySource("a", data[:-1]), 0, len(data) - 1)
    limits = replace(DEFAULT_LIMITS, pickle_bytes=FIRST_WINDOW)
    with pytest.raises(LimitExceeded, match="pickle_bytes"):
        load_first(MemorySource("a", long), 0, len(long), limits)
    with pytest.raises(Corrupt):
        load_first(MemorySource("a", b"\xff" * (2 * FIRST_WINDOW)), 0, 2 * FIRST_WINDOW)


# -- hostile and broken streams --------------------------------------------------------------------


def test_nothing_is_imported_or_called(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "made"
    call = f"cos\nsystem\n(S'touch {target}'\ntR.".encode()
    found = read(call)
    assert type(found.root) is Call
    assert found.root.func.path == "os.system"
    assert found.root.func.called
    assert not target.exists()


def test_computed_names_and_extensions_are_odd() -> None:
    found = read(b"\x80\x04K\x01K\x02\x93.")
    assert type(found.root) is Call
    assert found.oddities == [
        "pickle computes the name of what it refers to (shown as data, never imported)"
    ]
    for data in (b"\x82\x07.", b"\x83\x07\x00.", b"\x84\x07\x00\x00\x00."):
        found = read(data)
        assert type(found.root) is Extension
        assert found.root.code == 7
        assert "extension code 7" in found.oddities[0]
    assert "computes" in read(b"cos\ngetattr\n)R)R.").oddities[0]
    assert read(b"NN.").oddities == ["pickle leaves values on the stack that nothing uses"]
    assert read(b"X\x02\x00\x00\x00\xff\xfe.").root == "\udcff\udcfe"
    assert read(b"cos\nsystem\n}X\x01\x00\x00\x00aNsb.").root.states is not None


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


BROKEN = {
    "empty": (b"", Truncated),
    "no STOP": (b"N", Truncated),
    "only a STOP": (b".", Corrupt),
    "unknown opcode": (b"\xff.", Corrupt),
    "protocol 6": (b"\x80\x06N.", Corrupt),
    "PROTO without its byte": (b"\x80", Truncated),
    "text of 4 GiB": (b"X" + u32(2**32 - 1) + b"abc.", Truncated),
    "text of 2**62 bytes": (b"\x8d" + u64(2**62) + b"abc.", Truncated),
    "bytes of 2**62": (b"\x8e" + u64(2**62) + b".", Truncated),
    "bytearray of 2**63": (b"\x96" + u64(2**63) + b".", Truncated),
    "bytes of 4 GiB": (b"B" + u32(2**32 - 1) + b".", Truncated),
    "short text past the end": (b"\x8c\x05ab.", Truncated),
    "short text without length": (b"\x8c", Truncated),
    "negative text": (b"T\xff\xff\xff\xff.", Corrupt),
    "negative long": (b"\x8b\xff\xff\xff\xff.", Corrupt),
    "long of 2 GiB": (b"\x8b\xff\xff\xff\x7f.", Truncated),
    "integer cut": (b"J\x01\x02", Truncated),
    "float cut": (b"G\x00\x00", Truncated),
    "line without end": (b"I12", Truncated),
    "no integer": (b"Ix\n.", Corrupt),
    "no float": (b"Fx\n.", Corrupt),
    "unquoted string": (b"Sabc\n.", Corrupt),
    "half a quote": (b"S'\n.", Corrupt),
    "bad unicode escape": (b"V\\u12\n.", Corrupt),
    "frame of 2**62": (b"\x80\x04\x95" + u64(2**62) + b"N.", Truncated),
    "frame in a frame": (b"\x80\x04\x95" + u64(12) + b"\x95" + u64(1) + b"NN.", Corrupt),
    "opcode across a frame's end": (b"\x80\x04\x95" + u64(2) + b"M\x01\x02N.", Corrupt),
    "text across a frame's end": (b"\x80\x04\x95" + u64(3) + b"\x8c\x05abcde.", Corrupt),
    "pop of nothing": (b"0.", Corrupt),
    "pop mark of nothing": (b"1.", Corrupt),
    "dup of nothing": (b"2.", Corrupt),
    "tuple without mark": (b"Nt.", Corrupt),
    "tuple of two of one": (b"N\x86.", Corrupt),
    "tuple of three of two": (b"NN\x87.", Corrupt),
    "tuple of one of none": (b"\x85.", Corrupt),
    "below a mark": (b"N(\x85.", Corrupt),
    "reduce below a mark": (b"cos\nsystem\n()R.", Corrupt),
    "memo of nothing": (b"q\x00.", Corrupt),
    "memoize of nothing": (b"\x94.", Corrupt),
    "unset memo": (b"h\x05.", Corrupt),
    "unset long memo": (b"j\x05\x00\x00\x00.", Corrupt),
    "unset text memo": (b"g5\n.", Corrupt),
    "negative memo": (b"Np-1\n.", Corrupt),
    "memo that is no number": (b"gx\n.", Corrupt),
    "odd SETITEMS": (b"}(K\x01u.", Corrupt),
    "odd DICT": (b"(K\x01d.", Corrupt),
    "SETITEM without value": (b"}K\x01s.", Corrupt),
    "items of a number": (b"K\x01K\x02K\x03s.", Corrupt),
    "append to a dict": (b"}K\x01a.", Corrupt),
    "append to a set": (b"\x8fK\x01a.", Corrupt),
    "append to nothing": (b"K\x01a.", Corrupt),
    "add to a list": (b"](K\x01\x90.", Corrupt),
    "state of a number": (b"K\x01}K\x02K\x03sb.", Corrupt),
    "call of a number": (b"K\x01)R.", Corrupt),
    "call with a number": (b"cos\nsystem\nK\x01R.", Corrupt),
    "new object of a tuple": (b"))\x81.", Corrupt),
    "obj without class": (b"(o.", Corrupt),
    "inst without mark": (b"ios\nsystem\n.", Corrupt),
    "extension 0": (b"\x82\x00.", Corrupt),
    "negative extension": (b"\x84\xff\xff\xff\xff.", Corrupt),
    "persistent id that is not ASCII": (b"P\xff\n.", Corrupt),
    "frame end with the data": (b"\x80\x04\x95" + u64(2) + b"NN", Truncated),
    "read-only number": (b"K\x01\x98.", Corrupt),
}  # fmt: skip


@pytest.mark.parametrize("data, error", BROKEN.values(), ids=BROKEN)
def test_broken_streams_are_refused(data: bytes, error: type[FormatError]) -> None:
    with pytest.raises(error) as caught:
        load(MemorySource("a", b"\x00" * 7 + data), 7, 7 + len(data))
    assert 7 <= caught.value.offset <= 7 + len(data)
    assert "\n" not in str(caught.value)
    # The Python unpickler checks frames, the C one that they are there; both check the rest.
    loads = pickle._loads if b"\x95" in data else pickle.loads
    if b"os\nsystem" not in data and data[-1:] == b"." and b"\x95" + u64(2**62) not in data:
        with pytest.raises(Exception):  # noqa: B017 - CPython raises all kinds
            loads(data)


def test_the_offset_is_that_of_the_opcode_in_the_file() -> None:
    with pytest.raises(Corrupt) as caught:
        load(MemorySource("a", b"\x80\x02NN\xff.", origin=0x100), 0, 6)
    assert caught.value.offset == 0x104
    assert str(caught.value) == "a: at 0x104: expected a pickle opcode, got 0xff"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncation_is_refused(protocol: int) -> None:
    data = pickle.dumps(
        {"a": [1, 2.5, "text", b"bytes", None, True, 2**70], "b": (argparse.Namespace(x=1), {3})},
        protocol,
    )  # fmt: skip
    for size in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:size])


@pytest.mark.parametrize("name, data, needed", [
    ("pickle_opcodes", b"N0N0N.", 6),
    ("pickle_stack", b"N(NN.", 4),
    ("pickle_memo", b"Nq\x00q\x01q\x02q\x01.", 3),
    ("pickle_bytes", b"NNN.", 4),
    ("pickle_objects", b"]}\x8fcm\nC\n)RP1\n.", 6),
])  # fmt: skip
def test_limits_hold_exactly(name: str, data: bytes, needed: int) -> None:
    read(data, replace(DEFAULT_LIMITS, **{name: needed}))
    with pytest.raises(LimitExceeded, match=name):
        read(data, replace(DEFAULT_LIMITS, **{name: needed - 1}))


def test_limits_hold_in_long_streams() -> None:
    limits = replace(DEFAULT_LIMITS, pickle_opcodes=200_002)
    read(b"N0" * 100_000 + b"N.", limits)
    with pytest.raises(LimitExceeded):
        read(b"N0" * 100_001 + b"N.", limits)
    with pytest.raises(LimitExceeded, match="pickle_stack"):
        read(b"(" * 1_000_001)
    with pytest.raises(LimitExceeded, match="pickle_stack"):
        read(b"}" * 1_000_001)


DEEP = 300_000


@pytest.mark.parametrize("data", [
    b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    b")" + b"\x85" * DEEP + b".",
    b"(" * DEEP + b"l" * DEEP + b".",
    b"}" + b"K\x00}" * DEEP + b"s" * DEEP + b".",
    b"cos\nsystem\n" + b")R" * DEEP + b".",
    b"cos\nsystem\n" + b"N\x85R" * 10 + b"Q" * DEEP + b".",
], ids=["lists", "tuples", "marks", "dicts", "calls", "persistent ids"])  # fmt: skip
def test_depth_is_no_recursion(data: bytes) -> None:
    found = read(data)
    assert found.size == len(data)
    del found  # nor is taking it apart


def test_sharing_costs_nothing() -> None:
    """Each tuple holds the one before twice; the last, as a key, has 2**200 leaves."""
    laughs = b"}" + b")" + b"2\x86" * 200 + b"q\x00Nsh\x00Ns" + b"."
    data = b"}" + b")" + b"2\x86" * 200 + b"N" + b"s."
    assert len(read(data).root) == 1
    assert lines_run(lambda: read(data)) < 50 * len(data)
    with pytest.raises(FormatError):
        read(laughs[:-3])


def test_huge_integers_stay_digits() -> None:
    line = read(b"I" + b"9" * 1_000_000 + b"\n.").root
    assert type(line) is BigInt
    assert (line.start, line.end, line.binary) == (1, 1_000_001, False)
    assert type(read(b"L" + b"9" * 5_000 + b"L\n.").root) is BigInt
    binary = read(b"\x8b" + u32(1 << 20) + b"\x7f" * (1 << 20) + b".").root
    assert type(binary) is BigInt
    assert (binary.start, binary.end, binary.binary) == (5, 5 + (1 << 20), True)
    assert type(read(b"\x8b" + u32(1785) + b"\x7f" * 1785 + b".").root) is int
    assert type(read(b"\x8b" + u32(1786) + b"\x7f" * 1786 + b".").root) is BigInt


def test_memo_indices_are_not_an_array() -> None:
    assert read(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.").root is None


def test_globals_are_one_object_per_name() -> None:
    found = read(b"(cm\na\ncm\na\ncm\nb\nt.")
    first, second, third = found.root
    assert type(first) is Global
    assert first is second
    assert list(found.globals) == [("m", "a"), ("m", "b")]
    assert not third.called


def test_opcodes_are_linear_work() -> None:
    def many(count: int) -> None:
        data = b"\x80\x02](" + b"K\x01q\x02h\x02" * count + b"e."
        assert read(data).opcodes == 3 * count + 5

    many(300_000)
    assert grows_linearly(many, 5_000)
