"""What a file is that no reader of this package takes, in words for the one who chose it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sizeforensics.escape import one_line
from sizeforensics.formats.encodings.protobuf_scalars import LEN
from sizeforensics.formats.encodings.protobuf_wire import peek
from sizeforensics.formats.encodings.zip_archive import Archive
from sizeforensics.formats.onnx_parts.onnx_schema import TABLES, TAGS
from sizeforensics.source import MemorySource
from sizeforensics.units import counted

_TEXT_PROTOBUF = re.compile(rb"\s*(#[^\n]*\n\s*)*(ir_version|producer_name|graph|opset_import)\s*[:{]")

_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Bytes that text does not have; tabs, line and page breaks and terminal escapes it has."""

_FIELDS = 12
"""Fields of a protobuf message that are looked at."""
_COREML = range(200, 3001)
"""Fields of a Core ML ``Model`` that say which kind of model it is (``Model.proto``)."""
_FIRST_OPERATORS = frozenset({
    b"Placeholder", b"PlaceholderWithDefault", b"Const", b"NoOp", b"VarHandleOp", b"VariableV2",
})  # fmt: skip

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/",
     "a git-LFS pointer: the model itself was not downloaded (git lfs pull)"),
    (0, b"PK\x03", "the beginning of a ZIP archive that was cut off"),
    (0, b"PK\x05", "a ZIP archive without a directory"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and older TensorFlow write it"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"GGUF", "a GGUF file, as llama.cpp reads it"),
    (0, b"lmgg", "a GGML file"),
    (0, b"tjgg", "a GGML file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"PTMF", "a PyTorch mobile model in the flatbuffer format"),
    (4, b"ET", "an ExecuTorch program"),
    (4, b"ORTM", "a model in the ORT format of ONNX Runtime"),
    (0, b"ftrt", "a TensorRT engine"),
    (0, b"ML\xefR", "MLIR bytecode"),
    (0, b"PYTORCH1", "a PyTorch archive of the preview release 1.0"),
    (0, b"\x1f\x8b", "a gzip file: unpack it first"),
    (0, b"BZh", "a bzip2 file: unpack it first"),
    (0, b"\xfd7zXZ\x00", "an xz file: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (0, b"Rar!\x1a\x07", "a RAR archive: unpack it first"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x7fELF", "an ELF binary, perhaps a compiled model or library"),
)  # fmt: skip


_FOLDERS = (
    ("Data/com.apple.CoreML", "a Core ML package (.mlpackage), which is a folder"),
    ("saved_model.pb", "a TensorFlow SavedModel, which is a folder"),
    ("model.safetensors.index.json", "a folder: name model.safetensors.index.json in it"),
    ("model.safetensors", "a folder: name model.safetensors in it"),
)


def mangled(head: bytes) -> bool:
    """Whether a text editor or a wrong transfer mode has turned binary data into UTF-8: every byte
    above 0x7F has become U+FFFD, and what is left decodes."""
    return b"\0" in head and head.count(b"\xef\xbf\xbd") >= 16 and _decodes(head)


def describe(head: bytes, size: int) -> str:
    """What a file of ``size`` bytes is that begins with ``head`` and is no ZIP archive."""
    if size == 0:
        return "an empty file"
    if not head.strip(b"\0"):
        return f"zeros ({counted(len(head), 'byte')} looked at)"
    for name_it in (_magic, _tar, _saved_model, _text, _zlib, _protobuf):
        if words := name_it(head, size):
            return words
    return f"an unknown format that begins with {head[:8].hex(' ')}"


def describe_folder(path: str) -> str:
    """What kind of model a folder is, by the names in it; empty where it is none, or no folder.

    Nothing in it is opened.
    """
    kinds = (kind for marker, kind in _FOLDERS if os.path.lexists(Path(path, marker)))
    # pathlib raises for a path that is too long.
    return next(kinds, "") if os.path.isdir(path) else ""  # noqa: PTH112


def describe_archive(archive: Archive) -> str:
    """What a ZIP archive is that holds neither a checkpoint nor TorchScript."""
    names = [entry.name for entry in archive.entries]
    base_names = {name.rpartition("/")[2] for name in names}
    if not names:
        return "an empty ZIP archive"
    if {"archive_format", "serialized_exported_program.json"} & base_names:
        return "a torch.export archive (.pt2)"
    if {"extern_modules", "python_version"} <= base_names:
        return "a torch.package archive"
    if {"metadata.json", "config.json", "model.weights.h5"} <= base_names:
        return "a Keras model (.keras)"
    if all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)"
    if any("com.apple.CoreML/" in name for name in names):
        return "a Core ML package (.mlpackage) in a ZIP archive"
    if "saved_model.pb" in base_names:
        return "a TensorFlow SavedModel in a ZIP archive: unpack it first"
    if inside := [name for name in names if name.endswith((".onnx", ".pt", ".pth", ".safetensors"))]:
        return f"a ZIP archive with {one_line(inside[0], 80)!r} inside: unpack it first"
    return f"a ZIP archive without a model in it, {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one_line(name, 40)) for name in names[:3])
    return f"{counted(len(names), 'record')}: {shown}" + (", ..." if len(names) > 3 else "")


def _magic(head: bytes, size: int) -> str:
    del size
    return next((words for at, magic, words in _MAGICS if head.startswith(magic, at)), "")


def _tar(head: bytes, size: int) -> str:
    del size
    if not head.startswith(b"ustar", 257):
        return ""
    return "a tar archive: unpack it first"


def _saved_model(head: bytes, size: int) -> str:
    del size
    # saved_model.proto: schema version 1, then a MetaGraphDef; a frozen graph begins with a node.
    if head.startswith(b"\x08\x01\x12") and (b"serve" in head or b"tensorflow" in head):
        return "a TensorFlow SavedModel"
    return ""


def _zlib(head: bytes, size: int) -> str:
    """The header of RFC 1950: deflate in a window of 32 KiB, and a check that divides by 31."""
    if size < 8 or head[0] != 0x78 or int.from_bytes(head[:2], "big") % 31:
        return ""
    return "zlib data, as joblib compresses pickles"


def _protobuf(head: bytes, size: int) -> str:
    source = MemorySource("", head)
    fields = list(peek(source, 0, _FIELDS))
    tags = [tag for tag, _, _ in fields]
    if _tensorflow_node(head, fields):
        return "a frozen TensorFlow graph"
    if tags[:2] == [1 << 3, 2 << 3 | LEN] and any(tag >> 3 in _COREML for tag in tags[2:]):
        return "a Core ML model (.mlmodel)"
    if not fields or fields[-1][2] > size or (len(fields) < _FIELDS and fields[-1][2] < min(size, len(head))):
        return ""
    for kind, needed, words in (
        ("ModelProto", {1 << 3, 8 << 3 | LEN}, "an ONNX model without a graph"),
        ("ModelProto", {1 << 3}, "a protobuf message, perhaps of an ONNX model without a graph"),
        ("TensorProto", {2 << 3}, "a bare TensorProto of ONNX, which is one tensor and no model"),
    ):
        if needed <= set(tags) and all(TABLES[kind].known[min(tag, TAGS)] for tag in tags):
            return words
    return ""


def _tensorflow_node(head: bytes, fields: Sequence[tuple[int, int, int]]) -> bool:
    """Whether the first field is a ``NodeDef`` (tensorflow ``node_def.proto``): its name, then one of
    the operators that graphs begin with."""
    if not fields or fields[0][0] != 1 << 3 | LEN:
        return False
    _, start, end = fields[0]
    parts = list(peek(MemorySource("", head[start:end]), 0, 2))
    if [tag for tag, _, _ in parts] != [1 << 3 | LEN, 2 << 3 | LEN]:
        return False
    return head[start + parts[1][1] : start + parts[1][2]] in _FIRST_OPERATORS


def _text(head: bytes, size: int) -> str:
    del size
    if _CONTROLS.search(head[:512]) or not _decodes(head):
        return ""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    start = text[:512].lower()
    kinds: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: start.startswith((b"<!doctype html", b"<html")) or b"<html" in start,
         "an HTML page: an error or login page was saved in place of the model"),
        (lambda: start.startswith((b"<?xml", b"<net")),
         "an OpenVINO model (IR), whose weights are in a file beside it" if b"<net" in start
         else "an XML file"),
        (lambda: _TEXT_PROTOBUF.match(text[:4096]) is not None,
         "an ONNX model in protobuf's text format"),
        (lambda: start.startswith((b"{", b"[")), "a JSON file"),
    )  # fmt: skip
    for holds, words in kinds:
        if holds():
            return words
    line = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    return f"a text file that begins with {one_line(line, 60)!r}"


def _decodes(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end inside a character.
        return error.end == len(head) and len(head) - error.start < 4
    return True
