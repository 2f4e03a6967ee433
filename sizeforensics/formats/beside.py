"""Open the files that a model names, beside it; nothing outside of its directory.

A location comes from a stranger: a path that leaves the model's directory, by ``..``, by an absolute
path, by a symbolic or hard link, has been used to read any file of the user's (CVE-2022-25882,
CVE-2024-27318). So a location is walked component by component from a descriptor of the directory,
no link is followed, and what was opened is what is checked.

A cache of the Hugging Face hub keeps every file of a model as a link into ``../../blobs``. Where the
user names a directory that links may lead to, a location whose links end in there is walked in the
same way, from a descriptor of that directory.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import SourceError
from sizeforensics.source import FileSource, Source

_SCHEME = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)
_LINK = "is a symbolic link; --follow-links DIR allows those into DIR"
_KEPT_OPEN = 200
"""Files whose descriptor is kept; further ones are opened for every read."""


class NotReadError(Exception):
    """A file that may not or cannot be read; the message says why."""


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
    """The files one model names, in the order in which they were first asked for."""

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
        place = _Place(directory, parts, self._model.links)
        descriptor, identity = place.open(self._model.identity)
        known = self._identities.get(identity)
        if known is not None:  # another spelling of the same name
            os.close(descriptor)
            return known
        try:
            source: Source = FileSource.from_descriptor(path, descriptor)
        except SourceError as error:
            raise NotReadError(str(error)) from None
        if len(self.files) >= _KEPT_OPEN:
            source = _Reopened(source, place, identity)
        self._identities[identity] = len(self.files)
        self.files.append(source)
        return len(self.files) - 1


class _Place(NamedTuple):
    """Where a file is: ``parts`` below ``directory``, or where links lead that end in ``links``."""

    directory: str
    parts: list[str]
    links: str | None

    def open(self, model: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
        """A descriptor of the regular file at this place, and its device and inode.

        Raises NotReadError, also for the file of the identity ``model``.
        """
        try:
            descriptor = _walk(*(self._linked() or (self.directory, self.parts)), model)
        except (OSError, ValueError) as error:
            raise NotReadError((getattr(error, "strerror", None) or str(error)).lower()) from None
        try:
            status = os.fstat(descriptor)
            _check(status, model)
        except NotReadError:
            os.close(descriptor)
            raise
        return descriptor, (status.st_dev, status.st_ino)

    def _linked(self) -> tuple[str, list[str]] | None:
        """The directory links may lead to and the parts below it, when they lead there.

        Whatever changes between this look and the walk: the walk follows no link at all.
        """
        if self.links is None:
            return None
        # Path.resolve raises RuntimeError, not OSError, for a loop.
        allowed = Path(os.path.realpath(self.links, strict=True))
        real = Path(os.path.realpath(Path(self.directory, *self.parts), strict=True))
        if allowed not in real.parents:
            return None
        return str(allowed), list(real.relative_to(allowed).parts)


def _walk(directory: str, parts: list[str], model: tuple[int, int] | None) -> int:
    """A descriptor of ``parts`` below ``directory``, opened one by one without following a link."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    current = os.open(directory or ".", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            if stat.S_ISLNK(os.stat(part, dir_fd=current, follow_symlinks=False).st_mode):
                raise NotReadError(f"a directory of its location {_LINK}")
            # Should it have become a link since, opening it with O_NOFOLLOW fails.
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        # Opening a device can have effects, so look first; what counts is the check afterwards.
        _check(os.stat(parts[-1], dir_fd=current, follow_symlinks=False), model)
        return os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=current)
    finally:
        os.close(current)


def _check(status: os.stat_result, model: tuple[int, int] | None) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise NotReadError(f"it {_LINK}")
    if not stat.S_ISREG(status.st_mode):
        raise NotReadError("it is not a regular file")
    if (status.st_dev, status.st_ino) == model:
        raise NotReadError("it is the model itself")
    if status.st_nlink != 1:
        raise NotReadError("it has a second name (hard link)")


class _Reopened(Source):
    """A file that is opened for every read: a model may have more of them than descriptors."""

    def __init__(
        self, opened: Source, place: _Place, identity: tuple[int, int]
    ) -> None:
        self.path = opened.path
        self.size = opened.size
        self._place = place
        self._identity = identity

    def read_into(self, start: int, buffer: npt.NDArray[np.uint8]) -> None:
        self.check(start, start + len(buffer))
        try:
            descriptor, identity = self._place.open(None)
        except NotReadError as refusal:
            raise SourceError(self.path, "the file that was read before", str(refusal)) from None
        source = FileSource.from_descriptor(self.path, descriptor)
        if identity != self._identity:
            raise SourceError(self.path, "the file that was read before", "another one")
        source.read_into(start, buffer)
        source.close()
