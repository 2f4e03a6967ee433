"""The peer: what a user's own script finds, joining ``torch.load`` and ``onnx.load`` by name.

Tensors of one name are compared by type and element count; a name on one side only is
``unmatched``; all bytes of the files that are no tensor of either are "other", which is no cause.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch


class _Tensor(NamedTuple):
    dtype: str
    itemsize: int
    elements: int


def deltas(before: Path, after: Path) -> dict[str, int]:
    """Change by cause, named as recipes name them."""
    ours, theirs = _tensors(before), _tensors(after)
    found: Counter[str] = Counter()
    for name in ours.keys() | theirs.keys():
        one, two = ours.get(name), theirs.get(name)
        if one is None or two is None:
            found["unmatched"] += _nbytes(two) - _nbytes(one)
            continue
        common = min(one.elements, two.elements)
        if one.dtype != two.dtype:
            found[f"dtype {one.dtype} -> {two.dtype}"] += common * (two.itemsize - one.itemsize)
        found["shape"] += (two.elements - common) * two.itemsize
        found["shape"] -= (one.elements - common) * one.itemsize
    return {cause: delta for cause, delta in sorted(found.items()) if delta}


def _nbytes(tensor: _Tensor | None) -> int:
    return tensor.elements * tensor.itemsize if tensor else 0


def _tensors(path: Path) -> dict[str, _Tensor]:
    if not zipfile.is_zipfile(path):
        return dict(_initializers(path))
    with zipfile.ZipFile(path) as archive:
        scripted = any(name.endswith("/constants.pkl") for name in archive.namelist())
    content = (
        torch.jit.load(path).state_dict() if scripted else torch.load(path, weights_only=False)
    )
    return dict(_flattened("", content))


def _initializers(path: Path) -> Iterator[tuple[str, _Tensor]]:
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        yield tensor.name, _Tensor(dtype.name, dtype.itemsize, prod(tensor.dims))


def _flattened(prefix: str, value: Any) -> Iterator[tuple[str, _Tensor]]:
    """Tensors below dicts and modules; the network's own key is no part of a name."""
    if isinstance(value, torch.nn.Module):
        try:
            value = value.state_dict()
        except AttributeError:
            return  # torch's own quantised modules cannot list their state once they were loaded
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        yield prefix, _Tensor(dtype, value.element_size(), value.numel())
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            inside = prefix if not prefix and key in ("model", "state_dict") else f"{prefix}.{key}"
            yield from _flattened(inside.removeprefix("."), inner)
