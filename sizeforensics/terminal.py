"""What the command line knows of its streams: closed ones, width, colour, a bar for long work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

PIPED_WIDTH = 80
"""Columns where there is no terminal to ask."""
PATIENCE = 0.5
"""Seconds of work before a progress bar appears."""


def open_closed_streams() -> None:
    """Give closed standard streams a harmless target.

    Otherwise the first model file opened would get descriptor 1 and be what prints go to.
    """
    for number, (name, flags) in enumerate(
        (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))
    ):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal's encoding lacks is shown as an escape, not as a crash.
            stream.reconfigure(errors="backslashreplace")


def abandon(stream: TextIO) -> None:
    """Point a stream at nothing, so that the interpreter's last flush does not complain."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def finish() -> None:
    """Flush both streams; what nobody can read any more must not change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        abandon(stream)


def width() -> int:
    """Columns of the terminal, or as many as a table in a pipe may assume."""
    if not sys.stdout.isatty():
        return PIPED_WIDTH
    import shutil

    return shutil.get_terminal_size().columns


def speaks_unicode() -> bool:
    """Whether stdout can show bars and a check mark."""
    return (sys.stdout.encoding or "ascii").lower().startswith("utf")


def wants_colour() -> bool:
    """Whether stdout is a terminal whose user did not turn colour off (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while payload bytes are read, once that takes long and someone watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    started = time.monotonic()
    done = 0
    bar: Any = None
    task: Any = None
    lock = threading.Lock()  # payload is read on several threads

    def advance(nbytes: int) -> None:
        nonlocal done, bar, task
        with lock:
            done += nbytes
            if bar is None and time.monotonic() - started > PATIENCE:
                bar, task = _bar(total)
            if bar is not None:
                bar.update(task, completed=done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _bar(total: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task("", total=total)
