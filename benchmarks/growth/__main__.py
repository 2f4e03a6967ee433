"""Double every dimension of a file and print the exponent by which CPU time and memory grow.

An exponent of 1 is linear, 2 is quadratic. That of time is the slope over the last two doublings,
without what an almost empty file costs; that of memory says by how much each doubling adds more
than the one before, so that what is always there does not count. Every run of ``inspect`` is a process of its own, the best of
several counts. The exit code is 0 whether or not the target is met: a benchmark is not a test.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.growth.dimensions import DIMENSIONS, Dimension

TARGET = 1.1
_NOISE = 0.02
"""CPU seconds; a difference below this is no growth."""
_NOISE_BYTES = 8 << 20
_RUN = """
import os, resource, sys
from sizeforensics import cli
sys.stdout = open(os.devnull, "w")
code = cli.run(["inspect", sys.argv[1], "--format", "json"])
used = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(f"{code} {used.ru_utime + used.ru_stime} {used.ru_maxrss << 10}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="dimensions whose name holds TEXT")
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts (default: 3)")
    parser.add_argument("--quick", action="store_true", help="tiny files: does the runner work at all?")
    parser.add_argument("--json", action="store_true", help="for a script")
    arguments = parser.parse_args()
    found = []
    for dimension in DIMENSIONS:
        if arguments.only in dimension.name:
            found.append(measure(dimension, 1 if arguments.quick else arguments.rounds, quick=arguments.quick))
            if not arguments.json:
                print(line(found[-1]), flush=True)
    if arguments.json:
        print(json.dumps(found))


def measure(dimension: Dimension, rounds: int, *, quick: bool = False) -> dict[str, object]:
    """Sizes, CPU seconds and peak bytes, and the two exponents."""
    first = max(1, dimension.smallest // (64 if quick else 1))
    sizes = [first << step for step in range(dimension.doublings + 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.write_bytes(dimension.write(1))
        base = _best(path, rounds)
        costs = []
        for size in sizes:
            path.write_bytes(dimension.write(size))
            costs.append(_best(path, rounds))
    return {
        "dimension": dimension.name, "sizes": sizes, "seconds": [cost[0] for cost in costs],
        "bytes": [cost[1] for cost in costs],
        "time_exponent": exponent(costs[-3][0] - base[0], costs[-1][0] - base[0], _NOISE) / 2,
        "memory_exponent": exponent(
            costs[-2][1] - costs[-3][1], costs[-1][1] - costs[-2][1], _NOISE_BYTES
        ),
    }  # fmt: skip


def exponent(smaller: float, larger: float, noise: float) -> float:
    """The power of two between two costs; 0 where the larger one is noise."""
    return math.log2(larger / max(smaller, noise)) if larger > noise else 0.0


def line(found: dict[str, object]) -> str:
    sizes, seconds, time = found["sizes"], found["seconds"], found["time_exponent"]
    met = "met" if time <= TARGET else "NOT MET"  # type: ignore[operator]
    return (f"{found['dimension']:<26} {sizes[-1]:>10,} {seconds[-1]:>7.2f} s  time ^{time:.2f}  "  # type: ignore[index]
            f"memory ^{found['memory_exponent']:.2f}  {met}")  # fmt: skip


def _best(path: Path, rounds: int) -> tuple[float, float]:
    """CPU seconds and peak bytes of the cheapest of several runs."""
    costs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(path)], capture_output=True, text=True, check=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        code, seconds, peak = done.stderr.rsplit("\n", 1)[-1].split()
        if code != "0":
            raise RuntimeError(f"inspect ended with {code}: {done.stderr}")
        costs.append((float(seconds), float(peak)))
    return min(cost[0] for cost in costs), min(cost[1] for cost in costs)


if __name__ == "__main__":
    main()
