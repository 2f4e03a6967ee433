"""Laws that hold for any bytes: a file is explained to the byte, or refused in one line."""

from __future__ import annotations

import io
import struct
import zipfile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics import formats
from sizeforensics.errors import FormatError
from sizeforensics.formats.encodings import zip_archive
from sizeforensics.inventory import Inventory
from sizeforensics.source import MemorySource
from sizeforensics.spans import TENSOR_DATA, Owners, SpanSink


def _checkpoint() -> bytes:
    out = io.BytesIO()
    weight = torch.arange(6.0)
    torch.save({"a.weight": weight, "a.view": weight[::2], "b": torch.ones(3).half()}, out)
    return out.getvalue()


def _deflated() -> bytes:
    out = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(CHECKPOINT))
    with old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


CHECKPOINT = _checkpoint()
DEFLATED = _deflated()
WHOLE = st.sampled_from([CHECKPOINT, DEFLATED])
INTERESTING = [0, 1, 2, 7, 8, 0x7F, 0x80, 0xFE, 0xFF]
NUMBERS = st.sampled_from([
    struct.pack(f"<{code}", value)
    for code, width in (("H", 16), ("I", 32), ("Q", 64))
    for value in (0, 1, 2, (1 << width) - 1, (1 << width) - 2, 1 << (width - 2), 1000)
])  # fmt: skip


def explained_or_refused(data: bytes) -> Inventory | None:
    """The constructors of spans and inventory raise unless every byte has one owner."""
    try:
        inventory = formats.read_source(MemorySource("model.pt", data))
    except FormatError as refusal:
        message = str(refusal)
    else:
        return explained(inventory, len(data))
    assert message.isprintable()
    return None


def explained(inventory: Inventory, size: int) -> Inventory:
    assert inventory.nbytes == size
    for warning in inventory.warnings:
        assert warning.isprintable()
    for tensor in inventory.tensors:
        if tensor.storage is not None:
            storage = inventory.storages[tensor.storage]
            if tensor.elements:
                reach = tensor.offset + sum(
                    (size - 1) * stride
                    for size, stride in zip(tensor.shape, tensor.strides, strict=True)
                )
                assert tensor.dtype.nbytes(reach + 1) <= storage.nbytes
    for storage in inventory.storages:
        if storage.payload is not None:
            try:
                storage.payload.read(0, storage.nbytes)
            except FormatError:
                assert storage.encoding == "deflate"
    return inventory


@settings(max_examples=400, deadline=None)
@given(WHOLE, st.data())
def test_any_changed_bytes_are_explained_or_refused(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(changed) - 1))
        changed[at] = draw.draw(st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)))
    explained_or_refused(bytes(changed))


@settings(max_examples=200, deadline=None)
@given(WHOLE, st.data())
def test_any_overwritten_number_is_explained_or_refused(data: bytes, draw: st.DataObject) -> None:
    # Numbers live in headers: aim at the directory and the end records half of the time.
    low = draw.draw(st.sampled_from([0, data.index(b"PK\x01\x02")]))
    at = draw.draw(st.integers(low, len(data) - 1))
    number = draw.draw(NUMBERS)
    explained_or_refused((data[:at] + number + data[at + len(number) :])[: len(data)])


@settings(max_examples=150, deadline=None)
@given(WHOLE, st.data())
def test_any_cut_or_inserted_range_is_explained_or_refused(
    data: bytes, draw: st.DataObject
) -> None:
    start, end = sorted((draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, len(data)))))
    explained_or_refused(data[:start] + draw.draw(st.binary(max_size=40)) + data[end:])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_explained_or_refused(data: bytes) -> None:
    explained_or_refused(data)
    explained_or_refused(b"PK\x03\x04" + data)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
        st.binary(max_size=2000), max_size=6,
    ),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.binary(max_size=50), st.binary(max_size=50),
)  # fmt: skip
def test_any_archive_of_zipfile_is_read_back(
    records: dict[str, bytes], method: int, prefix: bytes, comment: bytes
) -> None:
    out = io.BytesIO(prefix)
    out.seek(len(prefix))
    with zipfile.ZipFile(out, "a" if not prefix else "w", method) as new:
        for name, data in records.items():
            new.writestr(zipfile.ZipInfo(name.replace("\\", "/")), data, method)
        new.comment = comment.replace(b"PK\x05\x06", b"")
    source = MemorySource("any.zip", out.getvalue())
    archive = zip_archive.read(source)
    read_back = {
        entry.name: archive.content(entry).read(0, entry.nbytes) for entry in archive.entries
    }
    assert read_back == {name.replace("\\", "/"): data for name, data in records.items()}
    sink, owners = SpanSink(), Owners()
    archive.claim_framing(sink, owners)
    for entry in archive.entries:
        sink.add(entry.start, entry.end, TENSOR_DATA, owners.add(entry.name, "data"))
    spans = sink.finish(source.size, owners.add("gap", "gap"))
    assert "gap" not in [owners.names[owner] for *_, owner in spans]
