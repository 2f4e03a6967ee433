"""Write a report to a file: the extension decides its kind, and it appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.inventory import Inventory
from sizeforensics.report import csv, json, tables
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport

KINDS = ("json", "csv", "html", "md", "png", "svg", "parquet")
"""What a report can be saved as: the file extensions that ask for it."""
MAP_KINDS = ("json", "csv", "parquet")
"""The kinds that can show every span."""

Report = DiffReport | InspectReport | Inventory
"""What can be saved; an inventory as itself is the map of its spans."""


def pieces(report: Report, kind: str, figure: str = "", table: str = "") -> Iterator[str]:
    """The report as text of this kind, in pieces.

    ``figure`` chooses what .png and .svg show, ``table`` what .csv and .parquet list; empty is the
    most useful one. Raises InputError for a choice that the report does not have.
    """
    if kind == "csv":
        return csv.render(tables.of(report, table))
    if isinstance(report, Inventory):
        return json.render_map(report)
    if kind == "json":
        return json.render(json.diff(report) if isinstance(report, DiffReport) else json.inspect(report))
    if kind == "html":
        from sizeforensics.report import html

        return html.render(report)
    if kind == "md":
        from sizeforensics.report import markdown

        return iter([markdown.render(report)])
    from sizeforensics.report import figures

    return iter([figures.svg(figures.arrange(report, figure))])


def _chunks(report: Report, kind: str, figure: str, table: str) -> Iterator[bytes]:
    """The report as a file of this kind, in pieces."""
    if kind == "parquet":
        from sizeforensics.report import parquet

        yield parquet.render(tables.of(report, table))
    elif kind == "png" and not isinstance(report, Inventory):
        from sizeforensics.report import figures

        yield figures.png(figures.arrange(report, figure))
    else:
        for text in json.chunks(pieces(report, kind, figure, table)):
            yield text.encode("utf-8")


def kind_of(path: str, kinds: Sequence[str] = KINDS) -> str:
    """The kind that the extension of ``path`` asks for; raise InputError when it is none."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in kinds:
        known = ", ".join(f".{name}" for name in kinds)
        raise InputError(f"{one_line(path)}: expected a file name that ends in one of {known}")
    return kind


def check(path: str, force: bool = False, kinds: Sequence[str] = KINDS) -> None:
    """Raise InputError when ``save`` could not write ``path``, before any work is done for it."""
    if kind_of(path, kinds) == "parquet":
        from sizeforensics.report import parquet

        parquet.require()
    check_place(path, force)


def check_place(path: str, force: bool = False) -> None:
    """Raise InputError when no file of any kind could be written to ``path``."""
    if os.path.isdir(path):  # noqa: PTH112  pathlib raises for a name that is too long
        raise InputError(f"{one_line(path)}: expected a file to write, got a directory")
    if os.path.lexists(path) and not force:
        raise InputError(f"{one_line(path)}: exists; --force (force=True) replaces it")
    folder = Path(path).parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise InputError(f"{one_line(path)}: expected an existing folder, got {one_line(str(folder))}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{one_line(path)}: expected a folder that can be written to")


def save(report: Report, path: str, force: bool = False, figure: str = "", table: str = "") -> None:
    """Write the report; raise InputError when the path is taken, unwritable or of no known kind.

    ``figure`` and ``table`` choose as in ``pieces``. What is written goes to a temporary file
    beside ``path`` that is then renamed, so that nobody sees half a report and a failure leaves an
    older one as it was. A file that the report is about is never replaced.
    """
    check(path, force, MAP_KINDS if isinstance(report, Inventory) else KINDS)
    if any(_same(path, file) for file in _read_from(report)):
        raise InputError(f"{one_line(path)}: is one of the files that the report is about")
    write(path, _chunks(report, kind_of(path), figure, table))


def write(path: str, chunks: Iterable[bytes]) -> None:
    """Replace the file at ``path`` as a whole; raise InputError when it cannot be written."""
    try:
        _replace(Path(path), chunks)
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot write: {error.strerror or error}") from None


def _read_from(report: Report) -> list[str]:
    if isinstance(report, Inventory):
        return [report.path, *(file.path for file in report.files)]
    sides = [report.before, report.after] if isinstance(report, DiffReport) else [report.side]
    return [path for side in sides for path in (side.path, *(file.path for file in side.files))]


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)  # noqa: PTH121  neither needs to be there
    except (OSError, ValueError):
        return False


def _replace(path: Path, chunks: Iterable[bytes]) -> None:
    descriptor, name = tempfile.mkstemp(
        prefix=".sizeforensics-", suffix=".tmp", dir=path.parent
    )
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines(chunks)
        # mkstemp makes files that only the owner can read; a report is an ordinary file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
