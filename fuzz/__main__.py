"""Fuzz for a while: ``python -m fuzz [--seconds N] [HARNESS ...]``, one harness after the other.

Each runs in a process of its own under libFuzzer, begins with the inputs that reached something new
before, and leaves what it finds as a file. The exit code is 1 when there is a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from fuzz.harnesses import HARNESSES

LONGEST = 20_000  # bytes of an input
PER_INPUT = 10  # seconds until an input counts as hanging
MEMORY = 1024  # MB
LOG = 4_000  # characters of the log of a finding, which end with what was raised
_DOUBTFUL = ("timeout-", "oom-", "slow-unit-")
"""What is a finding only when a process of its own finds it again: a machine that slept looks like an
input that hangs, and the instrumentation leaks the arrays that comparisons give."""
ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """What one run of a harness came to."""

    harness: str
    seconds: float
    inputs: int
    findings: list[Path]
    log: str

    def __str__(self) -> str:
        words = f"{len(self.findings)} findings" if self.findings else "clean"
        listed = "".join(f"\n    {path}" for path in self.findings)
        return f"{self.harness:<16}{self.seconds:>8.0f} s{self.inputs:>12,} inputs  {words}{listed}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("harness", nargs="*", choices=[*HARNESSES, []], metavar="HARNESS",
                        help=f"all of them when none is named: {', '.join(HARNESSES)}")  # fmt: skip
    parser.add_argument("--seconds", type=int, default=60, help="for each harness (default: 60)")
    parser.add_argument("--corpus", type=Path, default=_cache() / "corpus", metavar="DIRECTORY")
    parser.add_argument("--findings", type=Path, default=_cache() / "findings", metavar="DIRECTORY")
    arguments = parser.parse_args()
    found = False
    for name in arguments.harness or HARNESSES:
        outcome = run(name, arguments.corpus, arguments.findings, f"-max_total_time={arguments.seconds}")
        print(outcome, flush=True)
        if outcome.findings:
            print(outcome.log[-LOG:], file=sys.stderr)
        found = found or bool(outcome.findings)
    return int(found)


def run(name: str, corpus: Path, findings: Path, *options: str) -> Outcome:
    """Fuzz one harness, its corpus and findings in directories of its name."""
    inputs, kept = corpus / name, findings / name
    kept.mkdir(parents=True, exist_ok=True)
    plant(name, inputs)
    begun = time.monotonic()
    done = _fuzz(name, kept, *options, inputs)
    counted = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    # One that was found before is written to the same file again.
    written = sorted({Path(path) for path in re.findall(r"Test unit written to (\S+)", done.stderr)})
    if done.returncode and not written:
        raise RuntimeError(f"{name} did not run:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    for path in written:
        if path.name.startswith(_DOUBTFUL) and not _fuzz(name, kept, path).returncode:
            path.unlink()
    return Outcome(
        name, time.monotonic() - begun, int(counted[1]) if counted else 0,
        [path for path in written if path.exists()], done.stdout + done.stderr,
    )  # fmt: skip


def _fuzz(name: str, kept: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run libFuzzer on a directory of inputs, or on one input, which it tries once."""
    return subprocess.run(
        [sys.executable, "-m", "fuzz.run", name, f"-max_len={LONGEST}", f"-timeout={PER_INPUT}",
         f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={kept}/", "-print_final_stats=1", *map(str, options)],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip


def plant(name: str, corpus: Path) -> None:
    """Write the first inputs of a harness, once."""
    if corpus.is_dir() and any(corpus.iterdir()):
        return
    corpus.mkdir(parents=True, exist_ok=True)
    for data in HARNESSES[name][1]():
        (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sizeforensics" / "fuzz"


if __name__ == "__main__":
    sys.exit(main())
