"""Any ledger, however odd: every view adds up, validates, and prints nothing that acts."""

from __future__ import annotations

import json
import unicodedata

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics.causes import CAUSES
from sizeforensics.ledger import EVIDENCE, Place, Row
from sizeforensics.report import console, csv, tables
from sizeforensics.report import json as renderer
from sizeforensics.report.lines import SORTS, cause_lines
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.styled import View
from tests.golden import samples
from tests.unit.test_report_json import schema_of

TEXT = st.text(st.characters(), max_size=8)
SIZE = st.integers(0, 10**12)
PLACE = st.none() | st.builds(
    Place, TEXT, st.just(0), SIZE, SIZE, st.sampled_from(["float16", "float32", "int64"]),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
)  # fmt: skip
ROW = st.builds(
    Row, st.sampled_from(sorted(CAUSES)), TEXT, TEXT, SIZE, SIZE, st.sampled_from(EVIDENCE), TEXT,
    st.integers(0, 99), SIZE, PLACE, PLACE, st.floats(0, allow_infinity=False),
)  # fmt: skip
ROWS = st.lists(ROW, min_size=1, max_size=12)
VIEW = st.builds(
    View, st.sampled_from([20, 60, 80, 140]), st.booleans(), st.just(False), st.booleans(),
    st.booleans(), st.sampled_from(SORTS), SIZE, TEXT | st.just("cause=dtype"),
)  # fmt: skip
# A shared machine stalls now and then; these tests are about sums, not about time.
patient = settings(deadline=None)


@patient
@given(ROWS, st.integers(1, 15), st.sampled_from(SORTS))
def test_lines_and_evidence_always_sum(rows, limit, sort):
    report = diff_report(*samples.case(rows))
    lines = cause_lines(report, limit, sort)
    assert sum(line.delta_bytes for line in lines) == report.delta_bytes
    assert len(lines) <= limit + 1
    pairs = (*report.tensors, *report.others)
    assert sum(pair.after_bytes for pair in pairs) == report.after.bytes
    assert sum(entry.evidence.total for entry in report.causes) == report.evidence.total


@patient
@given(ROWS, VIEW)
def test_any_view_is_one_safe_text(rows, view):
    text = console.diff(diff_report(*samples.case(rows)), view)
    assert text.endswith("\n")
    assert not [
        char for char in text.replace("\n", "") if unicodedata.category(char) in ("Cc", "Cf", "Cs")
    ]
    text.encode("utf-8")


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_json_and_csv_always_hold_their_contract(rows):
    report = diff_report(*samples.case(rows))
    document = json.loads("".join(renderer.render(renderer.diff(report))).encode("utf-8"))
    jsonschema.validate(document, schema_of(document), jsonschema.Draft202012Validator)
    assert "".join(csv.render(tables.of(report))).encode("utf-8").count(b"\r\n") == len(rows) + 1
