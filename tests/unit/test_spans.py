"""Spans tile a file exactly: overlap is an error, a gap is shown, neighbours alike are one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizeforensics.errors import LawBroken
from sizeforensics.spans import (
    CONTAINER,
    GRAPH,
    NAMES,
    ROLES,
    TENSOR_DATA,
    UNCLAIMED,
    Owners,
    Spans,
    SpanSink,
    sum_by,
)

NOBODY = 99


def tiles(ranges, size, *, bulk=False):
    sink = SpanSink()
    if bulk:
        columns = [np.array([row[i] for row in ranges], dtype=np.int64) for i in range(4)]
        sink.extend(columns[0], columns[1], columns[2].astype(np.uint8), columns[3])
    else:
        for row in ranges:
            sink.add(*row)
    return sink.finish(size, NOBODY)


@st.composite
def disjoint(draw):
    cuts = sorted(draw(st.sets(st.integers(0, 60), max_size=16)))
    ranges = [
        (start, end, draw(st.integers(0, len(ROLES) - 2)), draw(st.integers(0, 2)))
        for start, end in itertools.pairwise(cuts)
        if draw(st.booleans())
    ]
    size = max(cuts, default=0) + draw(st.integers(0, 5))
    return draw(st.permutations(ranges)), size


@given(disjoint(), st.booleans())
def test_disjoint_ranges_tile_and_every_byte_keeps_its_owner(case, bulk):
    ranges, size = case
    spans = tiles(ranges, size, bulk=bulk)
    expected = [(ROLES[UNCLAIMED], NOBODY)] * size
    for start, end, role, owner in ranges:
        expected[start:end] = [(ROLES[role], owner)] * (end - start)
    got = []
    for start, end, role, owner in spans:
        assert start == len(got)
        assert end > start
        got += [(role, owner)] * (end - start)
    assert got == expected
    assert int(spans.bytes_by_role().sum()) == size


@given(disjoint())
def test_no_two_neighbours_are_alike(case):
    spans = list(tiles(*case))
    assert all(one[2:] != two[2:] for one, two in itertools.pairwise(spans))


@given(disjoint(), st.data())
def test_any_overlap_is_refused(case, data):
    ranges, size = case
    if not ranges:
        return
    start, end, role, owner = data.draw(st.sampled_from(ranges))
    inside = data.draw(st.integers(start, end - 1))
    further = data.draw(st.integers(inside + 1, size))
    with pytest.raises(LawBroken):
        tiles([*ranges, (inside, further, role, owner)], size)


@pytest.mark.parametrize(
    ("ranges", "size"),
    [
        ([(0, 10, GRAPH, 0), (2, 4, NAMES, 0)], 10),
        ([(0, 10, GRAPH, 0), (2, 4, GRAPH, 0)], 10),
        ([(0, 4, GRAPH, 0), (0, 4, GRAPH, 0)], 4),
        ([(0, 4, GRAPH, 0), (3, 8, GRAPH, 0)], 8),
        ([(0, 11, GRAPH, 0)], 10),
        ([(12, 14, GRAPH, 0)], 10),
        ([(-1, 4, GRAPH, 0)], 10),
    ],
    ids=["inside", "inside, same owner", "twice", "by one byte", "past the end", "behind the end",
         "before the start"],
)
def test_overlapping_or_leaving_the_file_is_refused(ranges, size):
    with pytest.raises(LawBroken):
        tiles(ranges, size)


def test_gaps_in_front_between_and_behind_are_unclaimed():
    assert list(tiles([(2, 4, GRAPH, 0), (6, 8, NAMES, 1)], 9)) == [
        (0, 2, "unclaimed", NOBODY),
        (2, 4, "graph", 0),
        (4, 6, "unclaimed", NOBODY),
        (6, 8, "names", 1),
        (8, 9, "unclaimed", NOBODY),
    ]


def test_only_touching_spans_of_one_role_and_owner_become_one():
    ranges = [(0, 2, GRAPH, 0), (2, 4, GRAPH, 0), (4, 6, GRAPH, 1), (6, 8, NAMES, 1),
              (9, 10, NAMES, 1)]  # fmt: skip
    assert list(tiles(ranges, 10)) == [
        (0, 4, "graph", 0),
        (4, 6, "graph", 1),
        (6, 8, "names", 1),
        (8, 9, "unclaimed", NOBODY),
        (9, 10, "names", 1),
    ]


def test_empty_ranges_are_no_spans():
    assert list(tiles([(3, 3, GRAPH, 0), (0, 5, NAMES, 0), (9, 2, GRAPH, 0)], 5)) == [
        (0, 5, "names", 0)
    ]
    assert len(tiles([], 0)) == 0


def test_one_role_and_owner_for_a_whole_column():
    sink = SpanSink()
    sink.extend(np.array([4, 0]), np.array([6, 2]), CONTAINER, 5)
    assert [span[2:] for span in sink.finish(6, NOBODY)] == [
        ("container", 5), ("unclaimed", NOBODY), ("container", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("starts", "ends", "size"),
    [([], [], 1), ([0, 3], [2, 5], 5), ([0, 1], [2, 5], 5), ([1], [5], 5), ([0], [4], 5),
     ([0, 2, 2], [2, 2, 5], 5)],
    ids=["none", "gap", "overlap", "late", "early", "empty span"],
)
def test_the_constructor_checks_the_law(starts, ends, size):
    zeros = np.zeros(len(starts), dtype=np.int64)
    with pytest.raises(LawBroken):
        Spans(size, np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64),
              zeros.astype(np.uint8), zeros)  # fmt: skip


def test_bytes_by_role():
    spans = tiles([(0, 3, GRAPH, 0), (3, 8, TENSOR_DATA, 0), (9, 10, GRAPH, 1)], 10)
    found = {ROLES[role]: size for role, size in enumerate(spans.bytes_by_role().tolist()) if size}
    assert found == {"graph": 4, "tensor-data": 5, "unclaimed": 1}


def test_sums_beyond_double_precision_are_exact():
    large = (1 << 53) + 1
    assert sum_by(np.array([0, 0, 1]), np.array([large, 2, 7]), 3).tolist() == [large + 2, 7, 0]


def test_an_owner_is_added_once():
    owners = Owners()
    assert owners.add("conv1", "Conv") == owners.add("conv1", "Conv") == 0
    assert owners.add("conv1", "names") == 1
    assert owners.extend(["a", "a"], ["b", "b"]).tolist() == [2, 3]
    assert owners.names == ["conv1", "conv1", "a", "a"]
    assert owners.subjects == ["Conv", "names", "b", "b"]
