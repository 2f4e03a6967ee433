"""Pickles that are files of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import sizeforensics
from sizeforensics.errors import FormatError, Unrecognized
from sizeforensics.inventory import Inventory
from sizeforensics.spans import TENSOR_DATA, UNCLAIMED
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.torch_files import read, saved

VALUE: dict[str, Any] = {
    "weight": np.arange(12.0).reshape(3, 4), "names": ["x", "y"], "epoch": 3,
    "half": np.ones(5, np.float16), "big": np.arange(3, dtype=">i4"),
}  # fmt: skip
SMALL = pickle.dumps(VALUE, 2)


def elements(inventory: Inventory, name: str) -> bytes:
    tensor = next(found for found in inventory.tensors if found.name == name)
    assert tensor.storage is not None
    payload = inventory.storages[tensor.storage].payload
    assert payload is not None
    return payload.read(0, payload.size)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_a_dict(protocol: int) -> None:
    data = pickle.dumps(VALUE, protocol)
    inventory = read(data)
    assert inventory.format == "pickle"
    assert inventory.warnings == ()
    assert dict(inventory.metadata) == {
        "pickle protocol": str(protocol) if protocol > 1 else "0 or 1"
    }  # fmt: skip
    assert [(tensor.name, tensor.dtype.name, tensor.shape) for tensor in inventory.tensors] == [
        ("weight", "float64", (3, 4)), ("half", "float16", (5,)), ("big", "int32", (3,)),
    ]  # fmt: skip
    for name in ("weight", "half", "big"):
        array = VALUE[name]
        assert elements(inventory, name) == array.astype(array.dtype.newbyteorder("<")).tobytes()
    roles = inventory.bytes_by_role()
    assert roles[UNCLAIMED] == 0
    assert roles[TENSOR_DATA] >= 96 + 10 + 12


@pytest.mark.parametrize(
    ("literal", "expected"),
    [(b"\"'a\\0'\"", b"'a\0'"), (b"'\\x00\\n\\\\ab'", b"\0\n\\ab"), (b"'\\\"\\'\\000A'", b"\"'\0A")],
    ids=["quotes inside", "escapes", "escaped quotes"],
)
def test_elements_in_a_literal_of_python_2(literal: bytes, expected: bytes) -> None:
    data = pickle.dumps({"a": np.frombuffer(expected, "u1")}, 0)
    start = data.index(b"g5\n(V")
    end = data.index(b"tp22")
    inventory = read(data[:start] + b"S" + literal + b"\n" + data[end:])
    assert elements(inventory, "a") == expected


@pytest.mark.parametrize("value", [[], {}, [1, [2, (3,)]], None, 1.5, "text", {"a": {1, 2}}])
def test_things_without_tensors_are_no_models(value: object) -> None:
    for protocol in (2, 3, 4, 5):
        words = rf"a pickle \(protocol {protocol}\) that holds no tensor"
        with pytest.raises(Unrecognized, match=words):
            read(pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_without_a_beginning(protocol: int) -> None:
    """They are recognised by being a pickle from the first byte to the last."""
    data = pickle.dumps({"a": np.arange(2)}, protocol)
    assert read(data).format == "pickle"
    for other in (data + b"\n", data[:-1], b")" + data):
        with pytest.raises(Unrecognized):
            read(other)


@pytest.mark.parametrize("data", [b"", b"N.", b"I1\n.", b"(hello)\n", b"class A:\n    pass\n", b"]]"])
def test_text_is_no_pickle(data: bytes) -> None:
    with pytest.raises(Unrecognized):
        read(data)


# --- tensors of torch that torch.save has not written ---------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_lie_in_bytes(protocol: int) -> None:
    """A storage is pickled as a whole file in the legacy format."""
    whole = torch.arange(6.0)
    value = {"whole": whole, "part": whole[2:4], "half": torch.ones(3).half(), "none": torch.zeros(0)}
    inventory = read(pickle.dumps(value, protocol))
    assert inventory.warnings == ()
    assert [(tensor.name, tensor.dtype.name, tensor.shape, tensor.storage, tensor.offset)
            for tensor in inventory.tensors] == [
        ("whole", "float32", (6,), 0, 0), ("part", "float32", (2,), 1, 2),
        ("half", "float16", (3,), 2, 0), ("none", "float32", (0,), None, 0),
    ]  # fmt: skip
    # Pickle knows nothing of shared storages: each view has a copy of the whole one.
    assert inventory.bytes_by_subject()[TENSOR_DATA, "tensors"] == (24 + 24 + 6, 3)
    assert elements(inventory, "whole") == whole.numpy().tobytes()


def test_older_protocols_hide_them_in_text() -> None:
    inventory = read(pickle.dumps({"a": torch.ones(3)}, 2))
    assert "its storage is not described" in inventory.warnings[0]
    assert inventory.tensors[0].storage is None


class InBytes:
    """A tensor of two elements whose storage is what ``data`` hold."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (Storage(self.data), 0, (2,), (1,), False, {})


class Storage:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.data,)


def test_bytes_that_hold_something_else() -> None:
    storage = torch.ones(2).untyped_storage()
    whole = saved(torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32,
                                             _internal=True),
                  _use_new_zipfile_serialization=False)  # fmt: skip
    good = read(pickle.dumps(InBytes(whole), 4))
    assert good.warnings == ()
    assert good.bytes_by_role()[TENSOR_DATA] == 8
    others = [b"", b"junk", whole[:-1], whole + b"x", whole.replace(b"\x02\0\0\0\0\0\0\0", b"\xff" * 8),
              saved([torch.ones(2)], _use_new_zipfile_serialization=False), saved(torch.ones(2))]  # fmt: skip
    for data in others:
        inventory = read(pickle.dumps(InBytes(data), 4))
        assert inventory.format == "pickle"
        assert "its storage is not described" in inventory.warnings[-1]
        assert inventory.bytes_by_role()[TENSOR_DATA] == 0


def test_parameters_inside_each_other_end() -> None:
    parameter = b"\x80\x02ctorch.nn.parameter\nParameter\nq\x00"
    deep = parameter + b"0" + b"h\x00" * 10_000 + b")\x81" + b"\x85\x81" * 9_999 + b"."
    cyclic = parameter + b")\x81q\x01h\x01K\x01\x86b."
    for data in (deep, cyclic):
        assert any("nested too deep" in text for text in read(data).warnings)


def test_trailing_bytes_are_flagged() -> None:
    inventory = read(SMALL + b"x")
    assert inventory.bytes_by_subject()[UNCLAIMED, "bytes behind the pickle"] == (1, 1)
    assert inventory.warnings == ("1 byte follows the pickle",)


def test_callables_are_shown_and_never_called(tmp_path: Any) -> None:
    trap = tmp_path / "trap"

    class Harm:
        def __reduce__(self) -> Any:
            return __import__("os").system, (f"touch {trap}",)

    inventory = read(pickle.dumps({"a": Harm(), "w": np.arange(2)}, 2))
    assert any("system (shown as data, never called)" in text for text in inventory.warnings)
    assert not trap.exists()


def test_a_frame_that_lies_is_refused() -> None:
    with pytest.raises(FormatError):
        read(b"\x80\x04\x95" + b"\xff" * 8 + b"N.")


def test_every_truncation_is_refused() -> None:
    for protocol in (2, 4):
        data = pickle.dumps(VALUE, protocol)
        assert accepted_cuts(data, range(len(data))) == []


@settings(max_examples=200, deadline=None)
@given(damaged(SMALL))
def test_damage_is_refused_or_explained(data: bytes) -> None:
    read_or_refuse(data)


ARRAY = np.random.default_rng(0).standard_normal((6, 5)).astype("<f4")


@pytest.mark.parametrize(
    ("array", "how"),
    [
        (ARRAY, "identical bytes"),
        (ARRAY.astype(">f4"), "byte order reversed, identical elements"),
        (np.asfortranarray(ARRAY), "identical elements in another order in memory"),
        (ARRAY.astype(">f8"), "byte order reversed, cast float32 -> float64"),
        (np.ascontiguousarray(ARRAY.T).astype(">f4"), "byte order reversed, axes permuted (1, 0)"),
    ],
    ids=["the same", "big-endian", "fortran", "big-endian and wider", "big-endian and transposed"],
)
def test_bytes_that_are_in_another_order_are_not_called_identical(
    array: np.ndarray, how: str, tmp_path: Path
) -> None:
    paths = tmp_path / "a.pkl", tmp_path / "b.pkl"
    for path, value in zip(paths, (ARRAY, array), strict=True):
        path.write_bytes(pickle.dumps({"a": value}))
    rows = sizeforensics.diff(*paths).rows
    assert {row.how for row in rows if row.cause in ("carried", "dtype")} == {how}
    assert {row.evidence for row in rows if row.elements} == {"proved"}


def test_joblib_puts_arrays_between_opcodes() -> None:
    """``NumpyArrayWrapper`` is pickled, then the elements follow in the middle of the pickle."""
    data = b"\x80\x04\x8c\x13joblib.numpy_pickle\x94\x8c\x11NumpyArrayWrapper\x94\x93\x94)\x81\x94\xff\xff."
    with pytest.raises(Unrecognized, match="a joblib file"):
        read(data)
    with pytest.raises(FormatError) as caught:
        read(data.replace(b"joblib", b"jxblib"))
    assert not isinstance(caught.value, Unrecognized)
