"""Errors are one line that nothing in a file can break out of, and carry what they say."""

from __future__ import annotations

import unicodedata

import pytest

from sizeforensics import errors

HOSTILE = "evil\x1b[2J\r\nroot: \u202egnp.\u200b\udc80\x00\x85\u2028\u2029" + "x" * 5_000
RAISED = [
    errors.SourceError(HOSTILE, HOSTILE, HOSTILE),
    errors.Unrecognized(HOSTILE, 7, HOSTILE, HOSTILE),
    errors.Truncated(HOSTILE, 7, HOSTILE, HOSTILE),
    errors.Corrupt(HOSTILE, 7, HOSTILE, HOSTILE),
    errors.Unsupported(HOSTILE, 7, HOSTILE, HOSTILE),
    errors.Outdated(HOSTILE, 7, HOSTILE, HOSTILE),
    errors.LimitExceeded(HOSTILE, 7, "pickle_memo", 10, HOSTILE),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_hostile_texts_make_one_short_printable_line(error):
    message = str(error)
    assert message.splitlines() == [message]
    bad = [char for char in message if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert bad == []
    assert len(message) < 1_000
    message.encode("utf-8")


def test_format_error_says_path_hex_offset_expected_and_got():
    error = errors.Corrupt("a/model.pt", 0x1F40, "a local header", "50 4b 05 06")
    assert str(error) == "a/model.pt: at 0x1f40: expected a local header, got 50 4b 05 06"
    assert (error.path, error.offset) == ("a/model.pt", 0x1F40)
    assert (error.expected, error.got) == ("a local header", "50 4b 05 06")


def test_source_error_says_path_expected_and_got():
    error = errors.SourceError("x.pt", "a regular file", "a directory")
    assert str(error) == "x.pt: expected a regular file, got a directory"


def test_limit_error_names_the_limit_to_raise():
    error = errors.LimitExceeded("x", 0, "graph_nodes", 5_000_000, "5,000,001 nodes")
    assert "at most 5,000,000 graph nodes (--limits graph_nodes=N allows more)" in str(error)
    assert "5,000,001 nodes" in str(error)
    assert error.limit == "graph_nodes"


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        ("SourceError", "InputError"),
        ("FormatError", "InputError"),
        ("Unrecognized", "FormatError"),
        ("Truncated", "FormatError"),
        ("Corrupt", "FormatError"),
        ("Unsupported", "FormatError"),
        ("Outdated", "Unsupported"),
        ("LimitExceeded", "FormatError"),
        ("InputError", "SizeforensicsError"),
        ("LawBroken", "SizeforensicsError"),
    ],
)
def test_the_tree_is_the_one_in_the_docstring(kind, parents):
    assert issubclass(getattr(errors, kind), getattr(errors, parents))


def test_exit_codes_part_bad_input_from_our_bugs():
    assert errors.InputError.exit_code == 2
    assert {type(error).exit_code for error in RAISED} == {2}
    assert errors.LawBroken.exit_code == 3
    assert not issubclass(errors.LawBroken, errors.InputError)
