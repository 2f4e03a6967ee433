"""Inventories made from numpy arrays, for tests of everything above the formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sizeforensics.dtypes import DTYPES
from sizeforensics.inventory import File, Inventory, Module, Storage, Tensor, c_strides
from sizeforensics.source import MemorySource
from sizeforensics.spans import CONTAINER, TENSOR_DATA, Owners, SpanSink


def artifact(
    arrays: Mapping[str, np.ndarray],
    *,
    path: str = "model",
    views: Sequence[Tensor] = (),
    uses: Mapping[str, str] | None = None,
    scopes: Mapping[str, str] | None = None,
    modules: Sequence[Module] = (),
    header: int = 16,
) -> Inventory:
    """A file of ``header`` container bytes and each array's bytes, one storage and tensor each.

    ``views`` are further tensors; their ``storage`` counts the arrays in order.
    """
    owners = Owners()
    sink = SpanSink()
    sink.add(0, header, CONTAINER, owners.add("header", "header"))
    storages, tensors = [], []
    at = header
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        sink.add(at, at + len(data), TENSOR_DATA, owners.add(name, "tensors"))
        storages.append(
            Storage(name, 0, at, len(data), len(data), MemorySource(path, data, at))
        )
        dtype = DTYPES["bool" if array.dtype == bool else array.dtype.name]
        tensors.append(
            Tensor(
                name, dtype, array.shape, c_strides(array.shape), 0, len(storages) - 1,
                (uses or {}).get(name, "weight"), (scopes or {}).get(name, ""),
            )
        )
        at += len(data)
    spans = sink.finish(at, owners.add("nobody", "nobody"))
    return Inventory(
        path, "onnx", (File(path, spans),), owners, tuple(storages), (*tensors, *views),
        modules=tuple(modules),
    )
