"""Pickles that are files of their own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from sizeforensics.errors import FormatError, Unrecognized
from sizeforensics.inventory import Inventory
from sizeforensics.spans import PICKLE, TENSOR_DATA, UNCLAIMED
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.torch_files import read

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


@pytest.mark.parametrize("value", [[], {}, [1, [2, (3,)]], None, 1.5, "text", {"a": {1, 2}}])
def test_things_without_tensors(value: object) -> None:
    for protocol in (2, 3, 4, 5):
        inventory = read(pickle.dumps(value, protocol))
        assert inventory.tensors == ()
        assert inventory.bytes_by_role()[PICKLE] > 0
        assert inventory.bytes_by_role()[UNCLAIMED] == 0


@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_without_a_beginning(protocol: int) -> None:
    """They are recognised by being a pickle from the first byte to the last."""
    data = pickle.dumps({"a": [1, 2]}, protocol)
    assert read(data).format == "pickle"
    for other in (data + b"\n", data[:-1], b")" + data):
        with pytest.raises(Unrecognized):
            read(other)


@pytest.mark.parametrize("data", [b"", b"N.", b"I1\n.", b"(hello)\n", b"class A:\n    pass\n", b"]]"])
def test_text_is_no_pickle(data: bytes) -> None:
    with pytest.raises(Unrecognized):
        read(data)


def test_trailing_bytes_are_flagged() -> None:
    inventory = read(SMALL + b"x")
    assert inventory.bytes_by_subject()[UNCLAIMED, "bytes behind the pickle"] == (1, 1)
    assert inventory.warnings == ("1 byte follows the pickle",)


def test_callables_are_shown_and_never_called(tmp_path: Any) -> None:
    trap = tmp_path / "trap"

    class Harm:
        def __reduce__(self) -> Any:
            return __import__("os").system, (f"touch {trap}",)

    inventory = read(pickle.dumps({"a": Harm()}, 2))
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
