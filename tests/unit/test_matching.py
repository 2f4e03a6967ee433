"""Each tier of matching on its own: what is proved, how it is worded, and what is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Tensor
from sizeforensics.matching import match
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
from tests.work import grows_linearly

W = random(0, 4, 6)


def only(before, after):
    """The evidence and wording of the single match of two artifacts of one tensor each."""
    (found,) = match(artifact({"a": before}), artifact({"b": after})).matches
    return found.evidence, found.how


def no_proof(before, after):
    matching = match(artifact({"a": before}), artifact({"b": after}))
    return not [found for found in matching.matches if found.evidence == "proved"]


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        (W, W, "identical bytes"),
        (W, W.reshape(2, 12), "reshaped"),
        (W, W.astype("f8"), "cast float32 -> float64"),
        (W.astype("f2"), W.astype("f2").astype("f4"), "cast float16 -> float32"),
        (W, W.astype("f2"), "cast float32 -> float16"),
        (W, W.astype(ml_dtypes.bfloat16), "cast float32 -> bfloat16"),
        (np.arange(24), np.arange(24, dtype="i1"), "cast int64 -> int8"),
        (W, np.ascontiguousarray(W.T), "axes permuted (1, 0)"),
        (W, np.ascontiguousarray(W.T).astype("f2"), "axes permuted (1, 0), cast float32 -> float16"),
        (random(1, 2, 3, 4), np.ascontiguousarray(random(1, 2, 3, 4).transpose(2, 0, 1)),
         "axes permuted (2, 0, 1)"),
        (W, W.astype("f2").reshape(24), "reshaped, cast float32 -> float16"),
    ],
)
def test_identical_cast_reshaped_permuted(before, after, how):
    assert only(before, after) == ("proved", how)
    assert only(after, before)[0] == "proved"


@pytest.mark.parametrize("size", [100, 140_000])
@pytest.mark.parametrize("at", [1, -2])
@pytest.mark.parametrize("change", ["same", "cast", "turned"])
def test_one_changed_element_anywhere_is_no_proof(size, at, change):
    array = random(3, 2, size // 2)
    after = {"same": array, "cast": array.astype("f2"), "turned": np.ascontiguousarray(array.T)}[change]
    assert not no_proof(array, after)
    changed = after.copy()
    changed.reshape(-1)[at] += 1
    assert not [
        found
        for found in match(artifact({"a": array}), artifact({"b": changed})).matches
        if found.elements is None and found.evidence == "proved"
    ]


def test_tied_weights_are_counted_once_and_their_copies_are_duplicates():
    tied = artifact({"embed": W}, views=[view("head", W, 0)])
    untied = artifact({"embed": W.astype("f8"), "head": W.astype("f8")})
    assert tensor_causes(diff(tied, untied)) == {
        "carried": (96, 96), "dtype": (0, 96), "duplicate": (0, 192)}


@pytest.mark.parametrize(
    "copy", [W, W.astype("f2"), np.ascontiguousarray(W.T), W.reshape(24)],
    ids=["identical", "cast", "transposed", "reshaped"],
)
def test_a_further_copy_however_it_is_written(copy):
    ledger = diff(artifact({"a": W}), artifact({"a": W, "again": copy}))
    assert tensor_causes(ledger) == {"carried": (96, 96), "duplicate": (0, copy.nbytes)}
    (row,) = [row for row in ledger.rows if row.cause == "duplicate"]
    assert (row.subject, row.evidence) == ("again", "proved")


def test_as_many_copies_on_both_sides_are_all_carried():
    side = {"a": W, "b": W, "c": W}
    assert tensor_causes(diff(artifact(side), artifact(side))) == {"carried": (288, 288)}


def test_equal_content_is_told_apart_by_name():
    before, after = artifact({"a": W, "b": W}), artifact({"b": W, "a": W})
    found = {(before.tensors[m.before].name, after.tensors[m.after].name)
             for m in match(before, after).matches}  # fmt: skip
    assert found == {("a", "a"), ("b", "b")}


def test_fused_weights_are_made_of_their_parts():
    parts = {name: random(at, 4, 6) for at, name in enumerate("qkv")}
    fused = np.concatenate(list(parts.values()))
    found = diff(artifact(parts), artifact({"qkv": fused}))
    assert tensor_causes(found) == {"carried": (288, 288)}
    assert {row.evidence for row in found.rows if row.cause == "carried"} == {"proved"}
    assert tensor_causes(diff(artifact({"qkv": fused}), artifact(parts))) == {"carried": (288, 288)}


@pytest.mark.parametrize("after_type", ["float32", "float16"])
def test_a_table_looked_up_in_advance_is_carried_once(after_type):
    """Relative positions: each row of a table, many times."""
    table = random(1, 13, 6)
    rows = np.concatenate([np.arange(13), np.random.default_rng(2).integers(0, 13, 187)])
    after = {"index": table[rows].astype(after_type)}
    causes = tensor_causes(diff(artifact({"table": table}), artifact(after)))
    assert causes["carried"][1] * 200 == after["index"].nbytes * 13
    assert causes["densified"] == (0, causes["carried"][1] * 187 // 13)
    assert not {"shape", "unmatched"} & set(causes)


def test_a_row_that_is_there_once_is_carried_once():
    """Rows of two tensors, some of them twice: no side can carry more than it has."""
    table, other = random(1, 13, 6), random(2, 4, 6)
    after = {"x": np.concatenate([table[:5], table[:5], table[3:], other])}
    causes = tensor_causes(diff(artifact({"table": table, "u": other}), artifact(after)))
    assert causes == {"carried": (17 * 24, 17 * 24), "shape": (0, 7 * 24)}


def test_fused_and_cast():
    parts = {name: random(at, 4, 6) for at, name in enumerate("qkv")}
    fused = np.concatenate(list(parts.values())).astype("f2")
    assert tensor_causes(diff(artifact(parts), artifact({"qkv": fused}))) == {
        "carried": (144, 144), "dtype": (144, 0)}


def test_broadcast_content_written_out_is_densified():
    row = random(5, 1, 40)
    wide = [Tensor("mask", DTYPES["float32"], (10, 40), (0, 1), 0, 0, "buffer")]
    before = assemble([Piece("s", row)], wide)
    after = artifact({"mask": np.tile(row, (10, 1))})
    assert tensor_causes(diff(before, after)) == {"carried": (160, 160), "densified": (0, 1_440)}


def test_repeated_content_is_matched_with_what_it_repeats():
    small = random(6, 1, 40)
    ledger = diff(artifact({"a": small}), artifact({"b": np.tile(small, (10, 1))}))
    assert tensor_causes(ledger) == {"carried": (160, 160), "densified": (0, 1_440)}
    assert {row.evidence for row in ledger.rows if row.cause == "densified"} == {"proved"}


def quantized(weight, scale, zero=0, dtype=np.int8):
    info = np.iinfo(dtype)
    return np.clip(np.rint(weight / scale) + zero, info.min, info.max).astype(dtype)


@pytest.mark.parametrize(
    ("scale", "zero", "dtype", "words"),
    [
        (np.float32(0.02), 0, np.int8, "per tensor"),
        (np.float32(0.03), 128, np.uint8, "per tensor, with zero points"),
        (np.linspace(0.01, 0.04, 8, dtype=np.float32)[:, None], 0, np.int8, "per channel of axis 0"),
    ],
)
def test_quantised_weights_are_within_half_a_step(scale, zero, dtype, words):
    weight = random(7, 8, 64)
    codes = quantized(weight, scale, zero, dtype)
    how = f"quantised {words}: one scale puts every element within half a step"
    assert only(weight, codes) == ("inferred", f"{how}, but none is stored")
    numbers = np.broadcast_to(scale, (8, 1)) if np.ndim(scale) else np.array(scale)
    stored = artifact({"codes": codes, "numbers": np.array(numbers, dtype="f4").reshape(-1)})
    (found,) = match(artifact({"weight": weight}), stored).matches
    assert (found.evidence, found.how) == ("proved", f"{how}, as numbers does")
    wrong = quantized(weight, scale, zero, dtype)
    flipped = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    wrong[flipped] = zero
    assert no_proof(weight, wrong)


def test_quantised_bytes():
    weight = random(8, 8, 64)
    codes = quantized(weight, np.float32(0.02))
    after = artifact({"w_q": codes, "w_scale": np.array(0.02, dtype="f4")},
                     uses={"w_scale": "quantization-parameters"})  # fmt: skip
    assert tensor_causes(diff(artifact({"w": weight}), after)) == {
        "carried": (512, 512), "dtype": (1_536, 0), "quantization-parameters": (0, 4)}


@pytest.mark.parametrize(
    "array",
    [np.full((8, 8), 3, dtype="f4"), np.arange(100, dtype="i8"), np.arange(64, dtype="f4") * 0.5 - 3,
     np.tile(np.arange(8, dtype="f4"), (8, 1)), np.tril(np.ones((16, 16), dtype="f4")),
     np.eye(16, dtype="f4"), np.triu(np.tril(np.ones((40, 40), dtype="f2"), 3), -3),
     np.repeat(np.array([8, 16, 32], dtype="f4"), [400, 100, 25]),
     1 / np.float32(10_000) ** (np.arange(0, 64, 2, dtype="f4") / 64),
     np.hanning(401)[:-1].astype("f4"), np.hamming(512).astype("f4")],
    ids=["fill", "range", "affine range", "grid", "triangle", "identity", "band", "runs",
         "rotary frequencies", "Hann window", "Hamming window"],
)
def test_constants_that_a_few_numbers_regenerate_are_proved(array):
    after = artifact({"/grid": array}, nodes=graph(("Add", ["/grid"], ["y"])))
    ledger = diff(artifact({}), after)
    assert tensor_causes(ledger) == {"constant": (0, array.nbytes)}
    (row,) = [row for row in ledger.rows if row.cause == "constant"]
    assert row.evidence == "proved"
    changed = array.copy()
    changed.reshape(-1)[array.size // 2 + 3] += 5
    after = artifact({"/grid": changed}, nodes=graph(("Add", ["/grid"], ["y"])))
    (other,) = [row for row in diff(artifact({}), after).rows if row.subject == "/grid"]
    # What differs in one element is something else, if anything that a few numbers regenerate.
    assert other.how != row.how
    noise = np.random.default_rng(3).standard_normal(array.shape).astype(array.dtype)
    after = artifact({"/grid": noise * 100}, nodes=graph(("Add", ["/grid"], ["y"])))
    (row,) = [row for row in diff(artifact({}), after).rows if row.subject == "/grid"]
    assert row.evidence == "parsed" or "runs of equal elements" in row.how


def test_small_numbers_are_not_matched_with_each_other_by_chance():
    before = {f"a{at}": np.array([at], dtype="i8") for at in range(4)}
    after = {f"b{at}": np.array([at * 1.0], dtype="f4") for at in range(4)}
    assert no_proof(before["a1"], after["b1"])
    assert not {"dtype", "duplicate"} & set(by_cause(diff(artifact(before), artifact(after))))


def test_progress_counts_every_byte_of_both_sides_once():
    done = []
    match(artifact({"a": W}), artifact({"b": W.astype("f8")}), done.append)
    assert sum(done) == 96 + 192


def test_many_renamed_tensors_stay_near_linear():
    def matched(count):
        rng = np.random.default_rng(0)
        arrays = rng.standard_normal((count, 16)).astype("f4")
        before = artifact({f"a{at}": array for at, array in enumerate(arrays)})
        order = rng.permutation(count)
        after = artifact({f"b{at}": arrays[place] for at, place in enumerate(order)})
        assert len(match(before, after).matches) == count

    assert grows_linearly(matched, 500)


PERMUTED_AND_RESHAPED = {
    "permuted, reshaped": lambda array: array.transpose(2, 0, 1).reshape(4, 18),
    "permuted, flattened": lambda array: array.transpose(1, 0, 2).reshape(-1),
    "reshaped, permuted": lambda array: array.reshape(8, 9).T,
    "reshaped, permuted with more axes": lambda array: array.reshape(2, 3, 3, 4).transpose(1, 3, 2, 0),
    "transposed in the same shape": lambda array: array.reshape(8, 9).T.reshape(8, 9),
}


@pytest.mark.parametrize("types", [("f4", "f4"), ("f4", "f2"), ("f2", "f4"), ("f8", "f4")])
@pytest.mark.parametrize("name", sorted(PERMUTED_AND_RESHAPED))
def test_permutations_before_and_after_a_reshape(name, types):
    before = random(7, 3, 6, 4).astype(types[0])
    if name == "transposed in the same shape":
        before = before.reshape(8, 9)
    after = np.ascontiguousarray(PERMUTED_AND_RESHAPED[name](before)).astype(types[1])
    for one, other in ((before, after), (after, before)):
        evidence, how = only(one, other)
        assert evidence == "proved"
        assert "axes permuted" in how
        assert "reshaped" in how
        assert ("cast" in how) == (types[0] != types[1])


C = (random(11, 5, 7) + 1j * random(12, 5, 7)).astype("c8")


@pytest.mark.parametrize(
    ("pairs", "causes"),
    [
        (C.view("f4"), {"carried": (280, 280)}),
        (C.view("f4").reshape(5, 7, 2).astype("f8"), {"carried": (280, 280), "dtype": (0, 280)}),
        (C.view("f4").reshape(5, 7, 2).astype("f2"), {"carried": (140, 140), "dtype": (140, 0)}),
        (np.ascontiguousarray(C.T).view("f4"), {"carried": (280, 280)}),
        (C.astype("c16"), {"carried": (280, 280), "dtype": (0, 280)}),
        (C[1:4], {"carried": (168, 168), "shape": (112, 0)}),
        (C.view("f4").reshape(5, 7, 2)[1:4], {"carried": (168, 168), "shape": (112, 0)}),
    ],
    ids=["pairs", "wider", "narrower", "transposed", "complex", "slice", "slice of pairs"],
)
def test_complex_numbers_are_pairs_of_real_ones(pairs, causes):
    ledger = diff(artifact({"a": C}), artifact({"b": pairs}))
    assert tensor_causes(ledger) == causes
    assert {row.evidence for row in ledger.rows if row.elements} == {"proved"}
    said = next(row.how for row in ledger.rows if row.cause == "carried")
    assert ("complex numbers as pairs" in said) == (pairs.dtype.kind == "f")


def test_small_integers_are_no_slice_of_floats() -> None:
    bias = np.linspace(-0.9, 0.9, 64, dtype=np.float32)
    bias[41] = 1.01
    padding = np.array([0] * 7 + [1], dtype=np.int64)
    for one, other in ((bias, padding), (padding, bias)):
        matching = match(artifact({"bias": one}), artifact({"pads": other}))
        assert not matching.matches


def test_small_integers_are_no_cast_of_floats_by_chance() -> None:
    bias = np.linspace(-0.9, 0.9, 8, dtype=np.float32)
    bias[7] = 1.01
    padding = np.array([0] * 7 + [1], dtype=np.int64)
    for one, other in ((bias, padding), (padding, bias)):
        assert not match(artifact({"bias": one}), artifact({"pads": other})).matches


def test_integers_that_say_enough_are_floats_without_their_fractions() -> None:
    numbers = random(7, 40) * 50
    found = match(artifact({"a": numbers}), artifact({"b": numbers.astype(np.int32)})).matches
    assert [pair.how for pair in found] == ["cast float32 -> int32"]
