"""Storages and tensors of the inventory out of what a pickle describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sizeforensics.dtypes import DType
from sizeforensics.formats.encodings.pickle_values import Pickle, unescape
from sizeforensics.formats.notes import Notes
from sizeforensics.formats.torch_parts.byteswap import Swapped
from sizeforensics.formats.torch_parts.torch_values import Objects, Payload, PickledTensor
from sizeforensics.inventory import Quantization, Storage, Tensor
from sizeforensics.source import MemorySource, Source
from sizeforensics.spans import TENSOR_DATA

_REMOVABLE = {"optimizer-state", "ema-copy"}
"""Uses of tensors that a checkpoint can do without, key and all."""


def placed(
    found: PickledTensor, storage: int | None, storages: Sequence[Storage], notes: Notes
) -> Tensor:
    """A pickled tensor as a view of ``storages[storage]``; without elements where it makes no
    sense, without storage where it reaches past its end."""
    shape, strides, offset = found.shape, found.strides, found.offset
    if found.problem:
        # What makes no sense is shown without elements, so that nobody computes with it.
        shape, strides, offset, storage = (0,), (1,), 0, None
    elif storage is not None and end_of(found) > storages[storage].nbytes:
        notes.count("reach past the end of the storage", found.name, "tensor")
        storage = None
    return Tensor(found.name, found.dtype, shape, strides, offset, storage, found.use, found.scope)


def arrays_in(
    pickle: Pickle, objects: Objects, tensors: Sequence[PickledTensor], source: Source, start: int
) -> Iterator[Storage]:
    """One storage for each numpy array whose elements lie in a pickle at ``start`` of ``source``."""
    views = {
        tensor.storage.start: (tensor.storage, tensor.dtype)
        for tensor in tensors
        if isinstance(tensor.storage, Payload)
    }
    for at in np.flatnonzero(objects.roles == TENSOR_DATA).tolist():
        first, end = int(objects.starts[at]), int(objects.ends[at])
        view = views.get(first)
        payload = _array_bytes(source, pickle, view, start + first)
        yield Storage(
            objects.owner_names[int(objects.owners[at])], 0, start + first, end - first,
            end - first if payload is None else payload.size, payload,
            "typed" if view is not None and view[0].codec != "raw" else "raw",
        )  # fmt: skip


def held(
    found: Mapping[int, PickledTensor], objects: Objects, start: int
) -> dict[int, tuple[int, int]]:
    """For the tensors of training state, by index, the top-level entry that holds nothing else.

    ``start`` is where the pickle begins in the file.
    """
    uses: dict[str, set[str]] = {}
    for tensor in found.values():
        uses.setdefault(tensor.scope, set()).add(tensor.use)
    alone = {
        scope: (start + objects.entries[scope][0], start + objects.entries[scope][1])
        for scope, all_uses in uses.items()
        if scope in objects.entries and len(all_uses) == 1 and all_uses <= _REMOVABLE
    }
    return {index: alone[tensor.scope] for index, tensor in found.items() if tensor.scope in alone}


def quantizations(found: Mapping[int, PickledTensor]) -> tuple[Quantization, ...]:
    """What the quantised ones of some pickled tensors, by index, say about their elements.

    Scales and zero points per channel are tensors of the same object (``torch_functions``).
    """
    by_name = {tensor.name: index for index, tensor in found.items()}
    said = []
    for index, tensor in found.items():
        quantizer = tensor.quantizer
        if quantizer is None or tensor.problem:
            continue
        if quantizer.scale is not None:
            zero = quantizer.zero_point or 0
            said.append(Quantization(index, None, None, step=quantizer.scale, zero=zero))
        elif f"{tensor.name}.scales" in by_name:
            scales, zero_points = (by_name.get(f"{tensor.name}{part}") for part in (".scales", ".zero_points"))
            axis = quantizer.axis
            known = axis is not None and 0 <= axis < len(tensor.shape)
            axes = (axis,) if known and axis is not None else None
            said.append(Quantization(index, scales, zero_points, axes=axes))
    return tuple(said)


def end_of(tensor: PickledTensor) -> int:
    """Bytes of its storage up to the last element of a tensor."""
    if 0 in tensor.shape:
        return 0
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    return tensor.dtype.nbytes(last + 1)


def little_endian(payload: Source, dtype: DType) -> Source:
    """A complex number is two numbers, each with its own byte order."""
    width = dtype.bits // (16 if dtype.kind == "complex" else 8)
    return Swapped(payload, width) if width > 1 else payload


def _array_bytes(
    source: Source, pickle: Pickle, view: tuple[Payload, DType] | None, origin: int
) -> Source | None:
    """The elements of a numpy array inside a pickle; None when they cannot be decoded."""
    if view is None:
        return None
    payload, dtype = view
    data = pickle.data[payload.start : payload.end]
    try:
        if payload.codec == "string-escape":
            data = unescape(data)
        elif payload.codec != "raw":
            # Protocols without bytes write each byte as the character of that number.
            errors = "surrogatepass" if payload.codec == "utf-8" else "strict"
            data = data.decode(payload.codec, errors).encode("latin-1")
    except ValueError:
        return None
    content = MemorySource(source.path, data, source.origin() + origin)
    return little_endian(content, dtype) if payload.big_endian else content
