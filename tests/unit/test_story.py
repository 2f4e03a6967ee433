"""The story of one tensor."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.api import compare
from sizeforensics.errors import InputError
from sizeforensics.report.story import story
from sizeforensics.report.styled import View
from tests.builders import artifact


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
