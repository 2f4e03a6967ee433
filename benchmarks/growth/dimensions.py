"""A file for every dimension that can grow, written by the writers of the hostile tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.hostile.craft import (
    PAYLOAD,
    Record,
    archive,
    checkpoint,
    checkpoint_records,
    entry,
    graph,
    mapping,
    model,
    nested,
    node,
    onnx_tensor,
    safetensors,
    state,
    stream,
    tensor,
    text,
)


class Dimension(NamedTuple):
    """``write(size)`` is a file in which only this grows; ``smallest`` takes some tenths of a second."""

    name: str
    smallest: int
    write: Callable[[int], bytes]
    doublings: int = 3


def _beside(value: bytes) -> bytes:
    return checkpoint(stream(mapping((text("w"), tensor()), (text("x"), value))))


def _records(count: int) -> bytes:
    more = [Record(b"m/x/%d" % number, b"") for number in range(count)]
    return archive([*checkpoint_records(), *more], zip64=True)


def _tensors(count: int) -> bytes:
    return checkpoint(state(*((f"layer.{number}.weight", tensor()) for number in range(count))))


def _entries(count: int) -> bytes:
    header = {f"t{at}": entry(ends=(16 * at, 16 * at + 16)) for at in range(count)}
    return safetensors(header, PAYLOAD * count)


def _initializers(count: int) -> bytes:
    return model(graph(*(onnx_tensor(name=f"t{number}") for number in range(count))))


def _nodes(count: int) -> bytes:
    return model(graph(onnx_tensor(), nodes=[node(name=f"n{number}") for number in range(count)]))


DIMENSIONS = (
    Dimension("ZIP records", 20_000, _records),
    Dimension("pickle opcodes", 200_000, lambda size: _beside(b"K\1" + b"20" * (size // 2))),
    Dimension("pickle memo entries", 300_000, lambda size: _beside(
        b"K\1" + b"".join(b"r" + number.to_bytes(4, "little") for number in range(size)))),
    Dimension("pickle nesting, lists", 20_000, lambda size: _beside(b"]" * size + b"a" * (size - 1))),
    Dimension("pickle nesting, dicts", 10_000, lambda size: _beside(
        (b"}" + text("k")) * size + b"N" + b"s" * size)),
    Dimension("pickle keys in one dict", 50_000, lambda size: _beside(
        mapping(*((text(f"{number:08}"), b"N") for number in range(size))))),
    Dimension("checkpoint tensors", 2_500, _tensors),
    Dimension("tensor name, bytes", 1 << 20, lambda size: checkpoint(state(("n" * size, tensor())))),
    Dimension("ONNX nodes", 40_000, _nodes),
    Dimension("ONNX initializers", 5_000, _initializers),
    Dimension("ONNX node name, bytes", 1 << 23, lambda size: model(
        graph(onnx_tensor(), nodes=[node(name="n" * size)]))),
    Dimension("ONNX subgraphs, levels", 4, nested),
    Dimension("safetensors tensors", 5_000, _entries),
)  # fmt: skip
