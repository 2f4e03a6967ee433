"""Small files of very many things: every verb ends within the means of a guarded process."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from sizeforensics.excerpts import SCHEMA
from tests.hostile import guard
from tests.hostile.craft import (
    PAYLOAD,
    checkpoint,
    entry,
    field,
    graph,
    model,
    onnx_tensor,
    safetensors,
    state,
    tensor,
)
from tests.hostile.test_cases import Guard, inert


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Guard(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


def snapshot(value: bytes) -> bytes:
    """A compressed snapshot of a few kilobytes with ``value`` in it."""
    return gzip.compress(b'{"schema": "%s", "x": %s}' % (SCHEMA.encode(), value), 6)


def many(count: int, shape: tuple[int, ...] = (4,)) -> bytes:
    """So many tensors of equal elements; of none, where the shape says so."""
    size = 0 if 0 in shape else len(PAYLOAD)
    header = {f"t{at}": entry(shape=shape, ends=(size * at, size * at + size)) for at in range(count)}
    return safetensors(json.dumps(header, separators=(",", ":")).encode(), PAYLOAD[:size] * count)


TOO_MANY: dict[str, tuple[Callable[[], bytes], str]] = {
    "objects of nothing in a snapshot": (lambda: snapshot(b"[" + b"{}," * 2_400_000 + b"{}]"), "json values"),
    "objects of one key in a snapshot": (lambda: snapshot(b"[" + b'{"a":1},' * 2_400_000 + b"{}]"), "json values"),
    "keys in a snapshot": (lambda: snapshot(
        b"{" + b",".join(b'"%d":1' % at for at in range(2_400_000)) + b"}"), "json values"),
    "long numbers in a snapshot": (lambda: snapshot(b"[" + b"123456789012," * 4_900_000 + b"1]"), "json values"),
    "a long name with one wide character": (lambda: safetensors(
        b'{"%s": {}}' % ("n" * 45_000_000 + "\U0001f600").encode()), "once decoded"),
    "tensors, safetensors": (lambda: many(200_000), "150,000 tensors"),
    "tensors of nothing, safetensors": (lambda: many(200_000, (0,)), "150,000 tensors"),
    "tensors, checkpoint": (lambda: checkpoint(state(*((f"t{at}", tensor()) for at in range(200_000)))), "pickle objects"),
    "tensors, ONNX": (lambda: model(graph(*(onnx_tensor(name=f"t{at}") for at in range(200_000)))), "150,000 tensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOO_MANY)
def test_too_many_are_refused_by_a_limit_that_says_so(kind, server, tmp_path):
    build, says = TOO_MANY[kind]
    (tmp_path / "model").write_bytes(build())
    for verb in (["inspect"], ["map"], ["snapshot"]):
        told = server.run(tmp_path, [*verb, "model"])
        assert (told.code, told.stdout) == (2, "")
        (line,) = told.stderr.splitlines()
        assert says in line
        assert " allows more)" in line
        assert told.peak < guard.MEMORY


AS_MANY: dict[str, Callable[[], bytes]] = {
    "safetensors": lambda: many(150_000),
    "checkpoint": lambda: checkpoint(state(*((f"t{at}", tensor()) for at in range(150_000)))),
    "ONNX": lambda: model(graph(*(onnx_tensor(name=f"t{at}") for at in range(150_000)))),
}


@pytest.mark.parametrize("kind", AS_MANY)
def test_as_many_tensors_as_allowed_are_read(kind, server, tmp_path):
    (tmp_path / "model").write_bytes(AS_MANY[kind]())
    told = server.run(tmp_path, ["inspect", "model"])
    assert told.code == 0, told.stderr


def aliases(count: int) -> bytes:
    """One tensor under so many names."""
    shared = tensor() + b"q\x05"
    return checkpoint(state(("w", shared), *((f"t{at}", b"h\x05") for at in range(count))))


def test_a_snapshot_of_one_tensor_under_many_names_takes_linear_time(server, tmp_path):
    """Whatever is asked of the whole file is asked once, not once for each tensor."""
    (tmp_path / "model").write_bytes(aliases(80_000))
    told = server.run(tmp_path, ["snapshot", "model"])
    assert (told.code, told.stderr) == (0, "")
    assert told.peak < guard.MEMORY


@pytest.mark.parametrize("output", [["--format", "table"], ["--format", "json"], ["-o", "map.csv"]])
def test_a_long_name_of_many_spans_is_not_written_in_full(output, server, tmp_path):
    pieces = (field(4, PAYLOAD[:4]) + field(99, 1)) * 2_000
    long = onnx_tensor((2_000,), raw=None, name="n" * 1_000_000, more=pieces)
    (tmp_path / "model").write_bytes(model(graph(long)))
    told = server.run(tmp_path, ["map", "model", *output])
    assert told.code == 0, told.stderr
    assert told.peak < guard.MEMORY
    written = told.stdout or (tmp_path / "map.csv").read_text(encoding="utf-8")
    assert written.count("n…n") >= 2_000
    assert len(written) < 5_000 * 4_000


# -- two files that have nothing to do with each other ----------------------------------------------


def random_numbers(count: int, random: Random, at: int) -> list[float]:
    return [random.gauss(0, 1) for _ in range(count)]


def few_values(count: int, random: Random, at: int) -> list[float]:
    return [float(random.randrange(3)) for _ in range(count)]


def near_equal(count: int, random: Random, at: int) -> list[float]:
    numbers = [float(number) for number in range(count)]
    numbers[at % count] += random.random()
    return numbers


def shuffled(count: int, random: Random, at: int) -> list[float]:
    return random.sample([float(number) for number in range(count)], count)


NUMBERS = (random_numbers, few_values, near_equal, shuffled)


def unrelated(shape: tuple[int, ...], tensors: int, numbers: Callable, seed: int) -> bytes:
    elements = 1
    for size in shape:
        elements *= size
    random = Random(seed)
    edges = pairwise(range(0, 4 * elements * (tensors + 1), 4 * elements))
    header = {f"{'ab'[seed]}{at}": entry(shape=shape, ends=ends) for at, ends in enumerate(edges)}
    payload = (struct.pack(f"<{elements}f", *numbers(elements, random, at)) for at in range(tensors))
    return safetensors(header, b"".join(payload))


def compared(server, tmp_path, first: bytes, second: bytes) -> None:
    (tmp_path / "a").write_bytes(first)
    (tmp_path / "b").write_bytes(second)
    told = server.run(tmp_path, ["diff", "a", "b"])
    assert (told.code, told.stderr) == (0, "")
    inert(told.stdout)
    assert told.peak < guard.MEMORY


@pytest.mark.parametrize("shape", [(16,), (4, 4), (8, 8), (2, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("numbers", NUMBERS)
def test_unrelated_tensors_are_compared_in_bounded_time(numbers, shape, server, tmp_path):
    compared(server, tmp_path, unrelated(shape, 1_500, numbers, 0), unrelated(shape, 1_500, numbers, 1))


def test_one_tensor_of_many_axes_is_no_stack_of_stacks(server, tmp_path):
    """Each axis may be one that tables are stacked along: there are more orders than anyone can try."""
    shape = (2,) * 12
    compared(server, tmp_path, unrelated(shape, 1, random_numbers, 0), unrelated(shape, 1, random_numbers, 1))


@pytest.mark.parametrize("shape", [(64, 64), (4096,)], ids=str)
def test_long_vectors_are_indexed_in_bounded_memory(shape, server, tmp_path):
    """Every element of a vector is a row that others may be put together from."""
    compared(server, tmp_path, unrelated((4096,), 300, random_numbers, 0), unrelated(shape, 300, random_numbers, 1))


# -- a configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (".".join("a" * 20_000) + " = 1\n", "keys of at most 100 parts"),
        ("[" + " . ".join(['"a"'] * 20_000) + "]\n", "keys of at most 100 parts"),
        ("x = " + "[" * 20_000 + "]" * 20_000 + "\n", "TOML"),
        ("# " + "a" * (1 << 20) + "\n", "1,048,576 characters"),
    ],
    ids=["a dotted key", "a dotted table", "nested lists", "megabytes"],
)
def test_a_configuration_is_read_in_bounded_memory(text, says, server, tmp_path):
    (tmp_path / "sizeforensics.toml").write_text(text)
    told = server.run(tmp_path, ["check"])
    assert told.code == 2
    (line,) = told.stderr.splitlines()
    assert says in line
