"""What arithmetic, numpy or memory does not take: elements, shapes and texts of every size."""

from __future__ import annotations

import math
import struct
from random import Random

import pytest

from tests.hostile.craft import PAYLOAD, entry, safetensors
from tests.hostile.test_cases import Guard, inert

SIDE = 16
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Guard(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


def file(prefix: str, dtype: str, contents: list[bytes], shape: tuple[int, ...] = (SIDE, SIDE)) -> bytes:
    size = len(contents[0])
    header = {
        f"{prefix}{at}": entry(dtype, shape, (size * at, size * at + size)) for at in range(len(contents))
    }
    return safetensors(header, b"".join(contents))


def of_any_exponent(random: Random) -> bytes:
    values = (random.random() * 10.0 ** random.randint(-323, 308) for _ in range(SIDE * SIDE))
    return struct.pack(f"<{SIDE * SIDE}d", *values)


def of_any_bits(random: Random, dtype: str) -> bytes:
    return random.randbytes(SIDE * SIDE * SIZES[dtype])


def without_a_number(random: Random) -> bytes:
    values = [random.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]) for _ in range(SIDE * SIDE)]
    return struct.pack(f"<{SIDE * SIDE}f", *values)


def test_elements_of_every_size_are_compared_in_silence(server, tmp_path):
    random = Random(6)
    kinds = {
        "any exponent": file("w", "F64", [of_any_exponent(random) for _ in range(4)]),
        "no number": file("w", "F32", [without_a_number(random) for _ in range(4)]),
    } | {dtype: file("w", dtype, [of_any_bits(random, dtype) for _ in range(4)]) for dtype in SIZES}
    for number, data in enumerate(kinds.values()):
        (tmp_path / f"model{number}").write_bytes(data)
    for first in range(len(kinds)):
        for second in range(len(kinds)):
            told = server.run(tmp_path, ["diff", f"model{first}", f"model{second}", "--format", "json"])
            assert (told.code, told.stderr) == (0, ""), (first, second)
            inert(told.stdout)


@pytest.mark.parametrize("verb", [["inspect"], ["map"], ["snapshot"], ["diff", "other"], ["diff", "model"]])
@pytest.mark.parametrize("shape", [(0, 1 << 62), (1 << 62, 0), (1 << 40, 0, 1 << 40)])
def test_nothing_of_a_shape_that_numpy_does_not_take(shape, verb, server, tmp_path):
    fine = {"b": entry("F32", (4,), (0, 16))}
    (tmp_path / "model").write_bytes(safetensors(fine | {"a": entry("F32", shape, (0, 0))}, PAYLOAD))
    (tmp_path / "other").write_bytes(safetensors(fine | {"c": entry("F32", shape[::-1], (0, 0))}, PAYLOAD))
    told = server.run(tmp_path, [*verb, "model"])
    assert (told.code, told.stderr) == (0, "")


def test_more_than_memory_holds_is_refused_in_one_line(server, tmp_path):
    # One character that takes four bytes in memory makes all of them take as many.
    name = "n" * 95_000_000 + "\U0001f600"
    (tmp_path / "model").write_bytes(safetensors(b'{"%s": {}}' % name.encode()))
    told = server.run(tmp_path, ["inspect", "model", "--limits", "json_bytes=1GB"])
    assert (told.code, told.stdout) == (2, "")
    assert told.stderr == "error: model: expected a model whose structure memory holds, got more than there is\n"
