"""What quantisation leaves in a state dict beside weights: scales of activations, observers.

``torch.ao.quantization`` keeps them as buffers of modules: ``scale`` and ``zero_point`` of a quantised
layer or a fake quantiser with its switches, and the range, or the histogram, that an observer has seen
(``torch/ao/quantization/observer.py``, ``fake_quantize.py``). A graph module has those of the inputs of
its nodes, ``conv_input_scale_0`` and ``conv_input_zero_point_0`` (``fx/convert.py``). A name alone says nothing, a layer may
have a scale of its own: members that only occur together do.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from math import prod

from sizeforensics.formats.torch_parts.torch_values import PickledTensor

_QUANTIZER = frozenset({"scale", "zero_point"})
_OBSERVER = frozenset({"min_val", "max_val"})
_COMPANIONS = {
    _QUANTIZER: frozenset({"fake_quant_enabled", "observer_enabled"}),
    _OBSERVER: frozenset({"eps", "histogram"}),
}
"""Members that make a quantiser or an observer, and those that it has beside them."""


def with_quantizers(tensors: Sequence[PickledTensor]) -> list[PickledTensor]:
    """The tensors, those of quantisers and observers as ``quantization-parameters``."""
    modules: dict[str, dict[str, PickledTensor]] = defaultdict(dict)
    for tensor in tensors:
        path, member = _module_and_member(tensor.name)
        if member in _MEMBERS:
            modules[path][member] = tensor
    found = {
        id(members[member])
        for members in modules.values()
        for made_of, beside in _COMPANIONS.items()
        if made_of <= members.keys() and _alike(*(members[member] for member in made_of))
        for member in (made_of | beside) & members.keys()
    }
    return [
        tensor._replace(use="quantization-parameters")
        if id(tensor) in found and tensor.use in {"weight", "buffer", "constant"} else tensor
        for tensor in tensors
    ]  # fmt: skip


_OF_INPUT = re.compile(r"(.*)_(scale|zero_point)_([0-9]+)")


def _module_and_member(name: str) -> tuple[str, str]:
    numbered = _OF_INPUT.fullmatch(name)
    if numbered is not None:
        return f"{numbered[1]}_{numbered[3]}", numbered[2]
    path, _, member = name.rpartition(".")
    return path, member


_MEMBERS = frozenset().union(*(made_of | beside for made_of, beside in _COMPANIONS.items()))


def _alike(one: PickledTensor, other: PickledTensor) -> bool:
    """Whether there is one of each for every channel, or for all of them."""
    return prod(one.shape) == prod(other.shape)
