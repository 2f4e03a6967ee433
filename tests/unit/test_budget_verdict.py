"""What is measured for each limit, who is blamed, and what would bring the value under it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics import Budget, Waiver, api
from sizeforensics.budget.facts import Culprit, Facts
from sizeforensics.budget.rules import COMPARED, LIMITABLE
from sizeforensics.causes import CAUSES
from sizeforensics.errors import InputError
from sizeforensics.spans import DEBUG_INFO, METADATA, NAMES, ROLES, UNCLAIMED, VALUE_INFO
from tests.builders import Piece, artifact, assemble, random, view

DAY = dt.date(2030, 6, 15)
W, V = random(0, 8, 16), random(1, 8, 16)


def verdict(inventory, before=None, *, today=DAY, **limits):
    against = None if before is None else api.compare(before, inventory)
    return api.judge(api.look_into(inventory), against, Budget(**limits), today=today)


def outcome(inventory, before=None, **limits):
    """Of the one limit that is given, not of the one about unexplained bytes."""
    first, *_ = verdict(inventory, before, **limits).outcomes
    return first


def blamed(one):
    return [(culprit.cause, culprit.nbytes, culprit.subject) for culprit in one.culprits]


# -- total and growth --------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "status", "excess"), [(527, "fail", 1), (528, "ok", 0), (529, "ok", 0)])
def test_total_at_its_limit(limit, status, excess):
    one = outcome(artifact({"w": W}), total=limit)
    assert (one.value, one.limit, one.status, one.excess) == (528, limit, status, excess)


def test_total_without_baseline_blames_waste_and_roles_which_sum():
    inventory = artifact(
        {"w": W, "copy": W, "adam": V, "dead": V[:2]}, uses={"adam": "optimizer-state", "dead": "unreferenced"},
        others=[(NAMES, 30, "Conv"), (UNCLAIMED, 7, "gap"), (DEBUG_INFO, 50, "Conv")],
    )  # fmt: skip
    inspection = api.look_into(inventory)
    held = Facts(inventory, inspection.waste).held()
    assert sum(culprit.nbytes for culprit in held) == inventory.nbytes
    assert held == sorted(held, key=lambda culprit: -culprit.nbytes)
    assert {culprit.cause: culprit.nbytes for culprit in held} == {
        "tensor-data": 512, "duplicate": 512, "optimizer-state": 512, "unreferenced": 135, "names": 30,
        "debug-info": 50, "container": 16,
    }  # fmt: skip
    one = outcome(inventory, total=700)
    assert blamed(one) == [("duplicate", 512, "copy"), ("optimizer-state", 512, "adam"), ("tensor-data", 512, "w")]
    # 1,767 B are 1,067 too many: the two largest wastes are not enough.
    assert [remedy.cause for remedy in one.remedies] == ["duplicate", "optimizer-state", "unreferenced"]
    assert one.curable
    assert not outcome(inventory, total=500).curable


@settings(deadline=None)
@given(st.lists(st.sampled_from(range(len(ROLES))).filter(lambda role: role != 0), max_size=6), st.booleans())
def test_what_an_artifact_is_made_of_always_sums(roles, copied):
    arrays = {"w": W, **({"copy": W.astype("f8")} if copied else {})}
    inventory = artifact(arrays, others=[(role, 5 + n, f"s{n}") for n, role in enumerate(roles)])
    facts = Facts(inventory, api.look_into(inventory).waste)
    assert sum(culprit.nbytes for culprit in facts.held()) == inventory.nbytes


MODELS = sorted(path for path in (Path(__file__).parents[2] / "fixtures" / "models").iterdir() if path.suffix != ".data")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_what_real_models_are_made_of_sums(path):
    inspection = api.inspect(path)
    held = Facts(inspection.inventory, inspection.waste).held()
    assert sum(culprit.nbytes for culprit in held) == inspection.bytes
    assert len({(culprit.cause, culprit.label) for culprit in held}) == len(held)


def test_total_blames_what_came_since_a_baseline_that_kept_the_limit():
    before = artifact({"w": W})
    after = artifact({"w": W}, others=[(METADATA, 100, "notes")])
    one = outcome(after, before, total=600)
    assert blamed(one) == [("metadata", 100, "notes")]
    assert one.culprits[0].gained
    # A baseline that was too large already is not exonerated.
    assert blamed(outcome(after, before, total=100))[0] == ("tensor-data", 512, "w")


def test_growth_in_bytes_and_as_a_share_of_the_baseline():
    before, after = artifact({"w": W}), artifact({"w": W, "new": V[:2]})
    assert outcome(after, before, growth=128).status == "ok"
    assert outcome(after, before, growth=127).status == "fail"
    one = outcome(after, before, growth="24 %")
    assert (one.value, one.limit, one.status) == (128, 528 * 24 // 100, "fail")
    assert blamed(one) == [("unmatched", 128, "new")]
    assert [(remedy.cause, remedy.nbytes) for remedy in one.remedies] == [("unmatched", 128)]
    assert outcome(after, before, growth="25 %").status == "ok"
    shrunk = outcome(before, after, growth=0)
    assert (shrunk.value, shrunk.status, shrunk.excess) == (-128, "ok", 0)


@pytest.mark.parametrize("limits", [{"growth": "2 %"}, *({"causes": {name: 0}} for name in COMPARED)], ids=str)  # fmt: skip
def test_what_only_a_comparison_knows_asks_for_a_baseline(limits):
    with pytest.raises(InputError, match="expected a baseline"):
        verdict(artifact({"w": W}), **limits)
    assert verdict(artifact({"w": W}), artifact({"w": W}), **limits).ok


def test_every_other_cause_and_role_can_be_measured_in_one_artifact():
    assert verdict(artifact({"w": W}), causes={name: "100 %" for name in LIMITABLE if name not in COMPARED}).ok
    assert set(COMPARED) < set(CAUSES)


# -- causes ------------------------------------------------------------------------------------

PLANTED = {
    "duplicate": (lambda: artifact({"w": W, "x": W}), 512),
    "dtype": (lambda: artifact({"x": random(3, 8, 8, dtype="float16").astype("f4")}), 128),
    "optimizer-state": (lambda: artifact({"w": W, "x": V}, uses={"x": "optimizer-state"}), 512),
    "ema-copy": (lambda: artifact({"w": W, "x": V}, uses={"x": "ema-copy"}), 512),
    "unreferenced": (lambda: artifact({"w": W, "x": V}, uses={"x": "unreferenced"}), 512),
    "constant": (lambda: artifact({"w": W, "x": V}, uses={"x": "constant"}), 512),
    "quantization-parameters": (lambda: artifact({"w": W, "x": V}, uses={"x": "quantization-parameters"}), 512),
    "sparse-index": (lambda: artifact({"w": W, "x": V}, uses={"x": "sparse-index"}), 512),
    "storage-slack": (lambda: assemble([Piece("x", V)], [view("w", V, 0, (10,))]), 472),
    "encoding": (lambda: assemble([Piece("x", V, 700, "typed")], [view("w", V, 0, V.shape)]), 188),
    "unexplained": (lambda: artifact({"w": W}, others=[(UNCLAIMED, 9, "x")]), 9),
    **{
        role: (lambda number=number: artifact({"w": W}, others=[(number, 9, "x")]), 9)
        for number, role in enumerate(ROLES) if role not in ("tensor-data", "container")
    },
}  # fmt: skip


@pytest.mark.parametrize("cause", PLANTED)
def test_each_cause_of_one_artifact(cause):
    make, nbytes = PLANTED[cause]
    kept = outcome(make(), causes={cause: nbytes})
    assert (kept.value, kept.status) == (nbytes, "ok")
    broken = outcome(make(), causes={cause: nbytes - 1})
    assert (broken.status, broken.excess) == ("fail", 1)
    (first, *_) = broken.culprits
    assert (first.cause, first.nbytes, first.gained) == (cause, nbytes, False)
    assert first.subject.removesuffix(" as float16") == "x"
    assert broken.remedies[0][:3] == (cause, first.label, nbytes)
    clean = assemble([Piece("w", W)], [view("w", W, 0, W.shape)])
    assert outcome(clean, causes={cause: 0}).status == "ok"


def test_roles_that_every_file_has():
    inventory = artifact({"w": W, "x": V[:2]})
    assert blamed(outcome(inventory, causes={"container": 0})) == [("container", 16, "header")]
    assert outcome(inventory, causes={"tensor-data": 639}).excess == 1


def test_a_share_of_a_cause_is_one_of_the_artifact():
    inventory = artifact({"w": W}, others=[(METADATA, 72, "notes")])
    assert inventory.nbytes == 600
    assert outcome(inventory, causes={"metadata": "12 %"}).status == "ok"
    one = outcome(inventory, causes={"metadata": "11.9 %"})
    assert (one.status, one.limit) == ("fail", 71)


def test_several_subjects_are_named_largest_first_and_summed():
    inventory = artifact({"w": W}, others=[(METADATA, size, f"k{size}") for size in (3, 9, 5, 7)])
    one = outcome(inventory, forbid=["metadata"])
    # The last one stands for the rest, so that they add up.
    assert blamed(one) == [("metadata", 9, "k9"), ("metadata", 7, "k7"), ("metadata", 8, "k5")]
    assert [culprit.members for culprit in one.culprits] == [1, 1, 2]
    assert one.remedies == (Culprit("metadata", "", 24, "k9", 4),)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_no_byte_of_a_real_model_is_blamed_twice(path):
    inspection = api.inspect(path)
    limits = {name: 0 for name in LIMITABLE if name not in COMPARED and name != "dtype"}
    told = api.check(inspection, Budget(total=1, causes=limits, dtypes=["int8"], forbid=["dtype"]))
    for one in told.outcomes:
        assert len({culprit[:2] + culprit[3:4] for culprit in one.culprits}) == len(one.culprits)
        blamed_bytes = sum(culprit.nbytes for culprit in one.culprits)
        assert blamed_bytes <= one.value
        if len({culprit.label for culprit in one.culprits}) == 1 and one.rule.measure == "cause":
            assert blamed_bytes == one.value


def test_with_a_baseline_the_larger_of_what_is_there_and_what_came_counts():
    before = artifact({"w": W, "head": V[:, :4]})
    grown = artifact({"w": W, "head": V})
    one = outcome(grown, before, causes={"shape": 0, "unmatched": 0})
    assert (one.rule.of, one.value, one.status) == (("shape",), 512 - 128, "fail")
    assert one.culprits[0].gained
    assert one.culprits[0].subject == "head"
    # Metadata that the baseline had is limited all the same.
    noted = artifact({"w": W}, others=[(METADATA, 72, "notes")])
    there = outcome(noted, noted, causes={"metadata": 71})
    assert (there.value, there.status, there.culprits[0].gained) == (72, "fail", False)


# -- element types -----------------------------------------------------------------------------

HALF = random(4, 16, 16, dtype="float16")


def test_a_pair_of_types_is_forbidden_with_and_without_a_baseline():
    limit = {"dtype": "forbid float16 -> float32"}
    wide = artifact({"w": HALF.astype("f4")})
    alone = outcome(wide, causes=limit)
    assert (alone.status, alone.value, alone.culprits[0].gained) == ("fail", 512, False)
    assert outcome(artifact({"w": HALF}), causes=limit).status == "ok"
    # Values that no float16 holds are what they are.
    assert outcome(artifact({"w": W}), causes=limit).status == "ok"
    # Retrained in float32, so no longer exact: only the comparison knows.
    other = artifact({"w": random(9, 16, 16)})
    assert outcome(other, causes=limit).status == "ok"
    compared = outcome(other, artifact({"w": HALF}), causes=limit)
    assert (compared.status, compared.value) == ("fail", 512)
    assert (compared.culprits[0].label, compared.culprits[0].gained) == ("float16 -> float32", True)
    assert outcome(other, artifact({"w": HALF}), causes={"dtype": "forbid int8 -> float32"}).status == "ok"


def test_allowed_types():
    inventory = artifact({"w": W, "n": np.arange(5), "h": HALF})
    one = outcome(inventory, dtypes=["float16", "int64"])
    assert (one.status, one.value) == ("fail", 512)
    assert one.culprits == (Culprit("tensor-data", "float32", 512, "w", 1),)
    assert outcome(inventory, dtypes=["float32", "float16", "int64"]).status == "ok"
    assert outcome(inventory, dtypes=[]).value == 512 + 40 + 512


# -- tensors -----------------------------------------------------------------------------------


def test_a_single_tensor():
    inventory = artifact({"model.0.weight": W, "model.1.weight": V[:2], "head[0]": V})
    assert outcome(inventory, tensors={"*": 512}).status == "ok"
    one = outcome(inventory, tensors={"*.weight": 511})
    assert (one.status, one.value) == ("fail", 512)
    # Only what is too large itself is to blame.
    assert blamed(one) == [("tensor-data", 512, "model.0.weight")]
    several = outcome(inventory, tensors={"*": 127})
    assert [culprit.subject for culprit in several.culprits] == ["head[0]", "model.0.weight", "model.1.weight"]
    assert several.remedies == (Culprit("tensor-data", "float32", 512, "head[0]", 3),)
    assert blamed(outcome(inventory, tensors={"*.weight": 512}))[1:] == [("tensor-data", 128, "model.1.weight")]
    assert outcome(inventory, tensors={"model.1.*": 128}).status == "ok"
    assert outcome(inventory, tensors={"head[0]": 511}).culprits[0].subject == "head[0]"


def test_a_limit_on_a_tensor_that_is_not_there_fails():
    one = outcome(artifact({"w": W}), tensors={"weight": 10_000})
    assert (one.status, one.problem, one.excess) == ("fail", "no tensor matches 'weight'", 0)
    assert outcome(artifact({}), tensors={"*": 10}).status == "ok"


# -- thresholds and waivers --------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(528, "ok"), (527, "warn"), (521, "warn"), (519, "fail")])
def test_warn_before_fail(size, status):
    one = outcome(artifact({"w": W}), total={"warn": size, "fail": size + 8})
    assert one.status == status
    assert one.limit == {"ok": size + 8, "warn": size, "fail": size + 8}[status]
    assert verdict(artifact({"w": W}), total={"warn": size, "fail": size + 8}).ok == (status != "fail")


@pytest.mark.parametrize(("today", "status"), [(DAY, "waived"), (DAY + dt.timedelta(days=1), "fail")])
def test_a_waiver_counts_until_it_expires(today, status):
    waiver = Waiver("max_bytes", "a release", "anna", DAY)
    told = verdict(artifact({"w": W}), total=1, causes={"container": 16}, waivers=[waiver], today=today)
    assert told.status == status
    assert told.outcomes[0].waiver == waiver
    assert [one.waiver for one in told.outcomes[1:]] == [None, None]
    assert told.ok == (status == "waived")


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_waivers_the_one_that_holds_counts(order):
    both = [Waiver("max_bytes", "then", "anna", DAY - dt.timedelta(days=9)), Waiver("total", "now", "bert", DAY)]
    told = verdict(artifact({"w": W}), total=1, waivers=both[::order])
    assert (told.status, told.outcomes[0].waiver.owner) == ("waived", "bert")


def test_a_waiver_of_one_limit_excuses_no_other():
    waiver = Waiver("max_bytes", "a release", "anna", DAY)
    told = verdict(artifact({"w": W}), total=1, causes={"container": 15}, waivers=[waiver])
    assert [one.status for one in told.outcomes] == ["waived", "fail", "ok"]
    assert told.status == "fail"
    assert told.decisive.rule.key == "causes.container"
    assert [one.status for one in told.broken] == ["fail", "waived"]


def test_a_waiver_of_a_limit_that_is_kept_is_not_mentioned():
    waiver = Waiver("max_bytes", "a release", "anna", DAY)
    told = verdict(artifact({"w": W}), total=600, waivers=[waiver])
    assert (told.status, told.outcomes[0].waiver) == ("ok", None)


# -- in Python ---------------------------------------------------------------------------------


def test_an_inspection_keeps_a_budget_or_not():
    inspection = api.look_into(artifact({"w": W, "copy": W}))
    assert inspection <= Budget(total="2 kB")
    assert Budget(total="2 kB") >= inspection
    assert not inspection <= Budget(total="2 kB", causes={"duplicate": 0})
    with pytest.raises(TypeError):
        inspection <= 3  # noqa: B015  the comparison itself raises
    assert not api.check(inspection, Budget(total="1 kB")).ok


def test_value_info_is_the_role():
    inventory = artifact({"w": W}, others=[(VALUE_INFO, 42, "value_info")])
    assert blamed(outcome(inventory, causes={"value-info": 0})) == [("value-info", 42, "value_info")]
