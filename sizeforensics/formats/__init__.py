"""Recognise a model by its content, never by its name, and read it with the reader that fits.

A format is one row of ``FORMATS``. Readers are imported when a file turns up that may be theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from sizeforensics import collector
from sizeforensics.errors import FormatError, SourceError, Unrecognized
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.source import FileSource, Source

if TYPE_CHECKING:
    from sizeforensics.formats.torch_parts.torch_archive import TorchArchive

HEAD = 1 << 16
"""Bytes looked at to tell what a file is."""


def read(path: str, limits: Limits = DEFAULT_LIMITS, links: str | None = None) -> Inventory:
    """The inventory of the model stored at ``path`` and in the files it names.

    Those files may be symbolic links into the directory ``links``, and into no other. Raises
    SourceError when it cannot be read or held, Unrecognized when it is none of the formats this
    package reads, and another FormatError when its bytes contradict its format.
    """
    try:
        source = FileSource(path, links)
    except SourceError:
        from sizeforensics.formats import recognise

        if words := recognise.describe_folder(path):
            raise SourceError(path, "a regular file", words) from None
        raise
    try:
        return read_source(source, limits)
    except MemoryError:
        raise SourceError(path, "a model whose structure memory holds", "more than there is") from None


def read_source(source: Source, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of the model that ``source`` holds."""
    with collector.paused():
        return _read(Candidate(source, limits))


def _read(file: Candidate) -> Inventory:
    from sizeforensics.formats import recognise

    source = file.source
    if recognise.mangled(file.head):
        raise _unrecognized(source, "binary data that was converted to UTF-8, beyond repair")
    for read_format in FORMATS:
        inventory = read_format(file)
        if inventory is not None:
            return _with_odd_names(inventory)
    if file.torch is not None:
        raise _unrecognized(source, recognise.describe_archive(file.torch.archive))
    raise _unrecognized(source, recognise.describe(file.head, source.size))


def _with_odd_names(inventory: Inventory) -> Inventory:
    """As it is, and warned of the names in it. A snapshot has the warnings of its model already."""
    from sizeforensics.formats import odd_names

    found = () if inventory.format == "snapshot" else odd_names.warnings(inventory)
    return replace(inventory, warnings=(*inventory.warnings, *found)) if found else inventory


IN_A_ROW = (
    "several ZIP archives in a row, as torch.distributed.checkpoint writes (.distcp): join its files with "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save first"
)


def _unrecognized(source: Source, got: str) -> Unrecognized:
    return Unrecognized(source.path, 0, "a PyTorch, TorchScript, ONNX or safetensors model", got)


class Candidate:
    """A file that is to be recognised, and what has been found out about it so far."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source = source
        self.limits = limits

    @cached_property
    def head(self) -> bytes:
        return self.source.read(0, min(HEAD, self.source.size))

    @cached_property
    def torch(self) -> TorchArchive | None:
        """The file as an archive the way PyTorch sees it; None when it is no ZIP archive.

        A file that begins like an archive has to be one. One that only ends like an archive may
        have something in front of it, or may just hold the four bytes of an end record.
        """
        from sizeforensics.formats.encodings import zip_archive
        from sizeforensics.formats.torch_parts import torch_archive

        try:
            archive = zip_archive.read(self.source, self.limits)
        except FormatError:
            if self.head.startswith(b"PK\x03\x04"):
                raise
            return None
        if archive.follows_another:
            raise _unrecognized(self.source, IN_A_ROW)
        return torch_archive.open_torch(archive)


def _snapshot(file: Candidate) -> Inventory | None:
    from sizeforensics.formats import snapshot

    return snapshot.read(file.source, file.limits) if snapshot.looks_like(file.head) else None


def _onnx(file: Candidate) -> Inventory | None:
    from sizeforensics.formats.onnx import looks_like, read

    return read(file.source, file.limits) if looks_like(file.source) else None


def _safetensors(file: Candidate) -> Inventory | None:
    from sizeforensics.formats import safetensors

    if safetensors.looks_like(file.source, file.head):
        return safetensors.read(file.source, file.limits)
    if safetensors.looks_like_index(file.head):
        return safetensors.read_sharded(file.source, file.limits)
    return None


def _legacy(file: Candidate) -> Inventory | None:
    from sizeforensics.formats.legacy import looks_like, read

    return read(file.source, file.limits) if looks_like(file.source) else None


def _tar(file: Candidate) -> Inventory | None:
    from sizeforensics.formats import pytorch_tar
    from sizeforensics.formats.encodings import tar_archive

    if not tar_archive.looks_like(file.head):
        return None
    archive = tar_archive.read(file.source, file.limits)
    if not pytorch_tar.holds_checkpoint(archive):
        return None
    return pytorch_tar.read(file.source, archive, file.limits)


def _torchscript(file: Candidate) -> Inventory | None:
    torch = file.torch
    # torch.jit.save always writes constants.pkl; other writers of its layout may not.
    if torch is None or torch.find("data.pkl") is None or not (
        torch.find("constants.pkl") is not None or torch.has_any("code/")
    ):
        return None
    from sizeforensics.formats.torchscript import read

    return read(torch, file.limits)


def _pytorch(file: Candidate) -> Inventory | None:
    torch = file.torch
    if torch is None or torch.find("data.pkl") is None:
        return None
    from sizeforensics.formats.pytorch import read

    return read(torch, file.limits)


def _torch_export(file: Candidate) -> Inventory | None:
    from sizeforensics.formats import torch_export

    if file.torch is None or not torch_export.looks_like(file.torch):
        return None
    return torch_export.read(file.torch, file.limits)


def _model_json(file: Candidate) -> Inventory | None:
    if file.torch is None or file.torch.find("model.json") is None:
        return None
    from sizeforensics.formats.model_json import read

    return read(file.torch, file.limits)


def _bare_pickle(file: Candidate) -> Inventory | None:
    from sizeforensics.formats.bare_pickle import looks_like, read

    if not looks_like(file.source, file.head, file.limits):
        return None
    return read(file.source, file.limits)


FORMATS: tuple[Callable[[Candidate], Inventory | None], ...] = (
    _snapshot, _safetensors, _onnx, _legacy, _bare_pickle, _tar, _torchscript, _pytorch, _torch_export,
    _model_json,
)  # fmt: skip
"""Every format, in the order in which a file is offered to them: the inventory, or None for a file
of another format. An archive with something in front of it may be anything, so ZIP comes last."""
