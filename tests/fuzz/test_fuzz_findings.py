"""What the fuzzers found, as small as it gets: each input once broke the harness it is named with."""

from __future__ import annotations

import pytest

from fuzz.framings import pair
from fuzz.harnesses import check
from tests.hostile.craft import external, field, graph, model, node, onnx_tensor

UNREAD = [("location", "nowhere"), ("offset", "0"), ("length", "16")]
SCALED = field(1, "x") + field(1, "s") + field(1, "z") + field(2, "y") + field(4, "QuantizeLinear")


def twice(*tensors: bytes, reader: bytes) -> bytes:
    """A model against itself."""
    data = model(graph(*tensors, nodes=[reader]))
    return pair(data, data)


LEGACY_MAGIC = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
FINDINGS = {
    "a no-break space in what a refusal quotes": ("pytorch-legacy", LEGACY_MAGIC + b"\x80\2X\2\0\0\0\xc2\xa0."),
    "a tag whose varint never ends, at the beginning of a file": ("pytorch", b"\xba" + b"\x80" * 12),
    "a zero point that is there, and a scale of its shape that is not": (
        "diff", twice(external(UNREAD, name="s"), onnx_tensor(name="z"), reader=SCALED)),
    "a tensor that nothing reads, and one of its shape that is not there": (
        "diff", twice(external(UNREAD, name="w"), onnx_tensor(name="v"), reader=node())),
}


@pytest.mark.parametrize("what", FINDINGS)
def test_a_finding_stays_mended(what):
    check(*FINDINGS[what])
