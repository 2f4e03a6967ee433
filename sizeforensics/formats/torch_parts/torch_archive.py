"""PyTorch's use of ZIP archives: one directory of records, found by name as PyTorch finds them.

Names and layout are those of ``caffe2/serialize/inline_container.cc`` and
``torch/serialization.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from sizeforensics.formats.encodings.zip_archive import Archive, Entry
from sizeforensics.formats.notes import Notes
from sizeforensics.formats.torch_parts.miniz_lookup import find_records
from sizeforensics.source import Source
from sizeforensics.spans import CODE, DEBUG_INFO, METADATA

_MOBILE_DEBUG = ("mobile_debug_handles.pkl", "callstack_debug_map.pkl")


@dataclass(frozen=True, slots=True)
class TorchArchive:
    """An archive whose records lie in the directory ``stem``, that of its first record."""

    archive: Archive
    stem: bytes
    """With the slash; empty when the first record lies in no directory, as PyTorch never writes."""
    found: dict[bytes, int]
    """Full name in lower case to the index of the entry that PyTorch would read."""
    warnings: tuple[str, ...]

    @property
    def source(self) -> Source:
        return self.archive.source

    def find(self, name: str) -> int | None:
        """Index of the entry that PyTorch reads for the record ``name`` of its directory."""
        return self.found.get((self.stem + name.encode("utf-8", "surrogatepass")).lower())

    def has_any(self, prefix: str) -> bool:
        """Whether a record of the directory has a name that begins so."""
        start = (self.stem + prefix.encode()).lower()
        return any(name.startswith(start) for name in self.found)

    def local_name(self, entry: Entry) -> str | None:
        """The name of an entry inside the directory; None when it lies elsewhere."""
        if not entry.raw_name.startswith(self.stem):
            return None
        return entry.raw_name[len(self.stem) :].decode("utf-8", "backslashreplace")


def open_torch(archive: Archive) -> TorchArchive:
    """Look at an archive the way PyTorch does; whether it is one of PyTorch's shows in ``find``."""
    names = [entry.raw_name for entry in archive.entries]
    directory, slash, _ = names[0].partition(b"/") if names else (b"", b"", b"")
    found, several = find_records(names)
    notes = Notes()
    for name, indices in several.items():
        chosen = indices.index(found[name]) + 1
        shown = archive.entries[found[name]].name
        notes.count(
            "share the name of another, without regard to case: PyTorch reads one of them",
            f"{shown}, {_ordinal(chosen)} of {len(indices)}",
        )
    stem = directory + slash if slash else b""
    return TorchArchive(archive, stem, found, (*archive.warnings, *notes.finish()))


def script_record(name: str) -> tuple[int, str] | None:
    """Role and subject of a record of TorchScript that holds no tensors; None for an unknown one."""
    if name.endswith(".debug_pkl") or name in _MOBILE_DEBUG:
        return DEBUG_INFO, "TorchScript debug files"
    if name.startswith("code/") and name.endswith(".py"):
        return CODE, "TorchScript source"
    if name.startswith("extra/"):
        return METADATA, name.removeprefix("extra/")
    return None


def _ordinal(number: int) -> str:
    return {1: "the first", 2: "the second", 3: "the third"}.get(number, f"number {number:,}")
