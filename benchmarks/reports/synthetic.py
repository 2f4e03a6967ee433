"""Diffs of any number of tensors, from ordinary ones to the worst that names and sizes can be."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from sizeforensics.inventory import File, Inventory
from sizeforensics.ledger import Ledger, Place, Row
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.rows import DiffReport
from sizeforensics.spans import ROLES, Owners, SpanSink

PARTS = (
    ("self_attn.q_proj.weight", 4096), ("self_attn.k_proj.weight", 1024),
    ("self_attn.v_proj.weight", 1024), ("self_attn.o_proj.weight", 4096),
    ("mlp.gate_proj.weight", 11008), ("mlp.up_proj.weight", 11008), ("mlp.down_proj.weight", 11008),
    ("input_layernorm.weight", 64), ("post_attention_layernorm.weight", 64),
    ("self_attn.q_proj.bias", 64),
)  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789._"


def transformer(tensors: int) -> DiffReport:
    """A float16 checkpoint and its float32 export, which names and turns matrices anew."""

    def pairs() -> Iterator[Row]:
        before_end = after_end = 64
        for number in range(tensors):
            part, count = PARTS[number % len(PARTS)]
            name = f"model.layers.{number // len(PARTS)}.{part}"
            renamed = f"onnx::MatMul_{7 * number % 1_000_003 + 1000}" if count > 64 else name
            shape = (64, count // 64) if count > 64 else (64,)
            yield from _cast(
                Place(name, 0, before_end, 2 * count, "float16", shape),
                Place(renamed, 0, after_end, 4 * count, "float32", shape[::-1]),
                count, ", axes permuted (1, 0)" * (count > 64),
            )  # fmt: skip
            before_end += 2 * count + 200 + number % 64
            after_end += 4 * count + 40

    return _report(pairs(), tensors)


def renamed(tensors: int) -> DiffReport:
    """Every tensor under a new name that follows from nothing, and each of another size."""
    chance = random.Random(0)

    def pairs() -> Iterator[Row]:
        end = 64
        for number in range(tensors):
            count = chance.randrange(1, 1 << 20)
            name = f"model.layers.{number // 10}.block.{number % 10}.weight"
            yield from _cast(
                Place(name, 0, end, 2 * count, "float16", (count,)),
                Place(f"w_{chance.randrange(1 << 24):06x}", 0, 2 * end, 4 * count, "float32", (count,)),
                count,
            )
            end += 2 * count + 64

    return _report(pairs(), tensors)


def noise(tensors: int) -> DiffReport:
    """The worst: random names of 10 to 40 letters on both sides, random sizes and places."""
    chance = random.Random(0)

    def name() -> str:
        return "".join(chance.choices(LETTERS, k=chance.randrange(10, 41)))

    def pairs() -> Iterator[Row]:
        for _ in range(tensors):
            count = chance.randrange(1, 1 << 20)
            yield from _cast(
                Place(name(), 0, chance.randrange(1 << 40), 2 * count, "float16", (count,)),
                Place(name(), 0, chance.randrange(1 << 40), 4 * count, "float32", (1, count)),
                count,
            )

    return _report(pairs(), tensors)


KINDS: dict[str, Callable[[int], DiffReport]] = {
    "transformer": transformer, "renamed": renamed, "noise": noise,
}  # fmt: skip


def _cast(before: Place, after: Place, count: int, turned: str = "") -> Iterator[Row]:
    how, size = f"cast float16 -> float32{turned}", 2 * count
    yield Row("carried", "", after.name, size, size, "proved", how, 1, count, before, after)
    yield Row("dtype", "float16 -> float32", after.name, 0, size, "proved", how, 1, count, before, after)


def _report(pairs: Iterable[Row], tensors: int) -> DiffReport:
    rows = [
        *pairs,
        Row("names", "", "tensor names", 0, 40 * tensors, "parsed", "NodeProto.output", tensors),
        Row("container", "", "ZIP records", 210 * tensors, 0, "parsed", "ZIP", tensors),
        Row("alignment", "", "ZIP records", 30 * tensors, 0, "parsed", "FB padding", tensors),
    ]
    before, after = sum(row.before_bytes for row in rows), sum(row.after_bytes for row in rows)
    sides = _artifact("giant.pt", "pytorch-zip", before), _artifact("giant.onnx", "onnx", after)
    return diff_report(*sides, Ledger(before, after, tuple(rows)))


def _artifact(path: str, kind: str, size: int) -> Inventory:
    """One span: only its size matters here."""
    owners, sink = Owners(), SpanSink()
    sink.add(0, size, ROLES.index("container"), owners.add("", "everything"))
    spans = sink.finish(size, owners.add("", "unclaimed"))
    return Inventory(path, kind, (File(path, spans),), owners, (), ())
