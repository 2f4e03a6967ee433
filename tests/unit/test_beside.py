"""Links beside a model: followed into the directory that the user names, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from onnx import TensorProto, helper

import sizeforensics as sf
from sizeforensics import cli, formats
from sizeforensics.errors import SourceError
from sizeforensics.formats import beside
from tests.unit.test_safetensors import entry, packed

PAYLOAD = bytes(range(16))


def model(location: str) -> bytes:
    """An ONNX model whose four floats are at ``location``."""
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    node = helper.make_node("Use", ["w"], ["y"])
    graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("y")], [tensor])
    return helper.make_model(graph).SerializeToString()


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache as the Hugging Face hub keeps it: every file of a snapshot is a link to a blob."""
    blobs = tmp_path / "hub" / "models--me--net" / "blobs"
    snapshot = blobs.parent / "snapshots" / "1234"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    files = {
        "model.onnx": model("model.onnx_data"), "model.onnx_data": PAYLOAD,
        "shard.safetensors": packed({"a": entry(0, 16, "F32", [4])}, PAYLOAD),
        "model.safetensors.index.json": json.dumps(
            {"metadata": {}, "weight_map": {"a": "shard.safetensors"}}
        ).encode(),
    }  # fmt: skip
    for number, (name, data) in enumerate(files.items()):
        (blobs / f"{number:040x}").write_bytes(data)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", f"{number:040x}"))
    return tmp_path / "hub"


def snapshot(hub: Path, name: str = "model.onnx") -> Path:
    return hub / "models--me--net" / "snapshots" / "1234" / name


NAMES = pytest.mark.parametrize("name", ["model.onnx", "model.safetensors.index.json"])


@NAMES
def test_links_are_not_followed_unasked_and_the_warning_says_how(hub: Path, name: str) -> None:
    inventory = formats.read(str(snapshot(hub, name)))
    assert len(inventory.files) == 1
    (warning,) = inventory.warnings
    assert "not read" in warning
    assert "is a symbolic link; --follow-links DIR allows those into DIR" in warning


@NAMES
def test_links_into_the_directory_named_are_followed(hub: Path, name: str) -> None:
    for allowed in (hub, hub / "models--me--net" / "blobs"):
        inspection = sf.inspect(snapshot(hub, name), follow_links=allowed)
        assert inspection.warnings == ()
        assert len(inspection.files) == 2
        (storage,) = inspection.inventory.storages
        assert storage.payload is not None
        assert storage.payload.read(0, 16) == PAYLOAD


def test_both_sides_of_a_diff_may_be_links(hub: Path) -> None:
    found = sf.diff(
        snapshot(hub), snapshot(hub, "model.safetensors.index.json"), follow_links=hub
    )
    assert found.warnings == ()
    assert [pair.evidence for pair in found.tensors] == ["proved"]


VERBS = {
    "inspect": ["inspect", "MODEL"], "map": ["map", "MODEL"], "diff": ["diff", "MODEL", "MODEL"],
    "snapshot": ["snapshot", "MODEL", "-o", "taken.json"], "history": ["history", "MODEL", "MODEL"],
    "init": ["init", "MODEL"], "check": ["check"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_models_follows_links_when_allowed(verb, hub, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(snapshot(hub))
    if verb == "check":
        Path("sizeforensics.toml").write_text(f'[budgets.b]\npath = "{path}"\nmax_bytes = "1 GB"\n')
    arguments = [path if word == "MODEL" else word for word in VERBS[verb]]
    force = ["--force"] if verb in ("snapshot", "init") else []
    for allowed, told in (([], True), (["--follow-links", str(hub)], False)):
        assert cli.run([*arguments, *force, *allowed]) == 0
        said = capsys.readouterr().err
        if verb == "init":
            said = Path("sizeforensics.toml").read_text()
            assert (f"{(snapshot(hub)).stat().st_size:,} B" in said) is told
        elif verb == "snapshot":
            assert ("is a symbolic link" in Path("taken.json").read_text()) is told
        else:
            assert ("is a symbolic link" in said) is told


def refused(path: Path, links: Path) -> str:
    inventory = formats.read(str(path), links=str(links))
    assert len(inventory.files) == 1
    (warning,) = inventory.warnings
    return warning


def test_links_to_elsewhere_are_not_followed(hub: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(PAYLOAD)
    data = snapshot(hub, "model.onnx_data")
    data.unlink()
    for target in (secret, Path("..", "..", "..", "..", "secret")):
        data.symlink_to(target)
        assert "symbolic link" in refused(snapshot(hub), hub)
        data.unlink()


def test_a_directory_that_begins_alike_is_elsewhere(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "hub2").mkdir()
    (tmp_path / "hub2" / "secret").write_bytes(PAYLOAD)
    data = snapshot(hub, "model.onnx_data")
    data.unlink()
    data.symlink_to(tmp_path / "hub2" / "secret")
    assert "symbolic link" in refused(snapshot(hub), hub)


def test_a_link_through_a_link_counts_by_where_it_ends(hub: Path, tmp_path: Path) -> None:
    data = snapshot(hub, "model.onnx_data")
    blob = data.resolve()
    data.unlink()
    (tmp_path / "detour").symlink_to(blob)
    data.symlink_to(tmp_path / "detour")
    assert formats.read(str(snapshot(hub)), links=str(hub)).warnings == ()


def test_a_loop_a_hard_link_and_a_fifo_in_the_directory_are_refused(hub: Path) -> None:
    data = snapshot(hub, "model.onnx_data")
    blob = data.resolve()
    os.link(blob, hub / "second-name")
    assert "hard link" in refused(snapshot(hub), hub)
    blob.unlink()
    os.mkfifo(blob)
    assert "not a regular file" in refused(snapshot(hub), hub)
    blob.unlink()
    blob.symlink_to(blob.name)
    assert "symbolic links" in refused(snapshot(hub), hub)


def test_what_becomes_a_link_after_the_look_is_not_followed(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(PAYLOAD)
    data = snapshot(hub, "model.onnx_data")
    real = os.path.realpath

    def exchanged(path: str, *, strict: bool = False) -> str:
        found = real(path, strict=strict)
        if Path(path).name == data.name:
            Path(found).unlink()
            Path(found).symlink_to(secret)
        return found

    monkeypatch.setattr(beside.os.path, "realpath", exchanged)
    assert "symbolic link" in refused(snapshot(hub), hub)


def test_what_becomes_a_link_between_check_and_open_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(model("data.bin"))
    (tmp_path / "data.bin").write_bytes(PAYLOAD)
    (tmp_path / "secret").write_bytes(PAYLOAD)
    opening = os.open

    def exchanged(path: str, *arguments: object, **options: object) -> int:
        if path == "data.bin":
            (tmp_path / path).unlink()
            (tmp_path / path).symlink_to("secret")
        return opening(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(beside.os, "open", exchanged)
    inventory = formats.read(str(tmp_path / "m.onnx"))
    assert len(inventory.files) == 1
    assert "symbolic links" in inventory.warnings[0]


def test_a_directory_in_the_location_that_is_a_link_is_said(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "data.bin").write_bytes(PAYLOAD)
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "m.onnx").write_bytes(model("alias/data.bin"))
    (warning,) = formats.read(str(tmp_path / "m.onnx")).warnings
    assert "a directory of its location is a symbolic link" in warning
    followed = formats.read(str(tmp_path / "m.onnx"), links=str(tmp_path / "real"))
    assert followed.warnings == ()
    assert len(followed.files) == 2


def test_the_directory_has_to_exist(hub: Path) -> None:
    with pytest.raises(SourceError, match="a directory whose files links may lead to"):
        formats.read(str(snapshot(hub)), links=str(hub / "nothing"))
