"""How much is too much: at most so many bytes, or such a share of a whole; to warn, to fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sizeforensics.errors import InputError
from sizeforensics.spelling import did_you_mean
from sizeforensics.units import format_bytes, format_share, parse_bytes, parse_share

Bound = int | Fraction
"""Bytes as an integer; a share, which may be more than one, as a Fraction."""

SEVERITIES = ("warn", "fail")


def parse_bound(value: object) -> Bound:
    """``15_000_000``, ``"15 MB"`` or ``"2 %"``. Raises InputError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        return parse_share(value) if value.rstrip().endswith("%") else parse_bytes(value)
    raise InputError(f"expected a size such as '15 MB' or a share such as '2 %', got {value!r}")


def format_bound(bound: Bound) -> str:
    """Text that ``parse_bound`` reads back to the same bound."""
    return format_bytes(bound) if isinstance(bound, int) else format_share(bound)


def most(bound: Bound, whole: int) -> int:
    """The most bytes that a bound allows, where a share is one of ``whole`` bytes."""
    return bound if isinstance(bound, int) else int(bound * whole)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The bounds of one limit, None where there is none: crossing ``warn`` is said, crossing ``fail``
    is a failure. An integer is bytes, a Fraction a share."""

    warn: Bound | None = None
    fail: Bound | None = None


def by_severity(value: object) -> dict[str, object]:
    """``{"warn": …, "fail": …}`` as it is, with either or both; a plain value is one to fail at."""
    if not isinstance(value, Mapping):
        return {"fail": value}
    for key in value:
        if key not in SEVERITIES:
            raise InputError(f"expected 'warn' and 'fail', got {key!r}{did_you_mean(str(key), SEVERITIES)}")
    if not value:
        raise InputError("expected a limit, got an empty table")
    return dict(value)
