"""Where did every byte of this model file come from, and why is that one bigger?

::

    import sizeforensics as sf

    print(sf.diff("yolov5s.pt", "yolov5s.onnx"))
    sf.inspect("yolov5s.onnx").to_frame("tensors")

Importing the package loads nothing else; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sizeforensics import errors
    from sizeforensics.api import Diff, Inspection, check, diff, inspect
    from sizeforensics.budget import Budget, Verdict, Waiver
    from sizeforensics.errors import InputError, SizeforensicsError
    from sizeforensics.limits import Limits

__version__ = "0.1.0"

__all__ = [
    "Budget", "Diff", "InputError", "Inspection", "Limits", "SizeforensicsError", "Verdict", "Waiver",
    "__version__", "check", "diff", "errors", "inspect",
]  # fmt: skip

_HOMES = {
    "Diff": "sizeforensics.api",
    "Inspection": "sizeforensics.api",
    "Limits": "sizeforensics.limits",
    "Budget": "sizeforensics.budget",
    "Verdict": "sizeforensics.budget",
    "Waiver": "sizeforensics.budget",
    "check": "sizeforensics.api",
    "diff": "sizeforensics.api",
    "inspect": "sizeforensics.api",
    "InputError": "sizeforensics.errors",
    "SizeforensicsError": "sizeforensics.errors",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "errors":
        return importlib.import_module("sizeforensics.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
