"""The reports that the browser looks at: real miniatures, synthetic giants, hostile names."""

from __future__ import annotations

from benchmarks.reports.synthetic import transformer
from sizeforensics import api, formats
from sizeforensics.ledger import Place, Row
from sizeforensics.report.contents import InspectReport, inspect_report
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.rows import DiffReport
from tests.golden import samples
from tests.golden.cases import MODELS

__all__ = ["HOSTILE", "hostile", "hostile_contents", "nothing", "odd_shapes", "one_tensor", "real", "slight", "transformer"]

HOSTILE = (
    "<script>alert(1)</script>", "</script><script>alert(2)</script>", "<img src=x onerror=alert(3)>",
    "'\"><svg/onload=alert(4)>", "javascript:alert(5)", "{{ 7 * 7 }}{% raw %}", "<!--", "]]>",
    "\u202egnp.exe\u202c", "zero\u200bwidth\ufeff", "\x1b[31mred\x1b[0m\x07", "line\nbreak\r\ttab\x00",
    "# heading", "[link](https://example.org)", "@everyone #1 `code`", "| a | b |",
    '=HYPERLINK("https://example.org")', "+1+1", "-2+3", "@SUM(A1)", "\uff1d1+1", "\udc80lone",
    "__proto__", "constructor.prototype", "a.b." + "very.deep." * 300, "n" * 60_000, "", ".", "/",
    "名前.重み", "🙂" * 40,
)  # fmt: skip
"""Names that try to run, to hide, to end what they are in, or to be a formula."""


def real(*names: str) -> DiffReport | InspectReport:
    """One real miniature, or the difference of two."""
    inventories = [formats.read(str(MODELS / name)) for name in names]
    if len(inventories) == 1:
        return api.look_into(*inventories).report
    return api.compare(*inventories).report


def hostile() -> DiffReport:
    """Every hostile name as tensor, label, subject and explanation, and in the paths."""
    rows = []
    for number, name in enumerate(HOSTILE):
        size = 400 + 8 * number
        before, after = (Place(text, 0, 64, size, "float32", (size // 4,)) for text in (name, f"new {name}"))
        rows += [
            Row("carried", "", name, size, size, "proved", name, 1, 1, before, after),
            Row("unmatched", "", name, 0, size, "parsed", name, 1, 0, None, after),
            Row("pickle", "", name, size, 3 * size, "parsed", "pickle opcodes"),
        ]
    rows.append(Row("constant", HOSTILE[1], HOSTILE[0], 0, 90_000, "parsed", HOSTILE[2]))
    rows.append(Row("unexplained", "", HOSTILE[3], 0, 77, "unexplained", ""))
    return diff_report(*samples.case(rows, f"{HOSTILE[0].replace('/', '')}.pt", "\u202e'\"<b>.onnx"))


def hostile_contents() -> InspectReport:
    """Every hostile name as tensor, subject, finding, key and value of the metadata, and warning."""
    layout = [(400, "tensor-data", name) for name in HOSTILE]
    layout += [(40, "graph", name) for name in HOSTILE]
    inventory = samples.artifact("<b>.onnx", layout, warnings=HOSTILE)
    object.__setattr__(inventory, "metadata", tuple(zip(HOSTILE, reversed(HOSTILE), strict=True)))
    finding = samples.Finding("duplicate", 400, HOSTILE, "Store the tensor once.")
    return inspect_report(inventory, [finding])


def one_tensor() -> DiffReport:
    """A file of one tensor, cast."""
    places = samples.place("weight", 4_096, "float16"), samples.place("weight", 8_192)
    how = "cast float16 -> float32"
    return diff_report(*samples.case([
        Row("carried", "", "weight", 4_096, 4_096, "proved", how, 1, 2_048, *places),
        Row("dtype", "float16 -> float32", "weight", 0, 4_096, "proved", how, 1, 2_048, *places),
        Row("container", "", "header", 200, 120, "parsed", "ZIP"),
    ]))  # fmt: skip


def nothing() -> DiffReport:
    """Two files without a tensor; all that is in them is unexplained."""
    return diff_report(*samples.case([Row("unexplained", "", "all of it", 0, 10, "unexplained", "")]))


def odd_shapes() -> DiffReport:
    """Shapes whose product no script can tell, and sizes that do not follow from them."""
    shapes = ((2**62, 4), (0, 2**62), (2**62, 0), (-5, 3), (10**400,), (), (3, 2**50), (7,))
    rows = []
    for number, shape in enumerate(shapes, start=1):
        before, after = (Place(f"{number}", 0, 100 * number, 40 + number, dtype, shape) for dtype in ("float16", "int4"))
        rows.append(Row("carried", "", "odd", 40, 40, "proved", "cast", 1, 1, before, after))
        rows.append(Row("unmatched", "", "odd", number, 0, "parsed", "", 1, 1, before._replace(name="x"), None))
        rows.append(Row("unmatched", "", "odd", 0, 9, "parsed", "", 1, 1, None, after._replace(name="y", dtype="unheard")))
    return diff_report(*samples.case(rows))


def slight() -> DiffReport:
    """A change too small to see beside the sizes: the axis cannot begin at zero."""
    return diff_report(*samples.case([
        Row("carried", "", "weights", 10_000_000, 10_000_000, "proved", ""),
        Row("metadata", "", "producer", 100, 4_100, "parsed", ""),
        Row("names", "", "names", 900, 300, "parsed", ""),
    ]))  # fmt: skip
