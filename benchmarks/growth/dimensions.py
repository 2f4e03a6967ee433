"""A file, or two to compare, for every dimension that can grow, by the writers of the hostile tests."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.hostile.craft import (
    PAYLOAD,
    Record,
    archive,
    checkpoint,
    checkpoint_records,
    entry,
    field,
    graph,
    mapping,
    model,
    node,
    onnx_tensor,
    overlapping,
    safetensors,
    state,
    stream,
    tensor,
    text,
)

ELEMENTS = 16
"""Of each tensor of a diff: enough to tell random ones apart."""


class Dimension(NamedTuple):
    """``write(size)`` are the files in which only this grows, one to inspect or two to compare;
    ``smallest`` takes some tenths of a second."""

    name: str
    smallest: int
    write: Callable[[int], Sequence[bytes]]
    doublings: int = 3


# -- one file ------------------------------------------------------------------------------------


def _beside(value: bytes) -> list[bytes]:
    return [checkpoint(stream(mapping((text("w"), tensor()), (text("x"), value))))]


def _records(count: int, prefix: str = "x") -> bytes:
    more = [Record(f"m/{prefix}/{number}".encode(), b"") for number in range(count)]
    return archive([*checkpoint_records(), *more], zip64=True)


def _tensors(count: int) -> bytes:
    return checkpoint(state(*((f"layer.{number}.weight", tensor()) for number in range(count))))


def _keys(count: int) -> bytes:
    """In batches of a thousand, as every pickler writes them."""
    pairs = [text(f"{number:08}") + b"N" for number in range(count)]
    return b"}" + b"".join(
        b"(" + b"".join(pairs[start : start + 1000]) + b"u" for start in range(0, count, 1000)
    )


def _entries(count: int) -> bytes:
    header = {f"t{at}": entry(ends=(16 * at, 16 * at + 16)) for at in range(count)}
    return safetensors(header, PAYLOAD * count)


def _initializers(count: int) -> bytes:
    return model(graph(*(onnx_tensor(name=f"t{number}") for number in range(count))))


def _nodes(count: int, prefix: str = "n") -> bytes:
    return model(graph(onnx_tensor(), nodes=[node(name=f"{prefix}{at}") for at in range(count)]))


def _node_name(size: int, letter: str = "n") -> bytes:
    return model(graph(onnx_tensor(), nodes=[node(name=letter * size)]))


def _subgraphs(levels: int, chains: int = 4_000) -> bytes:
    """Many nodes that each hold subgraphs in each other: one chain at the limit is read at once.

    A single one at the first level, which is what the others are compared with: almost nothing.
    """
    chains = chains if levels > 1 else 1
    inner = graph(onnx_tensor())
    for _ in range(levels):
        attribute = field(1, "then_branch") + field(20, 5) + field(6, inner)
        inner = graph(nodes=[node("If", attributes=field(5, attribute))])
    attribute = field(1, "then_branch") + field(20, 5) + field(6, inner)
    return model(graph(nodes=[node("If", attributes=field(5, attribute))] * chains))


# -- two files -----------------------------------------------------------------------------------


def _random(count: int, seed: int) -> list[bytes]:
    random = Random(seed)
    return [struct.pack(f"<{ELEMENTS}f", *(random.gauss(0, 1) for _ in range(ELEMENTS))) for _ in range(count)]


def _narrowed(contents: list[bytes]) -> list[bytes]:
    """float32 as float16."""
    return [struct.pack(f"<{ELEMENTS}e", *struct.unpack(f"<{ELEMENTS}f", data)) for data in contents]


def _widened(contents: list[bytes]) -> list[bytes]:
    return [struct.pack(f"<{ELEMENTS}f", *struct.unpack(f"<{ELEMENTS}e", data)) for data in contents]


def _named(prefix: str, contents: list[bytes], dtype: str = "F32") -> bytes:
    length = len(contents[0])
    header = {
        f"{prefix}.{at}.weight": entry(dtype, (ELEMENTS // 4, 4), (length * at, length * at + length))
        for at in range(len(contents))
    }
    return safetensors(header, b"".join(contents))


def _renamed(count: int) -> list[bytes]:
    contents = _random(count, 0)
    return [_named("a", contents), _named("b", contents[::-1])]


def _cast(count: int) -> list[bytes]:
    narrow = _narrowed(_random(count, 0))
    return [_named("a", narrow, "F16"), _named("b", _widened(narrow)[::-1])]


DIMENSIONS = (
    Dimension("ZIP records", 20_000, lambda size: [_records(size)]),
    Dimension("pickle opcodes", 200_000, lambda size: _beside(b"K\1" + b"20" * (size // 2))),
    Dimension("pickle memo entries", 300_000, lambda size: _beside(
        b"K\1" + b"".join(b"r" + number.to_bytes(4, "little") for number in range(size)))),
    Dimension("pickle nesting, lists", 20_000, lambda size: _beside(b"]" * size + b"a" * (size - 1))),
    Dimension("pickle nesting, dicts", 10_000, lambda size: _beside(
        (b"}" + text("k")) * size + b"N" + b"s" * size)),
    Dimension("pickle keys in one dict", 50_000, lambda size: _beside(_keys(size))),
    Dimension("checkpoint tensors", 2_500, lambda size: [_tensors(size)]),
    Dimension("tensor name, bytes", 1 << 22, lambda size: [checkpoint(state(("n" * size, tensor())))]),
    Dimension("ONNX nodes", 40_000, lambda size: [_nodes(size)]),
    Dimension("ONNX initializers", 5_000, lambda size: [_initializers(size)]),
    Dimension("ONNX node name, bytes", 1 << 24, lambda size: [_node_name(size)]),
    Dimension("ONNX subgraphs, levels", 3, lambda size: [_subgraphs(size)]),
    Dimension("safetensors tensors", 5_000, lambda size: [_entries(size)]),
    Dimension("diff, ZIP records", 5_000, lambda size: [_records(size), _records(size, "y")]),
    Dimension("diff, ONNX nodes", 20_000, lambda size: [_nodes(size), _nodes(size, "m")]),
    Dimension("diff, node name, bytes", 1 << 23, lambda size: [_node_name(size), _node_name(size, "m")]),
    Dimension("diff, renamed tensors", 2_500, _renamed),
    Dimension("diff, cast tensors", 2_500, _cast),
    Dimension("diff, retrained tensors", 2_500, lambda size: [
        _named("a", _random(size, 0)), _named("a", _random(size, 1))]),
    Dimension("diff, other tensors", 2_500, lambda size: [
        _named("a", _random(size, 0)), _named("b", _random(size, 1))]),
    Dimension("diff, equal tensors", 2_500, lambda size: [
        _named(name, _random(1, 0) * size) for name in "ab"]),
    Dimension("diff, overlapping views", 250, lambda size: [
        overlapping((20_000,), size), overlapping((20_000,), size, 1)]),
)  # fmt: skip


def main(name: str, size: str, beginning: str) -> None:
    """Write the files of one size of a dimension, and print their paths."""
    (dimension,) = (dimension for dimension in DIMENSIONS if dimension.name == name)
    for number, data in enumerate(dimension.write(int(size))):
        path = Path(f"{beginning}{number}")
        path.write_bytes(data)
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
