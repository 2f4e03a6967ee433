"""Which output each golden file pins; ``python -m tests.golden`` writes them all again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sizeforensics import api, formats
from sizeforensics.causes import CAUSES
from sizeforensics.report import catalogue, console, figures, json, markdown
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.styled import View
from tests.golden import real, samples

HERE = Path(__file__).parent
MODELS = real.MODELS


def _diff(case: Callable[[], samples.Case], view: View) -> Callable[[], str]:
    return lambda: console.diff(diff_report(*case()), view)


def _inspect(view: View) -> Callable[[], str]:
    return lambda: console.inspect(inspect_report(*samples.inspected()), view)


def _real(*names: str, verbose: bool = False) -> Callable[[], str]:
    """The view of one real miniature, or of the difference of two."""

    def make() -> str:
        inventories = [formats.read(str(MODELS / name)) for name in names]
        if len(inventories) == 1:
            return console.inspect(api.look_into(*inventories).report, View(verbose=verbose))
        return console.diff(api.compare(*inventories).report, View(verbose=verbose))

    return make


CASES: dict[str, Callable[[], str]] = {
    "diff-piped.txt": _diff(samples.yolo, View()),
    "diff-60.txt": _diff(samples.yolo, View(width=60, wrap=True)),
    "diff-80.txt": _diff(samples.yolo, View(width=80, wrap=True)),
    "diff-140-verbose.txt": _diff(samples.yolo, View(width=140, wrap=True, verbose=True)),
    "diff-ascii.txt": _diff(samples.yolo, View(unicode=False)),
    "diff-colour.txt": _diff(samples.yolo, View(colour=True, wrap=True)),
    "diff-filtered.txt": _diff(samples.yolo, View(min_bytes=10_000, filter="model.24", verbose=True)),
    "diff-hostile.txt": _diff(samples.hostile, View(verbose=True)),
    "diff-wide.txt": _diff(samples.wide, View(wrap=True, verbose=True)),
    "diff-every-cause.txt": _diff(samples.every_cause, View(wrap=True)),
    "diff.json": lambda: "".join(json.render(json.diff(diff_report(*samples.yolo())))),
    "diff-hostile.json": lambda: "".join(json.render(json.diff(diff_report(*samples.hostile())))),
    "inspect.txt": _inspect(View()),
    "inspect-60-verbose.txt": _inspect(View(width=60, wrap=True, verbose=True)),
    "inspect.json": lambda: "".join(json.render(json.inspect(inspect_report(*samples.inspected())))),
    "map.txt": lambda: "".join(console.spans(samples.inspected()[0])),
    "map.json": lambda: "".join(json.render_map(samples.inspected()[0])),
    "explain.txt": catalogue.everything,
    "explain-dtype.txt": lambda: catalogue.one(CAUSES["dtype"], 80),
    "real-diff-onnx.txt": _real("yolov5-mini.pt", "yolov5-mini.onnx"),
    "real-diff-tied-verbose.txt": _real("tied.pt", "tied-legacy.onnx", verbose=True),
    "real-diff-dynamo.txt": _real("yolov5-micro.pt", "yolov5-micro-dynamo.onnx"),
    "real-diff-torchscript.txt": _real("yolov5-mini.pt", "yolov5-mini.torchscript"),
    "real-diff-train.txt": _real("yolov5-micro-train.pt", "yolov5-micro.pt"),
    "real-diff-tied.txt": _real("tied.pt", "tied-legacy.onnx"),
    "real-inspect-train.txt": _real("yolov5-micro-train.pt"),
    "real-inspect-onnx.txt": _real("yolov5-mini.onnx"),
}  # fmt: skip


def _scene(report: Callable[[], figures.Report], figure: str, area: str = "", by: str = "") -> Callable[[], str]:
    return lambda: real.scene_text(figures.arrange(report(), figure, area, by))


for _name in real.PAIRS:
    _report = partial(real.compared, _name)
    CASES[f"diff-{_name}.md"] = lambda report=_report: markdown.render(report())
    CASES[f"diff-{_name}-waterfall.txt"] = _scene(_report, "waterfall")
    CASES[f"diff-{_name}-treemap.txt"] = _scene(_report, "treemap")
for _name in real.SINGLES:
    _single = partial(real.inspected, _name)
    CASES[f"inspect-{_name}.md"] = lambda report=_single: markdown.render(report())
    CASES[f"inspect-{_name}-waterfall.txt"] = _scene(_single, "waterfall")
    CASES[f"inspect-{_name}-treemap.txt"] = _scene(_single, "treemap")
CASES["diff-mini-onnx-change.txt"] = _scene(partial(real.compared, "mini-onnx"), "treemap", "change", "cause")
CASES["diff-hostile.md"] = lambda: markdown.render(diff_report(*samples.hostile()))
CASES["diff-hostile-waterfall.txt"] = _scene(lambda: diff_report(*samples.hostile()), "waterfall")
CASES["diff-every-cause-treemap.txt"] = _scene(lambda: diff_report(*samples.every_cause()), "treemap")
