"""What ONNX graphs say about quantised tensors: packing, axes, blocks, zero points, scales further down."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sizeforensics import formats
from sizeforensics.inventory import Inventory
from sizeforensics.matching import Match, match
from sizeforensics.source import MemorySource
from tests.builders import artifact, tensor_causes
from tests.builders import diff as ledger_of
from tests.renaming import renamed
from tests.work import grows_linearly

Array = npt.NDArray[Any]


def model(*nodes: onnx.NodeProto, **stored: Array) -> Inventory:
    initializers = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(list(nodes), "g", [], [], initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return formats.read_source(MemorySource("q.onnx", proto.SerializeToString()))


def contributed(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], domain="com.microsoft", **attributes)


def found(weight: Array, quantized: Inventory) -> Match:
    """The one match, the same under other names and from the other side."""
    before = artifact({"weight": weight})
    (only,) = match(before, quantized).matches
    (mirrored,) = match(quantized, before).matches
    (other,) = match(renamed(before, 1), renamed(quantized, 2)).matches
    assert only.evidence == mirrored.evidence
    if only.evidence == "proved":
        assert other.evidence == "proved"
    return only


def evidence(weight: Array, quantized: Inventory) -> str:
    """Like ``found``; ``none`` where nothing is matched at all."""
    matches = match(artifact({"weight": weight}), quantized).matches
    return matches[0].evidence if matches else "none"


# MatMulNBits: rows of K codes in whole blocks, the first code in the low bits


def packed(codes: Array, bits: int) -> Array:
    """Rows of codes as bytes."""
    per_byte = 8 // bits
    filled = np.pad(codes.astype(np.uint8), ((0, 0), (0, -codes.shape[1] % per_byte)))
    parts = filled.reshape(len(codes), -1, per_byte) << (np.arange(per_byte, dtype=np.uint8) * bits)
    return parts.sum(axis=2).astype(np.uint8)


class Blocks:
    """A weight of ``rows`` x ``columns``, and what a quantiser stores for it."""

    def __init__(
        self, bits: int, *, rows: int = 24, columns: int = 64, block: int = 16, shifted: bool = False
    ) -> None:
        rng = np.random.default_rng(bits)
        self.attributes = {"N": rows, "K": columns, "bits": bits, "block_size": block}
        blocks = -(-columns // block)
        self.weight = rng.normal(size=(rows, columns)).astype(np.float32)
        self.scales = rng.uniform(0.5, 1.5, (rows, blocks)).astype(np.float32) * 6 / (1 << bits)
        # Symmetric quantisers write negative scales where the largest element is positive.
        self.scales[::2] *= -1
        low, high = (0, 1 << bits) if shifted else (1 << bits - 1, (1 << bits - 1) + 1)
        self.zeros = rng.integers(low, high, (rows, blocks))
        self.index = np.arange(columns) // block
        self.shifted = shifted

    def stored(self) -> dict[str, Array]:
        columns, block = self.attributes["K"], self.attributes["block_size"]
        most = (1 << self.attributes["bits"]) - 1
        codes = np.rint(self.weight / self.scales[:, self.index]) + self.zeros[:, self.index]
        codes = np.pad(np.clip(codes, 0, most), ((0, 0), (0, -columns % block)))
        data = packed(codes, self.attributes["bits"])
        arrays = {"q": data.reshape(len(data), self.scales.shape[1], -1), "s": self.scales}
        if self.shifted:
            arrays["z"] = packed(self.zeros, self.attributes["bits"])
        return arrays

    def inventory(self, **changed: Array) -> Inventory:
        stored = {**self.stored(), **changed}
        inputs = ["x", "q", "s", *(["z"] if self.shifted else [])]
        return model(contributed("MatMulNBits", inputs, **self.attributes), **stored)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shifted", [False, True], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("transposed", [False, True], ids=["rows", "columns"])
def test_packed_blocks_are_the_codes_they_hold(bits: int, shifted: bool, transposed: bool) -> None:
    blocks = Blocks(bits, shifted=shifted)
    after = blocks.inventory()
    codes = after.tensors[0]
    assert (codes.dtype.name, codes.shape) == (f"uint{bits}", (24, 64))
    weight = blocks.weight.T.copy() if transposed else blocks.weight
    only = found(weight, after)
    assert (only.evidence, only.how) == (
        "proved",
        "quantised in blocks of 16 along axis 1, with zero points: within half a step of the stored scale s",
    )


def test_what_fills_up_the_last_block_has_no_counterpart() -> None:
    blocks = Blocks(4, columns=40, shifted=True)
    after = blocks.inventory()
    assert found(blocks.weight, after).elements == 24 * 40
    causes = tensor_causes(ledger_of(artifact({"weight": blocks.weight}), after))
    assert causes["carried"] == (480, 480)
    assert causes["dtype"] == (3360, 0)
    assert causes["shape"] == (0, 24 * 8 // 2)
    assert causes["quantization-parameters"] == (0, 24 * 3 * 4 + 24 * 2)


def test_groups_say_which_scale_a_column_has() -> None:
    blocks = Blocks(4)
    blocks.index = np.random.default_rng(3).permutation(blocks.index)
    stored = {**blocks.stored(), "g": blocks.index.astype(np.int32)}
    node = contributed("MatMulNBits", ["x", "q", "s", "", "g"], **blocks.attributes)
    assert found(blocks.weight, model(node, **stored)).evidence == "proved"
    in_order = {**stored, "g": np.sort(blocks.index).astype(np.int32)}
    assert evidence(blocks.weight, model(node, **in_order)) != "proved"


def test_scales_in_a_row_are_scales_of_blocks() -> None:
    blocks = Blocks(4, shifted=True)
    stored = blocks.stored()
    flat = blocks.inventory(s=stored["s"].reshape(-1), z=stored["z"].reshape(-1))
    assert found(blocks.weight, flat).evidence == "proved"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_blocks_prove_no_other_weights(bits: int) -> None:
    blocks = Blocks(bits, shifted=True)
    retrained = blocks.weight + np.random.default_rng(9).normal(size=(24, 64)).astype(np.float32) * 0.5
    assert evidence(retrained, blocks.inventory()) != "proved"
    one_off = blocks.weight.copy()
    one_off[7, 9] += 2 * abs(blocks.scales[7, 0])
    one_off[7, 9] *= 1 if abs(one_off[7, 9]) < 3 else -1
    assert evidence(one_off, blocks.inventory()) != "proved"
    zeros = packed((blocks.zeros + 1) % (1 << bits), bits)
    assert evidence(blocks.weight, blocks.inventory(z=zeros)) != "proved"
    assert evidence(blocks.weight, blocks.inventory(s=blocks.scales * np.float32(1.3))) != "proved"
    assert evidence(blocks.weight, blocks.inventory(s=blocks.scales[::-1].copy())) != "proved"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_packed_blocks_are_proved_under_their_own_numbers_alone(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(2, 9)), data.draw(st.integers(17, 70))
    bits, block = data.draw(st.sampled_from([4, 8])), data.draw(st.sampled_from([16, 32]))
    shifted = data.draw(st.booleans())
    blocks = Blocks(bits, rows=rows, columns=columns, block=block, shifted=shifted)
    assert found(blocks.weight, blocks.inventory()).evidence == "proved"
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, max(columns // block, 1) - 1))
    scales = blocks.scales.copy()
    scales[row, column] *= np.float32(data.draw(st.sampled_from([0.5, -1, 2])))
    assert evidence(blocks.weight, blocks.inventory(s=scales)) != "proved"
    if shifted:
        zeros = blocks.zeros.copy()
        zeros[row, column] += 1 if zeros[row, column] == 0 else -1
        changed = blocks.inventory(z=packed(zeros, bits))
        assert evidence(blocks.weight, changed) != "proved"


@pytest.mark.parametrize(
    "attributes",
    [{"bits": 3}, {"bits": 0}, {"bits": 1 << 40}, {"N": 0}, {"N": -24}, {"K": 1 << 62}, {"K": 640},
     {"block_size": 0}, {"block_size": -16}, {"block_size": 48}, {"weight_prepacked": 1}],
)  # fmt: skip
def test_attributes_that_fit_no_tensor_leave_it_as_it_is(attributes: dict[str, int]) -> None:
    blocks = Blocks(4, shifted=True)
    stored = blocks.stored()
    blocks.attributes |= attributes
    inputs = ["x", "q", "s", "z"]
    after = model(contributed("MatMulNBits", inputs, **blocks.attributes), **stored)
    assert [(tensor.dtype.name, tensor.shape) for tensor in after.tensors[:1]] == [("uint8", (24, 4, 8))]
    assert evidence(blocks.weight, after) != "proved"


def test_embeddings_packed_in_bytes() -> None:
    blocks = Blocks(4)
    stored = blocks.stored()
    stored["q"] = stored["q"].reshape(24, 32)
    node = contributed(
        "GatherBlockQuantized", ["q", "i", "s"], bits=4, block_size=16, quantize_axis=1
    )
    after = model(node, **stored)
    assert (after.tensors[0].dtype.name, after.tensors[0].shape) == ("uint4", (24, 64))
    assert found(blocks.weight, after).evidence == "proved"


# Axes: for square matrices the shape of a scale says nothing


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_the_axis_of_a_square_matrix_is_the_one_that_the_node_names(axis: int) -> None:
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(32, 32)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, 32).astype(np.float32)
    along = scale[:, None] if axis in {0, -2} else scale
    codes = np.clip(np.rint(weight / along), -128, 127).astype(np.int8)
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=axis)
    only = found(weight, model(node, q=codes, s=scale))
    assert only.how.startswith(f"quantised per channel of axis {axis % 2}:")
    other = helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=0 if axis in {1, -1} else 1)
    # Neither as it is nor transposed.
    assert evidence(weight, model(other, q=codes, s=scale)) != "proved"


def test_the_default_axis_is_the_second() -> None:
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(32, 32)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, 32).astype(np.float32)
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["y"])
    for along, expected in ((scale, "proved"), (scale[:, None], "inferred")):
        codes = np.clip(np.rint(weight / along), -128, 127).astype(np.int8)
        assert evidence(weight, model(node, q=codes, s=scale)) == expected


def test_a_block_has_the_size_that_the_node_names() -> None:
    rng = np.random.default_rng(6)
    weight = rng.normal(size=(8, 50)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, (8, 3)).astype(np.float32)
    codes = np.clip(np.rint(weight / scale[:, np.arange(50) // 20]), -128, 127).astype(np.int8)
    for block, expected in ((20, "proved"), (24, "inferred")):
        node = helper.make_node("DequantizeLinear", ["q", "s"], ["y"], axis=1, block_size=block)
        assert evidence(weight, model(node, q=codes, s=scale)) == expected


# Operators that take a quantised weight: where it is, and along which axis its scales count

SQUARE = np.random.default_rng(12).normal(size=(32, 32)).astype(np.float32)
EACH = np.linspace(0.01, 0.05, 32, dtype=np.float32)

OPERATORS = {
    "QLinearMatMul": ("", "a as az q s z ys yz", {}, 1),
    "QLinearConv": ("", "a as az q s z ys yz", {}, 0),
    "MatMulIntegerToFloat": ("com.microsoft", "a q as s az z", {}, 1),
    "DynamicQuantizeMatMul": ("com.microsoft", "a q s z", {}, 1),
    "QAttention": ("com.microsoft", "a q bias as s mask az z", {"num_heads": 2}, 1),
    "QGemm": ("com.microsoft", "a as az q s z", {}, 1),
    "QGemm, transposed": ("com.microsoft", "a as az q s z", {"transB": 1}, 0),
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_say_which_axis_the_scales_of_their_weight_count_along(operator: str) -> None:
    domain, inputs, attributes, axis = OPERATORS[operator]
    for along in (0, 1):
        spread = np.expand_dims(EACH, 1 - along)
        codes = np.clip(np.rint(SQUARE / spread) + 3, -128, 127).astype(np.int8)
        names = ["q", "s", "z"]
        if operator == "QLinearConv":
            codes = codes.reshape(32, 32, 1, 1)
        node = helper.make_node(
            operator.partition(",")[0], inputs.split(), ["y"], domain=domain, **attributes
        )
        stored = [codes, EACH, np.full(32, 3, dtype=np.int8)]
        after = model(node, **dict(zip(names, stored, strict=True)))
        weight = SQUARE.reshape(codes.shape)
        assert (evidence(weight, after) == "proved") is (along == axis)
        assert {tensor.use for tensor in after.tensors[1:]} == {"quantization-parameters"}


def test_the_weights_of_a_quantised_lstm_have_scales_by_direction_and_gate() -> None:
    rng = np.random.default_rng(13)
    weight = rng.normal(size=(2, 16, 32)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, (2, 32)).astype(np.float32)
    for spread, stored in ((scale[:, None], scale), (scale[:, :1, None], scale[:, 0])):
        codes = np.clip(np.rint(weight / spread), -128, 127).astype(np.int8)
        inputs = ["x", "q", "r", "", "", "", "", "", "s", "z"]
        node = contributed("DynamicQuantizeLSTM", inputs, hidden_size=8)
        zero = np.zeros(stored.shape, dtype=np.int8)
        assert found(weight, model(node, q=codes, s=stored.copy(), z=zero)).evidence == "proved"
        wrong = model(node, q=codes, s=stored[::-1].copy(), z=zero)
        assert evidence(weight, wrong) != "proved"


# Products of integers


WEIGHT = np.random.default_rng(7).normal(size=(40, 24)).astype(np.float32)
SCALES = np.linspace(0.01, 0.05, 24, dtype=np.float32)
ZEROS = np.arange(24, dtype=np.uint8) + 100
PER_COLUMN = np.clip(np.rint(WEIGHT / SCALES) + ZEROS, 0, 255).astype(np.uint8)


def product(*more: onnx.NodeProto, scale: bool = True, **stored: Array) -> Inventory:
    """MatMulInteger of a computed operand and a stored one, as dynamic quantisation writes it."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["xq", "q", "xz", "z"], ["product"]),
        helper.make_node("Cast", ["product"], ["cast"], to=TensorProto.FLOAT),
        *more,
    ]
    if scale:
        nodes += [
            helper.make_node("Mul", ["xs", "s"], ["factor"]),
            helper.make_node("Mul", ["cast", "factor"], ["y"]),
        ]
    return model(*nodes, **stored)


def test_the_scale_of_a_product_is_found_in_what_it_is_multiplied_by() -> None:
    far = {f"far{at}": np.float32([at + 1]) for at in range(40)}
    only = found(WEIGHT, product(**{"s": SCALES, **far, "z": ZEROS, "q": PER_COLUMN}))
    assert (only.evidence, only.how) == (
        "proved",
        "quantised per channel of axis 1, with zero points: within half a step of the stored scale s",
    )


@pytest.mark.parametrize("zeros", [ZEROS + 1, ZEROS[::-1].copy(), np.uint8(100).reshape(())])
def test_the_zero_point_of_a_product_is_the_one_that_it_reads(zeros: Array) -> None:
    """Other zero points prove nothing, whether the scale is found or has to be guessed."""
    assert evidence(WEIGHT, product(q=PER_COLUMN, s=SCALES, z=zeros)) != "proved"
    alone = product(q=PER_COLUMN, z=zeros, scale=False)
    (only,) = match(artifact({"w": WEIGHT}), alone).matches
    assert "one scale puts" not in only.how


def test_a_scale_that_nobody_multiplies_by_is_inferred_with_the_zero_point_read() -> None:
    (only,) = match(artifact({"w": WEIGHT}), product(q=PER_COLUMN, z=ZEROS, scale=False)).matches
    assert only.evidence == "inferred"
    assert only.how == (
        "quantised per channel of axis 1, with zero points: one scale puts every element within half "
        "a step, but none is stored"
    )


def test_an_embedding_is_dequantised_after_its_rows_were_gathered() -> None:
    codes = np.clip(np.rint(WEIGHT / 0.02) + 120, 0, 255).astype(np.uint8)
    nodes = [
        helper.make_node("Gather", ["q", "i"], ["rows"]),
        helper.make_node("DequantizeLinear", ["rows", "s", "z"], ["y"]),
    ]
    scale, zero = np.float32(0.02).reshape(()), np.uint8(120).reshape(())
    assert found(WEIGHT, model(*nodes, q=codes, s=scale, z=zero)).evidence == "proved"
    assert evidence(WEIGHT, model(*nodes, q=codes, s=scale, z=np.uint8(121).reshape(()))) == "inferred"


# Many tensors of one shape


@pytest.mark.parametrize("stored", [True, False], ids=["stored scale", "no scale"])
def test_each_of_many_tensors_of_one_shape_finds_its_own(stored: bool) -> None:
    count, rng = 100, np.random.default_rng(8)
    weights = rng.normal(size=(count, 16, 24)).astype(np.float32)
    scales = rng.uniform(0.3, 0.6, count).astype(np.float32)
    codes = np.rint(weights / scales[:, None, None]).astype(np.int8)  # few different ones
    nodes = [
        helper.make_node("DequantizeLinear", [f"q{at}", f"s{at}"], [f"y{at}"])
        for at in range(count if stored else 0)
    ]
    order = rng.permutation(count).tolist()
    arrays = {f"q{at}": codes[at] for at in order}
    if stored:
        arrays |= {f"s{at}": scales[at].reshape(()) for at in order}
    before = artifact({f"w{at}": weights[at] for at in range(count)})
    after = model(*nodes, **arrays) if stored else artifact(arrays)
    matches = match(before, after).matches
    assert [match.before for match in matches] == list(range(count))
    assert [after.tensors[match.after].name for match in matches] == [f"q{at}" for at in range(count)]
    assert {match.evidence for match in matches} == {"proved" if stored else "inferred"}
    assert all("quantised per tensor" in match.how for match in matches)


# Work


def tower(height: int) -> list[onnx.NodeProto]:
    """Products of products: each value is read twice."""
    return [
        helper.make_node("Mul", [f"t{at}", f"t{at}"], [f"t{at + 1}"]) for at in range(height)
    ]


@pytest.mark.parametrize("case", ["one output", "one factor", "one product of many", "one tower"])
def test_looking_for_scales_costs_as_much_as_the_file_is_long(case: str) -> None:
    def read(count: int) -> Inventory:
        shared = case == "one output"
        nodes = [
            helper.make_node("MatMulInteger", [f"x{at}", "q"], ["y" if shared else f"y{at}"])
            for at in range(count)
        ]
        if case == "one factor":
            nodes += [helper.make_node("Mul", [f"y{at}", "s"], [f"z{at}"]) for at in range(count)]
        elif case == "one tower":
            nodes += [*tower(8), *(
                helper.make_node("Mul", [f"y{at}", "t8"], [f"z{at}"]) for at in range(count)
            )]  # fmt: skip
        elif case == "one product of many":
            nodes.append(helper.make_node("Mul", [f"y{at}" for at in range(count)], ["z"]))
        return model(*nodes, q=PER_COLUMN, s=SCALES, t0=SCALES)

    assert grows_linearly(read, 60)
