"""Write a report to a file: the extension decides its kind, and it appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.inventory import Inventory
from sizeforensics.report import csv, json
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport

KINDS = ("json", "csv")
"""What ``pieces`` renders, and the file extensions that ask for it."""

Report = DiffReport | InspectReport | Inventory
"""What can be saved; an inventory as itself is the map of its spans."""


def pieces(report: Report, kind: str) -> Iterator[str]:
    """The report as text of this kind, in pieces."""
    if isinstance(report, DiffReport):
        return csv.diff(report) if kind == "csv" else json.render(json.diff(report))
    if isinstance(report, InspectReport):
        return csv.inspect(report) if kind == "csv" else json.render(json.inspect(report))
    return csv.render_map(report) if kind == "csv" else json.render_map(report)


def kind_of(path: str) -> str:
    """The kind that the extension of ``path`` asks for; raise InputError when it is none."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in KINDS:
        known = ", ".join(f".{name}" for name in KINDS)
        raise InputError(f"{one_line(path)}: expected a file name that ends in one of {known}")
    return kind


def check(path: str, force: bool = False) -> None:
    """Raise InputError when ``save`` could not write ``path``, before any work is done for it."""
    kind_of(path)
    if Path(path).is_dir():
        raise InputError(f"{one_line(path)}: expected a file to write, got a directory")
    if os.path.lexists(path) and not force:
        raise InputError(f"{one_line(path)}: exists; --force (force=True) replaces it")
    folder = Path(path).parent
    if not folder.is_dir():
        raise InputError(f"{one_line(path)}: expected an existing folder, got {one_line(str(folder))}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{one_line(path)}: expected a folder that can be written to")


def save(report: Report, path: str, force: bool = False) -> None:
    """Write the report; raise InputError when the path is taken, unwritable or of no known kind.

    The text goes to a temporary file beside ``path`` that is then renamed, so that nobody sees
    half a report and a failure leaves an older one as it was.
    """
    check(path, force)
    try:
        _replace(Path(path), json.chunks(pieces(report, kind_of(path))))
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot write: {error.strerror or error}") from None


def _replace(path: Path, texts: Iterable[str]) -> None:
    descriptor, name = tempfile.mkstemp(
        prefix=".sizeforensics-", suffix=".tmp", dir=path.parent
    )
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(texts)
        # mkstemp makes files that only the owner can read; a report is an ordinary file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
