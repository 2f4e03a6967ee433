"""The results as text, Markdown or JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.speed.cases import MB, Goal, Result, Scale

PACKAGES = ("numpy", "onnx", "torch", "xxhash")
HEADER = ("case", "what ran", "wall s", "CPU s", "peak MB", "own MB", "x our wall", "x our CPU")
GOALS = ("case", "target", "limit", "measured", "met")

Table = list[tuple[str, ...]]


def as_json(results: Sequence[Result], scale: Scale) -> str:
    """Everything that was measured, for a script."""
    document = {
        "machine": machine(),
        "full_size": scale.full,
        "rounds": scale.rounds,
        "cases": [_case(result) for result in results],
    }
    return json.dumps(document, indent=2)


def _case(result: Result) -> dict[str, Any]:
    return {
        "case": result.name,
        "title": result.title,
        "contenders": [
            {
                "name": name, "wall_seconds": cost.wall, "cpu_seconds": cost.processor,
                "peak_bytes": cost.resident, "own_bytes": cost.own, "ratio": result.ratio(name),
                "cpu_ratio": result.processor_ratio(name),
            }
            for name, cost in result.costs.items()
        ],
        "targets": [
            {"target": goal.what, "limit": goal.limit, "least": goal.least, "unit": goal.unit,
             "measured": goal.measured, "met": goal.met}
            for goal in result.goals
        ],
    }  # fmt: skip


def as_text(results: Sequence[Result], scale: Scale, *, markdown: bool) -> str:
    """Two tables: what each command took, and whether the targets are met."""
    layout = _markdown if markdown else _plain
    titles = "\n".join(f"- {result.name}: {result.title}" for result in results)
    return "\n\n".join([
        layout([HEADER, *(row for result in results for row in _costs(result))]),
        layout([GOALS, *(row for result in results for row in _goals(result, scale))]),
        titles,
        f"{machine()}. Best of {scale.rounds}, taking turns; files in the page cache.",
    ]) + "\n"  # fmt: skip


def _costs(result: Result) -> Table:
    return [
        (
            result.name,
            name,
            f"{cost.wall:.3f}",
            f"{cost.processor:.3f}",
            f"{cost.resident / MB:,.0f}",
            "" if cost.own is None else f"{cost.own / MB:,.0f}",
            f"{result.ratio(name):.2f}",
            f"{result.processor_ratio(name):.2f}",
        )
        for name, cost in result.costs.items()
    ]


def _goals(result: Result, scale: Scale) -> Table:
    def verdict(goal: Goal) -> str:
        return ("yes" if goal.met else "NO") if scale.full else "not judged"

    return [
        (
            result.name,
            goal.what,
            f"{'>=' if goal.least else '<='} {goal.limit:g} {goal.unit}".rstrip(),
            f"{goal.measured:.2f} {goal.unit}".rstrip(),
            verdict(goal),
        )
        for goal in result.goals
    ]


def _plain(table: Table) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _markdown(table: Table) -> str:
    lines = [f"| {' | '.join(row)} |" for row in table]
    return "\n".join([lines[0], f"|{' --- |' * len(table[0])}", *lines[1:]])


def machine() -> str:
    """Processor and versions, without which a number of seconds says little."""
    known = [f"{name} {version(name)}" for name in PACKAGES]
    return (
        f"{_processor()}, {os.cpu_count()} processors; Python {platform.python_version()}, "
        f"{', '.join(known)}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
