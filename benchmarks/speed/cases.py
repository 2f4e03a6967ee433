"""What is measured: the models, the contenders, and the targets of each case."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.measure import ROOT, Cost, alternate
from benchmarks.speed.models import renamed

OURS = "sizeforensics"
MB = 1_000_000

MODELS = ROOT / "fixtures" / "models"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sizeforensics"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the generated models are, and how often each command is run."""

    rounds: int
    nodes: int
    weights: int
    side: int
    counts: tuple[int, ...]
    full: bool
    """Whether the targets speak of this scale."""


FULL = Scale(5, 50_000, 400, 1000, (25_000, 50_000, 100_000), full=True)
QUICK = Scale(1, 400, 8, 64, (100, 400), full=False)


@dataclass(frozen=True, slots=True)
class Goal:
    """A promise: ``measured`` must be at most, or at least, ``limit``."""

    what: str
    measured: float
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One case: what each contender took, and what that says of the targets."""

    name: str
    title: str
    costs: dict[str, Cost]
    goals: tuple[Goal, ...]

    def ratio(self, contender: str) -> float:
        """How many times as long as ours the contender took."""
        return self.costs[contender].wall / self.costs[OURS].wall

    def processor_ratio(self, contender: str) -> float:
        """The same in processor time, which other programs on the machine disturb less."""
        return self.costs[contender].processor / self.costs[OURS].processor


# -- the cases ---------------------------------------------------------------------------------


def cold_start(scale: Scale, _: Path) -> Result:
    """The time until anything happens at all."""
    commands = {OURS: _ours("--version"), "python -c pass": [sys.executable, "-c", "pass"]}
    costs = alternate(commands, 2 * scale.rounds)
    goal = Goal("cold start", costs[OURS].wall, 0.15, "s")
    return Result("start", "`sizeforensics --version`", costs, (goal,))


def large_inspect(scale: Scale, folder: Path) -> Result:
    """Every byte of one large model accounted for, every tensor's digest computed."""
    sizes = scale.nodes, scale.weights, scale.side
    model = _generated(folder, "large", "large-{}-{}-{}.onnx".format(*sizes), *sizes)
    commands = {
        OURS: _ours("inspect", model, "--format", "json"),
        "onnx.load": [sys.executable, "-c", "import sys, onnx; onnx.load(sys.argv[1])", model],
        "bare read with xxh3": _module("bare_read", model),
    }
    costs = alternate(commands, scale.rounds)
    size = Path(model).stat().st_size
    title = (
        f"`inspect`, ONNX of {size / MB:,.1f} MB, {scale.nodes:,} nodes, "
        f"{scale.weights:,} initializers"
    )
    result = Result("inspect", title, costs, ())
    goals = [Goal("faster than onnx.load", result.ratio("onnx.load"), 8, "x", least=True)]
    if (own := costs[OURS].own) is not None:
        goals.append(Goal("own memory", own / MB, 150, "MB"))
    return Result("inspect", title, costs, tuple(goals))


def yolo_diff(scale: Scale, _: Path) -> Result:
    """The question this program exists for, with every tensor proved."""
    if scale.full:
        # Where fixtures.build puts it; asking it would import torch, see measure.
        paths = [str(CACHE / "fixtures" / f"yolov5l{end}") for end in (".pt", ".onnx")]
        if not all(Path(path).exists() for path in paths):
            _generate("yolo", paths[0])
    else:
        paths = [str(MODELS / f"yolov5-mini{end}") for end in (".pt", ".onnx")]
    commands = {OURS: _ours("diff", *paths), "naive script": _module("naive", *paths)}
    costs = alternate(commands, scale.rounds)
    title = "`diff` of {} ({:,.1f} MB) and {} ({:,.1f} MB)".format(
        *(part for path in map(Path, paths) for part in (path.name, path.stat().st_size / MB))
    )
    result = Result("diff", title, costs, ())
    goal = Goal("faster than the naive script", result.ratio("naive script"), 5, "x", least=True)
    return Result("diff", title, costs, (goal,))


def renamed_checkpoints(scale: Scale, folder: Path) -> Result:
    """Very many tensors that only content can pair, in state dicts."""
    return _renamed(scale, folder, "pt")


def renamed_models(scale: Scale, folder: Path) -> Result:
    """Very many tensors that only content can pair, in ONNX initializers."""
    return _renamed(scale, folder, "onnx")


def _renamed(scale: Scale, folder: Path, kind: str) -> Result:
    firsts = {
        count: _generated(folder, "many", f"many-{count}.{kind}", count)
        for count in (SMALLEST, *scale.counts)
    }
    pairs = {count: (first, str(renamed(Path(first)))) for count, first in firsts.items()}
    *_, largest = scale.counts
    commands = {
        (OURS if count == largest else f"of {count:,}"): _ours("diff", *pair)
        for count, pair in pairs.items()
    }
    costs = alternate(
        {**commands, "naive script": _module("naive", *pairs[largest])}, scale.rounds
    )
    start = costs[f"of {SMALLEST:,}"].processor
    grown = [costs.get(f"of {count:,}", costs[OURS]).processor - start for count in scale.counts]
    goals = (
        Goal("time", costs[OURS].wall, 10, "s"),
        Goal("growth: n to the power of", exponent(scale.counts, grown), 1.15),
    )
    title = f"`diff` of {largest:,} tensors and as many renamed ones, .{kind}"
    return Result(f"renamed-{kind}", title, costs, goals)


def unused_plugin(scale: Scale, folder: Path) -> Result:
    """What a pytest that checks no model pays for the plugin, from start to exit."""
    suite = folder / "suite"
    # A distribution for pytest to find the plugin by, whether this package is installed or not.
    site = suite / "sizeforensics-0.dist-info"
    site.mkdir(parents=True, exist_ok=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: sizeforensics\nVersion: 0\n")
    (site / "entry_points.txt").write_text("[pytest11]\nsizeforensics = sizeforensics.pytest_plugin\n")
    (suite / "pytest.ini").write_text("[pytest]\n")
    (suite / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    run = [
        sys.executable, "-c", "import sys, pytest; sys.path.insert(0, sys.argv.pop(1)); sys.exit(pytest.main())",
        str(suite), str(suite), "-q", "-p", "no:cacheprovider",
    ]  # fmt: skip
    commands = {OURS: run, "without it": [*run, "-p", "no:sizeforensics"]}
    # A difference of milliseconds takes more looks than one of seconds.
    costs = alternate(commands, 4 * scale.rounds)
    result = Result("plugin", "`pytest` with one test that checks no model", costs, ())
    goal = Goal("pytest with the plugin", 1 / result.processor_ratio("without it"), 1.05, "x")
    return Result(result.name, result.title, costs, (goal,))


SMALLEST = 10
"""Tensors of a diff whose time is that of starting and of nothing else."""


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of time over count where both axes are logarithmic; 1 is linear growth."""
    x = [math.log(count) for count in counts]
    y = [math.log(max(second, 1e-9)) for second in seconds]
    centre = sum(x) / len(x), sum(y) / len(y)
    pairs = list(zip(x, y, strict=True))
    return sum((a - centre[0]) * (b - centre[1]) for a, b in pairs) / sum(
        (a - centre[0]) ** 2 for a in x
    )


CASES: dict[str, Callable[[Scale, Path], Result]] = {
    "start": cold_start,
    "inspect": large_inspect,
    "diff": yolo_diff,
    "renamed-pt": renamed_checkpoints,
    "renamed-onnx": renamed_models,
    "plugin": unused_plugin,
}


# -- commands and models -----------------------------------------------------------------------


def _ours(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sizeforensics", *arguments]


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.speed.{name}", *arguments]


def _generated(folder: Path, kind: str, name: str, *numbers: int) -> str:
    path = folder / name
    if not path.exists():
        _generate(kind, str(path), *numbers)
    return str(path)


def _generate(kind: str, path: str, *numbers: int) -> None:
    print(f"  generating {path}", file=sys.stderr, flush=True)
    subprocess.run(_module("models", kind, path, *map(str, numbers)), cwd=ROOT, check=True)
