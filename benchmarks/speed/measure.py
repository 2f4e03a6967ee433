"""Wall time, processor time and memory of whole processes, with the contenders taking turns.

This process stays small on purpose: until a child has replaced its image it counts as large as
its parent, and that would be the least memory any child could report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TICK = 0.002
"""Seconds between two looks at a child's memory."""

# The kernel gives the largest resident set of a child in units of its own.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds, and bytes at its peak.

    ``own`` leaves out what the kernel can drop again, such as the text of shared libraries; None
    where /proc does not tell.
    """

    wall: float
    processor: float
    resident: int
    own: int | None


def alternate(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Cost]:
    """The least cost of each command over ``rounds``, in each of which every command runs once.

    Noise of the machine hits all of them alike that way. Own memory is the most that was seen in
    the first round, in which the children are watched.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            print(f"  {name} ({number + 1}/{rounds})", file=sys.stderr, flush=True)
            costs[name].append(run(command, watch=number == 0))
    return {name: _best(each) for name, each in costs.items()}


def _best(costs: Sequence[Cost]) -> Cost:
    return Cost(
        min(cost.wall for cost in costs),
        min(cost.processor for cost in costs),
        min(cost.resident for cost in costs),
        costs[0].own,
    )


def environment() -> dict[str, str]:
    """The environment without what slows Python down on purpose.

    Installed packages come with bytecode and buffered output, whatever the shell that starts the
    benchmark has set for its own reasons.
    """
    return {
        name: value for name, value in os.environ.items()
        if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    }  # fmt: skip


def run(command: Sequence[str], *, watch: bool = False) -> Cost:
    """Run one command to its end, its output thrown away; raise RuntimeError when it fails."""
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
        own = _watch(child.pid) if watch else None
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            message = errors.read().decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} exited with {child.returncode}:\n{message}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _MAXRSS_UNIT, own)


def _watch(pid: int) -> int | None:
    """The most anonymous memory a child has until it ends, in bytes."""
    most: int | None = None
    status = Path(f"/proc/{pid}/status")
    with suppress(OSError):
        # A process that ended but was not waited for has a status without memory.
        while (now := _anonymous(status.read_text())) is not None:
            most = max(most or 0, now)
            time.sleep(TICK)
    return most


def _anonymous(status: str) -> int | None:
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
