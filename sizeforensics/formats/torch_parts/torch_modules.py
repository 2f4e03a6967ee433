"""Which pickled objects are modules, of ``torch.nn`` or TorchScript, and what their attributes are."""

from __future__ import annotations

from typing import Any

from sizeforensics.formats.encodings.pickle_values import (
    Call,
    DictValue,
    Global,
    PersistentId,
)

MODULE_DICTS = {
    "_parameters": ("member", "weight"), "_buffers": ("member", "buffer"),
    "_modules": ("module", "weight"),
}  # fmt: skip
"""What makes an object a ``torch.nn.Module``: kind and use of the entries of its dicts."""


def module_state(value: Any) -> DictValue | None:
    """The attributes of a module; None for other objects."""
    if type(value) is not Call or not value.states:
        return None
    state = value.states[-1]
    if type(state) is tuple and state:
        state = state[0]
    if type(state) is not DictValue:
        return None
    if scripted(value) or all(name in state.keys for name in MODULE_DICTS):
        return state
    return None


def scripted(call: Call) -> bool:
    """Whether it is an object of TorchScript."""
    return type(call.func) is Global and call.func.module.split(".", 1)[0] == "__torch__"


def class_path(call: Call) -> str:
    """The class of an object, through ``copyreg._reconstructor`` and legacy container sources."""
    cls = call.func
    if type(cls) is Global and cls.name in ("_reconstructor", "__newobj__") and (
        type(call.args) is tuple and call.args
    ):  # fmt: skip
        cls = call.args[0]
    if type(cls) is PersistentId and type(cls.value) is tuple:
        # ("module", class, file, source), without the first in the tar files of torch 0.1
        cls = next((part for part in cls.value[:2] if type(part) is Global), None)
    return cls.path if type(cls) is Global else "<unknown class>"
