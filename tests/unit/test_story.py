"""The story of one tensor."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.api import compare
from sizeforensics.errors import InputError
from sizeforensics.report.story import story
from sizeforensics.report.styled import View
from tests.builders import artifact, graph


@pytest.fixture
def report():
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float16)
    before = artifact({"model.fc.weight": weight}, path="a.pt")
    after = artifact({"fc.weight": weight.T.astype(np.float32)}, path="b.onnx")
    return compare(before, after).report


@pytest.mark.parametrize("name", ["model.fc.weight", "fc.weight"])
def test_either_name_tells_the_same_story(report, name):
    text = story(report, name, View())
    assert text.startswith("fc.weight: +64 B.\n")
    assert "model.fc.weight  float16 8x4, 64 B at 0x10 of a.pt" in text
    assert "fc.weight  float32 4x8, 128 B at 0x10 of b.onnx" in text
    assert "axes permuted (1, 0), cast float16 -> float32" in text
    assert "proved: both payloads were read in full" in text
    assert "equal bit for bit" in text


def test_a_name_that_is_not_there_suggests_the_closest(report):
    with pytest.raises(InputError, match=r"did you mean 'fc.weight'"):
        story(report, "fc.wieght", View())


def test_a_hostile_name_stays_on_its_line():
    name = "a\n\x1b[31mb\u202e"
    text = story(compare(artifact({name: np.arange(9.0)}), artifact({})).report, name, View())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a\\n\\x1b[31mb\\u202e" in text


def test_every_part_of_a_tensor_that_was_cut_has_its_line():
    parts = {name: np.random.default_rng(at).standard_normal((6, 5)) for at, name in enumerate("qkv")}
    whole = artifact({"qkv": np.concatenate(list(parts.values()))}, path="b")
    text = story(compare(artifact(parts, path="a"), whole).report, "qkv", View())
    for first in (0, 6, 12):
        assert f"rows {first} to {first + 5}" in text


def test_a_constant_was_computed_and_not_compared_with_another_payload():
    grid = np.add.outer(np.arange(9.0), np.arange(8.0))
    nodes = graph(("Add", ["x", "grid"], ["y"]))
    report = compare(artifact({}), artifact({"grid": grid}, nodes=nodes)).report
    text = story(report, "grid", View())
    assert "a coordinate grid: 24 bytes regenerate it" in text
    assert "proved: every element was computed anew from that many bytes of numbers" in text
