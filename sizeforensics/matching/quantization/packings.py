"""Integers that hold several codes each, in the layouts of libraries that store no graph.

- words of 32 bits along the first axis, the first code in the low bits: ``qweight`` of GPTQ, whose
  ``qzeros`` are packed along the second and less by one (``QuantLinear.pack`` in AutoGPTQ's
  ``nn_modules/qlinear/qlinear_cuda.py``);
- along the second axis: ``weight_packed`` of compressed-tensors (``pack_to_int32`` in its
  ``compressors/quantized_compressors/pack_quantized.py``);
- along the second axis with columns 0, 2, 4, 6, 1, 3, 5, 7 from the low bits up: AWQ
  (``WQLinear_GEMM.from_linear`` in AutoAWQ's ``modules/linear/gemm.py``);
- bytes along the second axis, the first code in the low or in the high bits.

Which of them a tensor is, the values decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sizeforensics.matching.arrays import Array

AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word of AWQ the codes of eight columns are, counted from the low bits."""

BITS = (4, 2, 8)

PER_WORD = (2, 4, 8, 16)
"""How many codes an integer may hold."""


class Packing(NamedTuple):
    """How words hold codes: bits of each, the axis they follow each other along, and their places."""

    words: str
    bits: int
    axis: int
    places: tuple[int, ...]

    def shape(self, packed: tuple[int, ...]) -> tuple[int, ...]:
        """Of the codes in a matrix of words."""
        rows, columns = packed
        each = len(self.places)
        return (rows * each, columns) if self.axis == 0 else (rows, columns * each)

    @property
    def type_name(self) -> str:
        return f"uint{self.bits}"

    def codes(self, packed: Array) -> Array:
        """The codes in a matrix of words."""
        words = packed.view(f"u{packed.dtype.itemsize}")
        shifts = np.array(self.places, dtype=words.dtype) * words.dtype.type(self.bits)
        parts = (words[:, :, None] >> shifts) & words.dtype.type((1 << self.bits) - 1)
        if self.axis == 0:
            parts = parts.swapaxes(1, 2)
        codes: Array = parts.reshape(self.shape(packed.shape)).astype(np.uint8)
        return codes


def packings(type_name: str) -> Iterator[Packing]:
    """The ways in which matrices of a type may hold codes."""
    size = {"int32": 32, "uint32": 32, "uint8": 8, "int8": 8}.get(type_name, 0)
    for bits in BITS:
        each = size // bits
        if each > 1:
            for axis in (0, 1) if size == 32 else (1,):
                yield Packing(f"{each} along axis {axis} in each {type_name}", bits, axis, tuple(range(each)))
            if each == len(AWQ_PLACES) and bits == 4:
                yield Packing(f"{each} in the order of AWQ in each {type_name}", bits, 1, AWQ_PLACES)
            if size == 8:
                last = tuple(reversed(range(each)))
                yield Packing(f"{each} from the high bits down in each {type_name}", bits, 1, last)
