"""The tar layout of PyTorch 0.1, written here as ``torch.save`` of that time wrote it."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sizeforensics import formats
from sizeforensics.errors import Corrupt, FormatError, Truncated, Unrecognized
from sizeforensics.formats.encodings import tar_archive
from sizeforensics.inventory import Inventory
from sizeforensics.source import MemorySource
from sizeforensics.spans import ALIGNMENT, CONTAINER, PICKLE, TENSOR_DATA, UNCLAIMED
from tests.old_torch import Old, old, tarred
from tests.torch_files import read

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


STATE = OrderedDict(
    [("a.weight", torch.arange(12.0).reshape(3, 4)), ("a.bias", torch.ones(3, dtype=torch.int64))]
)
SMALL = old(STATE)


def said(inventory: Inventory, words: str) -> bool:
    return any(words in warning for warning in inventory.warnings)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_members_are_accounted_to_the_byte(protocol: int) -> None:
    inventory = read(old(STATE, protocol))
    assert inventory.format == "pytorch-tar"
    assert inventory.warnings == ()
    assert [(tensor.name, tensor.dtype.name, tensor.shape, tensor.strides)
            for tensor in inventory.tensors] == [
        ("a.weight", "float32", (3, 4), (4, 1)), ("a.bias", "int64", (3,), (1,)),
    ]  # fmt: skip
    by_subject = inventory.bytes_by_subject()
    assert by_subject[TENSOR_DATA, "tensors"] == (48 + 24, 2)
    # Each member has a header of its own, and a pax header before it for the time.
    assert by_subject[CONTAINER, "member headers"][0] == 4 * 2 * 512 + 4 * len("20 mtime=1500000000.5\n")
    assert by_subject[CONTAINER, "end of the archive"] == (1024, 1)
    assert (ALIGNMENT, "member padding") in by_subject
    assert by_subject[PICKLE, "tensor descriptions"][0] > 2 * (8 + 16 + 8)
    assert inventory.bytes_by_role()[UNCLAIMED] == 0
    assert dict(inventory.metadata) == {"protocol_version": "1000", "little_endian": "True"}


def test_views_share_storages() -> None:
    whole = torch.arange(10.0)
    inventory = read(old({"whole": whole, "part": whole[4:6], "same": whole, "step": whole[::3]}))
    assert len(inventory.storages) == 1
    assert [(tensor.name, tensor.offset, tensor.shape, tensor.strides)
            for tensor in inventory.tensors] == [
        ("whole", 0, (10,), (1,)), ("part", 4, (2,), (1,)), ("same", 0, (10,), (1,)),
        ("step", 0, (4,), (3,)),
    ]  # fmt: skip


def test_parts_of_storages_with_numbers_of_their_own() -> None:
    writer = Old()
    tensor = torch.arange(10.0)
    members = writer.write({"a": tensor})
    root = next(iter(writer.storages))
    target = root + 1
    members["storages"] = members["storages"].removesuffix(pickle.dumps([], 2))
    members["storages"] += pickle.dumps([(target, root, 3, 5)], 2)
    members["tensors"] = pickle.dumps(1, 2) + pickle.dumps(
        (tensor._cdata, target, torch.FloatTensor), 2
    ) + struct.pack("<i4xqqq", 1, 4, 1, 1)
    inventory = read(tarred(members))
    assert [(found.offset, found.shape) for found in inventory.tensors] == [(4, (4,))]
    assert inventory.warnings == ()


def test_parameters_and_modules() -> None:
    """Parameters were objects of their own with the tensor as argument."""

    class Parameter:
        def __init__(self, data: torch.Tensor) -> None:
            self.data = data

        def __reduce__(self) -> Any:
            return nn.Parameter, (self.data,), (True, False, OrderedDict())

    module = nn.Linear(2, 2)
    state = dict(module.__dict__)
    state["_parameters"] = OrderedDict(
        (name, Parameter(value.data)) for name, value in module._parameters.items()
    )
    module.__dict__ = state
    inventory = read(old(module))
    assert [(tensor.name, tensor.shape, tensor.use) for tensor in inventory.tensors] == [
        ("weight", (2, 2), "weight"), ("bias", (2,), "weight"),
    ]  # fmt: skip
    assert inventory.modules[0].class_path == "torch.nn.modules.linear.Linear"


# --- what is odd or refused -----------------------------------------------------------------------


def test_the_last_member_of_a_name_counts() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as tar:
        for name, data in [("pickle", b"junk"), *Old().write(STATE).items(), ("else", b"x")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    inventory = read(out.getvalue())
    assert len(inventory.tensors) == 2
    assert inventory.bytes_by_subject()[UNCLAIMED, "records nothing refers to"] == (5, 2)
    assert said(inventory, "2 members have data that nothing in the archive refers to: 'pickle'")


def test_bytes_that_nothing_announces_are_shown() -> None:
    members = Old().write(STATE)
    inventory = read(tarred({name: data + b"more" for name, data in members.items()}))
    assert inventory.bytes_by_subject()[UNCLAIMED, "bytes behind the pickle"] == (16, 4)
    data = bytearray(SMALL)
    data[-1] = 1
    inventory = read(bytes(data))
    assert said(inventory, "1 stretch of padding holds something else than zeros")
    assert inventory.bytes_by_role()[UNCLAIMED] > 0


def changed(**members: bytes) -> bytes:
    return tarred(Old().write(STATE) | members)


ONE = pickle.dumps(1, 2)
STORAGE = pickle.dumps((5, "cpu", torch.FloatStorage), 2)
REFUSED = {
    "no number of storages": changed(storages=pickle.dumps("1", 2)),
    "a million storages": changed(storages=pickle.dumps(1_000_000, 2) + STORAGE + bytes(8)),
    "negative number of storages": changed(storages=pickle.dumps(-1, 2)),
    "a storage of two fields": changed(storages=ONE + pickle.dumps((5, "cpu"), 2) + bytes(8)),
    "a storage of -1 elements": changed(storages=ONE + STORAGE + b"\xff" * 8),
    "a storage of 2**62 elements": changed(storages=ONE + STORAGE + struct.pack("<q", 1 << 62)),
    "a storage of unknown type": changed(
        storages=ONE + pickle.dumps((5, "cpu", torch.Tensor), 2) + bytes(8)
    ),
    "no views": changed(storages=ONE + STORAGE + bytes(8)),
    "a view that is longer": changed(
        storages=ONE + STORAGE + bytes(8) + pickle.dumps([(6, 5, 0, 1)], 2)
    ),
    "a tensor without a storage": changed(
        tensors=ONE + pickle.dumps((1, 2, torch.FloatTensor), 2) + bytes(16)
    ),
    "a tensor cut short": changed(tensors=Old().write(STATE)["tensors"][:-1]),
    "an empty pickle": changed(pickle=b""),
    "wrong checksum": SMALL[:10] + b"x" + SMALL[11:],
    "no end": SMALL[: len(SMALL) // 10240 * 10240 - 10240],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(REFUSED[kind])
    assert str(caught.value).isprintable()


def test_absurd_numbers_of_dimensions() -> None:
    key = 7
    storages = ONE + STORAGE + bytes(8) + pickle.dumps([], 2)
    for rank in (-1, 1 << 30):
        tensors = ONE + pickle.dumps((key, 5, torch.FloatTensor), 2) + struct.pack("<i4x", rank)
        with pytest.raises(Corrupt, match="number of dimensions"):
            read(changed(storages=storages, tensors=tensors + bytes(1000)))


def test_tensors_that_reach_past_their_storage_are_flagged() -> None:
    writer = Old()
    members = writer.write({"a": torch.ones(3)})
    members["tensors"] = members["tensors"][:-24] + struct.pack("<qqq", 1 << 62, 1 << 62, 0)
    inventory = read(tarred(members))
    assert said(inventory, "describes tensor a, but")
    assert inventory.tensors[0].storage is None


def header(size: bytes, name: bytes = b"storages", kind: bytes = b"0") -> bytes:
    data = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0"))
    data += b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247)
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


@pytest.mark.parametrize("size", [b"-1", b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"777777777777", b"9"])
def test_sizes_that_are_none(size: bytes) -> None:
    with pytest.raises((Corrupt, Truncated)):
        tar_archive.read(MemorySource("x", header(size) + bytes(10_000)))


def test_sizes_in_base_256() -> None:
    data = header(b"\x80" + (5).to_bytes(11, "big")) + b"hello".ljust(512, b"\0") + bytes(1024)
    archive = tar_archive.read(MemorySource("x", data))
    assert [(member.name, member.end - member.start) for member in archive.members] == [
        ("storages", 5)
    ]  # fmt: skip
    assert archive.notes.finish() == ("the archive ends inside a record: the file may be cut short",)


@pytest.mark.parametrize("records", [b"5 a=b", b"0 a=b\n", b"9999999 a=b\n", b"x", b"7 a=bb\r", b"12 size=-1\n"])
def test_pax_records_that_are_none(records: bytes) -> None:
    data = header(b"%o" % len(records), kind=b"x") + records.ljust(512, b"\0")
    data += header(b"0") + bytes(1024)
    with pytest.raises(FormatError):
        tar_archive.read(MemorySource("x", data))


def test_a_tar_archive_of_other_things_is_named() -> None:
    with pytest.raises(Unrecognized, match="a tar archive: unpack it first"):
        read(tarred({"readme": b"x", "pickle": b"x"}))


def test_every_truncation_is_refused_or_loses_padding_only() -> None:
    whole = read(SMALL)
    for cut in [*range(0, len(SMALL), 61), len(SMALL) - 1]:
        try:
            inventory = read(SMALL[:cut])
        except FormatError:
            continue
        assert said(inventory, "ends inside a record")
        assert inventory.tensors == whole.tensors


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=3))
def test_damage_is_refused_or_explained(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    message = ""
    try:
        inventory = formats.read_source(MemorySource("x", bytes(data)))
    except FormatError as refusal:
        message = str(refusal)
    else:
        assert inventory.nbytes == len(data)
    assert message.isprintable()
