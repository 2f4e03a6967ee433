"""The reports that the browser looks at: real miniatures, synthetic giants, hostile names."""

from __future__ import annotations

from collections.abc import Iterator

from sizeforensics import api, formats
from sizeforensics.ledger import Place, Row
from sizeforensics.report.contents import InspectReport, inspect_report
from sizeforensics.report.rows import DiffReport, diff_report
from tests.golden import samples
from tests.golden.cases import MODELS

PARTS = (
    ("self_attn.q_proj.weight", 4096), ("self_attn.k_proj.weight", 1024),
    ("self_attn.v_proj.weight", 1024), ("self_attn.o_proj.weight", 4096),
    ("mlp.gate_proj.weight", 11008), ("mlp.up_proj.weight", 11008), ("mlp.down_proj.weight", 11008),
    ("input_layernorm.weight", 64), ("post_attention_layernorm.weight", 64),
    ("self_attn.q_proj.bias", 64),
)  # fmt: skip

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


def transformer(tensors: int) -> DiffReport:
    """A float16 checkpoint exported to float32: that many tensors, matrices renamed and shuffled."""
    rows = list(_pairs(tensors))
    rows += [
        Row("names", "", "tensor names", 0, 40 * tensors, "parsed", "NodeProto.output", tensors),
        Row("container", "", "ZIP records", 210 * tensors, 0, "parsed", "ZIP", tensors),
        Row("alignment", "", "ZIP records", 30 * tensors, 0, "parsed", "FB padding", tensors),
    ]
    return diff_report(*samples.case(rows, "giant.pt", "giant.onnx"))


def _pairs(tensors: int) -> Iterator[Row]:
    before_end = after_end = 64
    for number in range(tensors):
        part, count = PARTS[number % len(PARTS)]
        name = f"model.layers.{number // len(PARTS)}.{part}"
        renamed = f"onnx::MatMul_{7 * number % 1_000_003 + 1000}" if count > 64 else name
        shape = (64, count // 64) if count > 64 else (64,)
        before = Place(name, 0, before_end, 2 * count, "float16", shape)
        after = Place(renamed, 0, after_end, 4 * count, "float32", shape[::-1])
        before_end += 2 * count + 200 + number % 64
        after_end += 4 * count + 40
        how = "cast float16 -> float32" + ", axes permuted (1, 0)" * (count > 64)
        size = 2 * count
        yield Row("carried", "", renamed, size, size, "proved", how, 1, count, before, after)
        yield Row("dtype", "float16 -> float32", renamed, 0, size, "proved", how, 1, count, before, after)


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


def slight() -> DiffReport:
    """A change too small to see beside the sizes: the axis cannot begin at zero."""
    return diff_report(*samples.case([
        Row("carried", "", "weights", 10_000_000, 10_000_000, "proved", ""),
        Row("metadata", "", "producer", 100, 4_100, "parsed", ""),
        Row("names", "", "names", 900, 300, "parsed", ""),
    ]))  # fmt: skip
