"""ONNX, safetensors, tar, TorchScript, files that are something else, and files that are no files."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

from tests.hostile.case import ACCEPT, FLAG, REFUSE, Case
from tests.hostile.craft import (
    PAYLOAD,
    WEIGHT,
    Record,
    archive,
    call,
    checkpoint,
    entry,
    external,
    field,
    graph,
    legacy,
    mapping,
    model,
    named,
    nested,
    node,
    onnx_tensor,
    safetensors,
    state,
    stream,
    tar_member,
    tensor,
    text,
    varint,
)
from tests.hostile.pickle_cases import LONG, STEERS

Fill = Callable[[Path], None]


def at(*entries: tuple[str, str], fill: Fill | None = None) -> Callable[[Path], str]:
    """A model with one external tensor, and a folder that ``fill`` prepares."""

    def build(folder: Path) -> str:
        if fill is not None:
            fill(folder)
        (folder / "model").write_bytes(model(graph(external(entries))))
        return "model"

    return build


def where(location: str, fill: Fill | None = None) -> Callable[[Path], str]:
    return at(("location", location), ("offset", "0"), ("length", "16"), fill=fill)


def secret(folder: Path) -> None:
    (folder.parent / "secret").write_bytes(PAYLOAD)


def data(folder: Path) -> None:
    (folder / "data").write_bytes(PAYLOAD * 4)


def link(folder: Path) -> None:
    secret(folder)
    (folder / "data").symlink_to(folder.parent / "secret")


def linked_parent(folder: Path) -> None:
    secret(folder)
    (folder / "sub").symlink_to(folder.parent)


def hard_link(folder: Path) -> None:
    secret(folder)
    os.link(folder.parent / "secret", folder / "data")


def loop(folder: Path) -> None:
    (folder / "data").symlink_to("data")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "data")


def directory(folder: Path) -> None:
    (folder / "data").mkdir()


def two(first: tuple[str, str], second: tuple[str, str]) -> Callable[[Path], str]:
    """Two tensors in one file."""

    def build(folder: Path) -> str:
        data(folder)
        tensors = [
            external([("location", "data"), ("offset", offset), ("length", length)], name=name)
            for name, (offset, length) in (("w", first), ("v", second))
        ]
        (folder / "model").write_bytes(model(graph(*tensors)))
        return "model"

    return build


_OPEN = {
    "..": ("../secret", secret), "nested ..": ("a/../../secret", secret),
    "absolute": ("/etc/passwd", None), "URL": ("https://example.com/x", None),
    "NUL": ("data\0.txt", data), "symlink": ("data", link), "symlinked parent": ("sub/secret", linked_parent),
    "hard link": ("data", hard_link), "FIFO": ("data", fifo), "a directory": ("data", directory),
    "loop": ("data", loop), "itself": ("model", None), "a device": ("/dev/zero", None),
    "nothing there": ("data", None), "60 kB": ("d" * 60_000, None), "ANSI": ("\x1b[2J", None),
}  # fmt: skip
_NUMBERS = {
    "negative": "-1", "10^400": "1" + "0" * 400, "underscore": "1_0", "other digits": "\u0661",
    "past the end": "1000", "empty": "",
}  # fmt: skip
_ONNX: dict[str, tuple[str, bytes, str]] = {
    "negative dimension": (FLAG, onnx_tensor((-4,)), "dimension"),
    "overflowing dimensions": (FLAG, onnx_tensor((1 << 62, 1 << 62)), "elements of float32 that its shape says"),
    "200,000 dimensions": (REFUSE, onnx_tensor((1,) * 200_000), "tensor rank"),
    "unknown data type": (FLAG, onnx_tensor(kind=99), "type"),
    "payload longer than its shape": (FLAG, onnx_tensor((2,)), "stores 16 bytes, which are not the 2 elements"),
    "payload shorter than its shape": (FLAG, onnx_tensor((8,)), "stores 16 bytes, which are not the 8 elements"),
}
_WIRE: dict[str, tuple[str, bytes, str]] = {
    "overlong varint": (REFUSE, b"\x08" + b"\xff" * 11 + b"\1", "more than 64 bits"),
    "length past the end": (REFUSE, b"\x3a" + varint(1 << 40), "the end of the file"),
    "field 0": (REFUSE, b"\x00\1", "a protobuf field number"),
    "wire type 7": (REFUSE, b"\x0f\1", "undefined"),
    "stray group": (REFUSE, b"\x0b\1", "start group"),
    "unknown field": (FLAG, field(1000, b"x" * 20), "unknown field 1000"),
    "graph twice": (FLAG, field(7, graph(onnx_tensor(name="v"))), "2 graph fields"),
}
_TYPED = onnx_tensor(raw=None, more=field(4, PAYLOAD[:8]) + b"".join(
    varint(4 << 3 | 5) + PAYLOAD[at : at + 4] for at in (8, 12)))


def attribute(value: bytes) -> bytes:
    return node("Constant", attributes=field(5, field(1, "value") + field(20, 4) + field(5, value)))


_OUTSIDE = [("location", "data"), ("offset", "0"), ("length", "16")]


def placed(build: Callable[[], bytes]) -> Callable[[Path], str]:
    def fill(folder: Path) -> str:
        data(folder)
        (folder / "model").write_bytes(build())
        return "model"

    return fill


def recursive() -> bytes:
    function = field(1, "F") + field(4, "a") + field(5, "b") + field(7, field(1, "a") + field(2, "b") + field(4, "F") + field(7, "own")) + field(10, "own")
    return model(graph(onnx_tensor(), nodes=[node("F")]), more=field(25, function))


def calling(*pairs: tuple[str, str]) -> bytes:
    """A model with functions, each of which calls another one."""
    functions = b""
    for name, called in pairs:
        body = field(7, field(1, "a") + field(2, "b") + field(4, called) + field(7, "own"))
        functions += field(25, field(1, name) + field(4, "a") + field(5, "b") + body + field(10, "own"))
    return model(graph(onnx_tensor(), nodes=[node("F")]), more=functions)


def mutual() -> bytes:
    return calling(("E", "F"), ("F", "G"), ("G", "F"), ("H", "G"))


def chained() -> bytes:
    last = field(25, field(1, "I") + field(4, "a") + field(5, "a") + field(10, "own"))
    return calling(("F", "H"), ("G", "H"), ("H", "I")) + last


def beside(folder: Path) -> str:
    """A model whose tensors lie in a file each."""
    tensors = []
    for at in range(1_500):
        (folder / f"data{at}").write_bytes(PAYLOAD)
        tensors.append(external([("location", f"data{at}"), ("offset", "0"), ("length", "16")], name=f"w{at}"))
    (folder / "model").write_bytes(model(graph(*tensors, nodes=[node(name="n")], more=field(11, field(1, "w")) + b"".join(
        field(1, field(1, f"w{at}") + field(2, f"y{at}") + field(4, "Neg")) for at in range(1_500)))))
    return "model"


def written(path: str, content: bytes) -> Callable[[Path], str]:
    def build(folder: Path) -> str:
        (folder / path).write_bytes(content)
        return path

    return build


def special(make: Callable[[Path], object], name: str = "model") -> Callable[[Path], str]:
    def build(folder: Path) -> str:
        make(folder / name)
        return name

    return build


_ELSE: dict[str, tuple[bytes, str]] = {
    "text-format protobuf": (b'ir_version: 8\ngraph {\n  name: "g"\n}\n', "text format"),
    "a bare TensorProto": (onnx_tensor(), "TensorProto"),
    "a ModelProto without a graph": (field(1, 8) + field(2, "writer"), "without a graph"),
    "UTF-8-mangled": (checkpoint(payload=bytes(range(128, 144)) * 8).decode("utf-8", "replace").encode(), "UTF-8"),
    "a git-LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git-LFS"),
    "an HTML page": (b"<!DOCTYPE html>\n<html><title>404</title></html>", "HTML"),
    "empty": (b"", "empty"), "magic only": (b"PK\3\4", ""), "magic of a pickle only": (b"\x80\2", ""),
    "a pickle without a tensor": (stream(mapping((text("a"), b"K\1"))), "no tensor"),
}
_FINE = safetensors({"a": entry()})
_SAFE: dict[str, bytes] = {
    "length 0": safetensors(b"", length=0), "length 1": safetensors(b"{", length=1),
    "length 2^63": safetensors(b"{}", length=1 << 63), "length past the end": safetensors(b"{}", length=100),
    "length over 100 MB": safetensors(b"{}".ljust(100_000_001)),
    "a hole": safetensors({"a": entry(), "b": entry("U8", (1,), (20, 21))}, PAYLOAD + bytes(5)),
    "an overlap": safetensors({"a": entry(), "b": entry("U8", (4,), (8, 12))}),
    "a tail": _FINE + b"x", "deep JSON": safetensors(b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}"),
    "100,000 digits": safetensors(b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,16]}}'),
    "NaN": safetensors(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'),
    "duplicate keys": safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "shape against offsets": safetensors({"a": entry(shape=(5,))}),
}
_CODE = b"def forward(self, x):\n  import os\n  os.system('touch canary')\n  return x\n"


def script(pickle: bytes, code: bytes = _CODE) -> bytes:
    debug = stream(call(named("os", "system"), text("touch canary")))
    return archive([
        Record(b"m/data.pkl", pickle), Record(b"m/data/0", PAYLOAD), Record(b"m/version", b"3\n"),
        Record(b"m/constants.pkl", stream(b")")), Record(b"m/code/__torch__.py", code),
        Record(b"m/code/__torch__.py.debug_pkl", debug),
    ])  # fmt: skip


def endless_tar(path: Path) -> None:
    """Members of nothing; the zeros that fill the archive are a hole of the file system."""
    members = b"".join(tar_member(name, data) for name, data in (
        (b"storages", b""), (b"tensors", b""), (b"pickle", stream(b"}")[:-1])))  # fmt: skip
    path.write_bytes(members + bytes(1024))
    os.truncate(path, 1 << 40)


_ODD_NAMES = {"ANSI": ("a\x1b[2Jb", STEERS), "a megabyte": ("n" * (1 << 20), LONG)}
_NAMED: dict[str, Callable[[str], bytes]] = {
    "ONNX": lambda name: model(graph(onnx_tensor(name=name))),
    "a node of ONNX": lambda name: model(graph(onnx_tensor(), nodes=[node(name=name)])),
    "safetensors": lambda name: safetensors({name: entry()}),
    "TorchScript": lambda name: script(state((name, tensor()))),
    "legacy": lambda name: legacy(state((name, tensor()))),
}


def truncated(whole: bytes) -> Callable[[], bytes]:
    return lambda: whole[: len(whole) * 2 // 3]


CASES = [
    *(Case(f"external location: {kind}", FLAG, where(location, fill), "external data not read", files=True)
      for kind, (location, fill) in _OPEN.items()),
    *(Case(f"external numbers: offset {kind}", FLAG, at(("location", "data"), ("offset", value), ("length", "16"), fill=data),
           "external data", "one tensor is not read; the rest of the model is explained", files=True)
      for kind, value in _NUMBERS.items()),
    Case("external numbers: length negative", FLAG, at(("location", "data"), ("length", "-16"), fill=data), "external data", files=True),
    Case("external numbers: duplicate key", FLAG, at(*_OUTSIDE, ("location", "data"), fill=data), "twice", files=True),
    Case("external numbers: unknown key", FLAG, at(*_OUTSIDE, ("sudo", "yes"), fill=data), "unknown key", files=True),
    Case("external numbers: overlapping ranges", FLAG, two(("0", "16"), ("8", "16")), "shares some bytes", files=True,
         why="exporters share bytes on purpose; every byte is counted once, and said"),
    Case("external place: in an attribute", FLAG,
         placed(lambda: model(graph(nodes=[attribute(external(_OUTSIDE))]))), "no dense initializer", files=True),
    Case("external place: in a sparse initializer", FLAG, placed(lambda: model(graph(more=field(
        15, field(1, external(_OUTSIDE)) + field(2, onnx_tensor(kind=7, raw=bytes(32))) + field(3, 9))))), "no dense initializer", files=True),
    Case("external place: in a function", FLAG, placed(lambda: model(more=field(
        25, field(1, "F") + field(7, attribute(external(_OUTSIDE))) + field(10, "own")))), "no dense initializer", files=True),
    Case("external place: beside raw_data", FLAG,
         placed(lambda: model(graph(external(_OUTSIDE, raw=PAYLOAD)))), "data in the model, which is ignored", files=True),
    *(Case(f"dimensions: {kind}", outcome, lambda value=value: model(graph(value)), says)  # type: ignore[misc]
      for kind, (outcome, value, says) in _ONNX.items()),
    Case("subgraphs: 30 deep", ACCEPT, lambda: nested(30)),
    Case("subgraphs: 2,500 chains of 30", ACCEPT, lambda: nested(30, 2_500), why="the bytes of a level go before the next one is read"),
    Case("subgraphs: 3,000 deep", REFUSE, lambda: nested(3000), "protobuf nesting"),
    *(Case(f"wire: {kind}", outcome, lambda tail=tail: model() + tail, says)  # type: ignore[misc]
      for kind, (outcome, tail, says) in _WIRE.items()),
    Case("wire: packed and unpacked mixed", FLAG, lambda: model(graph(_TYPED)), "packed"),
    Case("nodes: three million of two bytes", ACCEPT,
         lambda: model(b"\x0a\0" * 3_000_000 + graph(onnx_tensor())), why="below the limit of nodes, in bounded memory"),
    Case("something else: recursive functions", FLAG, recursive, "calls itself", "functions are listed, never expanded"),
    Case("something else: functions that call each other", FLAG, mutual, "calls itself", "functions are listed, never expanded"),
    Case("something else: functions that call others", ACCEPT, chained, why="exporters of torch write them"),
    *(Case(f"something else: {kind}", REFUSE, lambda content=content: content, says)  # type: ignore[misc]
      for kind, (content, says) in _ELSE.items()),
    Case("something else: a checkpoint called .onnx", ACCEPT, written("model.onnx", checkpoint()), files=True,
         why="content decides, never the name"),
    *(Case(f"safetensors: {kind}", REFUSE, lambda content=content: content)  # type: ignore[misc]
      for kind, content in _SAFE.items()),
    Case("TorchScript: code and debug pickles of harm", FLAG, lambda: script(WEIGHT), "never called",
         "source is text to this program; a debug pickle that calls something is no debug pickle"),
    *(Case(f"names: {odd}, {kind}", FLAG, lambda build=build, name=name: build(name), says)  # type: ignore[misc]
      for kind, build in _NAMED.items() for odd, (name, says) in _ODD_NAMES.items()),
    Case("input: FIFO", REFUSE, special(os.mkfifo), "FIFO", files=True),
    Case("input: directory", REFUSE, special(lambda path: path.mkdir()), "directory", files=True),
    Case("input: device", REFUSE, lambda _: "/dev/zero", "device", files=True),  # type: ignore[arg-type,misc]
    Case("input: symlink loop", REFUSE, special(lambda path: path.symlink_to(path.name)), "", files=True),
    Case("input: missing", REFUSE, lambda _: "nothing", "", files=True),  # type: ignore[arg-type,misc]
    Case("input: name with newline and ANSI", REFUSE, written("a\nb\x1b[2J", b"text"), "", files=True),
    *(Case(f"truncated: {kind}", REFUSE, truncated(whole)) for kind, whole in {
        "ZIP": checkpoint(), "ONNX": model(), "safetensors": _FINE,
        "tar": tar_member(b"pickle", state(("w", tensor()))) * 3, "pickle": stream(mapping((text("a"), text("b" * 99)))),
        "legacy": legacy(),
    }.items()),
    Case("input: a Core ML package", REFUSE, special(lambda path: (path / "Data/com.apple.CoreML").mkdir(parents=True)),
         "a Core ML package (.mlpackage)", "a folder is no file; the line says what it is", files=True),
    Case("tar: a terabyte of zeros behind the end", REFUSE, special(endless_tar), "STOP", files=True),
    Case("tar: a negative size", REFUSE, lambda: tar_member(b"storages", b"", b"-1")),
    Case("tar: a size past the end", REFUSE, lambda: tar_member(b"storages", b"", b"77777777777")),
    Case("tar: a base-256 size of 2^70", REFUSE,
         lambda: tar_member(b"storages", b"", b"\x80\0\0" + struct.pack(">Q", 1 << 63) + b"\0")),
    Case("found: a thousand groups in each other", REFUSE, lambda: model() + b"\x0b" * 1_000, "group"),
    Case("found: 20,000 properties", ACCEPT, lambda: model(more=b"".join(
        field(14, field(1, f"k{at}") + field(2, "v")) for at in range(20_000)))),
    Case("found: 1,500 files beside the model", ACCEPT, beside, why="more than a process may have open", files=True),
    Case("found: one key written with and without an escape", REFUSE, lambda: safetensors(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
        b'"\\u0061":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'), "twice"),
    Case("found: keys that only Unicode's normal form tells apart", ACCEPT, lambda: safetensors(
        {"é": entry(), "e\u0301": entry(ends=(16, 32))}, PAYLOAD * 2), why="they are two names"),
    Case("found: an infinite dimension", REFUSE, lambda: safetensors(
        b'{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,16]}}'), "shape"),
    Case("found: a name longer than the tar file", REFUSE, lambda: tar_member(b"././@LongLink", b"", b"77777777777")),
    *(Case(f"found: a snapshot of {kind}", REFUSE, lambda text=text: text)  # type: ignore[misc]
      for kind, text in {
          "gigabytes of blanks": gzip.compress(b'{"schema": "sizeforensics.snapshot/2",' + bytes(300 << 20), 9),
          "a stream cut short": gzip.compress(b'{"schema": "sizeforensics.snapshot/2"}')[:-4],
          "negative bytes": b'{"schema": "sizeforensics.snapshot/2", "format": "onnx", "files": [["a", -1]]}',
      }.items()),
    Case("index: a shard elsewhere", FLAG, written("model.safetensors.index.json",
         b'{"metadata": {}, "weight_map": {"a": "../secret.safetensors"}}'), "not read", files=True),
]  # fmt: skip

