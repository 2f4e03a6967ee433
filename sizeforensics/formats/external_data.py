"""Open the files that an ONNX model keeps tensor data in, and tile them; nothing outside its directory.

Source: onnx ``docs/ExternalData.md``. ``location`` comes from a stranger: a path that leaves the
model's directory, by ``..``, by an absolute path, by a symbolic or hard link, has been used to read
any file of the user's (CVE-2022-25882, CVE-2024-27318). So a location is walked component by
component from a descriptor of the directory, no link is followed, and what was opened is what is
checked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import SourceError
from sizeforensics.source import FileSource, Source
from sizeforensics.spans import ALIGNMENT, TENSOR_DATA, UNCLAIMED, Owners, Spans, SpanSink

LARGEST_ALIGNMENT = 1 << 16
"""Bytes; the allocation granularity of Windows, the largest alignment ExternalData.md names."""

_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)  # 19 digits hold every 64-bit offset
_SCHEME = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)
_KEPT_OPEN = 200
"""Files whose descriptor is kept; further ones are opened for every read."""


class NotReadError(Exception):
    """External data that may not or cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a tensor's bytes are: ``length`` None means up to the end of the file."""

    location: str
    offset: int
    length: int | None


def reference(entries: Iterable[tuple[str, str]]) -> tuple[Reference, list[str]]:
    """The key-value pairs of ``TensorProto.external_data``, and what is odd about them.

    A ``checksum`` is accepted and not verified: it is a SHA-1 of the whole file that no exporter
    writes. Raises NotReadError where the pairs do not name a place.
    """
    values: dict[str, str] = {}
    oddities = []
    for key, value in entries:
        if key not in _KEYS:
            oddities.append(f"external data has an unknown key {key!r}")
        elif key in values:
            oddities.append(f"external data has the key {key!r} twice, the last one counts")
        if key == "checksum":
            oddities.append("external data has a checksum, which is not verified")
        values[key] = value
    if not values.get("location"):
        raise NotReadError("it has no location")
    offset = _digits(values.get("offset", "0"), "offset")
    length = _digits(values["length"], "length") if "length" in values else None
    return Reference(values["location"], offset, length), oddities


def _digits(text: str, what: str) -> int:
    if not _DIGITS.fullmatch(text):
        raise NotReadError(f"its {what} {text[:40]!r} is not a decimal number of at most 19 digits")
    return int(text)


def components(location: str) -> list[str]:
    """The parts of a relative path that cannot leave its directory; raises NotReadError."""
    if "\0" in location:
        raise NotReadError("its location holds a NUL")
    if "\\" in location:
        raise NotReadError("its location holds a backslash")
    if location.startswith("/"):
        raise NotReadError("its location is absolute")
    if _SCHEME.match(location):
        raise NotReadError("its location begins with a drive or a URL scheme")
    parts = [part for part in location.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise NotReadError("its location holds '..'")
    if not parts or location.endswith(("/", "/.")):
        raise NotReadError("its location is a directory")
    return parts


class Sidecars:
    """The external data files of one model, in the order in which they were first asked for."""

    def __init__(self, model: Source) -> None:
        self._model = model
        self.files: list[Source] = []
        self._found: dict[str, int | str] = {}
        self._identities: dict[tuple[int, int], int] = {}

    def find(self, location: str) -> int:
        """Index into ``files`` of the file at ``location``; raises NotReadError."""
        found = self._found.get(location)
        if found is None:
            try:
                found = self._open(components(location))
            except NotReadError as refusal:
                found = str(refusal)
            self._found[location] = found
        if isinstance(found, str):
            raise NotReadError(found)
        return found

    def _open(self, parts: list[str]) -> int:
        if not isinstance(self._model, FileSource):
            raise NotReadError("the model is not a file with a directory")
        # pathlib would tidy the path up; it is shown as the user gave it.
        directory = os.path.dirname(self._model.path)  # noqa: PTH120
        path = os.path.join(directory, *parts)  # noqa: PTH118
        descriptor, identity = _open_beside(directory, parts, self._model.identity)
        known = self._identities.get(identity)
        if known is not None:  # another spelling of the same name
            os.close(descriptor)
            return known
        try:
            source: Source = FileSource.from_descriptor(path, descriptor)
        except SourceError as error:
            raise NotReadError(str(error)) from None
        if len(self.files) >= _KEPT_OPEN:
            source = _Reopened(source, directory, parts, identity)
        self._identities[identity] = len(self.files)
        self.files.append(source)
        return len(self.files) - 1


def _open_beside(
    directory: str, parts: list[str], model: tuple[int, int] | None
) -> tuple[int, tuple[int, int]]:
    """A descriptor of the regular file ``parts`` below ``directory``, and its device and inode."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        current = os.open(directory or ".", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                # Opening a directory with O_NOFOLLOW fails on a link, whatever it points to.
                inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=current)
                os.close(current)
                current = inner
            # Opening a device can have effects, so look first; what counts is the check below.
            _check(os.stat(parts[-1], dir_fd=current, follow_symlinks=False), model)
            descriptor = os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=current)
        finally:
            os.close(current)
    except (OSError, ValueError) as error:
        raise NotReadError((getattr(error, "strerror", None) or str(error)).lower()) from None
    try:
        status = os.fstat(descriptor)
        _check(status, model)
    except NotReadError:
        os.close(descriptor)
        raise
    return descriptor, (status.st_dev, status.st_ino)


def _check(status: os.stat_result, model: tuple[int, int] | None) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise NotReadError("it is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise NotReadError("it is not a regular file")
    if (status.st_dev, status.st_ino) == model:
        raise NotReadError("it is the model itself")
    if status.st_nlink != 1:
        raise NotReadError("it has a second name (hard link)")


class _Reopened(Source):
    """A file that is opened for every read: a model may have more of them than descriptors."""

    def __init__(
        self, opened: Source, directory: str, parts: list[str], identity: tuple[int, int]
    ) -> None:
        self.path = opened.path
        self.size = opened.size
        self._place = directory, parts
        self._identity = identity

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        self.check(start, start + len(buffer))
        try:
            descriptor, identity = _open_beside(*self._place, None)
        except NotReadError as refusal:
            raise SourceError(self.path, "the file that was read before", str(refusal)) from None
        source = FileSource.from_descriptor(self.path, descriptor)
        if identity != self._identity:
            raise SourceError(self.path, "the file that was read before", "another one")
        source.read_into(start, buffer)
        source.close()


@dataclass(frozen=True, slots=True)
class Extent:
    """``[start, end)`` of an external file that one or more tensors refer to."""

    start: int
    end: int
    members: tuple[int, ...]


def extents(ranges: list[tuple[int, int]]) -> list[Extent]:
    """Join ranges that share bytes, so that every byte is owned once; ascending.

    ``members`` are positions in ``ranges``, in their order. Empty ranges are left out.
    """
    found: list[Extent] = []
    order = sorted((start, end, at) for at, (start, end) in enumerate(ranges) if end > start)
    joined: list[int] = []
    first = last = -1
    for start, end, at in order:
        if joined and start < last:
            joined.append(at)
            last = max(last, end)
            continue
        if joined:
            found.append(Extent(first, last, tuple(sorted(joined))))
        first, last, joined = start, end, [at]
    if joined:
        found.append(Extent(first, last, tuple(sorted(joined))))
    return found


def tile(source: Source, used: list[tuple[int, int, int]], owners: Owners) -> Spans:
    """Spans of an external file of which ``used`` (start, end, owner) hold tensors.

    A gap is ``alignment`` when it is all zero, ends at a multiple of a power of two up to
    ``LARGEST_ALIGNMENT`` and is shorter than it. Everything else is ``unclaimed``.
    """
    nobody = owners.add("external data nobody refers to", "external data nobody refers to")
    padding = owners.add("padding between tensors", "padding between tensors")
    sink = SpanSink()
    position = 0
    for start, end, owner in [*used, (source.size, source.size, -1)]:
        if start > position:
            padded = _is_padding(source, position, start)
            role, gap = (ALIGNMENT, padding) if padded else (UNCLAIMED, nobody)
            sink.add(position, start, role, gap)
        sink.add(start, end, TENSOR_DATA, owner)
        position = end
    return sink.finish(source.size, nobody)


def _is_padding(source: Source, start: int, end: int) -> bool:
    alignment = min(end & -end, LARGEST_ALIGNMENT)
    return end - start < alignment and not source.array(start, end).any()
