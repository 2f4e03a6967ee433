"""Read JSON from a stranger: strict, and within bounds on its depth, its numbers and its size.

Python's ``json`` reads what RFC 8259 does not allow (NaN, Infinity), keeps the last of several equal
keys, raises RecursionError on deep nesting and takes quadratic time for long numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from sizeforensics.errors import Corrupt, LimitExceeded
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import Source
from sizeforensics.units import counted

_LONGEST_NUMBER = 40  # characters; 20 hold every 64-bit integer
_CHUNK = 1 << 20
_OPENING, _CLOSING = (91, 123), (93, 125)  # [ { and ] }
_MARKS = (44, 58)  # , and :
_WIDTHS = ((0xF0, 4), (0xC4, 2))
"""First bytes in UTF-8 from which one character makes Python take so many bytes for each of a text."""


def loads(source: Source, start: int, end: int, limits: Limits = DEFAULT_LIMITS) -> Any:
    """The JSON value that fills ``[start, end)``.

    Raises Corrupt for what is no JSON, for NaN, Infinity, a key that occurs twice in an object,
    text that is not Unicode and numbers of more than 40 characters; LimitExceeded beyond the
    ``json_*`` limits.
    """
    origin = source.origin() + start
    if end - start > limits.json_bytes:
        raise LimitExceeded(
            source.path, origin, "json_bytes", limits.json_bytes, counted(end - start, "byte")
        )
    data = source.read(start, end)
    _check_size(source.path, origin, data, limits)
    _check_width(source.path, origin, data, limits)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Corrupt(
            source.path, origin + error.start, "UTF-8", f"byte {data[error.start]:#04x}"
        ) from None
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real,
            parse_constant=_constant,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        at = origin + len(text[: error.pos].encode())
        raise Corrupt(source.path, at, "JSON", f"what is none: {error.msg}") from None
    except (_RefusedError, RecursionError) as error:
        raise Corrupt(source.path, origin, "JSON", str(error)) from None


class _RefusedError(ValueError):
    """JSON that Python would have read; the message says what is wrong with it."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise _RefusedError(f"the key {counts.most_common(1)[0][0][:100]!r} twice in one object")
    for key, value in pairs:
        _check_text(key)
        if type(value) is str:
            _check_text(value)
    return found


def _check_text(text: str) -> None:
    """Refuse half a surrogate pair, which an escape can spell and UTF-8 cannot."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _RefusedError("text with half a surrogate pair") from None


def _integer(digits: str) -> int | float:
    _check_number(digits)
    # What others read as a real number is no count of anything.
    return -0.0 if digits == "-0" else int(digits)


def _real(digits: str) -> float:
    _check_number(digits)
    return float(digits)


def _check_number(digits: str) -> None:
    if len(digits) > _LONGEST_NUMBER:
        raise _RefusedError(f"a number of {len(digits):,} characters")


def _constant(name: str) -> Any:
    raise _RefusedError(f"the number {name}")


def _check_width(path: str, origin: int, data: bytes, limits: Limits) -> None:
    """Bytes of the text once decoded: one character outside Latin-1 makes all of them wider."""
    if data.isascii():
        return
    units = np.frombuffer(data, dtype=np.uint8)
    largest = int(units.max())
    width = next((width for first, width in _WIDTHS if largest >= first), 1)
    characters = len(units) - int(np.count_nonzero((units >= 0x80) & (units < 0xC0)))
    if width * characters > limits.json_bytes:
        raise LimitExceeded(path, origin, "json_bytes", limits.json_bytes,
                            f"{counted(width * characters, 'byte')} once decoded")  # fmt: skip


def _check_size(path: str, origin: int, data: bytes, limits: Limits) -> None:
    """Depth and number of values and keys, by one scan that skips strings."""
    # Without pairs of backslashes and then without escaped quotes, every quote begins or ends text.
    plain = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    depth = values = 0
    inside = False
    for position in range(0, len(plain), _CHUNK):
        chunk = plain[position : position + _CHUNK]
        in_text = np.logical_xor.accumulate(chunk == 34) ^ inside
        inside = bool(in_text[-1])
        chunk = np.where(in_text, np.uint8(32), chunk)
        opened = np.isin(chunk, _OPENING)
        steps = opened.astype(np.int8) - np.isin(chunk, _CLOSING).astype(np.int8)
        depths = depth + np.cumsum(steps, dtype=np.int64)
        if int(depths.max()) > limits.json_nesting:
            raise LimitExceeded(
                path, origin, "json_nesting", limits.json_nesting, "JSON that is nested deeper"
            )
        depth = int(depths[-1])
        values += int(np.count_nonzero(opened | np.isin(chunk, _MARKS)))
        if values > limits.json_values:
            raise LimitExceeded(
                path, origin, "json_values", limits.json_values, "JSON with more values and keys"
            )
