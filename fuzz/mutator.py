"""A mutation that keeps a file valid as far as the framing of its parts goes, however deep they lie."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.framings import Parts, take_apart

Bytes = Callable[[bytes, int], bytes]
"""libFuzzer's own mutation: bytes, and how many they may become."""

_DEEPEST = 8


def mutate(data: bytes, most: int, seed: int, mutate_bytes: Bytes) -> bytes:
    """``data`` with one or a few changes, at most ``most`` bytes."""
    random = Random(seed)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        data = _changed(data, most, random, mutate_bytes, _DEEPEST)
    return data[:most]


def _changed(data: bytes, most: int, random: Random, mutate_bytes: Bytes, depth: int) -> bytes:
    apart = take_apart(data) if depth and random.random() < 0.9 else None
    if apart is None:
        return mutate_bytes(data, most)
    framing, parts = apart
    at = random.randrange(len(parts))
    label, content = parts[at]
    match random.choice(["content"] * 8 + ["label", "drop", "again", "swap", "copy"]):
        case "content":
            room = max(1, most - len(data) + len(content))
            parts[at] = label, _changed(content, room, random, mutate_bytes, depth - 1)
        case "label" if label:
            parts[at] = mutate_bytes(label, len(label) + 8), content
        case "drop":
            del parts[at]
        case "again":
            parts.insert(random.randrange(len(parts) + 1), parts[at])
        case "copy":
            parts[at] = label, random.choice(parts)[1]
        case _:
            _swap(parts, at, random.randrange(len(parts)))
    return framing.join(parts)


def _swap(parts: Parts, one: int, other: int) -> None:
    parts[one], parts[other] = parts[other], parts[one]
