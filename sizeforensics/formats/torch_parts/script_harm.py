"""What in a TorchScript archive would act if Python ran it: imports in code, calls in debug files."""

from __future__ import annotations

import re

from sizeforensics.errors import FormatError
from sizeforensics.formats.encodings import pickle_stream
from sizeforensics.formats.torch_parts.pickle_globals import harmful, suspicious
from sizeforensics.limits import Limits
from sizeforensics.source import Source

_IMPORT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+(?!__torch__)([\w.]{1,200})", re.MULTILINE)
"""TorchScript imports nothing but, up to torch 1.3, other files of its archive."""
_GLOBAL = re.compile(rb"c([\w.]{1,200})\n([\w.]{1,200})\n")
_STACK_GLOBAL = b"\x93"


def imported(code: bytes) -> str:
    """The first module that code imports as Python would, or nothing."""
    found = _IMPORT.search(code)
    return found[1].decode("utf-8", "backslashreplace") if found else ""


def called(content: Source, limits: Limits) -> str:
    """What the pickle of a debug file refers to that could do harm, or nothing.

    Debug files are long and never do: only one whose bytes could say so is read as a pickle.
    """
    data = content.read(0, content.size)
    named = (found.groups() for found in _GLOBAL.finditer(data))
    if _STACK_GLOBAL not in data and not any(suspicious(*map(bytes.decode, names)) for names in named):
        return ""
    try:
        found = harmful(pickle_stream.load(content, 0, content.size, limits))
    except FormatError:
        return ""
    return found[0] if found else ""
