"""A ledger sums exactly or is not made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.errors import LawBroken
from sizeforensics.ledger import EVIDENCE, Ledger, Row

AMOUNT = st.integers(-(10**18), 10**18)


def row(before, after, cause="graph", evidence="parsed"):
    return Row(cause, "", "subject", before, after, evidence, "how")


@given(st.lists(st.tuples(AMOUNT, AMOUNT), max_size=6), st.sampled_from([-1, 1]), st.booleans())
def test_off_by_one_on_either_side_is_refused(amounts, error, after):
    rows = tuple(row(*pair) for pair in amounts)
    sums = sum(pair[0] for pair in amounts), sum(pair[1] for pair in amounts)
    assert Ledger(*sums, rows).rows == rows
    wrong = (sums[0], sums[1] + error) if after else (sums[0] + error, sums[1])
    with pytest.raises(LawBroken):
        Ledger(*wrong, rows)


def test_the_message_says_which_side_and_how_much():
    with pytest.raises(LawBroken, match="10 bytes after, the artifact 1,011"):
        Ledger(5, 1_011, (row(5, 10),))


@pytest.mark.parametrize("cause", ["", "Graph", "dtypes", "tensor-data"])
def test_unknown_causes_are_refused(cause):
    with pytest.raises(LawBroken):
        Ledger(1, 1, (row(1, 1, cause),))


@pytest.mark.parametrize("evidence", ["", "guessed", "Proved"])
def test_unknown_evidence_is_refused(evidence):
    with pytest.raises(LawBroken):
        Ledger(1, 1, (row(1, 1, evidence=evidence),))


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_known_evidence_is_taken(evidence):
    assert Ledger(1, 3, (row(1, 3, evidence=evidence),)).rows[0].delta_bytes == 2


def test_an_empty_ledger_is_about_nothing():
    assert Ledger(0, 0, ()).rows == ()
    with pytest.raises(LawBroken):
        Ledger(0, 1, ())
