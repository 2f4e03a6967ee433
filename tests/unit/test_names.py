"""Names are the last resort, and never called a proof."""

from __future__ import annotations

import numpy as np
import pytest

from sizeforensics.matching import match
from tests.builders import Piece, artifact, assemble, diff, random, tensor_causes, view


def pairs(before, after):
    """{name before: (name after, evidence)} of what was matched."""
    return {
        before.tensors[found.before].name: (after.tensors[found.after].name, found.evidence)
        for found in match(before, after).matches
    }


def retrained(names, *, seed=0):
    """Tensors of one shape with other values for every seed."""
    return artifact({name: random(seed + at, 6, 5) for at, name in enumerate(names)})


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.", "module.model.", "ema/",
                                    "onnx::", "_fsdp_wrapped_module."])
def test_prefixes_of_one_side_do_not_matter(prefix):
    names = ["a.weight", "b.weight", "b.0.weight"]
    before, after = retrained(names), retrained([prefix + name for name in names], seed=9)
    assert pairs(before, after) == {name: (prefix + name, "inferred") for name in names}
    assert pairs(after, before) == {prefix + name: (name, "inferred") for name in names}


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_checkpoint_wrapped_module"])
def test_wrappers_within_a_path_do_not_matter(wrapper):
    before = retrained(["layers.0.w", "layers.1.w"])
    after = retrained([f"layers.0.{wrapper}.w", f"layers.1.{wrapper}.w"], seed=9)
    assert {ours: theirs for ours, (theirs, _) in pairs(before, after).items()} == {
        "layers.0.w": f"layers.0.{wrapper}.w", "layers.1.w": f"layers.1.{wrapper}.w"}


def test_an_ambiguous_suffix_is_not_matched():
    before = retrained(["a.weight", "b.weight"])
    after = retrained(["c.weight", "d.weight"], seed=9)
    assert pairs(before, after) == {}
    assert tensor_causes(diff(before, after)) == {"unmatched": (240, 240)}


def test_the_longest_agreement_wins():
    before = retrained(["x.a.weight", "y.a.weight"])
    after = retrained(["m.y.a.weight", "m.x.a.weight"], seed=9)
    assert pairs(before, after) == {
        "x.a.weight": ("m.x.a.weight", "inferred"), "y.a.weight": ("m.y.a.weight", "inferred")}


def test_content_goes_before_names():
    one, two = random(0, 6, 5), random(1, 6, 5)
    before, after = artifact({"a": one, "b": two}), artifact({"a": two, "b": one})
    assert pairs(before, after) == {"a": ("b", "proved"), "b": ("a", "proved")}


def test_a_grown_vocabulary_is_matched_by_name_and_counted_as_shape():
    old, new = random(0, 10, 4), random(1, 13, 4)
    ledger = diff(artifact({"tok.embed": old}), artifact({"tok.embed": new}))
    assert tensor_causes(ledger) == {"carried": (160, 160), "shape": (0, 48)}
    assert {row.evidence for row in ledger.rows if row.cause == "shape"} == {"inferred"}


def test_a_grown_vocabulary_that_kept_its_rows_is_proved():
    old = random(0, 10, 4)
    new = np.concatenate([old, random(1, 3, 4)])
    ledger = diff(artifact({"x": old}), artifact({"y": new}))
    assert tensor_causes(ledger) == {"carried": (160, 160), "shape": (0, 48)}
    assert {row.evidence for row in ledger.rows if row.cause in ("carried", "shape")} == {"proved"}


def test_a_shape_that_each_side_has_once():
    before = artifact({"a": random(0, 6, 5), "v": random(1, 7)})
    after = artifact({"z": random(2, 6, 5), "w": random(3, 7)})
    assert pairs(before, after) == {"a": ("z", "inferred")}


def test_equal_names_of_other_types_and_values():
    before = artifact({"w": random(0, 6, 5, dtype="float16")})
    ledger = diff(before, artifact({"w": random(1, 6, 5)}))
    assert tensor_causes(ledger) == {"carried": (60, 60), "dtype": (0, 60)}
    assert {row.evidence for row in ledger.rows if row.subject == "w"} == {"inferred"}


def test_fills_are_proved_only_where_names_agree():
    half = np.ones(8, dtype=np.float16)
    found = pairs(artifact({"n.scale": half}), artifact({"m.n.scale": half.astype(np.float32)}))
    assert found == {"n.scale": ("m.n.scale", "proved")}
    other = np.zeros(8, dtype=np.float32)
    assert pairs(artifact({"n.scale": half}), artifact({"m.n.scale": other})) == {
        "n.scale": ("m.n.scale", "inferred")}


def test_what_cannot_be_read_is_matched_by_name_and_never_proved():
    base = random(0, 6, 5)
    side = assemble([Piece("s", base, readable=False)], [view("a.w", base, 0)])
    assert pairs(side, artifact({"a.w": base})) == {"a.w": ("a.w", "inferred")}
    assert pairs(side, side) == {"a.w": ("a.w", "inferred")}


def test_unread_tensors_of_one_name_in_two_subgraphs():
    base = random(0, 6, 5)
    pieces = [Piece("s", base, readable=False), Piece("t", base, readable=False)]
    side = assemble(pieces, [view("w", base, 0, scope="then"), view("w", base, 1, scope="else")])
    assert [(found.before, found.after) for found in match(side, side).matches] == [(0, 0), (1, 1)]
