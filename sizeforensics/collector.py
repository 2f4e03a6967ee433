"""Keep Python from looking for garbage while a million small objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Pause the collector of reference cycles, and leave it as it was.

    It would walk all values read so far again and again: two thirds of the time of reading a
    pickle of many containers, a third of matching a hundred thousand tensors.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
