"""Checkpoints from before torch 1.6: pickles one after the other, then storages."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from sizeforensics.errors import Corrupt, FormatError, Truncated, Unrecognized, Unsupported
from sizeforensics.inventory import Inventory
from sizeforensics.spans import CONTAINER, NAMES, PICKLE, TENSOR_DATA, UNCLAIMED
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.torch_files import read, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

MAGIC = 0x1950A86A20F9469CFC6C
STATE = OrderedDict([("a.weight", torch.arange(12.0).reshape(3, 4)), ("a.bias", torch.ones(3))])


def legacy(value: object, **options: Any) -> bytes:
    return saved(value, _use_new_zipfile_serialization=False, **options)


SMALL = legacy(STATE)


def said(inventory: Inventory, words: str) -> bool:
    return any(words in warning for warning in inventory.warnings)


class Storage:
    """Something that pickles into a persistent id of a storage."""

    def __init__(self, *value: object) -> None:
        self.value = ("storage", *value)


def handmade(
    storages: list[tuple[str, type, int, Any]],
    keys: object,
    tail: bytes,
    *,
    protocol_version: object = 1001,
    system: object = None,
    protocol: int = 2,
) -> bytes:
    """A file with one tensor ``t0``, ``t1``, ... of two elements for each of ``storages``: key,
    type, number of elements, view."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return value.value if isinstance(value, Storage) else None

    class Tensor:
        def __init__(self, storage: Storage) -> None:
            self.storage = storage

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor, (self.storage, 0, (2,), (1,))

    out = io.BytesIO()
    out.write(pickle.dumps(MAGIC, protocol) + pickle.dumps(protocol_version, protocol))
    out.write(pickle.dumps({"little_endian": True} if system is None else system, protocol))
    Pickler(out, protocol).dump({
        f"t{number}": Tensor(Storage(kind, key, "cpu", numel, view))
        for number, (key, kind, numel, view) in enumerate(storages)
    })  # fmt: skip
    return out.getvalue() + pickle.dumps(keys, protocol) + tail


FLOATS = [("5", torch.FloatStorage, 2, None)]
TWO = struct.pack("<qff", 2, 1.0, 2.0)


# --- what is read ---------------------------------------------------------------------------------


def test_a_checkpoint_is_pickles_and_storages() -> None:
    inventory = read(SMALL)
    assert inventory.format == "pytorch-legacy"
    assert inventory.warnings == ()
    assert [(tensor.name, tensor.shape) for tensor in inventory.tensors] == [
        ("a.weight", (3, 4)), ("a.bias", (3,)),
    ]  # fmt: skip
    by_subject = inventory.bytes_by_subject()
    assert by_subject[TENSOR_DATA, "tensors"] == (60, 2)
    assert {role for role, _ in by_subject} == {TENSOR_DATA, NAMES, PICKLE, CONTAINER}
    framing = [
        inventory.owners.names[owner] for _, _, role, owner in inventory.files[0].spans
        if role == "container"
    ]  # fmt: skip
    keys = {storage.name for storage in inventory.storages}
    assert framing[:4] == ["magic number", "protocol version", "system info", "storage keys"]
    assert set(framing[4:]) == keys
    assert ("protocol_version", "1001") in inventory.metadata


@pytest.mark.parametrize("protocol", range(1, 6))
def test_every_protocol(protocol: int) -> None:
    if protocol < 2:
        data = handmade(FLOATS, ["5"], TWO, protocol=protocol)
        assert [tensor.name for tensor in read(data).tensors] == ["t0"]
        return
    inventory = read(legacy(STATE, pickle_protocol=protocol))
    assert (inventory.format, inventory.warnings) == ("pytorch-legacy", ())
    assert len(inventory.tensors) == 2


def test_tied_tensors_and_views_share_storages() -> None:
    whole = torch.arange(100.0)
    inventory = read(legacy({"a": whole, "b": whole, "c": whole[3:5]}))
    assert [tensor.storage for tensor in inventory.tensors] == [0, 0, 0]
    assert inventory.tensors[2].offset == 3


def test_views_of_storages_count_from_the_root() -> None:
    """Versions before 0.4 had storages that were parts of others."""
    data = handmade(
        [("5", torch.FloatStorage, 4, None), ("5", torch.FloatStorage, 4, ("6", 2, 2))],
        ["5"], struct.pack("<qffff", 4, 0, 1, 2, 3),
    )  # fmt: skip
    inventory = read(data)
    assert [(tensor.storage, tensor.offset) for tensor in inventory.tensors] == [(0, 0), (0, 2)]
    assert inventory.warnings == ()


def test_a_module_keeps_its_roles() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    inventory = read(legacy({"model": module, "ema": module.state_dict()}))
    assert {tensor.use for tensor in inventory.tensors if tensor.scope == "model"} == {
        "weight", "buffer",
    }  # fmt: skip
    assert {tensor.use for tensor in inventory.tensors if tensor.scope == "ema"} == {"ema-copy"}


def test_big_endian_machines_wrote_the_same_bytes() -> None:
    inventory = read(handmade(FLOATS, ["5"], TWO, system={"little_endian": False}))
    assert said(inventory, "little-endian order on every machine")
    payload = inventory.storages[0].payload
    assert payload is not None
    assert struct.unpack("<ff", payload.read(0, 8)) == (1.0, 2.0)


# --- what is odd ----------------------------------------------------------------------------------


def test_trailing_bytes_are_unclaimed() -> None:
    inventory = read(SMALL + b"more")
    assert inventory.bytes_by_role()[UNCLAIMED] == 4
    assert said(inventory, "4 bytes follow the last storage")
    inventory = read(SMALL + SMALL)
    assert inventory.bytes_by_role()[UNCLAIMED] == len(SMALL)
    assert said(inventory, "begin like another checkpoint")


def test_a_key_that_is_missing_or_listed_twice() -> None:
    inventory = read(handmade([*FLOATS, ("6", torch.FloatStorage, 2, None)], ["5"], TWO))
    assert said(inventory, "1 storage is missing: '6'")
    assert [tensor.storage for tensor in inventory.tensors] == [0, None]
    inventory = read(handmade(FLOATS, ["5", "5"], TWO + TWO))
    assert said(inventory, "the last time counts: '5'")
    assert inventory.tensors[0].storage == 1


@pytest.mark.parametrize("numel, storage", [(0, None), (1, None), (3, 0)])
def test_another_number_of_elements(numel: int, storage: int | None) -> None:
    inventory = read(handmade(FLOATS, ["5"], struct.pack("<q", numel) + bytes(4 * numel)))
    assert said(inventory, "has another size than the pickle declares")
    assert inventory.tensors[0].storage == storage


def test_a_magic_number_that_is_computed_is_none() -> None:
    class Computed:
        def __reduce__(self) -> Any:
            return int, ("119547037146038801333356",)

    with pytest.raises(Unrecognized, match=r"a pickle .* that holds no tensor"):
        read(pickle.dumps(Computed(), 2) + SMALL[15:])


# --- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[bytes, type[FormatError]]] = {
    "another version": (handmade(FLOATS, ["5"], TWO, protocol_version=1000), Unsupported),
    "a version that is none": (handmade(FLOATS, ["5"], TWO, protocol_version=[]), Unsupported),
    "an unknown key": (handmade(FLOATS, ["6"], TWO), Corrupt),
    "keys that are none": (handmade(FLOATS, {"5": 1}, TWO), Corrupt),
    "keys of bytes": (handmade(FLOATS, [b"5"], TWO), Corrupt),
    "-1 elements": (handmade(FLOATS, ["5"], b"\xff" * 8), Corrupt),
    "2**62 elements": (handmade(FLOATS, ["5"], struct.pack("<q", 1 << 62)), Truncated),
    "no count": (handmade(FLOATS, ["5"], bytes(7)), Truncated),
    "no elements": (handmade(FLOATS, ["5"], TWO[:-1]), Truncated),
    "an unknown type": (handmade([("5", torch.Tensor, 2, None)], ["5"], TWO), Unsupported),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    data, error = REFUSED[kind]
    with pytest.raises(error) as caught:
        read(data)
    assert str(caught.value).isprintable()


def test_every_truncation_is_refused() -> None:
    assert accepted_cuts(SMALL, range(len(SMALL))) == []


@settings(max_examples=200, deadline=None)
@given(damaged(SMALL))
def test_damage_is_refused_or_explained(data: bytes) -> None:
    read_or_refuse(data)
