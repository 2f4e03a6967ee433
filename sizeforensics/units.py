"""Byte counts, shares and numbers of things as text: parse and print, with an exact round trip."""

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
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", re.ASCII)
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


def parse_share(text: str) -> Fraction:
    """``"0.5%"`` is 1/200. Raises InputError for anything but a number and a percent sign."""
    match = _SHARE.fullmatch(text)
    if match is None:
        raise InputError(f"expected a share such as '2 %', got {text!r}")
    return Fraction(match.group(1)) / 100


def format_share(share: Fraction) -> str:
    """Exact, with as many decimals as it takes: ``0.5 %``. ``parse_share`` reads it back.

    Raises InputError for a share that no decimal number says, such as a third.
    """
    percent = share * 100
    # 2^a 5^b divides a power of ten no higher than its own number of bits.
    for places in range(percent.denominator.bit_length() + 1):
        shifted = percent * 10**places
        if shifted.denominator == 1:
            digits = str(shifted.numerator).rjust(places + 1, "0")
            whole, decimals = digits[: len(digits) - places], digits[len(digits) - places :]
            return f"{whole}.{decimals} %" if decimals else f"{whole} %"
    raise InputError(f"expected a share with a finite number of decimals, got {share}")


def counted(count: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``, ``2 further copies of tensors``."""
    return f"1 {noun}" if count == 1 else f"{count:,} {plural(noun)}"


def plural(noun: str) -> str:
    """``tensors``, ``further copies of tensors``."""
    parts = re.match(r"(.+?)(y?)( (?:of|without) .*)?$", noun)
    if parts is None:
        return noun
    head, y, rest = parts.groups()
    return f"{head}{'ies' if y else 's'}{rest or ''}"
