"""Double every dimension of a file and print the exponent by which CPU time and memory grow.

An exponent of 1 is linear, 2 is quadratic. Each is the slope over the last two doublings. What
grows with no file does not count: time is that of a second command line in a process that ran the
same one on an almost empty file before, less what that one takes; memory is what a doubling adds,
compared with what the doubling two before it added. Every size runs in processes of its own, the sizes take
turns, and the best of the rounds counts, for what else the machine does only ever adds time. The
exit code is 0 whether or not the target is met: a benchmark is not a test.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.growth.dimensions import DIMENSIONS, Dimension

ROOT = Path(__file__).resolve().parents[2]
TARGET = 1.1
_NOISE = 0.02
"""CPU seconds; a difference below this is no growth."""
_NOISE_BYTES = 8 << 20
_RUN = """
import os, resource, sys, time
from sizeforensics import cli
sys.stdout = open(os.devnull, "w")
half = len(sys.argv) // 2 + 1
first, then = sys.argv[1:half], sys.argv[half:]
verb = ["inspect"] if len(then) == 1 else ["diff"]
code = cli.run([*verb, *first, "--format", "json"])
begun = time.process_time()
code = code or cli.run([*verb, *then, "--format", "json"])
seconds = time.process_time() - begun
sys.stderr.write(f"{code} {seconds} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="dimensions whose name holds TEXT")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many counts (default: 5)")
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
        files = [_written(dimension, size, Path(folder)) for size in (1, *sizes)]
        costs = [[_cost(files[0], paths) for paths in files] for _ in range(rounds)]
    base, *seconds = (min(column) for column in zip(*([cost[0] for cost in row] for row in costs), strict=True))
    _, *peaks = (min(column) for column in zip(*([cost[1] for cost in row] for row in costs), strict=True))
    return {
        "dimension": dimension.name, "sizes": sizes, "seconds": seconds, "bytes": peaks,
        "time_exponent": exponent(seconds[-3] - base, seconds[-1] - base, _NOISE) / 2,
        "memory_exponent": exponent(peaks[-3] - peaks[-4], peaks[-1] - peaks[-2], _NOISE_BYTES) / 2,
    }  # fmt: skip


def _written(dimension: Dimension, size: int, folder: Path) -> list[str]:
    """The paths of a model of this size, or of the two sides of a diff.

    Written by another process: Linux counts what this one once held as a peak of its children.
    """
    beginning = str(folder / f"{size}-")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth.dimensions", dimension.name, str(size), beginning],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def exponent(smaller: float, larger: float, noise: float) -> float:
    """The power of two between two costs; 0 where the larger one is noise."""
    return math.log2(larger / max(smaller, noise)) if larger > noise else 0.0


def line(found: dict[str, object]) -> str:
    sizes, seconds = found["sizes"], found["seconds"]
    time, memory = found["time_exponent"], found["memory_exponent"]
    met = "met" if max(time, memory) <= TARGET else "NOT MET"  # type: ignore[call-overload]
    return (f"{found['dimension']:<26} {sizes[-1]:>11,} {seconds[-1]:>7.2f} s  time ^{time:.2f}  "  # type: ignore[index]
            f"memory ^{memory:.2f}  {met}")  # fmt: skip


def _cost(smallest: Sequence[str], paths: Sequence[str]) -> tuple[float, int]:
    """CPU seconds and peak bytes of one run."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *smallest, *paths], capture_output=True, text=True, check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    code, seconds, peak = done.stderr.rsplit("\n", 1)[-1].split()
    if code != "0":
        raise RuntimeError(f"{' '.join(paths)} ended with {code}: {done.stderr}")
    return float(seconds), int(peak)


if __name__ == "__main__":
    main()
