"""How much work something is, in lines of Python run: the same on every machine, however busy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(call: Callable[[], object]) -> int:
    """Lines that ``call`` runs, in every function that it calls."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        del frame, argument
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def grows_linearly(call: Callable[[int], object], size: int) -> bool:
    """Whether twice the size is at most twice the work, and a little."""
    call(size)  # what is set up once is not counted
    return lines_run(lambda: call(2 * size)) <= 2.1 * lines_run(lambda: call(size))
