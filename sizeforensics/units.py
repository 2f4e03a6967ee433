"""Byte counts as text: parse and print, with an exact round trip."""

from __future__ import annotations

import re
from fractions import Fraction

from sizeforensics.errors import InputError

_FACTORS = {"B": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for binary in ("", "i")
    for power, prefix in enumerate("kMGTP", start=1)
}
_SPELLINGS = {unit.lower(): factor for unit, factor in _FACTORS.items()} | {"": 1}
_QUANTITY = re.compile(r"\s*([0-9][0-9,_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str) -> int:
    """``"15 MB"`` is 15,000,000 and ``"15 MiB"`` 15,728,640 bytes; a bare number is bytes.

    Raises InputError for anything else, fractions of a byte and negative numbers included.
    """
    match = _QUANTITY.fullmatch(text)
    factor = _SPELLINGS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise InputError(f"expected a size such as '15 MB', '2 MiB' or '512', got {text!r}")
    amount = Fraction(match.group(1).replace(",", "").replace("_", "")) * factor
    if amount.denominator != 1:
        raise InputError(f"expected a whole number of bytes, got {text!r}")
    return int(amount)


def format_bytes(count: int) -> str:
    """Exact, with thousands separators: ``14,664,565 B``. ``parse_bytes`` reads it back."""
    return f"{count:,} B"


def signed_bytes(count: int) -> str:
    """``+14,451,770 B``, ``-67,648 B`` or ``0 B``."""
    return f"{count:+,} B" if count else "0 B"
