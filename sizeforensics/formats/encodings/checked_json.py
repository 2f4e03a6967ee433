"""Values of a JSON document that have to be what its schema says, with a line for each that is not."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from typing import Any

from sizeforensics.errors import Corrupt

MOST = 1 << 53
"""The largest integer that every JSON reader reads exactly."""


class Checked:
    """One object or array of a document, read key by key; raises Corrupt for what is not expected.

    ``where`` is the path to it in the document, for messages.
    """

    def __init__(self, path: str, values: Any, where: str = "") -> None:
        self._path = path
        self._where = where
        self._values = values

    def _get(self, key: str | int, default: Any) -> Any:
        if isinstance(key, int):
            found = self._values[key] if key < len(self._values) else default
        else:
            found = self._values.get(key, default)
        if found is None:
            raise self.wrong(key, "a value", "none")
        return found

    def wrong(self, key: str | int, expected: str, got: object) -> Corrupt:
        where = f"{self._where}[{key}]" if isinstance(key, int) else f"{self._where}.{key}"
        text = got if isinstance(got, str) else repr(got)[:100]
        return Corrupt(self._path, 0, f"{expected} as {where.lstrip('.')}", text)

    def text(self, key: str | int, default: str | None = None) -> str:
        found = self._get(key, default)
        if type(found) is not str:
            raise self.wrong(key, "text", found)
        return str(found)

    def integer(self, key: str | int, default: int | None = None, least: int = 0) -> int:
        found = self._get(key, default)
        if type(found) is not int or not least <= found <= MOST:
            raise self.wrong(key, f"an integer from {least:,} to 2**53", found)
        return int(found)

    def flag(self, key: str) -> bool:
        found = self._get(key, default=False)
        if type(found) is not bool:
            raise self.wrong(key, "true or false", found)
        return bool(found)

    def one_of(self, key: str | int, known: Sequence[str], default: str | None = None) -> str:
        found = self.text(key, default)
        if found not in known:
            raise self.wrong(key, f"one of {', '.join(known[:4])}, ...", repr(found))
        return found

    def items(self, key: str | int, most: int = 1 << 30) -> list[Any]:
        found = self._get(key, [])
        if type(found) is not list or len(found) > most:
            raise self.wrong(key, "a list" if most == 1 << 30 else f"at most {most:,} items", found)
        return list(found)

    def integers(self, key: str, most: int) -> tuple[int, ...]:
        found = self.items(key, most)
        if not all(type(item) is int and 0 <= item <= MOST for item in found):
            raise self.wrong(key, "integers from 0 to 2**53", found)
        return tuple(found)

    def base64(self, key: str | int, length: int) -> bytes:
        """Base64 of exactly ``length`` bytes, without padding."""
        found = self.text(key)
        try:
            data = b64decode(found + "=" * (-len(found) % 4), validate=True)
        except ValueError:
            raise self.wrong(key, f"{length:,} bytes in base64", repr(found[:100])) from None
        if len(data) != length or b64encode(data).decode().rstrip("=") != found:
            raise self.wrong(key, f"{length:,} bytes in base64", repr(found[:100]))
        return data

    def object(self, key: str) -> Checked:
        """The object under a key; an empty one where it is missing."""
        return self._child(key, self._get(key, {}), dict)

    def array(self, key: str) -> Checked:
        """The array under a key, read by position; an empty one where it is missing."""
        return self._child(key, self.items(key), list)

    def objects(self, key: str) -> Iterator[Checked]:
        """The objects that the list under a key holds."""
        for number, item in enumerate(self.items(key)):
            yield self._child(f"{key}[{number}]", item, dict)

    def arrays(self, key: str | int) -> Iterator[Checked]:
        """The arrays that the list under a key holds."""
        for number, item in enumerate(self.items(key)):
            yield self._child(f"{key}[{number}]", item, list)

    def _child(self, key: str, value: Any, kind: type) -> Checked:
        if type(value) is not kind:
            raise self.wrong(key, "an object" if kind is dict else "a list", value)
        return Checked(self._path, value, f"{self._where}.{key}")

    def number(self, key: str) -> float | None:
        """A number; None where it is missing."""
        found = self._values.get(key)
        if found is not None and type(found) not in (int, float):
            raise self.wrong(key, "a number", found)
        return None if found is None else float(found)

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.items(key)
        if not all(type(item) is str for item in found):
            raise self.wrong(key, "texts", "something else among them")
        return tuple(found)

    def names(self) -> list[str]:
        return list(self._values)

    def is_list(self, key: str) -> bool:
        return type(self._values.get(key)) is list

    def has(self, key: str) -> bool:
        return key in self._values
