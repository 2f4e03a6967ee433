"""Figures: everything readable, nothing overlapping, sums that hold, the same bytes everywhere."""

from __future__ import annotations

import io
import itertools
import random
from functools import cache
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from PIL import Image

from sizeforensics import api
from sizeforensics.errors import InputError
from sizeforensics.ledger import Row
from sizeforensics.report import figure_scene, figures
from sizeforensics.report.contents import inspect_report
from sizeforensics.report.figure_scene import HEIGHT, WIDTH, Box
from sizeforensics.report.presentation import diff_report
from tests.golden import real, samples

HOSTILE = [
    samples.HOSTILE, "$x^2$", "$", r"\frac{", "a" * 5000, "模型.权重", "--><script>", "&amp;", "\u0301" * 50,
    "", " ", ".", "../..", "\ufffe", "مرحبا", "a\\nb", "]]>", "{x}", "%s", "🤖.weight", "a" * 399 + "é",
]  # fmt: skip


def made(rows, **paths):
    return diff_report(*samples.case(rows, **paths))


def tensor(name, before, after, cause="unmatched"):
    place = samples.place(name, max(before, after))
    sides = [place if size else None for size in (before, after)]
    return Row(cause, name, name, before, after, "parsed", "x", 1, 0, *sides)


def ten_thousand():
    rng = random.Random(7)
    sizes = [(f"block.{n // 100}.layer.{n % 100}.weight", 4 * rng.randint(1, 5000)) for n in range(10_000)]
    return made([row for name, size in sizes for row in (
        Row("carried", "", name, size, size, "proved", "x", 1, size // 2, samples.place(name, size), samples.place(name, 2 * size)),
        Row("dtype", "float16 -> float32", name, 0, size, "proved", "x", 1, size // 2, samples.place(name, size), samples.place(name, 2 * size)),
    )])  # fmt: skip


DIFFS = {
    **{name: lambda name=name: real.compared(name) for name in real.PAIRS},
    "yolo": lambda: diff_report(*samples.yolo()),
    "hostile": lambda: diff_report(*samples.hostile()),
    "wide": lambda: diff_report(*samples.wide()),
    "every cause": lambda: diff_report(*samples.every_cause()),
    "hostile names": lambda: made([tensor(name, 0, 4000 * n) for n, name in enumerate(HOSTILE, 1)]),
    "long paths": lambda: made([tensor("w", 0, 400)], before="d/" + "a" * 300, after="d/" + "b" * 300),
    "one tensor": lambda: made([tensor("w", 400, 400, "carried")]),
    "tiny change": lambda: made([
        tensor("w", 40_000_000, 40_000_000, "carried"), Row("graph", "", "x", 9, 500, "parsed", "x"),
        Row("names", "", "x", 1, 0, "parsed", "x"), Row("metadata", "", "x", 0, 1, "parsed", "x"),
    ]),
    "same size": lambda: made([tensor("w", 0, 500), Row("pickle", "", "x", 500, 0, "parsed", "x")]),
    "from nothing": lambda: made([tensor("w", 0, 500)]),
    "to nothing": lambda: made([tensor("w", 500, 0)]),
    "nothing": lambda: made([]),
    "negative": lambda: made([tensor("w", 900, 900, "carried"), Row("compression", "", "x", -300, -700, "parsed", "x")]),
    "below zero": lambda: made([
        Row("compression", "", "x", -300, 0, "parsed", "x"), Row("pickle", "", "x", 400, 0, "parsed", "x"), tensor("w", 0, 50),
    ]),
    "petabytes": lambda: made([tensor("w", 1, 10**16)]),
    "10,000 tensors": ten_thousand,
    "flat": lambda: made([tensor(f"t{n}", 0, 400) for n in range(3000)]),
    "deep": lambda: made([tensor("a." * 3000 + str(n), 0, 400) for n in range(3)]),
    "one path, many tensors": lambda: made([tensor("x" * 300 + "." + "y" * 300 + str(n), 0, 400) for n in range(60)]),
}  # fmt: skip
SINGLES = {
    **{name: lambda name=name: real.inspected(name) for name in real.SINGLES},
    "sample": lambda: inspect_report(*samples.inspected()),
    "empty": lambda: inspect_report(samples.artifact("e.onnx", []), []),
    "one tensor": lambda: inspect_report(samples.artifact("e.onnx", [(400, "tensor-data", "w")]), []),
    "hostile": lambda: inspect_report(
        samples.artifact("e.onnx", [(400 * n, "tensor-data", name or " ") for n, name in enumerate(HOSTILE, 1)]), []
    ),
}
DIFFS = {name: cache(make) for name, make in DIFFS.items()}
KINDS = [("waterfall", "", ""), *(("treemap", area, by) for area in ("after", "before", "change") for by in ("module", "cause"))]


def overlap(first, second):
    return min(first[2], second[2]) - max(first[0], second[0]) > 1 and min(first[3], second[3]) - max(first[1], second[1]) > 1


def check_readable(scene):
    for text in scene.texts:
        left, top, right, bottom = text.bounds
        assert left >= 0, text
        assert right <= WIDTH - figure_scene.MARGIN + 1, text
        assert 0 <= top < bottom <= HEIGHT, text
        assert text.size >= figure_scene.NOTE_SIZE, "half size must stay readable"
        assert text.text.isprintable(), text
    for first, second in itertools.combinations(scene.texts, 2):
        assert not overlap(first.bounds, second.bounds), (first, second)
    for box in scene.items:
        if isinstance(box, Box):
            assert box.width > 0, box
            assert box.height > 0, box
            assert box.x >= 0, box
            assert box.x + box.width <= WIDTH, box


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("name", DIFFS)
def test_diff_is_readable(name, kind):
    check_readable(figures.arrange(DIFFS[name](), *kind))


@pytest.mark.parametrize("kind", [("waterfall", ""), ("treemap", "module"), ("treemap", "role")], ids="-".join)
@pytest.mark.parametrize("name", SINGLES)
def test_inspect_is_readable(name, kind):
    check_readable(figures.arrange(SINGLES[name](), kind[0], by=kind[1]))


@pytest.mark.parametrize("name", ["hostile", "hostile names", "nothing", "tiny change", "wide"])
@pytest.mark.parametrize("figure", figures.FIGURES)
def test_what_is_drawn_is_inert(name, figure):
    scene = figures.arrange(DIFFS[name](), figure)
    with Image.open(io.BytesIO(figures.png(scene))) as image:
        assert image.size == (1600, 900)
        assert image.text["Title"]
    tree = ET.fromstring(figures.svg(scene))
    tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
    assert not tags & {"script", "a", "image", "foreignObject", "text"}
    for element in tree.iter():
        for key, value in element.attrib.items():
            if key.endswith("href"):
                assert value.startswith("#")
            assert not key.lower().startswith("on")


def test_at_most_ten_causes_and_forty_boxes():
    waterfall = figures.arrange(DIFFS["every cause"]())
    assert sum(isinstance(item, Box) for item in waterfall.items) == 2 + 10 + 1
    titles = [text.text for text in waterfall.texts if text.bold]
    assert "other" in titles
    for name in ("10,000 tensors", "flat", "mini-onnx", "hostile names"):
        treemap = figures.arrange(DIFFS[name](), "treemap")
        assert treemap.description.count(": ") <= 41


@pytest.mark.parametrize("name", ["mini-onnx", "micro-train", "tied-legacy", "yolo", "10,000 tensors"])
def test_boxes_sum_to_the_file(name):
    report = DIFFS[name]()
    scene = figures.arrange(report, "treemap")
    assert scene.texts[-1].text.endswith(f"the boxes sum to {report.after.bytes:,} B")
    change = figures.arrange(report, "treemap", "change", "cause")
    assert change.texts[-1].text.endswith(f"the boxes sum to {report.gross_bytes:,} B")


def test_bytes_that_compression_gives_back_have_no_box_and_are_said():
    text = figures.arrange(DIFFS["negative"](), "treemap").texts[-1].text
    assert "boxes sum to 900 B" in text
    assert text.endswith(", less compression -700 B")


def test_growth_is_hatched_and_signed_shrinking_is_not():
    scene = figures.arrange(DIFFS["yolo"]())
    boxes = [item for item in scene.items if isinstance(item, Box)]
    assert any(box.hatch for box in boxes if box.fill == "#D55E00")
    assert not any(box.hatch for box in boxes if box.fill == "#0072B2")
    words = [text.text for text in scene.texts]
    assert "+14,451,770 B" in words
    assert "-87,109 B" in words


def test_every_change_has_a_visible_bar():
    scene = figures.arrange(DIFFS["tiny change"]())
    assert all(item.width >= 3 for item in scene.items if isinstance(item, Box))
    assert any("totals are cut" in text.text for text in scene.texts)


@pytest.mark.parametrize("width", [0, 5, 40, 100, 1000])
@pytest.mark.parametrize("name", HOSTILE)
def test_fit_fits_and_keeps_both_ends(name, width):
    short = figure_scene.fit(name, 20, width)
    assert figure_scene.measure(short, 20) <= width
    if "…" in short and "…" not in name:
        whole = figure_scene.drawable(name)
        head, tail = short.split("…")[0], short.split("…")[-1]
        assert whole.startswith(head)
        assert whole.endswith(tail)


def test_what_the_font_lacks_is_an_escape():
    assert figure_scene.drawable("模é") == r"\u6a21é"


def test_matplotlib_settings_of_the_user_change_nothing_and_stay():
    import matplotlib as mpl

    scene = figures.arrange(DIFFS["yolo"]())
    plain = figures.png(scene), figures.svg(scene)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "none", "axes.facecolor": "red", "savefig.dpi": 30}):
        assert (figures.png(scene), figures.svg(scene)) == plain
        assert mpl.rcParams["font.size"] == 30


def test_plot_returns_a_figure():
    diff, inspection = api.Diff(DIFFS["yolo"]()), api.Inspection(samples.inspected()[0], SINGLES["sample"](), ())
    for figure in (diff.plot(), diff.plot("treemap", area="change", by="cause"), inspection.plot(), inspection.plot("treemap", by="role")):
        assert isinstance(figure, Figure)
        assert figure.get_size_inches().tolist() == [16, 9]
    buffer = io.BytesIO()
    diff.plot().savefig(buffer)
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pie",), "waterfall, treemap, got 'pie'"),
        (("treemap", "gone"), "after, before, change"),
        (("treemap", "", "colour"), "module, cause"),
        (("waterfall", "after"), "belong to the treemap"),
    ],
)
def test_unknown_words_are_one_line(words, message):
    with pytest.raises(InputError, match=message):
        figures.arrange(DIFFS["yolo"](), *words)


def test_one_artifact_has_no_before():
    with pytest.raises(InputError, match="one artifact"):
        figures.arrange(SINGLES["sample"](), "treemap", "before")
