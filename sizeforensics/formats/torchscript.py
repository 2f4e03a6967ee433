"""TorchScript archives, as ``torch.jit.save`` and the exporter for the mobile interpreter write them.

The layout is that of ``ScriptModuleSerializer`` in
``torch/csrc/jit/serialization/export_module.cpp``: modules are objects in ``data.pkl`` whose classes
are source files under ``code/``, tensors of that source are in ``constants.pkl``, and every pickle
has its storages in a directory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sizeforensics.escape import one_line
from sizeforensics.formats.torch_parts import script_harm
from sizeforensics.formats.torch_parts.torch_archive import TorchArchive, script_record
from sizeforensics.formats.torch_parts.torch_inventory import Assembly, Part
from sizeforensics.formats.torch_parts.torch_values import PickledTensor
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.spans import CODE, DEBUG_INFO

# The archive does not say which attributes are parameters; these names are those of batch-norms.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read(torch: TorchArchive, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of a TorchScript archive."""
    assembly = Assembly(torch, limits)
    for part in _PARTS:
        assembly.add_pickle(part)
    assembly.claim_metadata()
    for index, name in assembly.unclaimed():
        role = script_record(name)
        if role is not None:
            assembly.claim(index, *role)
            _note_harm(assembly, index, role[0])
    return assembly.finish("torchscript")


def _note_harm(assembly: Assembly, index: int, role: int) -> None:
    """Flag code and debug files that would act if Python ran them; PyTorch refuses the code."""
    archive = assembly.torch.archive
    entry = archive.entries[index]
    if role not in (CODE, DEBUG_INFO) or not entry.nbytes:
        return
    content = archive.content(entry)
    if role == CODE and entry.name.endswith(".py"):
        if module := script_harm.imported(content.read(0, content.size)):
            assembly.notes.count(f"import {one_line(module, 80)}, which TorchScript cannot", entry.name)
    elif role == DEBUG_INFO and (path := script_harm.called(content, assembly.limits)):
        what = f"refer to callable {one_line(path, 80)} (shown as data, never called)"
        assembly.notes.count(what, entry.name)


def _module_tensors(_: object, tensors: Sequence[PickledTensor]) -> list[PickledTensor]:
    return [
        tensor._replace(use="buffer")
        if tensor.name.rpartition(".")[2] in _STATISTICS
        else tensor
        for tensor in tensors
    ]


def _below(parent: str) -> Callable[[object, Sequence[PickledTensor]], list[PickledTensor]]:
    """Constants, with names that begin with ``parent``."""

    def assign(_: object, tensors: Sequence[PickledTensor]) -> list[PickledTensor]:
        return [
            tensor._replace(
                name=f"{parent}.{tensor.name}" if tensor.name else parent, use="constant",
                scope=parent,
            )
            for tensor in tensors
        ]

    return assign


_PARTS = (
    Part("data.pkl", "data/", _module_tensors),
    Part("constants.pkl", "constants/", _below("constants")),
    # The bytecode of the mobile interpreter repeats the constants of the source.
    Part("bytecode.pkl", "constants/", _below("bytecode"), (CODE, "bytecode"), secondary=True),
    # torch.jit.save leaves the elements of traced inputs out: their records are empty.
    Part("traced_inputs.pkl", "traced_inputs/", _below("traced_inputs"), secondary=True),
)
