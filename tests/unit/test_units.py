"""Byte counts as text: exact in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.errors import InputError
from sizeforensics.units import format_bytes, parse_bytes, signed_bytes


@given(st.integers(0, 10**30))
def test_what_is_printed_reads_back(count):
    assert parse_bytes(format_bytes(count)) == count


@given(st.integers(-(10**30), 10**30))
def test_signed_reads_back_with_its_sign(count):
    text = signed_bytes(count)
    sign = {"+": 1, "-": -1}.get(text[0], 0)
    assert (sign == 0) == (count == 0)
    assert sign * parse_bytes(text.lstrip("+-")) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("15 MB", 15_000_000),
        ("15 MiB", 15_728_640),
        ("15mib", 15_728_640),
        (" 2 kB ", 2_000),
        ("2 KiB", 2_048),
        ("1.5 kB", 1_500),
        ("0.001 kB", 1),
        ("14,664,565 B", 14_664_565),
        ("14_664_565", 14_664_565),
        ("3 GB", 3 * 10**9),
        ("3 TiB", 3 << 40),
        ("1 PB", 10**15),
        # A float would be off by one here.
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_parse(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text",
    ["", " ", "MB", "-1", "+1 B", "1.0005 kB", "0.5", "1e6", "ten", "1 XB", "1 2", "0x10", "1.", ".5",
     "١٢", "1 MB\x00", "nan", "inf"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InputError):
        parse_bytes(text)


def test_a_refused_text_is_shown_on_one_line():
    with pytest.raises(InputError) as caught:
        parse_bytes("1\x1b[2J\n\udc80MB")
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("count", "text"), [(14_451_770, "+14,451,770 B"), (-67_648, "-67,648 B"), (0, "0 B")]
)
def test_signed(count, text):
    assert signed_bytes(count) == text
