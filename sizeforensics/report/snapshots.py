"""Write a snapshot: JSON with one tensor a line, plain or compressed as the extension says."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.inventory import Inventory
from sizeforensics.report import json, save
from sizeforensics.snapshot import document

KINDS = (".json", ".json.gz", ".json.zst")
"""How the name of a snapshot ends."""


def text(inventory: Inventory) -> Iterator[str]:
    """The snapshot that ``snapshot.take`` gave, as text in pieces."""
    return json.chunks(json.render(document(inventory)))


def check(path: str, force: bool = False) -> None:
    """Raise InputError when ``write`` could not write ``path``, before any work is done for it.

    Its folder is made: a project's first snapshot comes before the folder of its snapshots.
    """
    if not Path(path).name.lower().endswith(KINDS):
        raise InputError(
            f"{one_line(path)}: expected a file name that ends in one of {', '.join(KINDS)}"
        )
    if path.lower().endswith(".zst"):
        _zstandard()
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{one_line(path)}: cannot write: {error.strerror or error}") from None
    save.check_place(path, force)


def write(inventory: Inventory, path: str, force: bool = False) -> None:
    """Write the snapshot, whole or not at all; the same inventory gives the same bytes.

    Raises InputError when the path is taken, unwritable or of no known kind.
    """
    check(path, force)
    pieces: Iterator[bytes] = (piece.encode("utf-8") for piece in text(inventory))
    if path.lower().endswith(".gz"):
        pieces = _gzipped(pieces)
    elif path.lower().endswith(".zst"):
        # A frame that says how long it is: a reader can tell a whole one from a part.
        pieces = iter([_zstandard().ZstdCompressor(level=19).compress(b"".join(pieces))])
    save.write(path, pieces)


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip stream without a name or a time in it."""
    machine = zlib.compressobj(level=9, wbits=31)
    for piece in pieces:
        yield machine.compress(piece)
    yield machine.flush()


def _zstandard() -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise InputError("a .json.zst file needs: pip install 'sizeforensics[zstd]'") from None
    return zstandard
