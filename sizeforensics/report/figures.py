"""Figures for papers, slides and chats: a waterfall or a treemap as PNG, SVG or matplotlib Figure.

Nothing here touches pyplot or its global state, and a user's matplotlibrc changes nothing. Text is
outlines in SVG: it looks the same everywhere, and no name can become markup.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.report import figure_scene as scene
from sizeforensics.report import figure_treemap as treemap
from sizeforensics.report import figure_waterfall as waterfall
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.figure_scene import Box, Line, Scene
from sizeforensics.report.rows import DiffReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Report = DiffReport | InspectReport
FIGURES = ("waterfall", "treemap")
_DPI = 100
_POINTS = 72 / _DPI
"""Of a pixel."""
_NAME = "sizeforensics"
_COLOURS = 256


def arrange(
    report: Report, figure: str = "", area: str = "", by: str = ""
) -> Scene:
    """What the figure, a waterfall unless said otherwise, shows and where. Raises InputError for an
    unknown figure, area or group."""
    figure = figure or FIGURES[0]
    if figure not in FIGURES:
        raise InputError(f"figure: expected one of {', '.join(FIGURES)}, got {figure!r}")
    if figure == "waterfall":
        if area or by:
            raise InputError("area and by belong to the treemap, not to the waterfall")
        return waterfall.diff(report) if isinstance(report, DiffReport) else waterfall.inspect(report)
    if isinstance(report, DiffReport):
        return treemap.diff(report, area or "after", by or "module")
    if area:
        raise InputError("area: one artifact has nothing but its bytes")
    return treemap.inspect(report, by or "module")


def draw(picture: Scene) -> Figure:
    """The scene as a matplotlib Figure of 1600 x 900 pixels."""
    with _plain_settings():
        return _draw(picture)


def png(picture: Scene) -> bytes:
    """The scene as a PNG file: the same bytes from run to run."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image, PngImagePlugin

    with _plain_settings():
        canvas: Any = FigureCanvasAgg(_draw(picture))
        canvas.draw()
    # A few colours and the shades between them: a palette makes the file a third as large.
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image = image.quantize(_COLOURS, dither=Image.Dither.NONE)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", _latin(picture.title))
    texts.add_text("Description", _latin(picture.description))
    texts.add_text("Software", f"{_NAME}, matplotlib {mpl.__version__}")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=texts, optimize=True)
    return buffer.getvalue()


def svg(picture: Scene) -> str:
    """The scene as an SVG file: the same text from run to run."""
    with _plain_settings():
        buffer = io.StringIO()
        metadata = {
            "Title": one_line(picture.title, 1000), "Description": one_line(picture.description, 8000),
            "Creator": _NAME, "Date": None,
        }  # fmt: skip
        _draw(picture).savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _plain_settings() -> Iterator[None]:
    """Matplotlib's own defaults instead of the user's, for as long as we draw."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({
            "svg.hashsalt": _NAME, "svg.fonttype": "path", "hatch.linewidth": 1.5,
            # Widths of outlines, as they were measured.
            "text.hinting": "none", "path.simplify": False,
            "text.usetex": False, "text.parse_math": False,
        })  # fmt: skip
        yield


def _draw(picture: Scene) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(scene.WIDTH / _DPI, scene.HEIGHT / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, scene.WIDTH)
    axes.set_ylim(scene.HEIGHT, 0)
    axes.set_axis_off()
    for order, item in enumerate(picture.items):
        if isinstance(item, Box):
            axes.add_patch(Rectangle(
                (item.x, item.y), item.width, item.height, facecolor=item.fill, linewidth=0,
                edgecolor=item.hatch or "none", hatch="//" if item.hatch else None,
                zorder=order, clip_on=False,
            ))  # fmt: skip
        elif isinstance(item, Line):
            axes.add_line(Line2D(
                (item.x0, item.x1), (item.y0, item.y1), color=item.colour,
                linewidth=item.width * _POINTS, zorder=order, clip_on=False,
            ))  # fmt: skip
        else:
            axes.text(
                item.x, item.y, item.text, color=item.colour, zorder=order,
                fontproperties=scene.properties(item.size * _POINTS, item.bold),
                horizontalalignment=item.align, verticalalignment="center_baseline",
                rotation=90 if item.upright else 0, rotation_mode="anchor" if item.upright else None,
                parse_math=False, usetex=False,
            )  # fmt: skip
    return figure


def _latin(text: str) -> str:
    """PNG's plain text chunks hold Latin-1."""
    return one_line(text, 4000).encode("latin-1", "backslashreplace").decode("latin-1")
