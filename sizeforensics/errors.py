"""Every exception this package raises on purpose, and the exit code each one becomes.

::

    SizeforensicsError
    ├── InputError               exit 2   the input, the options or the file system is at fault
    │   ├── SourceError              a path that cannot be opened or read as a regular file
    │   └── FormatError              path, offset, expected, got: the bytes contradict a format
    │       ├── Unrecognized             none of the formats this package reads
    │       ├── Truncated                the file ends (or shrank) before what it declares
    │       ├── Corrupt                  the bytes contradict each other or the specification
    │       ├── Unsupported              a legal feature this package does not read
    │       │   └── Outdated                 a snapshot of an earlier version
    │       └── LimitExceeded            a guard against hostile input; names the limit
    └── LawBroken                exit 3   an accounting law failed: a bug of ours, never the input's
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sizeforensics.escape import one_line


class SizeforensicsError(Exception):
    """Base of everything raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 2


class InputError(SizeforensicsError):
    """The input, the options or the file system is at fault, not this package."""


class SourceError(InputError):
    """A path that cannot be opened or read as a regular file."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(f"{one_line(path)}: expected {one_line(expected)}, got {one_line(got)}")


class FormatError(InputError):
    """The bytes of a file contradict a format.

    ``offset`` is in bytes from the start of the file. The message is one line without control
    characters, whatever the file put into ``expected`` or ``got``.
    """

    def __init__(self, path: str, offset: int, expected: str, got: str) -> None:
        super().__init__(
            f"{one_line(path)}: at {offset:#x}: expected {one_line(expected)}, got {one_line(got)}"
        )
        self.path = path
        self.offset = offset
        self.expected = expected
        self.got = got


class Unrecognized(FormatError):
    """The content is none of the formats this package reads."""


class Truncated(FormatError):
    """The file ends, or shrank while it was read, before what it declares."""


class Corrupt(FormatError):
    """The bytes contradict each other or the format's specification."""


class Unsupported(FormatError):
    """A legal feature of the format that this package does not read."""


class Outdated(Unsupported):
    """A snapshot of an earlier version, which has to be taken anew from its model."""


class LimitExceeded(FormatError):
    """A guard against hostile input; the message names the field of ``Limits`` to raise."""

    def __init__(self, path: str, offset: int, limit: str, allowed: int, got: str) -> None:
        super().__init__(
            path, offset, f"at most {allowed:,} {limit.replace('_', ' ')} (--limits {limit}=N allows more)", got
        )
        self.limit = limit


class LawBroken(SizeforensicsError):
    """An accounting law does not hold: spans do not tile, or a ledger does not sum."""

    exit_code = 3


@contextmanager
def about(where: str) -> Iterator[None]:
    """Put ``where`` in front of what an InputError says that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{one_line(where)}: {error}") from None
