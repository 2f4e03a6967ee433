"""Untrusted text is made safe to print and loses nothing a reader could see."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.escape import one_line, visible

ANY = st.text(st.characters(), max_size=40)
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def unsafe(char):
    return char != " " and unicodedata.category(char) in UNSAFE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ASCII_1.weight", "plain ASCII_1.weight"),
        ("模型.权重 é", "模型.权重 é"),
        ("a\\b", "a\\b"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egnp", "\\u202egnp"),
        ("a\u200bb", "a\\u200bb"),
        ("\udc80", "\\udc80"),
        ("\x7f\x85", "\\x7f\\x85"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\U000e0041"),
        ("\ue000", "\\ue000"),
        ("a\u00a0b\u3000c", "a\\xa0b\\u3000c"),
        ("", ""),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown


@given(ANY)
def test_nothing_that_acts_is_left_and_nothing_that_shows_is_lost(text):
    shown = visible(text)
    assert not [char for char in shown if unsafe(char)]
    assert visible(shown) == shown
    kept = [char for char in text if not unsafe(char)]
    assert [char for char in shown if not char.isascii()] == [
        char for char in kept if not char.isascii()
    ]


@given(st.text(st.characters(), max_size=200), st.integers(5, 60))
def test_one_line_never_exceeds_its_limit(text, limit):
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.splitlines() in ([], [line])
    if len(visible(text)) <= limit:
        assert line == visible(text)


def test_one_line_keeps_both_ends():
    line = one_line("model." + "x" * 500 + ".weight", 40)
    assert line.startswith("model.")
    assert line.endswith(".weight")
    assert "…" in line
