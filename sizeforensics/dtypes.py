"""Element types: their names, widths in bits, and how stored bytes become numpy elements.

Names are those of numpy and ml_dtypes. Types narrower than a byte are packed, the first element in
the low bits (ONNX ``TensorProto.raw_data``; PyTorch ``torch.int4`` and ``quint4x2`` likewise).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class DType:
    """``bits`` per stored element; ``kind`` is float, int, uint, bool, complex or opaque.

    ``total`` are the bytes of all elements of one tensor where they differ in length: strings.
    """

    name: str
    bits: int
    kind: str
    total: int | None = None

    def nbytes(self, elements: int) -> int:
        """Bytes that ``elements`` packed elements take; the last byte may be padded."""
        if self.total is not None:
            return self.total
        return (elements * self.bits + 7) // 8


def _table() -> dict[str, DType]:
    rows = [("bool", 8, "bool"), ("string", 8, "opaque")]
    rows += [(f"int{bits}", bits, "int") for bits in (64, 32, 16, 8, 4, 2, 1)]
    rows += [(f"uint{bits}", bits, "uint") for bits in (64, 32, 16, 8, 4, 2, 1)]
    rows += [("float64", 64, "float"), ("float32", 32, "float"), ("float16", 16, "float")]
    rows += [("bfloat16", 16, "float")]
    rows += [(f"float8_{kind}", 8, "float") for kind in (
        "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")]  # fmt: skip
    rows += [("float4_e2m1fn", 4, "float")]
    rows += [("complex32", 32, "complex"), ("complex64", 64, "complex")]
    rows += [("complex128", 128, "complex")]
    return {name: DType(name, bits, kind) for name, bits, kind in rows}


DTYPES = _table()


def opaque(name: str, bits: int) -> DType:
    """A type this package can size but not compute with, such as ``bits16`` or a numpy record."""
    return DType(name, bits, "opaque")


@cache
def numpy_dtype(name: str) -> np.dtype[Any] | None:
    """The little-endian numpy type of one unpacked element; None where there is none."""
    dtype = DTYPES.get(name)
    if dtype is None or dtype.kind == "opaque" or name == "complex32" or dtype.bits == 1:
        return None
    if name == "bool":
        # A byte is kept as it is: a stored 2 is not the same content as a stored 1.
        return np.dtype(np.uint8)
    if dtype.bits < 8 or name.startswith(("bfloat", "float8", "float4")):
        import ml_dtypes  # onnx depends on it; 20 ms, so only when such a type occurs

        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return narrow
    return np.dtype(name).newbyteorder("<")


def elements(dtype: DType, data: npt.NDArray[np.uint8], count: int) -> AnyArray | None:
    """``count`` elements of packed ``data`` (uint8) as numpy elements, shape ``(count,)``.

    None when the type has no numpy equivalent.
    """
    target = numpy_dtype(dtype.name)
    if target is None:
        return None
    if dtype.bits >= 8:
        return data[: dtype.nbytes(count)].view(target)
    per_byte = 8 // dtype.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(dtype.bits)
    unpacked = (data[:, None] >> shifts) & np.uint8((1 << dtype.bits) - 1)
    flat = unpacked.reshape(-1)[:count]
    if dtype.kind == "int":
        sign = np.uint8(1 << (dtype.bits - 1))
        return ((flat ^ sign).astype(np.int8) - np.int8(sign)).astype(target)
    if dtype.kind == "uint":
        return flat.astype(target)
    return flat.view(target)
