"""What one side lists without payload is neither dropped nor added: it cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.attribution import UNREAD
from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Inventory, Tensor, c_strides
from sizeforensics.report.presentation import diff_report
from tests.builders import artifact, diff, graph, random
from tests.work import grows_linearly

W = random(0, 4, 6)


def listed(*names: str, shape: tuple[int, ...] = (4, 6)) -> list[Tensor]:
    """Tensors without payload."""
    return [Tensor(name, DTYPES["float32"], shape, c_strides(shape), 0, None, "weight") for name in names]


def unread(before: Inventory, after: Inventory) -> dict[str, tuple[str, str]]:
    """Subjects of the rows that cannot be compared: evidence and how."""
    mirrored = {(row.subject, -row.delta_bytes) for row in diff(after, before).rows if row.label == UNREAD}
    found = [row for row in diff(before, after).rows if row.label == UNREAD]
    assert {(row.subject, row.delta_bytes) for row in found} == mirrored
    assert {row.cause for row in found} <= {"unmatched"}
    return {row.subject: (row.evidence, row.how) for row in found}


@pytest.mark.parametrize(("here", "there"), [
    ("conv.weight", "conv.weight"), ("model.conv.weight", "conv.weight"),
    ("conv.weight", "module.model.conv.weight"), ("a/conv/weight", "conv.weight"),
])  # fmt: skip
def test_names_agree_but_for_what_is_in_front(here, there):
    found = unread(artifact({here: W}), artifact({}, views=listed(there)))
    assert found == {here: ("inferred", "the other side lists this tensor, but its payload is not there")}


def test_other_names_of_a_permuted_shape():
    found = unread(artifact({"w": W, "v": random(1, 4, 6)}), artifact({}, views=listed("x", shape=(6, 1, 4))))
    assert found == {"w": ("inferred", "the other side lists a tensor of this shape, but its payload is not there")}


def test_copies_and_constants_are_no_less_unread():
    """Nobody knows whether the other side stores them once or computes them."""
    before = artifact(
        {"w": W, "again": W, "fill": np.full((4, 6), 2.5, "f4")},
        nodes=graph(("MatMul", ["x", "w"], ["y"]), ("MatMul", ["y", "again"], ["z"]), ("Add", ["z", "fill"], ["o"])),
    )
    assert unread(before, artifact({}, views=listed("w", "again", "fill"))).keys() == {"w", "again", "fill"}


@pytest.mark.parametrize("use", ["optimizer-state", "ema-copy"])
def test_what_its_place_explains_is_not_what_the_other_side_lists(use):
    before = artifact({"w": W}, uses={"w": use})
    assert not unread(before, artifact({}, views=listed("w")))


def test_while_listed_tensors_are_left_what_is_dropped_is_inferred():
    before = artifact({"w": W})
    (row,) = (row for row in diff(before, artifact({}, views=listed("x", shape=(72,)))).rows if row.subject == "w")
    assert (row.cause, row.label, row.evidence) == ("unmatched", "", "inferred")
    (row,) = (row for row in diff(before, artifact({}, views=listed("x", shape=(0,)))).rows if row.subject == "w")
    assert row.evidence == "parsed"


def test_as_many_of_a_shape_as_are_listed():
    before = artifact({"a": W, "b": random(1, 4, 6), "c": random(2, 4, 6)})
    assert unread(before, artifact({}, views=listed("x", "b"))).keys() == {"a", "b"}


def test_a_wrapper_whose_data_are_under_its_name_is_not_unread():
    wrapped = artifact({"w._local_tensor": random(3, 4, 6)}, views=listed("w"))
    assert not unread(artifact({"w": W}), wrapped)


def test_the_headline_does_not_call_unread_data_equal():
    before, after = (artifact({}, path=path, views=listed("w")) for path in ("a", "b"))
    report = diff_report(before, after, diff(before, after))
    assert report.headline == (
        "a and b have the same 16 B in every cause, but the data of 1 tensor are not there to compare."
    )
    assert diff_report(before, before, diff(before, before)).headline.endswith("no difference.")


def test_names_that_all_end_alike_cost_no_more():
    def compare(count: int) -> None:
        arrays = {f"a{number}.weight": random(number, 2, 3) for number in range(count)}
        diff(artifact(arrays), artifact({}, views=listed(*(f"b{number}.weight" for number in range(count)))))

    assert grows_linearly(compare, 200)
