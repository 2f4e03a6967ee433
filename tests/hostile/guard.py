"""Run the command line on hostile files, each time in a process of its own that can do little harm.

A server: it imports what the command line needs once, and forks for every request, so that each case
has its own memory and time and yet costs no start-up. A request is a line of JSON: the folder to run
in, the arguments, where to put stdout and stderr, and what is to happen to a file meanwhile. The
reply says how the process ended and what it opened, started, imported or connected to, as CPython's
audit events tell.

``guard.py --alone EVENTS ARGUMENT...`` is one command line from a cold start, for what a process
has from its beginning: its streams and its locale.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

SECONDS = 10
"""Of the processor; what only waits is ended after six times as many."""
MEMORY = 512 << 20
WATCHED = ("open", "exec", "import", "os.system", "os.exec", "os.posix_spawn", "os.fork",
           "subprocess.Popen", "socket.", "ctypes.", "urllib.", "pickle.find_class", "marshal.load",
           "webbrowser.", "os.remove", "os.rename", "os.mkdir", "shutil.")  # fmt: skip


def main() -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if sys.argv[1] == "--alone":
        alone(Path(sys.argv[2]), sys.argv[3:])
    preload()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def preload() -> None:
    """Import what a request would, by one on a file of the right kind."""
    from sizeforensics import cli

    example = Path(sys.argv[1])
    silence = os.open(os.devnull, os.O_WRONLY)
    kept = os.dup(1)
    os.dup2(silence, 1)
    for verb in (["inspect"], ["map"], ["inspect", "--format", "json"], ["inspect", "--format", "markdown"]):
        cli.run([verb[0], str(example), *verb[1:]])
    cli.run(["inspect", str(example), "-o", str(example.parent / "warm.html")])
    sys.stdout.flush()
    os.dup2(kept, 1)
    gc.freeze()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    events = Path(request["events"])
    child = os.fork()
    if child == 0:
        os._exit(perform(request, events))
    begun = time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - begun > 6 * SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    return {
        "code": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss << 10,
        "events": [json.loads(line) for line in events.read_text().splitlines()],
    }  # fmt: skip


def perform(request: dict[str, Any], events: Path) -> int:
    """One command line, in the child: its exit code."""
    from sizeforensics import cli

    for number, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(target, number)
    os.chdir(request["folder"])
    sys.path.insert(0, request["folder"])  # a module that must not be imported lies there
    if "meanwhile" in request:
        disturb(*request["meanwhile"])
    confine(events)
    code = cli.run(request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def alone(events: Path, arguments: list[str]) -> None:
    """One command line as the installed command runs it; does not return."""
    confine(events)
    from sizeforensics import cli

    sys.argv[1:] = arguments
    cli.main()


def confine(events: Path) -> None:
    """Take the means to do harm from this process, and write down what it does."""
    # Where a standard stream is closed, its number would be given to this file.
    log = fcntl.fcntl(os.open(events, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fcntl.F_DUPFD, 50)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(WATCHED):
            os.write(log, json.dumps([event, [str(item) for item in arguments[:3]]]).encode() + b"\n")

    sys.addaudithook(watch)


def disturb(path: str, how: str, reads: int) -> None:
    """Let something happen to a file once so many pieces of files have been read."""
    read = os.preadv
    left = reads

    def counted(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal left
        left -= 1
        if left == -1:
            HAPPENS[how](Path(path))
        return read(descriptor, buffers, offset)

    os.preadv = counted


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Other bytes in the same file, as many."""
    with path.open("r+b") as file:
        file.write(b"\x7f" * path.stat().st_size)


def replace(path: Path) -> None:
    """Another file of that name."""
    (path.parent / "other").write_bytes(b"another")
    (path.parent / "other").rename(path)


HAPPENS = {
    "shrinks": shrink, "is emptied": lambda path: os.truncate(path, 0), "is overwritten": overwrite,
    "is replaced": replace, "is removed": Path.unlink,
}  # fmt: skip


if __name__ == "__main__":
    main()
