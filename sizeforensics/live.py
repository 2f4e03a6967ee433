"""Models in memory: what torch would write of them, as a source that the readers of files take.

A module is counted as ``torch.save(module)`` writes it, a scripted one as ``torch.jit.save``, a state
dict as ``torch.save(state_dict)``, an exported program as ``torch.export.save``. Torch is imported
here and nowhere else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.source import MemorySource

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    Live: TypeAlias = nn.Module | Mapping[str, Any] | ExportedProgram

MODELS = "a path, a torch.nn.Module, a state dict or a torch.export.ExportedProgram"


def saved(model: Live) -> MemorySource:
    """The file that torch writes of a model, in memory; its path is the name of the model's class.

    Raises InputError where torch is not installed, for what is no model, and for a model that torch
    cannot write.
    """
    name = type(model).__name__
    try:
        import torch
    except ImportError:
        raise InputError(
            f"expected a path, got {name}: models in memory need: pip install 'sizeforensics[torch]'"
        ) from None
    buffer = io.BytesIO()
    write = _writer(torch, model)
    try:
        write(model, buffer)
    except Exception as error:  # pickle raises what the classes of the model raise
        raise InputError(f"{name}: torch cannot save it: {one_line(str(error))}") from error
    return MemorySource(name, np.frombuffer(buffer.getbuffer(), dtype=np.uint8))


def _writer(torch: Any, model: object) -> Callable[[object, io.BytesIO], object]:
    """The function of torch that writes this kind of model."""
    if isinstance(model, torch.jit.ScriptModule):
        write: Callable[[object, io.BytesIO], object] = torch.jit.save
    elif isinstance(model, torch.nn.Module) or _is_state_dict(torch, model):
        write = torch.save
    elif isinstance(model, torch.export.ExportedProgram):
        write = torch.export.save
    else:
        raise InputError(f"expected {MODELS}, got {type(model).__name__}")
    return write


def _is_state_dict(torch: Any, model: object) -> bool:
    """Names to tensors; beside them a module may keep extra state of any kind."""
    return (
        isinstance(model, Mapping)
        and all(isinstance(key, str) for key in model)
        and any(isinstance(value, torch.Tensor) for value in model.values())
    )
