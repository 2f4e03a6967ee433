"""Recognition is by content, and what is no model is named."""

from __future__ import annotations

import gzip
import io
import pathlib
import tarfile
import tempfile
import zipfile
import zlib

import numpy as np
import onnx
import pytest

from sizeforensics import formats
from sizeforensics.errors import FormatError, SourceError, Truncated, Unrecognized
from sizeforensics.source import MemorySource


def words(data: bytes) -> str:
    """What the refusal says a file is."""
    with pytest.raises(Unrecognized) as caught:
        formats.read_source(MemorySource("model.onnx", data))
    message = str(caught.value)
    assert message.startswith(
        "model.onnx: at 0x0: expected a PyTorch, TorchScript, ONNX or safetensors model, got "
    )
    assert "\n" not in message
    return message.partition(", got ")[2]


def archive(**records: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as theirs:
        for name, data in records.items():
            theirs.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3), b=np.zeros(4))
    return out.getvalue()


def tar(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as theirs:
        theirs.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    return out.getvalue()


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field of bytes, for numbers below 16 and payloads below 128."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def ort() -> bytes:
    """What ONNX Runtime itself writes in its format."""
    import onnxruntime

    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10,
                                   opset_imports=[onnx.helper.make_opsetid("", 20)])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/model.ort"
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return pathlib.Path(folder, "model.ort").read_bytes()


FROZEN = field(1, field(1, b"input") + field(2, b"Placeholder") + field(5, b"")) * 3
COREML = b"\x08\x04" + field(2, field(1, b"")) + b"\xa2\x1f\x00"
OTHERS = {
    "empty": (b"", "an empty file"),
    "zeros": (bytes(100), "zeros"),
    "html": (b"\n<!DOCTYPE html>\n<html><head>", "an HTML page"),
    "html without doctype": (b"<HTML lang=en>", "an HTML page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a git-LFS"),
    "tar": (tar("readme.txt"), "a tar archive"),
    "gzip": (gzip.compress(b"x"), "a gzip file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file"),
    "npy": (b"\x93NUMPY\x01\x00", "a NumPy array"),
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "tflite": (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
    "mobile": (b"\x1c\0\0\0PTMF", "flatbuffer"),
    "saved model": (b"\x08\x01\x12\x80\x20\x0a\x05serve", "a TensorFlow SavedModel"),
    "xml": (b'<?xml version="1.0"?>\n<net name="x" version="11">', "OpenVINO"),
    "ort": (ort(), "the ORT format"),
    "engine": (b"ftrt" + bytes(20), "a TensorRT engine"),
    "mlir": (b"ML\xefR\x06", "MLIR bytecode"),
    "core ml": (COREML, "a Core ML model"),
    "core ml package": (archive(m__Data__com_dot_apple_dot_CoreML__model=b""), "a Core ML package"),
    "frozen graph": (FROZEN, "a frozen TensorFlow graph"),
    "compressed pickle": (zlib.compress(b"x" * 30), "zlib data, as joblib"),
    "no graph": (onnx.ModelProto(ir_version=8, opset_import=[onnx.helper.make_opsetid("", 20)]).SerializeToString(),
                 "an ONNX model without a graph"),
    "perhaps no graph": (b"\x08\x08" + field(2, b"writer"), "perhaps of an ONNX model without a graph"),
    "text protobuf": (b'ir_version: 8\nproducer_name: "x"\ngraph {', "text format"),
    "commented text protobuf": (b"# one\n# two\nir_version: 8\n", "text format"),
    "json": (b'{"a": [1, 2]}', "a JSON file"),
    "text": (b"import torch\n", "a text file that begins with 'import torch'"),
    "elf": (b"\x7fELF\x02", "an ELF binary"),
    "noise": (b"\xde\xad\xbe\xef\x00\x01\x02\x03\x04", "an unknown format that begins with de ad"),
    "keras": (archive(metadata_dot_json=b"{}", config_dot_json=b"{}",
                      model_dot_weights_dot_h5=b""), "a Keras model"),
    "npz": (npz(), "NumPy arrays"),
    "zipped model": (archive(best_dot_onnx=b"x"), "with 'best.onnx' inside"),
    "zip": (archive(a=b"x", b=b"y"), "a ZIP archive without a model in it, 2 records: 'a', 'b'"),
    "empty zip": (archive(), "an empty ZIP archive"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_model_is_named(kind: str) -> None:
    data, expected = OTHERS[kind]
    assert expected in words(data)


@pytest.mark.parametrize("kind", OTHERS)
def test_no_beginning_of_anything_escapes_as_another_error(kind: str) -> None:
    data = OTHERS[kind][0]
    for cut in range(min(len(data), 200)):
        with pytest.raises(FormatError):
            formats.read_source(MemorySource("cut", data[:cut]))


def test_binary_data_turned_into_utf8_is_named() -> None:
    noise = bytes(range(256)) * 4
    mangled = b"PK\x03\x04" + noise.decode("utf-8", "replace").encode()
    assert "converted to UTF-8" in words(mangled)
    assert "converted to UTF-8" in words((mangled * 100)[: formats.HEAD + 1])


def test_an_archive_cut_short_is_not_called_unknown() -> None:
    with pytest.raises(Truncated, match="cut short"):
        formats.read_source(MemorySource("model.pt", b"PK\x03\x04"))


def test_hostile_names_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in words(archive(**{"\x1b[2J": b"x"}))


def test_reading_by_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("files")
    path = folder / "page.pt"
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(Unrecognized, match="HTML page"):
        formats.read(str(path))
    for missing in (folder / "none.pt", folder):
        with pytest.raises(SourceError):
            formats.read(str(missing))
