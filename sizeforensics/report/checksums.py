"""SHA-256 of the files a report is about, read once more from start to end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from sizeforensics.errors import InputError
from sizeforensics.report.rows import FileRow
from sizeforensics.source import FileSource


def sha256(files: Sequence[FileRow]) -> list[str]:
    """The digest of each file of one artifact in hexadecimal; empty where the file is gone or has
    another size by now."""
    return [_digest(file, follow=number == 0) for number, file in enumerate(files)]


def _digest(file: FileRow, *, follow: bool) -> str:
    """A file that the model names was found to be no link; it must not have become one."""
    try:
        source = FileSource(file.path) if follow else _unfollowed(file.path)
        if source.size != file.bytes:
            return ""
        state = hashlib.sha256()
        for block in source.blocks(0, source.size):
            state.update(block.data)
    except (InputError, OSError, ValueError):
        return ""
    return state.hexdigest()


def _unfollowed(path: str) -> FileSource:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return FileSource.from_descriptor(path, os.open(path, flags))
