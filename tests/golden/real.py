"""Reports about the committed miniatures, as somebody at the root of the repository makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from sizeforensics import api, formats
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.figure_scene import Box, Line, Scene
from sizeforensics.report.rows import DiffReport

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "fixtures" / "models"
PAIRS = {
    "mini-onnx": ("yolov5-mini.pt", "yolov5-mini.onnx"),
    "mini-fp16": ("yolov5-mini.onnx", "yolov5-mini-fp16.onnx"),
    "fp16-mini": ("yolov5-mini-fp16.onnx", "yolov5-mini.onnx"),
    "mini-torchscript": ("yolov5-mini.pt", "yolov5-mini.torchscript"),
    "micro-dynamo": ("yolov5-micro.pt", "yolov5-micro-dynamo.onnx"),
    "micro-train": ("yolov5-micro-train.pt", "yolov5-micro.pt"),
    "tied-legacy": ("tied.pt", "tied-legacy.onnx"),
    "tied-dynamo": ("tied.pt", "tied-dynamo.onnx"),
    "same": ("tied.pt", "tied.pt"),
}
SINGLES = {"mini": "yolov5-mini.onnx", "micro-train": "yolov5-micro-train.pt"}


@contextmanager
def at_root() -> Iterator[None]:
    """Paths are printed as given: give them as a reader of the README does."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)


@cache
def compared(name: str) -> DiffReport:
    with at_root():
        return api.compare(*(formats.read(f"fixtures/models/{side}") for side in PAIRS[name])).report


@cache
def inspected(name: str) -> InspectReport:
    with at_root():
        return api.look_into(formats.read(f"fixtures/models/{SINGLES[name]}")).report


def scene_text(scene: Scene) -> str:
    """A figure as text: every box, line and label and where it is, back to front."""
    lines = [scene.title, scene.description]
    for item in scene.items:
        if isinstance(item, Box):
            place = f"{item.x:.0f},{item.y:.0f} {item.width:.0f}x{item.height:.0f}"
            lines.append(f"box {place} {item.fill}{' striped' * bool(item.hatch)}")
        elif isinstance(item, Line):
            lines.append(f"line {item.x0:.0f},{item.y0:.0f} {item.x1:.0f},{item.y1:.0f}")
        else:
            style = f"{item.size} {item.align}{' bold' * item.bold}"
            lines.append(f"text {item.x:.0f},{item.y:.0f} {style} {item.text}")
    return "\n".join(lines) + "\n"
