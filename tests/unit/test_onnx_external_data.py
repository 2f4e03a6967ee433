"""External data: what is read, what is refused, and that every byte of every file is explained."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sizeforensics.formats import onnx as reader
from sizeforensics.formats.beside import NotReadError, components
from sizeforensics.formats.onnx_parts.external_data import extents, reference
from sizeforensics.inventory import Inventory
from sizeforensics.source import FileSource, MemorySource
from sizeforensics.spans import ROLES

Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)


def external(name: str, floats: int, **entries: object) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=[floats], data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_of(*tensors: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Use", [tensor.name for tensor in tensors], ["y"], "use")
    return helper.make_model(helper.make_graph([node], "g", [], [Y], tensors))


def read(folder: Path, *tensors: TensorProto, **files: bytes) -> Inventory:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "m.onnx").write_bytes(model_of(*tensors).SerializeToString())
    return reader.read(FileSource(str(folder / "m.onnx")))


def spans(inventory: Inventory, file: int = 1) -> list[tuple[int, int, str]]:
    return [(start, end, role) for start, end, role, _ in inventory.files[file].spans]


def values(inventory: Inventory, name: str) -> list[float]:
    (tensor,) = (tensor for tensor in inventory.tensors if tensor.name == name)
    assert tensor.storage is not None
    payload = inventory.storages[tensor.storage].payload
    assert payload is not None
    data = np.frombuffer(payload.read(0, payload.size), dtype="<f4")
    return data[tensor.offset : tensor.offset + tensor.elements].tolist()


def floats(*numbers: float) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def test_tensors_are_found_in_the_files_that_hold_them(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        external("a", 2, location="two", offset=0, length=8),
        external("b", 1, location="one"),
        external("c", 1, location="two", offset=8, length=4),
        one=floats(5), two=floats(1, 2, 3),
    )
    assert [Path(file.path).name for file in inventory.files] == ["m.onnx", "two", "one"]
    assert [values(inventory, name) for name in "abc"] == [[1, 2], [5], [3]]
    assert inventory.warnings == ()
    assert spans(inventory) == [(0, 8, "tensor-data"), (8, 12, "tensor-data")]


def test_the_onnx_package_agrees(tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.random.default_rng(at).random((at, 7)), f"w{at}")
        for at in range(1, 40)
    ]
    path = tmp_path / "m.onnx"
    onnx.save(
        model_of(*weights), path, save_as_external_data=True, location="w.bin", size_threshold=200
    )
    inventory = reader.read(FileSource(str(path)))
    loaded = {tensor.name: tensor.raw_data for tensor in onnx.load(path).graph.initializer}
    for tensor in inventory.tensors:
        assert tensor.storage is not None
        payload = inventory.storages[tensor.storage].payload
        assert payload is not None
        assert payload.read(0, payload.size) == loaded[tensor.name]
    assert inventory.warnings == ()
    assert len(inventory.files) == 2
    assert not inventory.bytes_by_role()[ROLES.index("unclaimed")]


def test_paths_are_shown_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w").write_bytes(floats(1))
    whole = model_of(external("a", 1, location="./sub//w"))
    (tmp_path / "m.onnx").write_bytes(whole.SerializeToString())
    monkeypatch.chdir(tmp_path)
    for given, beside in (("m.onnx", "sub/w"), ("./m.onnx", "./sub/w")):
        assert reader.read(FileSource(given)).files[1].path == beside


def test_gaps_are_padding_when_they_can_be_and_nobodys_otherwise(tmp_path: Path) -> None:
    data = bytearray(4096 + 70_000)
    data[0:4], data[64:68], data[4096:4100] = floats(1), floats(2), floats(3)
    data[200] = 1
    inventory = read(
        tmp_path,
        external("a", 1, location="w", offset=0, length=4),
        external("b", 1, location="w", offset=64, length=4),
        external("c", 1, location="w", offset=4096, length=4),
        w=bytes(data),
    )
    assert spans(inventory) == [
        (0, 4, "tensor-data"), (4, 64, "alignment"), (64, 68, "tensor-data"),
        (68, 4096, "unclaimed"),  # not all zero
        (4096, 4100, "tensor-data"), (4100, 74096, "unclaimed"),  # longer than any alignment
    ]
    owners = {inventory.owners.subjects[owner] for *_, role, owner in inventory.files[1].spans
              if role == "unclaimed"}  # fmt: skip
    assert owners == {"external data nobody refers to"}


@pytest.mark.parametrize(
    ("start", "end", "role"),
    [
        (4, 64, "alignment"), (4, 8, "alignment"), (8, 12, "unclaimed"), (12, 16, "alignment"),
        (64, 192, "unclaimed"), (128, 192, "unclaimed"), (132, 192, "alignment"),
        (4, 65536, "alignment"), (65540, 131072, "alignment"), (4, 131072, "unclaimed"),
    ],
)  # fmt: skip
def test_padding_is_shorter_than_the_alignment_it_reaches(
    tmp_path: Path, start: int, end: int, role: str
) -> None:
    inventory = read(
        tmp_path,
        external("a", start // 4, location="w", offset=0, length=start),
        external("b", 1, location="w", offset=end, length=4),
        w=bytes(end + 4),
    )
    assert spans(inventory)[1] == (start, end, role)


def test_equal_ranges_share_one_storage(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        external("a", 2, location="w", offset=0, length=8),
        external("b", 2, location="w", offset=0, length=8),
        w=floats(1, 2),
    )
    assert len(inventory.storages) == 1
    assert values(inventory, "a") == values(inventory, "b") == [1, 2]
    assert inventory.warnings == ()


def test_overlapping_ranges_are_views_of_one_storage(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        external("a", 3, location="w", offset=0, length=12),
        external("b", 3, location="w", offset=8, length=12),
        w=floats(1, 2, 3, 4, 5),
    )
    assert len(inventory.storages) == 1
    assert values(inventory, "a") == [1, 2, 3]
    assert values(inventory, "b") == [3, 4, 5]
    assert "shares some bytes" in inventory.warnings[0]


def test_an_overlap_out_of_step_leaves_the_tensor_without_a_view(tmp_path: Path) -> None:
    inventory = read(
        tmp_path,
        external("a", 2, location="w", offset=0, length=8),
        external("b", 2, location="w", offset=6, length=8),
        w=bytes(14),
    )
    assert [tensor.storage is None for tensor in inventory.tensors] == [False, True]
    assert spans(inventory) == [(0, 14, "tensor-data")]


def test_a_length_that_is_not_the_shapes_is_kept_without_a_view(tmp_path: Path) -> None:
    inventory = read(tmp_path, external("a", 2, location="w", offset=0, length=4), w=floats(1, 2))
    assert inventory.tensors[0].storage is None
    assert inventory.storages[0].nbytes == 4
    assert "4 bytes of external data" in inventory.warnings[0]
    assert spans(inventory) == [(0, 4, "tensor-data"), (4, 8, "unclaimed")]


def test_a_missing_length_is_the_shapes_and_said_when_the_file_goes_on(tmp_path: Path) -> None:
    inventory = read(tmp_path, external("a", 1, location="w", offset=4), w=floats(1, 2, 3))
    assert values(inventory, "a") == [2]
    assert "without a length" in inventory.warnings[0]


def not_read(inventory: Inventory, why: str) -> None:
    """The tensor is listed without payload, the model's bytes are explained, the reason is said."""
    assert [file.path for file in inventory.files] == [inventory.path]
    assert all(tensor.storage is None for tensor in inventory.tensors)
    assert len(inventory.tensors) == 1
    assert len(inventory.warnings) == 1
    assert "external data not read: " in inventory.warnings[0]
    assert why in inventory.warnings[0]
    assert inventory.warnings[0].isprintable()
    assert not inventory.bytes_by_role()[ROLES.index("unclaimed")]


LOCATIONS = {
    "../secret": "'..'",
    "sub/../../secret": "'..'",
    "sub/..": "'..'",
    "/etc/passwd": "absolute",
    "file:///etc/passwd": "scheme",
    "http://host/w": "scheme",
    "C:/w": "drive",
    "c:w": "drive",
    "sub\\w": "backslash",
    "..\\secret": "backslash",
    "w\0.bin": "NUL",
    "": "no location",
    "./": "directory",
    "sub/": "directory",
    "sub": "regular file",
    "missing": "no such file",
    "missing/w": "no such file",
    "link": "symbolic link",
    "linked/w": "",
    "loop": "symbolic link",
    "hard": "hard link",
    "fifo": "regular file",
    "m.onnx": "the model itself",
    "x" * 5000: "too long",
}


@pytest.mark.parametrize(("location", "why"), LOCATIONS.items(), ids=lambda text: repr(text)[:30])
def test_a_location_outside_or_of_another_kind_is_not_read(
    tmp_path: Path, location: str, why: str
) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for path in (tmp_path / "secret", tmp_path / "outside" / "w", folder / "sub" / "w"):
        path.write_bytes(floats(1))
    (folder / "link").symlink_to("sub/w")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to("loop")
    os.link(tmp_path / "secret", folder / "hard")
    os.mkfifo(folder / "fifo")
    not_read(read(folder, external("a", 1, location=location, offset=0, length=4)), why)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offset", "-1"), ("offset", "1_0"), ("offset", "٣"), ("offset", "1" + "0" * 400),
        ("offset", " 1"), ("offset", "+1"), ("offset", "0x10"), ("offset", "1\n"), ("offset", ""),
        ("length", "-4"), ("length", "4.0"), ("length", "９"), ("length", "nan"),
    ],
)
def test_numbers_are_plain_digits(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "w").write_bytes(floats(1))
    not_read(read(tmp_path, external("a", 1, location="w", **{key: value})), "not a decimal number")


@pytest.mark.parametrize(("offset", "length"), [(8, 4), (4, 4), (0, 8), (9 * 10**18, 4), (2, 4)])
def test_a_range_that_leaves_the_file_claims_nothing(
    tmp_path: Path, offset: int, length: int
) -> None:
    inventory = read(
        tmp_path, external("a", length // 4, location="w", offset=offset, length=length),
        w=floats(1),
    )
    assert inventory.tensors[0].storage is None
    assert "reach past the end of a file of 4 bytes" in inventory.warnings[0]
    assert spans(inventory) == [(0, 4, "unclaimed")]


def test_a_model_in_memory_has_no_directory() -> None:
    data = model_of(external("a", 1, location="w")).SerializeToString()
    not_read(reader.read(MemorySource("m.onnx", data)), "not a file with a directory")


def test_a_missing_file_is_one_warning(tmp_path: Path) -> None:
    tensors = [
        external(f"t{at}", 1, location="v" if at > 6 else "w", offset=4 * at, length=4)
        for at in range(9)
    ]
    inventory = read(tmp_path, *tensors)
    assert len(inventory.tensors) == 9
    assert [line.partition("(")[2] for line in inventory.warnings] == [
        "location 'w', 7 tensors, 't0' the first)", "location 'v', 2 tensors, 't7' the first)",
    ]


def test_of_many_missing_files_a_few_are_said_and_the_others_counted(tmp_path: Path) -> None:
    inventory = read(tmp_path, *(external(f"t{at}", 1, location=f"w{at}") for at in range(9)))
    assert inventory.warnings[-1].endswith("6 more: external data not read: no such file or directory")


def test_odd_keys_are_said(tmp_path: Path) -> None:
    tensor = external("a", 1, location="w", offset=0, length=4, checksum="0" * 40, colour="red")
    tensor.external_data.add(key="offset", value="4")
    inventory = read(tmp_path, tensor, w=floats(1, 2))
    assert values(inventory, "a") == [2]
    said = " ".join(inventory.warnings)
    assert all(word in said for word in ("'colour'", "not verified", "'offset' twice"))


def test_external_data_beside_raw_data_is_said_and_both_are_counted(tmp_path: Path) -> None:
    tensor = external("a", 1, location="w", offset=0, length=4)
    tensor.raw_data = floats(9)
    inventory = read(tmp_path, tensor, w=floats(1))
    assert values(inventory, "a") == [1]
    assert "ignored" in inventory.warnings[0]
    assert sum(storage.stored_bytes for storage in inventory.storages) == 8


def test_external_data_in_attributes_sparse_tensors_and_functions(tmp_path: Path) -> None:
    inside = external("", 1, location="w", offset=0, length=4)
    node = helper.make_node("Constant", [], ["y"], value=inside)
    function = helper.make_function(
        "local", "F", [], ["k"],
        [helper.make_node("Constant", [], ["k"], value=external("", 1, location="w", offset=4, length=4))],
        [helper.make_opsetid("", 20)],
    )  # fmt: skip
    indices = numpy_helper.from_array(np.array([0], np.int64))
    sparse = onnx.SparseTensorProto(
        values=external("s", 1, location="w", offset=8, length=4), indices=indices, dims=[5]
    )
    graph = helper.make_graph([node], "g", [], [Y], sparse_initializer=[sparse])
    whole = helper.make_model(graph, functions=[function])
    (tmp_path / "w").write_bytes(floats(1, 2, 3))
    (tmp_path / "m.onnx").write_bytes(whole.SerializeToString())
    inventory = reader.read(FileSource(str(tmp_path / "m.onnx")))
    assert len(inventory.warnings) == 3
    assert all("of a tensor that is no dense initializer" in text for text in inventory.warnings)
    assert values(inventory, "s") == [3]
    assert [tensor.use for tensor in inventory.tensors if tensor.name in "ky"] == ["constant"] * 2
    assert not inventory.files[1].spans.bytes_by_role()[ROLES.index("unclaimed")]


def test_more_files_than_descriptors_are_read(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 400
    for at in range(count):
        (tmp_path / f"w{at}").write_bytes(floats(at))
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        tensors = [external(f"t{at}", 1, location=f"w{at}") for at in range(count)]
        inventory = read(tmp_path, *tensors)
        assert [values(inventory, f"t{at}") for at in range(count)] == [[at] for at in range(count)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert inventory.warnings == ()


def test_a_file_exchanged_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sizeforensics.errors import SourceError
    from sizeforensics.formats import beside

    monkeypatch.setattr(beside, "_KEPT_OPEN", 0)
    inventory = read(tmp_path, external("a", 1, location="w"), w=floats(1))
    (tmp_path / "other").write_bytes(floats(2))
    (tmp_path / "other").rename(tmp_path / "w")
    with pytest.raises(SourceError, match="read before"):
        values(inventory, "a")


def test_a_range_is_joined_with_those_it_shares_bytes_with() -> None:
    found = extents([(0, 4), (10, 12), (3, 8), (8, 9), (5, 5), (0, 4)])
    assert [(extent.start, extent.end, extent.members) for extent in found] == [
        (0, 8, (0, 2, 5)), (8, 9, (3,)), (10, 12, (1,)),
    ]


def test_components_are_what_is_walked() -> None:
    assert components("./a//b/./c.bin") == ["a", "b", "c.bin"]
    assert components("...") == ["..."]
    with pytest.raises(NotReadError):
        components("a/../b")


def test_a_reference_needs_a_location() -> None:
    with pytest.raises(NotReadError):
        reference([("offset", "0")])
