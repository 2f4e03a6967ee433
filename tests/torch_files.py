"""Files written by torch and taken apart again, for the tests of its readers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import torch

from sizeforensics import formats
from sizeforensics.inventory import Inventory
from sizeforensics.source import MemorySource


def saved(value: object, **options: object) -> bytes:
    """What ``torch.save`` writes; its records lie in the directory ``archive``."""
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def scripted(module: torch.jit.ScriptModule, **options: object) -> bytes:
    """What ``torch.jit.save`` writes."""
    out = io.BytesIO()
    torch.jit.save(module, out, **options)
    return out.getvalue()


def repacked(
    data: bytes,
    method: int = zipfile.ZIP_STORED,
    change: Callable[[str, bytes], bytes | None] = lambda _, content: content,
    extra: dict[str, bytes] | None = None,
) -> bytes:
    """The same records written by zipfile; ``change`` may replace or drop their content."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in (extra or {}).items():
            new.writestr(name, content)
    return out.getvalue()


def read(data: bytes) -> Inventory:
    """The inventory of a file that is in memory."""
    return formats.read_source(MemorySource("model.pt", data))
