"""Models in memory: what torch would write of them, as a source that the readers of files take.

A scripted module is counted as ``torch.jit.save`` writes it, an exported program as
``torch.export.save``, and everything else that holds tensors as ``torch.save``: a module, a state
dict, a checkpoint of both. Torch puts the stem of the file into the name of every record, and
``archive`` where it writes into a buffer, so that the name counts too. Torch is imported here and
nowhere else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.source import MemorySource

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

    Live: TypeAlias = nn.Module | ExportedProgram | torch.Tensor | Collection[Any]

MODELS = "a path, a torch.nn.Module, a torch.export.ExportedProgram, or tensors in dicts and lists"


def saved(model: Live, name: str | None = None) -> MemorySource:
    """The file that torch writes of a model, in memory.

    With ``name`` it is that of a file called so, else that of a buffer, and its path is the name of
    the model's class. Raises InputError where torch is not installed, for what is no model, and for
    a model that torch cannot write.
    """
    kind = type(model).__name__
    try:
        import torch
    except ImportError:
        raise InputError(
            f"expected a path, got {kind}: models in memory need: pip install 'sizeforensics[torch]'"
        ) from None
    write = _writer(torch, model)
    try:
        if name is None:
            return MemorySource(kind, _buffered(write, model))
        return MemorySource(name, _filed(write, model, name))
    except Exception as error:  # pickle raises what the classes of the model raise
        raise InputError(f"{kind}: torch cannot save it: {one_line(str(error))}") from error


def _buffered(write: Callable[..., object], model: object) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    write(model, buffer)
    return np.frombuffer(buffer.getbuffer(), dtype=np.uint8)


def _filed(write: Callable[..., object], model: object, name: str) -> npt.NDArray[np.uint8]:
    # Torch takes the stem from the file it opens: there is no other way to tell it one.
    with TemporaryDirectory(prefix="sizeforensics-") as folder:
        path = Path(folder, PurePath(name).name)
        write(model, str(path))
        return np.fromfile(path, dtype=np.uint8)


def _writer(torch: Any, model: object) -> Callable[..., object]:
    """The function of torch that writes this kind of model."""
    if isinstance(model, torch.jit.ScriptModule):
        write: Callable[..., object] = torch.jit.save
    elif isinstance(model, torch.export.ExportedProgram):
        write = torch.export.save
    elif _holds_tensors(torch, model):
        write = torch.save
    else:
        raise InputError(f"expected {MODELS}, got {type(model).__name__}")
    return write


def _holds_tensors(torch: Any, model: object) -> bool:
    """Whether there is a tensor or a module in it, however deep in dicts, lists, tuples and sets."""
    waiting, seen = [model], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor | torch.nn.Module):
            return True
        if isinstance(value, Mapping | list | tuple | set | frozenset) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
    return False
