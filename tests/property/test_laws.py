"""The laws, over random artifacts: double entry, symmetry, indifference to names, determinism."""

from __future__ import annotations

from collections import Counter

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import Module, Tensor, c_strides
from sizeforensics.matching import match
from sizeforensics.spans import CODE, GRAPH, PICKLE, UNCLAIMED
from sizeforensics.views import cover
from tests.builders import Piece, artifact, assemble, diff, dtype_of, graph, random

modest = settings(
    max_examples=60, deadline=None, derandomize=True, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip

TYPES = ["float16", "bfloat16", "float32", "float64", "int8", "int64", "bool"]
SHAPES = [(), (0,), (1,), (3,), (6,), (2, 3), (3, 2), (4, 6), (6, 4), (2, 3, 4), (1, 6, 1), (8, 3),
          (0, 4), (16, 2)]  # fmt: skip
NAMES = ["", "weight", "bias", "model.weight", "module.weight", "a.running_mean", "a.running_var",
         "a.weight", "b.weight", "a.bias", "layers/0/weight", "_orig_mod.a.weight", "onnx::Conv_1",
         "模型.权重", "evil\x1b\n\udc80"]  # fmt: skip
USES = ["weight"] * 8 + ["buffer", "constant", "optimizer-state", "ema-copy", "sparse-index",
                         "quantization-parameters", "unreferenced"]  # fmt: skip


def cast(array, dtype):
    target = bool if dtype == "bool" else getattr(ml_dtypes, dtype, None) or dtype
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" or array.dtype == bool:
            return array.astype(target)
        wide = array.astype(np.float32) if array.dtype.kind == "V" else array
        return wide.astype(target)


@st.composite
def arrays(draw):
    """A small array: one of few contents, so that both sides have much in common."""
    shape = draw(st.sampled_from(SHAPES))
    kind = draw(st.sampled_from(["random", "random", "random", "fill", "range", "repeated"]))
    seed = draw(st.integers(0, 3))
    size = int(np.prod(shape))
    if kind == "random":
        array = random(seed, size)
    elif kind == "fill":
        array = np.full(size, seed, dtype=np.float32)
    elif kind == "range":
        array = np.arange(size, dtype=np.float32) * seed
    else:
        array = np.resize(random(seed, 2), size)
    array = cast(array.reshape(shape), draw(st.sampled_from(TYPES)))
    if draw(st.integers(0, 3)) == 0:
        array = np.ascontiguousarray(array.T)
    if draw(st.integers(0, 3)) == 0:
        array = cast(array, draw(st.sampled_from(TYPES)))
    return array


@st.composite
def view_of(draw, storage, nbytes):
    """Any tensor over a storage: strided, broadcast, overlapping others, or the plain beginning."""
    dtype = DTYPES[draw(st.sampled_from(TYPES))]
    room = nbytes * 8 // dtype.bits
    if not room:
        return None
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    strides = tuple(draw(st.sampled_from([0, 1, 1, 2, 3, 5])) for _ in shape)
    if draw(st.booleans()):
        strides = c_strides(shape)
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    if 0 in shape:
        reach = 0
    if reach >= room:
        shape, strides, reach = (room,), (1,), room - 1
    offset = draw(st.integers(0, room - 1 - reach))
    name, use = draw(st.sampled_from(NAMES)), draw(st.sampled_from(USES))
    return Tensor(name, dtype, shape, strides, offset, storage, use)


@st.composite
def inventories(draw):
    pieces, tensors = [], []
    for array in draw(st.lists(arrays(), max_size=7)):
        number, name = len(pieces), draw(st.sampled_from(NAMES))
        use = draw(st.sampled_from(USES))
        scope = draw(st.sampled_from(["", "", "model", "ema"]))
        encoding, stored = "raw", None
        if draw(st.integers(0, 5)) == 0:
            encoding, stored = draw(st.sampled_from(["deflate", "typed"])), draw(st.integers(0, 200))
        readable = draw(st.integers(0, 7)) > 0
        pieces.append(Piece(name, array, stored, encoding, readable))
        if draw(st.integers(0, 5)):
            tensors.append(
                Tensor(name, dtype_of(array), array.shape, c_strides(array.shape), 0, number, use,
                       scope)
            )  # fmt: skip
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            tensor = draw(view_of(number, array.nbytes))
            if tensor is not None:
                tensors.append(tensor)
    if draw(st.integers(0, 4)) == 0:
        tensors.append(Tensor("meta", DTYPES["float32"], (4,), (1,), 0, None, "weight"))
    others = draw(
        st.lists(
            st.tuples(
                st.sampled_from([GRAPH, PICKLE, CODE, UNCLAIMED]), st.integers(1, 9),
                st.sampled_from(["Conv", "opt", ""]),
            ),
            max_size=3,
        )
    )  # fmt: skip
    nodes = graph(("Conv", ["weight"], ["y"])) if draw(st.booleans()) else None
    modules = ()
    vectors = [index for index, tensor in enumerate(tensors) if len(tensor.shape) == 1]
    if len(vectors) >= 2 and draw(st.booleans()):
        own = {"running_mean": vectors[0], "running_var": vectors[1]}
        modules = (Module("bn", "BatchNorm2d", {"eps": 1e-5}, own),)
    return assemble(
        pieces, tensors, others=others, nodes=nodes, modules=modules,
        header=draw(st.integers(1, 3)),
    )  # fmt: skip


def amounts(ledger):
    return Counter((row.cause, row.before_bytes, row.after_bytes) for row in ledger.rows)


@modest
@given(inventories(), inventories())
def test_every_byte_of_both_sides_is_in_one_row(before, after):
    ledger = diff(before, after)
    assert sum(row.before_bytes for row in ledger.rows) == before.nbytes
    assert sum(row.after_bytes for row in ledger.rows) == after.nbytes
    assert sum(row.delta_bytes for row in ledger.rows) == after.nbytes - before.nbytes


@modest
@given(inventories(), inventories())
def test_every_tensor_is_placed_once_at_most(before, after):
    matching = match(before, after)
    for side in (0, 1):
        placed = Counter(fold.tensor for fold in matching.folds if fold.side == side)
        placed += Counter(copy.tensor for copy in matching.copies if copy.side == side)
        placed += Counter({found.on(side) for found in matching.matches})
        whole = [found.on(side) for found in matching.matches if found.elements is None]
        assert set(placed.values()) <= {1}
        assert len(whole) == len(set(whole))


@modest
@given(inventories())
def test_an_artifact_against_itself_has_no_delta(inventory):
    rows = diff(inventory, inventory).rows
    assert [row for row in rows if row.delta_bytes] == []


@modest
@given(inventories(), inventories())
def test_turning_the_sides_turns_every_sign(before, after):
    there, back = amounts(diff(before, after)), amounts(diff(after, before))
    turned = Counter({(cause, two, one): n for (cause, one, two), n in there.items()})
    assert back == turned


@modest
@given(inventories(), inventories())
def test_two_runs_give_the_same_rows(before, after):
    assert diff(before, after) == diff(before, after)


@modest
@given(inventories())
def test_claims_and_slack_are_the_bytes_of_each_storage(inventory):
    coverage = cover(inventory)
    totals = coverage.slack.copy()
    for tensor, claimed in zip(inventory.tensors, coverage.claimed.tolist(), strict=True):
        assert claimed >= 0
        if tensor.storage is not None:
            totals[tensor.storage] += claimed
    assert totals.tolist() == [storage.nbytes for storage in inventory.storages]
    assert (coverage.slack >= 0).all()


TRANSFORMS = {
    "carried": lambda array: array,
    "dtype": lambda array: cast(array, "float16" if array.dtype != np.float16 else "float32"),
    "turned": lambda array: np.ascontiguousarray(array.T),
    "reshaped": lambda array: array.reshape(-1, 2),
    "narrow and turned": lambda array: np.ascontiguousarray(cast(array, "bfloat16").T),
}


@st.composite
def related_pairs(draw):
    """Arrays of distinct random content, the same ones transformed, and copies of those."""
    count = draw(st.integers(1, 6))
    before = [
        random(seed, *draw(st.sampled_from([(4, 6), (8, 6), (2, 3, 8), (12, 2)])),
               dtype=draw(st.sampled_from(["float32", "float64"])))
        for seed in range(count)
    ]  # fmt: skip
    after = [TRANSFORMS[draw(st.sampled_from(sorted(TRANSFORMS)))](array) for array in before]
    after += [after[at] for at in draw(st.lists(st.integers(0, count - 1), max_size=2))]
    return before, draw(st.permutations(after))


def named(list_of_arrays, names):
    return artifact(dict(zip(names, list_of_arrays, strict=True)))


PATHS = st.lists(
    st.lists(st.sampled_from(["a", "b", "model", "module", "0", "1", "weight", "bias"]),
             min_size=1, max_size=4).map(".".join),
    min_size=8, max_size=8, unique=True,
)  # fmt: skip


@modest
@given(related_pairs(), PATHS, PATHS)
def test_names_do_not_matter_where_content_decides(pair, ours, theirs):
    def evidence(names):
        ledger = diff(named(pair[0], names[0][: len(pair[0])]), named(pair[1], names[1][: len(pair[1])]))
        return Counter(
            (row.cause, row.before_bytes, row.after_bytes, row.evidence) for row in ledger.rows
        )

    plain = [f"t{number}" for number in range(8)]
    found = evidence((ours, theirs))
    assert found == evidence((plain, plain))
    assert {cause for cause, *_ in found} <= {"carried", "dtype", "duplicate", "container"}
    assert {kind for *_, kind in found} <= {"proved", "parsed"}
