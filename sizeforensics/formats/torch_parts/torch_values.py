"""What a pickle of torch holds: storages, tensors, modules, and who owns each of its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.dtypes import DType
from sizeforensics.spans import Integers

FRAMING = "pickle framing"
KEYS = "state-dict keys"
ARRAYS = "numpy arrays"
STORAGES = "tensors"
"""Subjects that are not paths: of PROTO, FRAME and STOP; of the keys tensors are stored under; of the
elements of numpy arrays and of torch's storages."""


class StorageRef(NamedTuple):
    """A storage outside of the pickle, as its persistent id describes it."""

    key: str
    """The record ``data/<key>`` of a ZIP checkpoint; the key of a legacy one."""
    dtype: DType | None
    """Element type of a typed storage; None for untyped ones, which count bytes."""
    numel: int
    """Declared number of elements, bytes when untyped; -1 when the id does not say."""
    nbytes: int
    """Declared size; -1 when the id does not say."""
    location: str
    """Device it was saved from, such as ``cpu`` or ``cuda:0``."""
    offset: int = 0
    """Element at which it begins where it is a view of the storage ``key``, in legacy files."""


class Payload(NamedTuple):
    """A storage inside the pickle: the elements of an array or a storage at ``[start, end)``."""

    start: int
    end: int
    nbytes: int
    """Bytes of the elements; -1 until a text codec is decoded."""
    codec: str
    """``raw``; ``utf-8`` or ``raw-unicode-escape`` where each character stands for one byte
    (protocols 0 to 2); ``string-escape`` for a Python 2 string literal."""
    big_endian: bool
    torch: bool = False
    """Whether it is a storage of torch, not a numpy array."""


class Quantizer(NamedTuple):
    """How stored integers become values; per channel, the scales are tensors of their own."""

    scheme: str
    scale: float | None
    zero_point: int | None
    axis: int | None


class PickledTensor(NamedTuple):
    """A tensor as the pickle describes it; ``shape``, ``strides`` and ``offset`` count elements."""

    name: str
    """Until the place it is found in is known, what it adds to that: ``""``, ``.indices``, ``.scales``."""
    use: str
    """One of ``inventory.USES``; ``""`` until the place is known, where that decides."""
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: StorageRef | Payload | None
    """None when there are no bytes: meta tensors, wrappers, descriptions that make no sense."""
    requires_grad: bool
    quantizer: Quantizer | None
    problem: str
    """Why it cannot be what it says; empty when it can."""
    scope: str = ""
    """The top-level key it is found under; empty for entries of the root itself."""


@dataclass(slots=True)
class PickledModule:
    """A pickled ``torch.nn.Module`` or TorchScript object."""

    path: str
    """As the names of its tensors begin: ``model.model.0.conv``; empty for the root."""
    class_path: str
    attributes: dict[str, int | float | str | bool | None] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    """Its own parameters and buffers: attribute name to index into ``Objects.tensors``."""
    non_persistent: list[str] = field(default_factory=list)
    """Buffers that its state dict leaves out."""
    hooks: dict[str, int] = field(default_factory=dict)
    """Kind of hook to number of hooks, where there are any."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What a pickle holds. The last four are columns that tile ``[0, pickle.size)``: ``owners``
    indexes ``owner_names`` and ``owner_subjects``, ``roles`` ``spans.ROLES``."""

    tensors: list[PickledTensor]
    modules: list[PickledModule]
    storages: list[StorageRef]
    """Every storage a persistent id names, once each, in the order of the file."""
    warnings: list[str]
    owner_names: list[str]
    owner_subjects: list[str]
    starts: Integers
    ends: Integers
    roles: npt.NDArray[np.uint8]
    owners: Integers
    entries: dict[str, tuple[int, int]]
    """Where the entries of the root dict are, key and value: what would go with a top-level key."""
