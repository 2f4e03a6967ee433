"""The example reports in ``reports/``; ``python -m tests.golden`` writes them again."""

from __future__ import annotations

from collections.abc import Callable

from sizeforensics.report import figures, save
from tests.golden.real import ROOT, at_root, compared

FOLDER = ROOT / "reports"
EXAMPLES = {
    "yolov5-mini": "mini-onnx",
    "yolov5-mini-float32": "fp16-mini",
    "yolov5-micro-train": "micro-train",
    "tied": "tied-legacy",
}


def _text(pair: str, kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        with at_root():
            return "".join(save.pieces(compared(pair), kind)).encode("utf-8")

    return make


def _png(pair: str, figure: str) -> Callable[[], bytes]:
    return lambda: figures.png(figures.arrange(compared(pair), figure))


FILES: dict[str, Callable[[], bytes]] = {
    f"{stem}{ending}": make
    for stem, pair in EXAMPLES.items()
    for ending, make in {
        ".html": _text(pair, "html"),
        ".md": _text(pair, "md"),
        ".json": _text(pair, "json"),
        ".png": _png(pair, "waterfall"),
        "-treemap.png": _png(pair, "treemap"),
    }.items()
}
