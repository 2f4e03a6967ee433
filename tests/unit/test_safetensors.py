"""safetensors: what the crate refuses is refused, what it reads is explained to the byte."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics import formats
from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated, Unsupported
from sizeforensics.formats.safetensors import read_header
from sizeforensics.inventory import Inventory
from sizeforensics.limits import Limits
from sizeforensics.source import MemorySource
from sizeforensics.spans import ALIGNMENT, METADATA, TENSOR_DATA, UNCLAIMED


def packed(header: str | bytes | dict[str, Any], data: bytes = b"") -> bytes:
    """A file with this header, not padded."""
    if isinstance(header, dict):
        header = json.dumps(header)
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {
        "dtype": dtype, "shape": [end - start] if shape is None else shape,
        "data_offsets": [start, end],
    }  # fmt: skip


def read(data: bytes, limits: Limits | None = None) -> Inventory:
    return formats.read_source(MemorySource("model.safetensors", data), limits or Limits())


SMALL = packed(
    json.dumps({"__metadata__": {"format": "pt"}, "a": entry(0, 8, "F32", [2]),
                "b": entry(8, 11)}) + "  ",
    bytes(range(11)),
)  # fmt: skip


# --- what is read ---------------------------------------------------------------------------------


def test_a_file_is_header_padding_and_tensors() -> None:
    inventory = read(SMALL)
    assert inventory.format == "safetensors"
    assert [(tensor.name, tensor.dtype.name, tensor.shape) for tensor in inventory.tensors] == [
        ("a", "float32", (2,)), ("b", "uint8", (3,)),
    ]  # fmt: skip
    assert inventory.bytes_by_subject() == {
        (METADATA, "safetensors header"): (len(SMALL) - 13, 1),
        (ALIGNMENT, "header padding"): (2, 1),
        (TENSOR_DATA, "tensors"): (11, 2),
    }
    assert inventory.metadata == (("property format", "pt"),)
    assert inventory.warnings == ()
    payload = inventory.storages[1].payload
    assert payload is not None
    assert payload.read(0, 3) == b"\x08\x09\x0a"


def test_tensors_are_in_the_order_of_their_data() -> None:
    inventory = read(packed({"z": entry(0, 1), "a": entry(1, 2), "0": entry(1, 1)}, b"zA"))
    assert [tensor.name for tensor in inventory.tensors] == ["z", "0", "a"]


@pytest.mark.parametrize("dtype, name, bits", [
    ("F4", "float4_e2m1fn", 4), ("F6_E2M3", "float6_e2m3fn", 6), ("F6_E3M2", "float6_e3m2fn", 6),
    ("F8_E8M0", "float8_e8m0fnu", 8), ("BF16", "bfloat16", 16), ("C64", "complex64", 64),
])  # fmt: skip
def test_types_of_every_width(dtype: str, name: str, bits: int) -> None:
    inventory = read(packed({"a": entry(0, bits, dtype, [2, 4])}, bytes(bits)))
    assert (inventory.tensors[0].dtype.name, inventory.tensors[0].dtype.bits) == (name, bits)
    assert inventory.tensors[0].nbytes == bits


def test_what_the_crate_ignores_is_ignored() -> None:
    extra = entry(0, 1) | {"note": [1.5, None, {"deep": True}]}
    assert len(read(packed({"a": extra}, b"x")).tensors) == 1
    assert read(packed({"__metadata__": None, "a": entry(0, 1)}, b"x")).metadata == ()
    assert read(packed({})).tensors == ()


def test_hostile_names_stay_on_one_line() -> None:
    inventory = read(packed({"\x1b[2J\n\u202e": entry(0, 1)}, b"x"))
    assert inventory.tensors[0].name == "\x1b[2J\n\u202e"
    with pytest.raises(Corrupt) as caught:
        read(packed({"\x1b[2J\n": entry(0, 1)}, b"xyz"))
    assert str(caught.value).isprintable()


# --- what is refused ------------------------------------------------------------------------------

ONE = json.dumps(entry(0, 1))
REFUSED: dict[str, bytes] = {
    "length 0": packed(b"") + b"{",
    "length 1": packed(b"{"),
    "length past the end": struct.pack("<Q", 1000) + b"{}",
    "length 2**63": struct.pack("<Q", 1 << 63) + b"{}",
    "hole at the start": packed({"a": entry(1, 2)}, b"xx"),
    "hole inside": packed({"a": entry(0, 1), "b": entry(2, 3)}, b"xxx"),
    "overlap": packed({"a": entry(0, 2), "b": entry(1, 3)}, b"xxx"),
    "the same data twice": packed({"a": entry(0, 1), "b": entry(0, 1)}, b"x"),
    "tail": packed({"a": entry(0, 1)}, b"xy"),
    "no data": packed({"a": entry(0, 1)}),
    "descending offsets": packed({"a": entry(1, 0, shape=[1])}, b"x"),
    "another size": packed({"a": entry(0, 1, shape=[2])}, b"x"),
    "half a byte": packed({"a": entry(0, 1, "F4", [3])}, b"x"),
    "unknown type": packed({"a": entry(0, 1, "X8")}, b"x"),
    "type in a list": packed({"a": entry(0, 1) | {"dtype": ["U8"]}}, b"x"),
    "negative size": packed({"a": entry(0, 1, shape=[-1, -1])}, b"x"),
    "2**64 elements": packed({"a": entry(0, 0, shape=[0, 1 << 64])}),
    "overflowing shape": packed({"a": entry(0, 1, shape=[1 << 32, 1 << 32])}, b"x"),
    "real size": packed({"a": entry(0, 1, shape=[1.0])}, b"x"),
    "minus zero": packed(b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'),
    "true as size": packed({"a": entry(0, 1, shape=[True])}, b"x"),
    "three offsets": packed({"a": entry(0, 1) | {"data_offsets": [0, 1, 1]}}, b"x"),
    "no shape": packed({"a": {"dtype": "U8", "data_offsets": [0, 1]}}, b"x"),
    "a tensor that is none": packed({"a": 1}),
    "metadata of numbers": packed({"__metadata__": {"a": 1}}),
    "metadata in a list": packed({"__metadata__": []}),
    "the same key twice": packed(f'{{"a":{ONE},"a":{ONE}}}', b"x"),
    "the same field twice": packed(
        b'{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', b"x"
    ),
    "NaN": packed(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x"),
    "Infinity": packed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,-Infinity]}}', b"x"),
    "100,000 digits": packed(
        f'{{"a":{{"dtype":"U8","shape":[1],"data_offsets":[0,{"9" * 100_000}]}}}}', b"x"
    ),
    "a million dimensions": packed({"a": entry(0, 1, shape=[1] * 1_000_000)}, b"x"),
    "deep": packed('{"a":' + "[" * 1_000_000 + "]" * 1_000_000 + "}"),
    "deep behind quotes": packed('{"\\"\\\\":' + '{"":' * 200 + "1" + "}" * 201),
    "not closed": packed(b'{"a":"'),
    "half a surrogate": packed(f'{{"\\ud800":{ONE}}}', b"x"),
    "invalid UTF-8": packed(b'{"\xff":1}'),
    "a long name": packed('{"' + "x" * 1_000_000 + '":1}'),
    "two values": packed(b"{}{}"),
    "trailing comma": packed(b'{"a":1,}'),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(REFUSED[kind])
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


def test_more_values_than_allowed() -> None:
    data = packed('{"a":[' + "1," * 999 + "1]}")
    read_limits = Limits(json_values=1_001)
    with pytest.raises(LimitExceeded, match="json_values"):
        read(data, read_limits)
    with pytest.raises(Corrupt, match="tensor 'a'"):
        read(data, Limits(json_values=1_002))  # the marks around them, too


def test_a_header_at_the_limit_is_read() -> None:
    data = packed(b"{}" + b" " * 98)
    assert read_header(MemorySource("x", data), Limits(json_bytes=100)).entries == []
    with pytest.raises(LimitExceeded, match="json_bytes"):
        read(packed(b"{}" + b" " * 99), Limits(json_bytes=100))
    # What the file does not have is no matter of limits.
    with pytest.raises(Truncated, match="100,000,001"):
        read(struct.pack("<Q", 100_000_001) + b"{}")


def test_a_wide_character_counts_for_all_of_them() -> None:
    header = json.dumps({"__metadata__": {"a": "n" * 96 + "\U0001f600"}}, ensure_ascii=False).encode()
    characters = len(header.decode())
    assert read_header(MemorySource("x", packed(header)), Limits(json_bytes=4 * characters)).metadata
    with pytest.raises(LimitExceeded, match=f"{4 * characters} bytes once decoded"):
        read(packed(header), Limits(json_bytes=4 * characters - 1))


def test_every_truncation_is_refused() -> None:
    for cut in range(len(SMALL)):
        with pytest.raises(FormatError):
            read(SMALL[:cut])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=3))
def test_damage_is_refused_or_explained(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    try:
        inventory = read(bytes(data))
    except FormatError as refusal:
        message = str(refusal)
    else:
        message = ""
        assert inventory.nbytes == len(data)
        assert inventory.bytes_by_role()[UNCLAIMED] == 0
    assert message.isprintable()


# --- shards ---------------------------------------------------------------------------------------


def shards(folder: Path, **changes: Any) -> str:
    """An index and two shards; the path of the index."""
    (folder / "model-1.safetensors").write_bytes(packed({"a": entry(0, 2), "b": entry(2, 3)}, b"abc"))
    (folder / "model-2.safetensors").write_bytes(packed({"c": entry(0, 4)}, b"wxyz"))
    index = {
        "metadata": {"total_size": 7},
        "weight_map": {
            "c": "model-2.safetensors", "a": "model-1.safetensors", "b": "model-1.safetensors",
        },
    } | changes  # fmt: skip
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2))
    return str(path)


def test_an_index_and_its_shards_are_one_artifact(tmp_path: Path) -> None:
    path = shards(tmp_path)
    inventory = formats.read(path)
    assert inventory.format == "safetensors"
    assert [Path(file.path).name for file in inventory.files] == [
        "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors",
    ]  # fmt: skip
    assert inventory.nbytes == sum(item.stat().st_size for item in tmp_path.iterdir())
    assert [(tensor.name, tensor.storage) for tensor in inventory.tensors] == [
        ("a", 0), ("b", 1), ("c", 2),
    ]  # fmt: skip
    assert [(storage.file, storage.nbytes) for storage in inventory.storages] == [
        (1, 2), (1, 1), (2, 4),
    ]  # fmt: skip
    assert inventory.bytes_by_subject()[METADATA, "safetensors index"] == (
        Path(path).stat().st_size, 1,
    )  # fmt: skip
    assert inventory.metadata == (("property total_size", "7"),)
    assert inventory.warnings == ()


def test_a_missing_shard_is_a_warning(tmp_path: Path) -> None:
    path = shards(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    inventory = formats.read(path)
    assert len(inventory.files) == 2
    assert inventory.warnings == (
        "1 shard is not read (no such file or directory): 'model-2.safetensors'",
    )


@pytest.mark.parametrize("location", ["../x", "/etc/passwd", "a/../../x", "https://x/y", "n\0l", "."])
def test_shards_elsewhere_are_not_opened(tmp_path: Path, location: str) -> None:
    inventory = formats.read(shards(tmp_path, weight_map={"a": location}))
    assert len(inventory.files) == 1
    assert "1 shard is not read (its location" in inventory.warnings[0]
    assert inventory.warnings[0].isprintable()


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = shards(tmp_path)
    secret = tmp_path.parent / f"{tmp_path.name}-secret"
    (tmp_path / "model-2.safetensors").rename(secret)
    (tmp_path / "model-2.safetensors").symlink_to(secret)
    assert "a symbolic link" in formats.read(path).warnings[0]
    (tmp_path / "model-2.safetensors").unlink()
    os.link(secret, tmp_path / "model-2.safetensors")
    assert "hard link" in formats.read(path).warnings[0]


def test_the_index_has_to_agree_with_the_shards(tmp_path: Path) -> None:
    one, two = "model-1.safetensors", "model-2.safetensors"
    inventory = formats.read(shards(tmp_path, weight_map={"a": one, "b": two, "d": two}))
    assert inventory.warnings == (
        "2 tensors are in a shard without being listed for it: 'b' and 1 more",
        "1 tensor is not in the shard the index names: 'd'",
    )
    inventory = formats.read(shards(tmp_path, metadata={"total_size": 8}))
    assert inventory.warnings == ("the index says the tensors have 8 bytes, the shards hold 7",)
    path = shards(tmp_path)
    (tmp_path / two).write_bytes(packed({"a": entry(0, 1), "c": entry(1, 4)}, b"wxyz"))
    assert formats.read(path).warnings == ("1 tensor is in several shards: 'a'",)


def test_a_broken_shard_is_refused(tmp_path: Path) -> None:
    path = shards(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(SMALL[:-1])
    with pytest.raises(Truncated, match=r"model-2\.safetensors"):
        formats.read(path)


def test_an_index_of_other_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"pytorch_model-1\.bin"):
        formats.read(shards(tmp_path, weight_map={"a": "pytorch_model-1.bin"}))
    for weight_map in ([], {"a": 1}, None):
        with pytest.raises(Corrupt, match="weight_map"):
            formats.read(shards(tmp_path, weight_map=weight_map))


def test_an_index_in_memory_has_no_directory(tmp_path: Path) -> None:
    data = Path(shards(tmp_path)).read_bytes()
    inventory = read(data)
    assert all("no" in warning and "directory" in warning for warning in inventory.warnings)
    assert inventory.nbytes == len(data)
