"""Small made-up artifacts and ledgers with the numbers of a known case, to test the reports on."""

from __future__ import annotations

from sizeforensics.dtypes import DTYPES
from sizeforensics.findings import Finding
from sizeforensics.inventory import File, Inventory, Storage, Tensor, c_strides
from sizeforensics.ledger import Ledger, Place, Row
from sizeforensics.source import MemorySource
from sizeforensics.spans import ROLES, TENSOR_DATA, Owners, SpanSink


def artifact(
    path: str,
    layout: list[tuple[int, str, str]],
    kind: str = "onnx",
    dtype: str = "float32",
    warnings: tuple[str, ...] = (),
) -> Inventory:
    """An artifact of one file from (bytes, role, owner); a tensor per ``tensor-data`` entry."""
    owners, sink = Owners(), SpanSink()
    storages, tensors = [], []
    position = 0
    for size, role, owner in layout:
        code = ROLES.index(role)
        sink.add(position, position + size, code, owners.add(owner, f"{role} of {owner}"))
        if code == TENSOR_DATA:
            shape = (size * 8 // DTYPES[dtype].bits,)
            tensors.append(
                Tensor(owner, DTYPES[dtype], shape, c_strides(shape), 0, len(storages), "weight")
            )
            payload = MemorySource(path, bytes(size), position) if size < 1 << 20 else None
            storages.append(Storage(owner, 0, position, size, size, payload))
        position += size
    spans = sink.finish(position, owners.add("", "unclaimed"))
    return Inventory(
        path, kind, (File(path, spans),), owners, tuple(storages), tuple(tensors),
        metadata=(("producer", "synthetic 1.0"),), warnings=warnings,
    )  # fmt: skip


def ledger(rows: list[Row]) -> Ledger:
    return Ledger(
        sum(row.before_bytes for row in rows), sum(row.after_bytes for row in rows), tuple(rows)
    )


def place(name: str, size: int, dtype: str = "float32") -> Place:
    return Place(name, 0, 64, size, dtype, (size * 8 // DTYPES[dtype].bits,))


Case = tuple[Inventory, Inventory, Ledger]


def case(rows: list[Row], before: str = "a.pt", after: str = "b.onnx", **options: str) -> Case:
    """Two artifacts of one container span each, sized to fit a ledger of ``rows``."""
    book = ledger(rows)
    sides = [
        artifact(path, [(size, "container", "everything")] if size else [])
        for path, size in ((before, book.before_bytes), (after, book.after_bytes))
    ]
    return sides[0], sides[1], book


def yolo() -> Case:
    """The case of the project: float16 checkpoint, float32 export, the numbers of the layout."""
    weights = [("model.0.conv.weight", 3_456), ("model.24.m.0.weight", 32_640)]
    weights.append(("model.9.cv2.conv.weight", 7_225_885 - sum(count for _, count in weights)))
    rows = []
    for name, count in weights:
        sides = place(name, 2 * count, "float16"), place(name, 4 * count)
        how = "cast float16 -> float32"
        rows += [
            Row("carried", "", name, 2 * count, 2 * count, "proved", how, 1, count, *sides),
            Row("dtype", "float16 -> float32", name, 0, 2 * count, "proved", how, 1, count, *sides),
        ]
    grid = place("/model.24/Constant_3", 403_200)
    bn = place("model.0.bn.weight", 58_038, "float16")
    rows += [
        Row("constant", "baked anchor grids", grid.name, 0, 403_200, "parsed", "Constant node", 3, 0, None, grid),
        Row("graph", "", "Conv", 0, 30_000, "parsed", "NodeProto", 60),
        Row("names", "", "tensor names", 0, 15_000, "parsed", "NodeProto.output", 400),
        Row("metadata", "", "producer", 0, 731, "parsed", "ModelProto", 3),
        Row("pickle", "", "model._modules", 87_109, 0, "parsed", "pickle opcodes", 900),
        Row("container", "", "ZIP records", 60_000, 0, "parsed", "ZIP", 700),
        Row("alignment", "", "ZIP records", 7_648, 0, "parsed", "FB padding", 349),
        Row("folded", "57 batch-norms, buffers", bn.name, 58_038, 0, "proved", "folded", 57, 0, bn, None),
    ]  # fmt: skip
    return case(rows, "weights/yolov5s.pt", "out/yolov5s.onnx")


HOSTILE = "evil\x1b[31m\u202egnp.\u200b\n| <b>=1+1\udc80"
"""A tensor name with colour codes, a direction override, a zero-width space, a new line, markup,
a formula and a lone surrogate."""


def hostile() -> Case:
    """Names, labels and paths that try to leave their place."""
    where = place(HOSTILE, 400)
    rows = [
        Row("unmatched", HOSTILE, HOSTILE, 0, 400, "parsed", f"@{HOSTILE}", 1, 0, None, where),
        Row("pickle", "", f"={HOSTILE}", 100, 0, "parsed", "pickle opcodes"),
        Row("container", "", "-1+1", 50, 60, "parsed", "ZIP"),
    ]
    return case(rows, f"dir/{HOSTILE}.pt", "dir/b\x07.onnx")


def wide() -> Case:
    """Names whose characters are two cells wide."""
    name = "模型.权重.第一层"
    where = place(name, 8_000)
    rows = [
        Row("constant", "固定网格", name, 0, 8_000, "parsed", "Constant node", 1, 0, None, where),
        Row("pickle", "", "训练记录", 1_000, 0, "parsed", "pickle opcodes"),
        Row("container", "", "ZIP", 500, 500, "parsed", "ZIP"),
    ]
    return case(rows, "检查点.pt", "模型.onnx")


def every_cause() -> Case:
    """One row per cause, half of them growing: more than fits on a screen."""
    from sizeforensics.causes import CAUSES

    rows = []
    for number, cause in enumerate(CAUSES, start=1):
        size = 7 ** (number % 7) * 100
        label = "float32 -> float16" if cause == "dtype" else ""
        before, after = (size, 0) if number % 2 else (0, size)
        evidence = "unexplained" if cause == "unexplained" else "parsed"
        if cause == "carried":
            before = after = size
        rows.append(Row(cause, label, f"subject {number}", before, after, evidence, "grammar", number, size // 2))
    return case(rows)


def inspected() -> tuple[Inventory, list[Finding]]:
    """An artifact with a finding, unclaimed bytes and a warning."""
    layout = [
        (120, "graph", "Conv"), (4_000, "tensor-data", "conv.weight"), (40, "container", "conv.weight"),
        (400, "tensor-data", "conv.bias"), (400, "tensor-data", "conv.bias.copy"), (60, "names", "names"),
        (20, "unclaimed", ""),
    ]  # fmt: skip
    inventory = artifact("out/small.onnx", layout, warnings=("20 bytes that no field claims",))
    finding = Finding("duplicate", 400, ("conv.bias", "conv.bias.copy"), "Store the tensor once.")
    return inventory, [finding]
