"""The versions of one file that git has kept, oldest first, read with git itself.

``git`` is run with fixed arguments; the path follows ``--``, so that no name can become an option.
Nothing of the repository is checked out or run: a blob is printed, and read like any other file. A
repository may come from a stranger too, with a configuration: what of it could start a program is
overruled, and a path is no pattern.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.source import MemorySource

_INERT = (
    "--no-pager", "--literal-pathspecs", "--no-optional-locks", "-c", "log.showSignature=false",
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
)  # fmt: skip
"""Signatures are verified, indexes refreshed and hooks run by programs that a configuration names."""
_OFFLINE = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
"""What a partial clone lacks is not fetched."""


def versions(path: str) -> Iterator[tuple[str, MemorySource]]:
    """(date and commit, content) of every commit that changed ``path`` and left it there.

    Raises InputError where there is no git, no repository, or no such file in its history.
    """
    file = Path(path)
    place = str(file.parent)
    log = _git(place, "log", "--reverse", "--format=%cs %h", "--diff-filter=AM", "--", file.name)
    commits = log.decode("utf-8", "backslashreplace").splitlines()
    if not commits:
        raise InputError(f"{one_line(path)}: expected a file that git has kept versions of, got none")
    for commit in commits:
        blob = _git(place, "cat-file", "blob", f"{commit.split()[1]}:./{file.name}")
        yield commit, MemorySource(f"{path}@{commit.split()[1]}", blob)


def _git(place: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments, no shell
            ["git", *_INERT, "-C", place, *arguments],  # noqa: S607  the user's own git
            capture_output=True, check=False, env=os.environ | _OFFLINE,
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"git: expected a command that runs, got {error.strerror or error}") from None
    if done.returncode:
        why = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise InputError(f"{one_line(place)}: git: {one_line(why[-1] if why else 'failed')}")
    return done.stdout
