"""``python -m benchmarks.accuracy``: plant every recipe, diff it, and print how right the diff is."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import get_args

import sizeforensics
from benchmarks.accuracy import nets, peer
from benchmarks.accuracy.planted import Planted, Recipe, Size
from benchmarks.accuracy.recipes import RECIPES
from benchmarks.accuracy.score import attributed, evidence, score
from benchmarks.marks import ROOT, update

README = ROOT / "README.md"

@dataclass(frozen=True, slots=True)
class Line:
    """One recipe's result; ``planted`` and ``attributed`` are changes of the cause it is about."""

    recipe: Recipe
    planted: int
    attributed: int
    score: float
    evidence: float
    """Share of the provable bytes that are proved."""
    peer: float
    unexplained: int


def run(recipe: Recipe, directory: Path, size: Size) -> Line:
    """Plant a recipe below ``directory`` and compare the diff with the truth."""
    with nets.quiet():
        truth: Planted = recipe.plant(directory, size)
        theirs = score(truth, peer.deltas(truth.before, truth.after))
    diff = sizeforensics.diff(truth.before, truth.after)
    found = attributed(diff)
    return Line(
        recipe, truth.deltas.get(recipe.about, 0), found.deltas.get(recipe.about, 0),
        score(truth, found.deltas), evidence(truth, found), theirs, sum(found.causes.get("unexplained", (0, 0))),
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code, 1 when a recipe is below what it documents."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--size", choices=get_args(Size), default="mini")
    parser.add_argument(
        "--only", metavar="NAME", default="", help="recipes whose name contains NAME"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")
    parser.add_argument("--update-readme", action="store_true", help="write it into README.md")
    options = parser.parse_args(arguments)
    if options.only and options.update_readme:
        parser.error("--update-readme needs every recipe, not --only some")

    lines: list[Line] = []
    missing: dict[str, str] = {}
    for recipe in RECIPES.values():
        if options.only not in recipe.name:
            continue
        absent = [name for name in recipe.needs if importlib.util.find_spec(name) is None]
        if absent:
            missing[recipe.name] = f"{recipe.name}: not run, needs {', '.join(absent)}"
            continue
        with tempfile.TemporaryDirectory() as directory:
            lines.append(run(recipe, Path(directory), options.size))
        if not options.markdown and not options.update_readme:
            print(_row(lines[-1]), flush=True)
    for text in missing.values():
        print(text, file=sys.stderr)
    if not lines:
        print("no recipe was run", file=sys.stderr)
        return 2
    if options.markdown or options.update_readme:
        table = markdown(lines, options.size)
        if options.update_readme:
            update(README, "accuracy", table)
        else:
            print(table)
    else:
        print(_summary(lines))
    return int(
        any(min(line.score, line.evidence) < 1 and not line.recipe.limit for line in lines)
    )


def _row(line: Line) -> str:
    return (
        f"{line.recipe.name:<34} {line.recipe.about:<28} {line.planted:>+14,} "
        f"{line.attributed:>+14,} {_percent(line.score):>8} {_percent(line.evidence):>8} "
        f"{_percent(line.peer):>8}"
    )


def _summary(lines: list[Line]) -> str:
    text = f"mean of {len(lines)} recipes"
    return " ".join([f"{text:<92}", *(f"{percent:>8}" for percent in _means(lines))])


def _means(lines: list[Line]) -> list[str]:
    """The mean score, share proved, and score of the peer."""
    columns = zip(*((line.score, line.evidence, line.peer) for line in lines), strict=True)
    return [_percent(mean(column)) for column in columns]


def markdown(lines: list[Line], size: Size) -> str:
    """The table for the README, with the reasons of scores below 100 %."""
    rows = [
        f"| {line.recipe.name} | `{line.recipe.about}` | {line.planted:+,} | "
        f"{line.attributed:+,} | {_percent(line.score)} | {_percent(line.evidence)} | "
        f"{_percent(line.peer)} |"
        for line in lines
    ]
    means = " | ".join(f"**{percent}**" for percent in _means(lines))
    reasons = [
        f"- **{line.recipe.name}**: {line.recipe.limit}" for line in lines if line.recipe.limit
    ]
    return "\n".join([
        f"| recipe ({size} size) | cause | planted | attributed | score | proved | names only |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
        f"| **mean of {len(lines)}** | | | | {means} |",
        *(["", "Below 100 %:", "", *reasons] if reasons else []),
    ])  # fmt: skip


def _percent(value: float) -> str:
    """A score; what is not exactly 1 is never shown as 100 %."""
    if value == 1:
        return "100 %"
    return f"{min(value * 100, 99.99):.2f} %"


if __name__ == "__main__":
    sys.exit(main())
