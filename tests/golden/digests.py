"""SHA-256 and size of every report about every pair of miniatures: too many and too long to commit.

``STABLE`` is the same on every machine. Pictures and Parquet also depend on the versions of the
libraries that write them, which are noted beside their digests.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from itertools import combinations_with_replacement

from sizeforensics import api, formats
from sizeforensics.inventory import Inventory
from sizeforensics.report import console, figures, parquet, save, tables
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport
from sizeforensics.report.styled import View
from tests.golden import real

Report = DiffReport | InspectReport
MODELS = sorted(path.name for path in real.MODELS.iterdir() if path.suffix != ".data")
PAIRS = (*((name,) for name in MODELS), *combinations_with_replacement(MODELS, 2))
"""Every miniature, and every two of them; also each beside itself."""
SHOWN = (*((name,) for name in real.SINGLES.values()), *real.PAIRS.values())
"""Of which the bytes of pictures are pinned: a picture follows from its scene."""
LIBRARIES = ("matplotlib", "pillow", "pyarrow")


def unpacked(page: str) -> str:
    """The page with its data as plain text: compressed bytes differ between versions of zlib."""
    return re.sub(
        r'(<script[^>]*type="application/json"[^>]*>)([A-Za-z0-9+/=\s]+)(</script>)',
        lambda match: match[1] + gzip.decompress(base64.b64decode(match[2])).decode() + match[3],
        page,
    )


@cache
def _read(name: str) -> Inventory:
    return formats.read(f"fixtures/models/{name}")


@cache
def report(pair: tuple[str, ...]) -> Report:
    with real.at_root():
        inventories = [_read(name) for name in pair]
        if len(inventories) == 1:
            return api.look_into(inventories[0]).report
        return api.compare(*inventories).report


def _text(kind: str, table: str = "") -> Callable[[Report], str]:
    def make(made: Report) -> str:
        with real.at_root():  # the page holds digests of the files
            return "".join(save.pieces(made, kind, table=table))

    return make


def _terminal(made: Report) -> str:
    views = View(), View(verbose=True), View(width=60, wrap=True, unicode=False, colour=True)
    return "".join(
        console.diff(made, view) if isinstance(made, DiffReport) else console.inspect(made, view)
        for view in views
    )


def _scene(figure: str) -> Callable[[Report], str]:
    return lambda made: real.scene_text(figures.arrange(made, figure))


STABLE: dict[str, Callable[[Report], str]] = {
    "terminal": _terminal,
    "html": lambda made: unpacked(_text("html")(made)),
    "md": _text("md"),
    "json": _text("json"),
    "rows.csv": _text("csv", "rows"),
    "tensors.csv": _text("csv", "tensors"),
    **{f"{figure} scene": _scene(figure) for figure in figures.FIGURES},
}
BYTES: dict[str, Callable[[Report], bytes]] = {
    **{f"{figure}.png": lambda made, figure=figure: figures.png(figures.arrange(made, figure)) for figure in figures.FIGURES},
    **{f"{figure}.svg": lambda made, figure=figure: figures.svg(figures.arrange(made, figure)).encode() for figure in figures.FIGURES},
    **{f"{table}.parquet": lambda made, table=table: parquet.render(tables.of(made, table)) for table in tables.TABLES},
}  # fmt: skip


def lines(pair: tuple[str, ...]) -> list[str]:
    """The lines of ``digests.txt`` about one pair."""
    return [
        _line(pair, kind, make(report(pair)).encode("utf-8"))
        for kind, make in STABLE.items() if _has(pair, kind)
    ]


def pictures(pair: tuple[str, ...]) -> list[str]:
    """The lines of ``pictures.txt`` about one pair."""
    return [_line(pair, kind, make(report(pair))) for kind, make in BYTES.items() if _has(pair, kind)]


def libraries() -> str:
    """The first line of ``pictures.txt``: what its digests depend on."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def everything() -> Iterator[tuple[str, str]]:
    """Both files with their text, made on all processors."""
    with ProcessPoolExecutor() as pool:
        for name, make, pairs, head in (
            ("digests.txt", lines, PAIRS, []), ("pictures.txt", pictures, SHOWN, [libraries()]),
        ):
            found = [line for group in pool.map(make, pairs) for line in group]
            yield name, "\n".join([*head, *found, ""])


def _has(pair: tuple[str, ...], kind: str) -> bool:
    """One artifact has no ledger, so no table of its rows."""
    return len(pair) == 2 or not kind.startswith("rows.")


def _line(pair: tuple[str, ...], kind: str, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()} {len(data):>9,} {kind}: {' '.join(pair)}"
