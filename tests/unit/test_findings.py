"""Waste inside one artifact: what a fix would save, no byte counted twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sizeforensics.causes import CAUSES
from sizeforensics.findings import find
from sizeforensics.fingerprints import fingerprints
from sizeforensics.spans import DEBUG_INFO, GRAPH, UNCLAIMED, VALUE_INFO
from sizeforensics.views import cover
from tests.builders import Piece, artifact, assemble, random, view

W, V = random(0, 4, 6), random(1, 5, 6)


def waste(inventory):
    coverage = cover(inventory)
    found = find(inventory, coverage, fingerprints(inventory, coverage))
    return {finding.finding: (finding.nbytes, finding.subjects) for finding in found}


def test_a_clean_artifact_has_none():
    tied = [view("tied", W, 0)]
    assert waste(artifact({"a": W, "b": V}, views=tied, others=[(GRAPH, 9, "Conv")])) == {}


@pytest.mark.parametrize("use", ["optimizer-state", "ema-copy", "unreferenced"])
def test_tensors_that_inference_does_not_need(use):
    assert waste(artifact({"a": W, "x": V}, uses={"x": use})) == {use: (120, ("x",))}


@pytest.mark.parametrize(
    ("role", "cause"),
    [(DEBUG_INFO, "debug-info"), (VALUE_INFO, "value-info"), (UNCLAIMED, "unreferenced")],
)
def test_bytes_that_inference_does_not_need(role, cause):
    assert waste(artifact({"a": W}, others=[(role, 9, "thing")])) == {cause: (9, ("thing",))}


@pytest.mark.parametrize(
    "copy", [W, W.astype("f2"), W.astype("f8"), np.ascontiguousarray(W.T)],
    ids=["identical", "narrow", "wide", "transposed"],
)
def test_further_copies(copy):
    assert waste(artifact({"a": W, "b": copy})) == {"duplicate": (copy.nbytes, ("b",))}


def test_a_copy_held_by_the_optimizer_is_counted_once():
    inventory = artifact({"a": W, "x": W}, uses={"x": "optimizer-state"})
    assert waste(inventory) == {"optimizer-state": (96, ("x",))}


def test_slack():
    base = random(2, 100)
    inventory = assemble([Piece("base", base)], [view("w", base, 0, (10,))])
    assert waste(inventory) == {"storage-slack": (360, ("base",))}


def test_typed_fields_that_cost_more_than_raw_bytes():
    inventory = assemble([Piece("w", W, stored_bytes=300, encoding="typed")], [view("w", W, 0)])
    assert waste(inventory) == {"encoding": (204, ("w",))}


@pytest.mark.parametrize("kind, advice", [("onnx", "raw_data"), ("pytorch-zip", "pickle_protocol"), ("pickle", "pickle_protocol")])
def test_the_remedy_of_encoded_elements_is_one_of_the_format(kind, advice):
    pieces = [Piece("w", W, stored_bytes=300, encoding="typed")]
    inventory = replace(assemble(pieces, [view("w", W, 0)]), format=kind)
    coverage = cover(inventory)
    (found,) = find(inventory, coverage, fingerprints(inventory, coverage))
    assert [word for word in ("raw_data", "pickle_protocol") if word in found.remedy] == [advice]


@pytest.mark.parametrize("extra, found", [(16, {}), (17, {"encoding": (17, ("w",))})])
def test_a_list_in_an_attribute_is_waste_only_where_a_tensor_is_shorter(extra, found):
    piece = Piece("w", W, stored_bytes=len(W.tobytes()) + extra, encoding="typed")
    assert waste(assemble([piece], [view("w", W, 0, use="constant")])) == found


def test_deflated_waste_counts_what_is_in_the_file():
    pieces = [Piece("a", W), Piece("x", V, stored_bytes=60, encoding="deflate")]
    tensors = [view("a", W, 0), view("x", V, 1, use="optimizer-state")]
    assert waste(assemble(pieces, tensors)) == {"optimizer-state": (60, ("x",))}


def test_most_bytes_first_and_the_remedy_of_the_catalogue():
    inventory = artifact({"a": W, "x": V, "y": W}, uses={"x": "optimizer-state"},
                         others=[(DEBUG_INFO, 500, "traces")])  # fmt: skip
    coverage = cover(inventory)
    found = find(inventory, coverage, fingerprints(inventory, coverage))
    assert [finding.finding for finding in found] == ["debug-info", "optimizer-state", "duplicate"]
    assert all(finding.remedy == CAUSES[finding.finding].remedy for finding in found)
    assert sum(finding.nbytes for finding in found) <= inventory.nbytes


def test_several_subjects_largest_first():
    inventory = artifact({"a": W, "p": W, "q": W.astype("f8")},
                         uses={"p": "unreferenced", "q": "unreferenced"})  # fmt: skip
    assert waste(inventory) == {"unreferenced": (288, ("q", "p"))}
