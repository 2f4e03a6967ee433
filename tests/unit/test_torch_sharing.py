"""Containers that hold themselves, nest too deep or would never end written out; and honest ones."""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections import OrderedDict
from random import Random
from types import SimpleNamespace

import pytest

from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.torch_parts.torch_objects import read_objects
from sizeforensics.source import MemorySource

CYCLE, NESTED, WRITTEN = "hold themselves", "nests values", "written out"


def told(data: bytes) -> list[str]:
    found = pickle_stream.load(MemorySource("model", data), 0, len(data))
    return [line for line in read_objects(found).warnings if any(word in line for word in (CYCLE, NESTED, WRITTEN))]


def of(value: object, protocol: int = 2) -> list[str]:
    stored = io.BytesIO()
    # The pickler in Python, for one that writes what nests deeply; it is as honest.
    pickler = pickle._Pickler(stored, protocol)  # type: ignore[attr-defined]
    pickler.dump(value)
    return told(stored.getvalue())


def cycle(kind: str) -> object:
    """A value in which a container can be reached from itself."""
    first: list[object] = []
    match kind:
        case "list":
            first.append(first)
        case "dict in list":
            first.append({"a": 1, "b": first})
        case "tuple":
            first.append((1, (2, first)))
        case "behind an object that leads there as well":
            other: list[object] = [first]
            first += [SimpleNamespace(x=other), other]
    return {"x": first, "y": 1}


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("kind", ["list", "dict in list", "tuple", "behind an object that leads there as well"])
def test_what_holds_itself_is_told_once(kind, protocol):
    (line,) = of(cycle(kind), protocol)
    assert CYCLE in line


@pytest.mark.parametrize("protocol", range(5))
def test_objects_may_refer_back(protocol):
    parent, child = SimpleNamespace(), SimpleNamespace()
    parent.children, parent.own, child.parent, child.up = [child], {"self": parent}, parent, (parent,)
    assert of({"model": parent, "again": [parent, child]}, protocol) == []


def test_what_is_shared_a_little_is_honest():
    shared = {"lr": 0.1, "betas": (0.9, 0.999), "list": [1, 2, 3]}
    assert of({"state": dict.fromkeys(range(1_000), shared), "o": OrderedDict(a=shared), "groups": [shared] * 1_000}) == []


def doubled(levels: int) -> bytes:
    """A list of two of a list of two…; the innermost has two numbers."""
    value = b"](K\1K\1e"
    for level in range(levels):
        value += b"r" + struct.pack("<I", level) + b"0](" + (b"j" + struct.pack("<I", level)) * 2 + b"e"
    return b"\x80\2}X\1\0\0\0k" + value + b"s."


def test_a_billion_values_are_the_limit():
    # The shared list below the outermost of n levels has 2 ** (n + 1) - 1 values and lists.
    assert told(doubled(28)) == []
    (line,) = told(doubled(30))
    assert WRITTEN in line


@pytest.mark.parametrize(("depth", "lines"), [(998, 0), (1_001, 1)])
def test_as_deep_as_recursion_goes(depth, lines):
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20 * depth)
    try:
        found = of(value)
    finally:
        sys.setrecursionlimit(before)
    assert len(found) == lines
    assert all(NESTED in line for line in found)


@pytest.mark.parametrize("seed", range(300))
def test_cycles_are_found_where_they_are(seed):
    """Against a search by closure, on random graphs of lists and objects."""
    random = Random(seed)
    count = 7
    edges = {(random.randrange(count), random.randrange(count)) for _ in range(random.randrange(4, 12))}
    things: list[object] = [[] if random.random() < 0.8 else SimpleNamespace(x=[]) for _ in range(count)]
    lists = [thing if isinstance(thing, list) else thing.x for thing in things]  # type: ignore[attr-defined]
    for start, end in sorted(edges):
        lists[start].append(things[end])
    plain = [isinstance(thing, list) for thing in things]
    reach = {(a, b) for a, b in edges if plain[a] and plain[b]}
    for middle in range(count):
        reach |= {(a, b) for a in range(count) for b in range(count) if {(a, middle), (middle, b)} <= reach}
    seen = set()
    below = [0]
    while below:
        at = below.pop()
        if at not in seen:
            seen.add(at)
            below += [b for a, b in edges if a == at]
    cyclic = any((at, at) in reach for at in seen)
    assert [CYCLE in line for line in of([things[0]])] == [True] * cyclic
