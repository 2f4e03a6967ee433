"""Pickles that would act if they were loaded, that never end, or that do not add up."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.hostile.case import ACCEPT, FLAG, REFUSE, Case
from tests.hostile.craft import (
    MAGIC,
    PAYLOAD,
    WEIGHT,
    Record,
    archive,
    call,
    checkpoint,
    checkpoint_records,
    legacy,
    mapping,
    named,
    number,
    state,
    storage,
    stream,
    tensor,
    text,
)

TOUCH = text("touch canary")
SYSTEM = named("os", "system")
CANARY = named("canary_module", "Trap")
ACTS = {
    "REDUCE": SYSTEM + b"(" + TOUCH + b"tR",
    "INST": b"(" + TOUCH + b"ios\nsystem\n",
    "OBJ": b"(" + SYSTEM + TOUCH + b"o",
    "NEWOBJ": SYSTEM + b"(t\x81",
    "NEWOBJ_EX": SYSTEM + b"(t}\x92",
    "EXT1": b"\x82\x01",
    "computed STACK_GLOBAL": text("o") + b"0" + text("os") + text("system") + b"\x93(" + TOUCH + b"tR",
    "BUILD": SYSTEM + mapping((text("__reduce__"), TOUCH)) + b"b",
    "exec": call(named("builtins", "exec"), text("open('canary', 'w')")),
    "getattr of a submodule": call(named("builtins", "getattr"), named("os", "path"), text("join")),
}  # fmt: skip


def beside(value: bytes, protocol: int = 2) -> bytes:
    """A checkpoint with a harmless tensor and ``value`` beside it."""
    pickle = stream(mapping((text("w"), tensor()), (text("x"), value)), protocol)
    return checkpoint(pickle)


def laughs(kind: str, levels: int = 60) -> bytes:
    """Every level holds the one below ten times: through the memo, or by DUP."""
    value = b"(K\1t"
    for level in range(levels):
        if kind == "memo":
            value = value + b"r" + struct.pack("<I", level) + b"0(" + (b"j" + struct.pack("<I", level)) * 10 + b"t"
        else:
            value = value + b"22222\x87" if level % 2 else value + b"2\x86"
    return value


def shared_keys() -> bytes:
    """A dict whose key is a tuple of a tuple, sixty deep, each twice: its hash would take 2^60 steps."""
    key = b"K\1"
    for _ in range(60):
        key += b"2\x86"
    return b"}" + key + b"K\2s"


def opcodes(count: int) -> bytes:
    return b"K\1" + b"20" * (count // 2)


def memos(count: int) -> bytes:
    return b"K\1" + b"\x94" * count


_DATA = "what is missing or contradictory is one tensor's: the rest of the file can be explained"
TENSORS: dict[str, tuple[bytes, str]] = {
    "outside its storage": (tensor((99,)), "storage"),
    "offset outside": (tensor((4,), offset=1 << 40), "storage"),
    "2^62 products": (tensor((1 << 62, 1 << 62), (1, 1)), "more elements than can be addressed"),
    "negative shape": (tensor((-4,)), "negative or absurd size"),
    "shape of text": (tensor((text("four"),)), "shape"),
    "negative stride": (tensor((4,), (-1,)), "stride"),
    "shape and strides of different length": (tensor((2, 2), (1,)), "stride"),
    "unknown type": (tensor(held=storage(kind="BogusStorage")), "type"),
    "storage shorter than declared": (tensor((8,), held=storage(count=8)), "storage"),
    "storage of -1": (tensor(held=storage(count=-1)), "storage"),
    "storage of 2^62": (tensor(held=storage(count=1 << 62)), "several sizes"),
}
KEYS: dict[str, tuple[bytes, str, str]] = {
    "unhashable": (b"}" + b"]" + b"K\1s", FLAG, "key"),
    "cyclic": (b"]q\5h\5a", FLAG, "hold themselves"),
    "cyclic dict": (b"}q\5" + text("me") + b"h\5s", FLAG, "hold themselves"),
    "cyclic through several": (b"]q\5](h\5t\x85aa", FLAG, "hold themselves"),
    "an object that refers to itself": (
        b"ctorch.nn.modules.container\nModuleDict\n)\x81q\5}" + text("me") + b"h\5sb", ACCEPT, ""),
    "no text": (b"}" + b"(K\1K\2t" + b"K\1s", ACCEPT, ""),
}
STEERS, LONG = "control or invisible characters", "more than 4,096 characters"
NAMES: dict[str, tuple[bytes | str, str, str]] = {
    "ANSI": ("a\x1b[2Jb", FLAG, STEERS), "newline": ("a\nerror: b", FLAG, STEERS), "not UTF-8": (b"a\xff\xfe", FLAG, ""),
    "surrogate": ("a\ud800b", FLAG, ""), "a megabyte": ("n" * (1 << 20), FLAG, LONG),
    "markup": ("<img src=x onerror=alert(1)>[a](javascript:b)`|@me #1", ACCEPT, ""),
    "formula": ("=cmd|'/c calc'!A0", ACCEPT, ""), "bidi": ("\u202egpj", FLAG, STEERS),
}  # fmt: skip
WRONG: dict[str, bytes] = {
    "no STOP": b"\x80\2}", "underflow": b"\x80\2s.", "unset memo": b"\x80\2h\7.", "empty": b"",
    "odd SETITEMS": b"\x80\2}(K\1u.", "unknown opcode": b"\x80\2\xff.", "no MARK": b"\x80\2K\1t.",
    "length of 2^62": b"\x80\4\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "negative length": b"\x80\2\x8b" + struct.pack("<i", -5) + b"x.",
    "huge frame": b"\x80\4\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "an opcode across the end of a frame": b"\x80\4\x95" + struct.pack("<Q", 4) + b"\x8c\5hello}.",
    "text length past the end": b"\x80\2X" + struct.pack("<I", 1 << 30) + b"x.",
}


def canary(folder: Path, data: bytes) -> str:
    """The model, and a module that must not be imported."""
    (folder / "canary_module.py").write_text("open('canary', 'w').close()\nclass Trap: pass\n")
    (folder / "model").write_bytes(data)
    return "model"


CASES = [
    *(Case(f"callables: {kind}", FLAG, lambda folder, value=value: canary(folder, beside(value, 4)),  # type: ignore[misc]
           "never called" if kind != "EXT1" else "extension code 1", files=True) for kind, value in ACTS.items()),
    Case("callables: a class of a module beside the file", ACCEPT, lambda folder: canary(folder, beside(CANARY + b"(t\x81}b")),
         why="classes of other packages are what whole modules consist of; nothing imports them", files=True),
    Case("laughs: through the memo", FLAG, lambda: beside(laughs("memo")), "written out",
         "a reference costs what it is in the file; nothing is expanded"),
    Case("laughs: by DUP", FLAG, lambda: beside(laughs("dup")), "written out",
         "a reference costs what it is in the file; nothing is expanded"),
    Case("laughs: keys that are shared tuples", FLAG, lambda: beside(shared_keys()), "never hashed",
         "nothing is hashed that a file built"),
    Case("laughs: one dict 10,000 times", ACCEPT, lambda: beside(
        b"](" + mapping((text("a"), number(1))) + b"q\5" + b"h\5" * 10_000 + b"e"), why="configurations are shared so"),
    Case("laughs: 300,000 nested lists", FLAG, lambda: beside(b"]" * 300_000 + b"a" * 299_999), "300,00",
         "nesting is a list in the reader, not recursion: a depth that memory holds is read"),
    Case("laughs: 900 nested lists", ACCEPT, lambda: beside(b"]" * 900 + b"a" * 899), why="Python can write and read it"),
    *(Case(f"streams: {kind}", REFUSE, lambda data=data: checkpoint(data)) for kind, data in WRONG.items()),  # type: ignore[misc]
    Case("streams: a second pickle behind the first", FLAG, lambda: checkpoint(WEIGHT + WEIGHT), "behind"),
    Case("memo: index 2^32 - 1", ACCEPT, lambda: beside(b"K\1r\xff\xff\xff\xff")),
    Case("numbers: a million digits in text", ACCEPT, lambda: beside(b"I" + b"9" * 1_000_000 + b"\n"),
         why="its value is nobody's business here; its bytes are accounted for"),
    Case("numbers: LONG4 of 1 MB", ACCEPT, lambda: beside(b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20))),
    *(Case(f"tensors: {kind}", FLAG, lambda value=value: checkpoint(state(("w", tensor()), ("bad", value))),  # type: ignore[misc]
           says, _DATA) for kind, (value, says) in TENSORS.items()),
    *(Case(f"keys: {kind}", outcome, lambda value=value: beside(value), says)  # type: ignore[misc]
      for kind, (value, outcome, says) in KEYS.items()),
    Case("keys: duplicate", FLAG, lambda: checkpoint(state(("w", tensor()), ("w", tensor()))), "more than once"),
    *(Case(f"names: {kind}", outcome, lambda name=name: checkpoint(state((name, tensor()))), says)  # type: ignore[misc]
      for kind, (name, outcome, says) in NAMES.items()),
    Case("size: 20 million opcodes", REFUSE, lambda: beside(opcodes(20_000_000)), "pickle opcodes",
         "two and a half times the limit; no checkpoint needs them"),
    Case("size: 5 million memo entries", REFUSE, lambda: beside(memos(5_000_001), 4), "pickle memo"),
    Case("legacy: magic number computed", REFUSE, lambda: legacy(
        magic=stream(call(named("operator", "add"), number(MAGIC - 1), number(1)))),
         says="holds no tensor", why="to know it one would have to call what the file says"),
    Case("legacy: payload in the third pickle", FLAG, lambda: legacy(
        system=stream(mapping((text("little_endian"), b"\x88"), (text("x"), ACTS["REDUCE"])))), "never called"),
    Case("legacy: count of -1", REFUSE, lambda: legacy(counts=(-1,)), "-1"),
    Case("legacy: count of 2^62", REFUSE, lambda: legacy(counts=(1 << 62,)), "storage"),
    Case("legacy: missing keys", FLAG, lambda: legacy(keys=stream(b"]"), counts=()), "storage",
         "the tensors whose storage is gone are named; what is there is counted"),
    Case("legacy: duplicate keys", FLAG, lambda: legacy(
        keys=stream(b"](" + text("0") + text("0") + b"e"), counts=(4, 4)), "stored again",
         "PyTorch reads the second over the first; both are counted"),
    Case("legacy: big-endian", FLAG, lambda: legacy(
        system=stream(mapping((text("little_endian"), b"\x89"))),
        counts=(4,), payload=PAYLOAD), "endian", "what it holds is known, and that a machine must swap it"),
    Case("bare: a pickle of harm and no tensor", REFUSE, lambda folder: canary(folder, stream(ACTS["REDUCE"], 4)),
         "holds no tensor and refers to callable os.system",
         "no model; the line says what it would do", files=True),
    Case("found: a persistent id of megabytes of text", FLAG, lambda: checkpoint(
        b"\x80\2}" + text("a") + b"P" + b"9" * 5_000_000 + b"\ns."), "storage"),
    Case("found: a persistent id of nested tuples", ACCEPT, lambda: checkpoint(state(
        ("w", tensor()), ("x", text("storage") + b"(" * 50_000 + b"t" * 50_000 + b"\x86Q"))),
         why="no tensor views it: it is data of the pickle"),
    Case("found: a shape of 200 kB in one number", FLAG, lambda: checkpoint(state(
        ("w", tensor((1 << 1_600_000,))))), "shape"),
    Case("found: a class named by escape sequences", ACCEPT, lambda: checkpoint(state(
        ("w", tensor()), ("x", b"cos\x1b[2J\r\nsys\x1b]0;x\x07tem\n)R"))), why="a class of no known package"),
    Case("found: a key 100,000 times", FLAG, lambda: checkpoint(stream(
        b"}(" + text("w") + tensor() + (text("k") + b"N") * 100_000 + b"u")), "more than once"),
    Case("found: byteorder record of nonsense", FLAG, lambda: archive(
        [checkpoint_records()[0], Record(b"m/byteorder", b"sideways"), *checkpoint_records()[2:]]), "byte"),
]  # fmt: skip
