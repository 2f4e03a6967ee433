"""Names that are no names are warned of, once for each kind, and no others are."""

from __future__ import annotations

import pytest

from sizeforensics.escape import LONGEST
from sizeforensics.formats import read_source
from sizeforensics.source import MemorySource
from tests.hostile.craft import PAYLOAD, entry, graph, model, node, onnx_tensor, safetensors


def warnings(data: bytes) -> tuple[str, ...]:
    return read_source(MemorySource("model", data)).warnings


def named(*names: str) -> bytes:
    header = {name: entry(ends=(16 * at, 16 * at + 16)) for at, name in enumerate(names)}
    return safetensors(header, PAYLOAD * len(names))


@pytest.mark.parametrize("name", ["", "layer.0.weight", "Gewicht größer", "重み", "a b", "<b>|`", "n" * LONGEST])
def test_a_name_is_no_oddity(name):
    assert warnings(named(name)) == ()


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202egpj", "a\u200bb", "a\xa0b", "\x7f", "\u2028"])
def test_names_that_steer_are_one_line(name):
    (line,) = warnings(named(name, f"{name}2", "w"))
    assert line.startswith("2 tensors have a name with control or invisible characters")
    assert line.isprintable()


def test_the_longest_name_and_one_more():
    (line,) = warnings(named("n" * (LONGEST + 1), "w"))
    assert line.startswith("1 tensor has a name of more than 4,096 characters")
    assert len(line) < 200


def test_nodes_have_names_too():
    (line,) = warnings(model(graph(onnx_tensor(), nodes=[node(name="a\x1bb"), node(name="w")])))
    assert line.startswith("1 node has a name with control or invisible characters")
