"""What a budget may say, and what it answers to a limit that nobody can keep."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics import Budget, Waiver
from sizeforensics.budget.bounds import Threshold, format_bound, most, parse_bound
from sizeforensics.budget.rules import LIMITABLE
from sizeforensics.causes import CAUSES
from sizeforensics.errors import InputError
from sizeforensics.spans import ROLES
from sizeforensics.units import format_share, parse_share

DAY = dt.date(2030, 6, 15)


def rules(**limits):
    return {rule.key: rule for rule in Budget(**limits).rules}


# -- bounds ------------------------------------------------------------------------------------


@given(st.one_of(
    st.integers(0, 10**24),
    st.tuples(st.integers(0, 10**12), st.integers(0, 9)).map(lambda pair: Fraction(pair[0], 10**pair[1])),
))  # fmt: skip
def test_what_a_bound_prints_reads_back(bound):
    again = parse_bound(format_bound(bound))
    assert again == bound
    assert type(again) is type(bound)


@pytest.mark.parametrize(
    ("text", "share"),
    [("2%", Fraction(1, 50)), ("0.5 %", Fraction(1, 200)), (" 150 % ", Fraction(3, 2)), ("0%", 0),
     ("0.1%", Fraction(1, 1000)), ("007.50 %", Fraction(3, 40))],
)  # fmt: skip
def test_shares(text, share):
    assert parse_share(text) == share


def test_a_share_without_a_last_decimal_is_refused():
    assert format_share(Fraction(1, 3 * 2**20) * 3) == f"{100 / 2**20:.18f}".rstrip("0") + " %"
    with pytest.raises(InputError, match="finite"):
        format_share(Fraction(1, 3))


@pytest.mark.parametrize("text", ["%", "-1%", "1,5%", "2 % of it", "2%%", "1e3%", "٢%", "", "2"])
def test_what_is_no_share(text):
    with pytest.raises(InputError):
        parse_share(text)


def test_a_share_allows_whole_bytes_only():
    assert most(Fraction(1, 50), 149) == 2
    assert most(Fraction(1, 50), 150) == 3
    assert most(7, 0) == 7


@pytest.mark.parametrize("value", [True, -1, 1.5, None, "", "much", ["1"], {"fail": {"fail": 1}}])
def test_what_is_no_limit(value):
    with pytest.raises(InputError, match=r"^max_growth: "):
        Budget(growth=value if value is not None else {"fail": None})


# -- rules -------------------------------------------------------------------------------------


def test_nothing_unexplained_unless_stated():
    assert rules(total=1)["unexplained"] == rules(unexplained=0)["unexplained"]
    assert rules(total=1)["unexplained"].threshold == Threshold(fail=0)
    assert rules(unexplained="1 kB")["unexplained"].threshold == Threshold(fail=1000)
    assert list(rules(causes={"unexplained": 5})) == ["causes.unexplained"]


@pytest.mark.parametrize("limits", [{}, {"baseline": "b.json"}, {"causes": {}, "forbid": [], "tensors": {}}], ids=str)
def test_a_budget_that_cannot_fail_is_an_error(limits):
    with pytest.raises(InputError, match=r"^expected a limit, got none \(there are max_bytes, max_growth, "):
        Budget(**limits)


def test_a_baseline_may_be_a_path_and_is_a_text():
    assert Budget(growth=0, baseline=Path("sizes", "a.json")) == Budget(growth=0, baseline=str(Path("sizes/a.json")))


def test_every_limit_is_a_rule_in_this_order():
    known = rules(
        total="15 MB", growth="2%", causes={"duplicate": 0, "dtype": "forbid float16 -> float32"},
        forbid=["debug-info", "float16->float32"], tensors={"*": "1 MB"}, dtypes=["float16"],
    )  # fmt: skip
    assert list(known) == [
        "max_bytes", "max_growth", "causes.duplicate", "causes.dtype", "forbid.debug-info",
        "forbid.float16 -> float32", "tensors.*", "dtypes", "unexplained",
    ]  # fmt: skip
    assert known["causes.dtype"].of == ("float16 -> float32",)
    assert known["causes.dtype"].measure == "retyped"
    assert known["dtypes"].of == ("float16",)


@pytest.mark.parametrize("name", LIMITABLE)
def test_every_cause_and_role_can_be_limited_and_forbidden(name):
    assert rules(causes={name: "1 %"})[f"causes.{name}"].threshold == Threshold(fail=Fraction(1, 100))
    assert rules(causes={name: "forbid"})[f"causes.{name}"].threshold == Threshold(fail=0)
    assert rules(forbid=[name])[f"forbid.{name}"].threshold == Threshold(fail=0)
    assert name in CAUSES or name in ROLES


def test_warn_beside_fail():
    limit = {"warn": "14 MB", "fail": "15 MB"}
    assert rules(total=limit)["max_bytes"].threshold == Threshold(14_000_000, 15_000_000)
    assert rules(total={"warn": 1})["max_bytes"].threshold == Threshold(warn=1)
    pair = Budget(causes={"dtype": {"warn": 9, "fail": "forbid int8 -> float32"}}).rules
    assert [(rule.measure, rule.threshold) for rule in pair[:2]] == [
        ("retyped", Threshold(fail=0)), ("cause", Threshold(warn=9)),
    ]  # fmt: skip
    lists = Budget(dtypes={"warn": ["float16"], "fail": ["float16", "float32"]}).rules
    assert [(rule.of, rule.threshold) for rule in lists[:2]] == [
        (("float16",), Threshold(warn=0)), (("float16", "float32"), Threshold(fail=0)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"causes": {"duplicat": 0}}, "causes: no 'duplicat'; did you mean 'duplicate'?"),
        ({"forbid": ["debug_info"]}, "forbid: no 'debug_info'; did you mean 'debug-info'?"),
        ({"forbid": "duplicate"}, "forbid: expected a list of names, got 'duplicate'"),
        ({"dtypes": ["flaot16"]}, "dtypes: no 'flaot16'; did you mean 'float16'?"),
        ({"dtypes": "float16"}, "dtypes: expected a list of names, got 'float16'"),
        ({"causes": {"dtype": "forbid float16 -> flaot32"}}, "causes.dtype: no 'flaot32'; did you mean 'float32'?"),
        ({"forbid": ["float61 -> float32"]}, "forbid: no 'float61'; did you mean 'float64'?"),
        ({"causes": {"dtype": "forbid float16"}}, "causes.dtype: expected a pair such as"),
        ({"causes": {"names": "forbid float16 -> float32"}}, "causes.names: expected a limit"),
        ({"causes": {"names": "1 XB"}}, "causes.names: expected a size"),
        ({"causes": ["duplicate"]}, "causes: expected a table of limits"),
        ({"tensors": {"w": "much"}}, "tensors.w: expected a size"),
        ({"total": "2 %"}, "max_bytes: expected a size: 2 %"),
        ({"total": {"wran": 1}}, "max_bytes: expected 'warn' and 'fail', got 'wran'; did you mean 'warn'?"),
        ({"total": {}}, "max_bytes: expected a limit, got an empty table"),
        ({"total": {"warn": 2, "fail": 1}}, "max_bytes: expected less to warn at than to fail at"),
        ({"growth": {"warn": "2%", "fail": "2%"}}, "max_growth: expected less to warn at"),
        ({"unexplained": "all"}, "unexplained: expected a size"),
    ],
)  # fmt: skip
def test_a_wrong_limit_says_what_is_expected(limits, said):
    with pytest.raises(InputError) as caught:
        Budget(**limits)
    assert said in str(caught.value)


def test_a_waiver_is_of_a_limit_that_exists():
    waiver = Waiver("max_byte", "release", "anna", DAY)
    with pytest.raises(InputError, match="no limit 'max_byte' to waive; did you mean 'max_bytes'"):
        Budget(total=1, waivers=[waiver])


@pytest.mark.parametrize("limit", ["max_growth", "growth", "causes.debug-info", "debug-info", "tensors.head.*", "tensor head.*",
                                   "dtypes", "element types", "forbid.float16 -> float32", "dtype float16 -> float32"])  # fmt: skip
def test_a_waiver_calls_a_limit_by_its_key_or_as_a_verdict_does(limit):
    Budget(
        growth=1, causes={"debug-info": 0}, tensors={"head.*": 9}, dtypes=["float16"], forbid=["float16 -> float32"],
        waivers=[Waiver(limit, "release", "anna", DAY)],
    )  # fmt: skip


@pytest.mark.parametrize(("reason", "owner", "key"), [("", "anna", "reason"), ("why", " ", "owner")])
def test_a_waiver_is_someone_s_for_a_reason(reason, owner, key):
    with pytest.raises(InputError, match=f"^{key}: expected a text"):
        Waiver("max_bytes", reason, owner, DAY)


def test_a_waiver_holds_to_the_end_of_its_day():
    waiver = Waiver("max_bytes", "release", "anna", DAY)
    assert waiver.holds(DAY - dt.timedelta(days=1))
    assert waiver.holds(DAY)
    assert not waiver.holds(DAY + dt.timedelta(days=1))
