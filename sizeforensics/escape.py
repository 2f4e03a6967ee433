"""Untrusted text made safe to print: control, bidirectional and zero-width characters escaped."""

from __future__ import annotations

import unicodedata

# Cc controls, Cf format characters (bidi overrides, zero-width), Cs lone surrogates, Co private
# use, Cn unassigned, Zl and Zp line and paragraph separators, Zs spaces that look like the plain one.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def visible(text: str) -> str:
    """``text`` with every character that could move a cursor or hide itself written as an escape.

    A backslash stays as it is: the result is for reading, not for parsing back.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character == " " or unicodedata.category(character) not in _UNSAFE_CATEGORIES
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


LONGEST = 4_096
"""Characters of a name; a path of a file has no more, and no exporter's name comes near."""


def cut(text: str, limit: int = LONGEST) -> str:
    """``text`` with its middle left out when it has more than ``limit`` characters.

    A file may give one name of a megabyte to every span that it has.
    """
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def one_line(text: str, limit: int = 300) -> str:
    """``visible`` text cut in the middle to ``limit`` characters, for messages."""
    # Escaping all of a hostile name would cost as much as it is long.
    return cut(visible(cut(text, 2 * limit + 1)), limit)
