"""Every cause on an artifact small enough to count its bytes by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Record, Tensor
from sizeforensics.spans import (
    ALIGNMENT,
    CODE,
    CONTAINER,
    DEBUG_INFO,
    GRAPH,
    METADATA,
    NAMES,
    PICKLE,
    UNCLAIMED,
    VALUE_INFO,
)
from tests.builders import (
    Piece,
    artifact,
    assemble,
    by_cause,
    diff,
    graph,
    random,
    tensor_causes,
    view,
)

W, V = random(0, 4, 6), random(1, 5, 6)


def rows(ledger, cause):
    return [row for row in ledger.rows if row.cause == cause]


def evidence(ledger, cause):
    return {row.evidence for row in rows(ledger, cause)}


def test_carried():
    ledger = diff(artifact({"a": W}), artifact({"b": W}))
    assert by_cause(ledger) == {"carried": (96, 96), "container": (16, 16)}
    (row,) = rows(ledger, "carried")
    assert (row.subject, row.evidence, row.elements, row.members) == ("b", "proved", 24, 1)
    assert row.before == ("a", 0, 16, 96, "float32", (4, 6))
    assert row.after == ("b", 0, 16, 96, "float32", (4, 6))


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [("float16", "float32", (0, 48)), ("float32", "float16", (48, 0)), ("float32", "float64", (0, 96)),
     ("bfloat16", "float32", (0, 48)), ("float16", "float64", (0, 144))],
)
def test_dtype_is_the_elements_times_the_difference_in_size(one, two, expected):
    narrow = random(0, 4, 6, dtype="float16" if "bfloat16" not in (one, two) else "bfloat16")
    sides = [narrow.astype("f4").astype(random(0, 1, dtype=name).dtype) for name in (one, two)]
    ledger = diff(artifact({"w": sides[0]}), artifact({"w": sides[1]}))
    least = min(side.nbytes for side in sides)
    assert tensor_causes(ledger) == {"carried": (least, least), "dtype": expected}
    assert {row.label for row in rows(ledger, "dtype")} == {f"{one} -> {two}"}
    assert evidence(ledger, "dtype") == {"proved"}


def test_types_of_one_width_have_a_row_without_bytes():
    weight = random(0, 4, 6, dtype="bfloat16").astype("f4").astype("f2")
    after = weight.astype("f4").astype(random(0, 1, dtype="bfloat16").dtype)
    (row,) = rows(diff(artifact({"w": weight}), artifact({"w": after})), "dtype")
    assert (row.label, row.before_bytes, row.after_bytes) == ("float16 -> bfloat16", 0, 0)


def test_unmatched():
    ledger = diff(artifact({"w": W}), artifact({"w": W, "new": V}))
    assert tensor_causes(ledger) == {"carried": (96, 96), "unmatched": (0, 120)}
    assert evidence(ledger, "unmatched") == {"parsed"}


@pytest.mark.parametrize(
    ("use", "kind"),
    [("optimizer-state", "parsed"), ("quantization-parameters", "parsed"),
     ("unreferenced", "proved"), ("ema-copy", "inferred"), ("sparse-index", "parsed"),
     ("constant", "parsed")],
)
def test_what_a_tensor_is_for_says_why_it_is_there(use, kind):
    one, two = artifact({"w": W}), artifact({"w": W, "x": V}, uses={"x": use})
    assert tensor_causes(diff(one, two)) == {"carried": (96, 96), use: (0, 120)}
    assert tensor_causes(diff(two, one)) == {"carried": (96, 96), use: (120, 0)}
    assert evidence(diff(one, two), use) == {kind}


@pytest.mark.parametrize("use", ["optimizer-state", "quantization-parameters", "unreferenced"])
def test_a_decided_role_comes_before_equal_content(use):
    after = artifact({"w": W, "x": W}, uses={"x": use})
    assert tensor_causes(diff(artifact({"w": W}), after)) == {"carried": (96, 96), use: (0, 96)}


@pytest.mark.parametrize("use", ["optimizer-state", "quantization-parameters", "unreferenced"])
def test_a_decided_role_on_both_sides_is_one_row(use):
    sides = [artifact({"w": W, "x": x}, uses={"x": use}) for x in (V, V.astype("f8"))]
    (row,) = rows(diff(*sides), use)
    assert (row.before_bytes, row.after_bytes) == (120, 240)
    assert (row.before.dtype, row.after.dtype) == ("float32", "float64")


def test_a_further_network_is_an_ema_copy_even_where_its_values_are_equal():
    before = artifact({"model.w": W, "ema.w": W}, uses={"ema.w": "ema-copy"},
                      scopes={"model.w": "model", "ema.w": "ema"})  # fmt: skip
    assert tensor_causes(diff(before, artifact({"w": W}))) == {
        "carried": (96, 96), "ema-copy": (96, 0)}


def test_where_the_averaged_network_was_exported_its_twin_is_the_further_copy():
    before = artifact(
        {"model.w": W, "model.v": V, "ema.w": random(7, 4, 6), "ema.v": random(8, 5, 6)},
        uses={"ema.w": "ema-copy", "ema.v": "ema-copy"},
        scopes={"model.w": "model", "model.v": "model", "ema.w": "ema", "ema.v": "ema"},
    )
    after = artifact({"w": random(7, 4, 6), "v": random(8, 5, 6)})
    ledger = diff(before, after)
    assert tensor_causes(ledger) == {"carried": (216, 216), "ema-copy": (216, 0)}
    assert {row.subject for row in rows(ledger, "ema-copy")} == {"model.w", "model.v"}


def test_slack_is_what_no_tensor_views():
    base = random(2, 100)
    before = artifact({"w": base[:10].copy()})
    after = assemble([Piece("base", base)], [view("w", base, 0, (10,))])
    ledger = diff(before, after)
    assert tensor_causes(ledger) == {"carried": (40, 40), "storage-slack": (0, 360)}
    assert evidence(ledger, "storage-slack") == {"proved"}
    assert tensor_causes(diff(after, after)) == {"carried": (40, 40), "storage-slack": (360, 360)}


def test_a_storage_without_any_view_is_all_slack():
    after = assemble([Piece("s", W)], [])
    assert tensor_causes(diff(artifact({}), after)) == {"storage-slack": (0, 96)}


def test_deflate_of_a_matched_tensor_is_compression():
    after = assemble([Piece("w", W, stored_bytes=70, encoding="deflate")], [view("w", W, 0)])
    ledger = diff(artifact({"w": W}), after)
    assert tensor_causes(ledger) == {"carried": (96, 96), "compression": (0, -26)}
    assert evidence(ledger, "compression") == {"parsed"}


def test_typed_fields_of_a_matched_tensor_are_encoding():
    after = assemble([Piece("w", W, stored_bytes=300, encoding="typed")], [view("w", W, 0)])
    assert tensor_causes(diff(artifact({"w": W}), after)) == {
        "carried": (96, 96), "encoding": (0, 204)}


def test_the_encoding_of_a_tensor_on_one_side_only_stays_with_its_cause():
    after = assemble([Piece("v", V, stored_bytes=300, encoding="typed")],
                     [view("v", V, 0, use="optimizer-state")])  # fmt: skip
    assert tensor_causes(diff(artifact({}), after)) == {"optimizer-state": (0, 300)}


def test_the_encoding_of_what_nobody_views_is_slack():
    after = assemble([Piece("s", W, stored_bytes=70, encoding="deflate")], [])
    assert tensor_causes(diff(artifact({}), after)) == {"storage-slack": (0, 70)}


NAMES_OF_EXPORTERS = ["/model/Constant_3", "onnx::Add_12", "val_7", "lifted_tensor_1", "a.weight"]


GRID = np.add.outer(np.arange(6), np.arange(5) / 2).astype(np.float32)


@pytest.mark.parametrize("name", NAMES_OF_EXPORTERS)
@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (GRID, "constant"),
        (random(3, 3), "constant"),  # a few numbers
        (random(3, 6, 5), "unmatched"),  # learned positions are added like a grid
        (random(3, 30), "unmatched"),  # a bias
        (random(3, 1, 30, 1, 1), "unmatched"),
    ],
    ids=["grid", "few", "table", "vector", "scale"],
)
@pytest.mark.parametrize("operators", [["Mul", "Add"], ["MatMul"], ["Add", "Gemm"], []], ids=str)
def test_elements_and_not_names_or_readers_tell_data_from_weights(operators, array, cause, name):
    nodes = graph(*((op, ["x", name], [f"y{at}"]) for at, op in enumerate(operators)),
                  ("Relu", ["x"], ["z"]))  # fmt: skip
    after = artifact({name: array}, nodes=nodes)
    assert tensor_causes(diff(artifact({}), after)) == {cause: (0, array.nbytes)}
    # A checkpoint has no program that could hold it.
    assert set(tensor_causes(diff(artifact({}), artifact({name: array})))) == {"unmatched"}


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_integers_of_a_graph_are_constants(dtype):
    integers = artifact({"x": random(3, 30).astype(dtype)}, nodes=graph(("Add", ["x"], ["y"])))
    assert set(tensor_causes(diff(artifact({}), integers))) == {"constant"}


@pytest.mark.parametrize(
    ("role", "cause", "kind"),
    [(GRAPH, "graph", "parsed"), (NAMES, "names", "parsed"), (PICKLE, "pickle", "parsed"),
     (CODE, "code", "parsed"), (DEBUG_INFO, "debug-info", "parsed"),
     (VALUE_INFO, "value-info", "parsed"), (METADATA, "metadata", "parsed"),
     (CONTAINER, "container", "parsed"), (ALIGNMENT, "alignment", "parsed"),
     (UNCLAIMED, "unreferenced", "proved")],
)
def test_every_role_has_its_cause(role, cause, kind):
    before = artifact({}, others=[(role, 10, "thing"), (role, 4, "only before")])
    after = artifact({}, others=[(role, 25, "thing"), (role, 3, "only after")])
    found = {(row.cause, row.subject): (row.before_bytes, row.after_bytes, row.evidence)
             for row in diff(before, after).rows if row.subject != "header"}  # fmt: skip
    assert found == {
        (cause, "thing"): (10, 25, kind),
        (cause, "only before"): (4, 0, kind),
        (cause, "only after"): (0, 3, kind),
    }


def test_a_record_that_only_one_archive_compresses():
    before = artifact({}, others=[(CODE, 100, "code/a.py")],
                      records=[Record("x/code/a.py", CODE, "code/a.py", 100, 100)])  # fmt: skip
    after = artifact({}, others=[(CODE, 30, "code/a.py")],
                     records=[Record("y/code/a.py", CODE, "code/a.py", 30, 100)])  # fmt: skip
    assert tensor_causes(diff(before, after)) == {"code": (100, 100), "compression": (0, -70)}
    assert tensor_causes(diff(after, before)) == {"code": (100, 100), "compression": (-70, 0)}
    assert tensor_causes(diff(after, after)) == {"code": (30, 30)}


def test_meta_tensors_and_empty_ones_have_no_rows():
    meta = Tensor("meta", DTYPES["float32"], (9,), (1,), 0, None, "weight")
    after = artifact({"e": np.zeros((0, 3), dtype="f4")}, views=[meta])
    assert [row.cause for row in diff(artifact({}), after).rows] == ["container"]


def test_rows_are_ordered_by_cause_label_size_and_subject():
    after = artifact({"b": W, "a": random(5, 4, 6), "large": random(6, 9, 9)})
    assert [row.subject for row in rows(diff(artifact({}), after), "unmatched")] == [
        "large", "a", "b"]


def test_nothing_is_ever_unexplained():
    before = artifact({"w": W, "x": V}, others=[(UNCLAIMED, 7, "gap")])
    assert "unexplained" not in by_cause(diff(before, artifact({})))
