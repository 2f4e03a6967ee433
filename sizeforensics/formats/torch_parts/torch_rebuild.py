"""What tensors an inert object describes: views of storages, checked against what those declare.

Persistent ids are those of ``torch/serialization.py`` and ``torch/csrc/jit/serialization/pickler.h``,
storage types those of ``torch/storage.py``. The functions that rebuild tensors are in
``torch_functions``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.formats.encodings.pickle_values import (
    Bytes,
    Call,
    Global,
    ListValue,
    PersistentId,
    Pickle,
)
from sizeforensics.formats.torch_parts.torch_framing import embedded_storage
from sizeforensics.formats.torch_parts.torch_values import (
    Payload,
    PickledTensor,
    Quantizer,
    StorageRef,
)
from sizeforensics.limits import Limits
from sizeforensics.units import counted


class Description(NamedTuple):
    """The tensors an object consists of, and what hangs on it as attributes."""

    views: tuple[PickledTensor, ...]
    states: tuple[Any, ...] = ()


NOTHING = Description(())
UNKNOWN = opaque("unknown", 8)
_DEEPEST = 6  # a parameter of a subclass of a quantised tensor with scales is three deep
_MOST_PARTS = 8  # a nested tensor of sparse tensors would have sixteen
_LARGEST = 1 << 63  # what torch can address; larger numbers describe no tensor

_STORAGES: dict[str, tuple[str, int]] = {
    "Double": ("float64", 64), "Float": ("float32", 32), "Half": ("float16", 16),
    "BFloat16": ("bfloat16", 16), "Long": ("int64", 64), "Int": ("int32", 32),
    "Short": ("int16", 16), "Char": ("int8", 8), "Byte": ("uint8", 8), "Bool": ("bool", 8),
    "UInt16": ("uint16", 16), "UInt32": ("uint32", 32), "UInt64": ("uint64", 64),
    "ComplexHalf": ("complex32", 32), "ComplexFloat": ("complex64", 64),
    "ComplexDouble": ("complex128", 128), "QInt8": ("int8", 8), "QUInt8": ("uint8", 8),
    "QInt32": ("int32", 32),
    # An element of these storages is a byte that holds two or four elements of the tensor.
    "QUInt4x2": ("uint4", 8), "QUInt2x4": ("uint2", 8),
    "Float8_e5m2": ("float8_e5m2", 8), "Float8_e4m3fn": ("float8_e4m3fn", 8),
    "Float8_e5m2fnuz": ("float8_e5m2fnuz", 8), "Float8_e4m3fnuz": ("float8_e4m3fnuz", 8),
    "Float8_e8m0fnu": ("float8_e8m0fnu", 8),
}  # fmt: skip
"""Prefix of ``<prefix>Storage``: element type of its tensors, bits of one storage element."""

_TORCH_DTYPES = {
    "half": "float16", "float": "float32", "double": "float64", "cfloat": "complex64",
    "cdouble": "complex128", "chalf": "complex32", "short": "int16", "int": "int32",
    "long": "int64", "qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint4",
    "quint2x4": "uint2",
}  # fmt: skip
_TORCH_OPAQUE = {
    "float4_e2m1fn_x2": 8, "bits8": 8, "bits1x8": 8, "bits2x4": 8, "bits4x2": 8, "bits16": 16,
}  # fmt: skip


def torch_dtype(value: Any) -> DType | None:
    """The element type that a global such as ``torch.float8_e4m3fn`` names."""
    if type(value) is not Global or value.module != "torch":
        return None
    name = _TORCH_DTYPES.get(value.name, value.name)
    if name in _TORCH_OPAQUE:
        return opaque(name, _TORCH_OPAQUE[name])
    dtype = DTYPES.get(name)
    if dtype is not None and dtype.bits < 8 and not value.name.startswith("quint"):
        return opaque(name, 8)  # torch.int4 and its kin take a byte per element
    return dtype


def storage_ref(persistent: PersistentId) -> StorageRef | None:
    """The storage a persistent id names; None when it names something else.

    Tuples ``("storage", type, key, location, elements[, view])`` of ZIP and legacy checkpoints, which
    protocol 0 spells out; a bare key in the tar files of torch 0.1.
    """
    value = persistent.value
    if type(value) is str:
        value = _spelled_out(value) or value
    if type(value) is int or type(value) is str:
        return StorageRef(str_of(value), None, -1, -1, "")
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage":
        return None
    _, kind, key, location, numel = value[:5]
    if type(key) not in (str, int) or type(numel) is not int or not 0 <= numel < _LARGEST:
        return None
    dtype, bits = storage_dtype(kind)
    nbytes = numel * bits // 8
    return StorageRef(
        str_of(key), dtype, numel, nbytes, location if type(location) is str else "",
        _view_offset(value[5]) if len(value) == 6 else 0,
    )  # fmt: skip


_SPELLED_OUT = re.compile(
    r"\('storage', <class '([\w.]+)\.(\w+)'>, '([^'\\]*)', '([^'\\]*)', (\d{1,19})(, None)?\)"
)


def _spelled_out(text: str) -> tuple[Any, ...] | None:
    """The tuple of a persistent id out of its ``str``, which is all that the PERSID of protocol 0 has
    room for. torch writes that, and refuses to load it."""
    found = _SPELLED_OUT.fullmatch(text)
    if found is None:
        return None
    module, name, key, location, numel, _ = found.groups()
    return "storage", Global(module, name), key, location, int(numel)


def _view_offset(view: Any) -> int:
    """Where a legacy storage begins in the one it is a view of: ``(key, offset, size)``."""
    if type(view) is tuple and len(view) == 3 and type(view[1]) is int:
        return view[1]
    return 0


def str_of(key: int | str) -> str:
    """Text of a key; an integer too long to be one is described."""
    if type(key) is int and key.bit_length() > 128:
        return f"<integer of {key.bit_length():,} bits>"
    return str(key)


def storage_dtype(kind: Any) -> tuple[DType | None, int]:
    """Element type of a storage class, None for untyped ones, and the bits of one element."""
    if type(kind) is Global and kind.name.endswith("Storage"):
        found = _STORAGES.get(kind.name.removesuffix("Storage"))
        if found is not None:
            return DTYPES[found[0]], found[1]
        if kind.name in ("UntypedStorage", "_UntypedStorage"):
            return None, 8
    dtype = torch_dtype(kind)
    return (dtype, dtype.bits) if dtype is not None else (UNKNOWN, 8)


def storage_view(persistent: PersistentId) -> PickledTensor | None:
    """A storage that is saved on its own, as the one-dimensional tensor that it is."""
    storage = storage_ref(persistent)
    if storage is None or storage.numel < 0:
        return None
    dtype = storage.dtype or DTYPES["uint8"]
    numel = storage.nbytes * 8 // dtype.bits
    return PickledTensor("", "", dtype, (numel,), (1,), 0, storage, False, None, "")


Persistent = Callable[[PersistentId], PickledTensor | None]
"""The tensor that a persistent id on its own stands for; None where it stands for something else."""


Function = Callable[["Rebuilder", tuple[Any, ...], Call], Description]
"""What a rebuild function would have made of its arguments."""


class Rebuilder:
    """Describes calls of one pickle; ``describe`` returns None for what is no tensor."""

    def __init__(
        self, pickle: Pickle, limits: Limits, functions: dict[str, Function],
        persistent: Persistent = storage_view,
    ) -> None:  # fmt: skip
        self.pickle = pickle
        self.persistent = persistent
        self.limits = limits
        self.rank = limits.tensor_rank
        self.storages: dict[PersistentId, StorageRef | None] = {}
        self.embedded: dict[int, tuple[StorageRef, Payload] | None] = {}
        self.parts: dict[Call, Description] = {}
        self.depth = 0
        self.allowance = (1 << 20) + pickle.size
        self.functions = {
            found: functions[found.path]
            for found in pickle.globals.values() if found.path in functions
        }  # fmt: skip
        self.legacy = {
            found for found in pickle.globals.values()
            if found.module in ("torch", "torch.cuda") and found.name.endswith("Tensor")
        } | {
            found for found in pickle.globals.values()
            if found.path in ("torch.nn.parameter.Parameter", "torch.autograd.variable.Variable")
        }  # fmt: skip

    def describe(self, call: Call) -> Description | None:
        """The tensors that ``call`` would have built; None when it builds something else."""
        func = call.func
        if type(func) is not Global:
            return None
        function = self.functions.get(func)
        if function is None:
            return self._legacy(call) if func in self.legacy else None
        if type(call.args) is not tuple:
            return broken(f"{func.path} is called with computed arguments")
        try:
            return function(self, call.args, call)
        except (ValueError, IndexError):
            return broken(f"{func.path} is called with arguments it does not take")

    def _legacy(self, call: Call) -> Description | None:
        """Tensors before torch 0.4: ``(storage, offset, size, stride)`` as their state.

        A Variable's state is ``(data, requires_grad, volatile, hooks, ...)``
        (``Tensor.__setstate__``).
        """
        state = call.state
        if type(state) is tuple and len(state) == 4 and type(state[0]) is PersistentId:
            return Description((self.view(state[0], state[1], state[2], state[3], None, False),))
        # Where the data are the argument, the state has only what hangs on them.
        for values in (call.args, state):
            if type(values) is not tuple or not values:
                continue
            if type(values[0]) is Call:
                found = self.part(values[0])
                return found if found.views else None
            if type(values[0]) is PersistentId:
                view = self.persistent(values[0])
                return Description((view,)) if view else None
        return None

    def view(  # noqa: PLR0917 - in the order of the rebuild functions
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: DType | None, grad: Any,
        quantizer: Quantizer | None = None,
    ) -> PickledTensor:  # fmt: skip
        """A view of a storage, checked against what the storage declares."""
        shape, strides = self.dimensions(size), self.dimensions(stride)
        ref = self.storage(storage) if type(storage) is PersistentId else None
        place: StorageRef | Payload | None = ref
        if type(storage) is Call:
            inside = self.storage_in_bytes(storage)
            ref, place = inside or (None, None)
        if ref is None:
            problem = "its storage is not described by a persistent id of torch"
        elif shape is None or strides is None or type(offset) is not int:
            problem = "shape, strides or offset are not integers, or too many"
        else:
            untyped = UNKNOWN if ref.numel < 0 else DTYPES["uint8"]
            dtype = dtype or ref.dtype or untyped
            offset += ref.offset
            problem = check(shape, strides, offset, dtype, ref.nbytes)
            if dtype is UNKNOWN or ref.dtype is UNKNOWN:
                problem = problem or "its storage has an unknown type"
            if not problem:
                return PickledTensor(
                    "", "", dtype, shape, strides, offset, place, grad is True, quantizer, ""
                )
        return PickledTensor(
            "", "", dtype or UNKNOWN, shape or (), strides or (),
            offset if type(offset) is int else 0, place, grad is True, quantizer, problem,
        )  # fmt: skip

    def storage(self, persistent: PersistentId) -> StorageRef | None:
        """``storage_ref``, made once: it is asked for by the tensor and for the list of storages."""
        found = self.storages.get(persistent)
        if found is None:
            found = self.storages[persistent] = storage_ref(persistent)
        return found

    def storage_in_bytes(self, call: Call) -> tuple[StorageRef, Payload] | None:
        """The storage that a call of ``_load_from_bytes`` would have read, and where it lies."""
        args = call.args
        if (
            type(call.func) is not Global or call.func.path != "torch.storage._load_from_bytes"
            or type(args) is not tuple or len(args) != 1
            or type(args[0]) is not Bytes or args[0].codec != "raw"
        ):  # fmt: skip
            return None
        data = args[0]
        if data.start not in self.embedded:
            found = embedded_storage(self.pickle, data.start, data.end, self.limits)
            ref = storage_ref(found.described) if found else None
            if found is None or ref is None or ref.nbytes != found.end - found.start:
                self.embedded[data.start] = None
            else:
                self.embedded[data.start] = ref, Payload(
                    found.start, found.end, ref.nbytes, "raw", big_endian=False, torch=True
                )
        return self.embedded[data.start]

    def dimensions(self, value: Any) -> tuple[int, ...] | None:
        """A shape or strides; None for what is neither, or for many long ones.

        A pickle of a few bytes per tensor can share one shape of a thousand dimensions, so there is
        an allowance that grows with the pickle.
        """
        found = integers(value, self.rank)
        if found is not None and len(found) > 8:
            self.allowance -= len(found)
            if self.allowance < 0:
                return None
        return found

    def part(self, value: Any) -> Description:
        """What an argument of a rebuild function describes.

        Described once however often it is shared, and not too deep down.
        """
        if type(value) is not Call:
            return NOTHING
        found = self.parts.get(value)
        if found is None:
            self.depth += 1
            found = self.describe(value) if self.depth <= _DEEPEST else broken("it is nested too deep")
            self.depth -= 1
            found = Description(found.views[:_MOST_PARTS], found.states[:_MOST_PARTS]) if found else NOTHING
            self.parts[value] = found
        return found

    def named(self, value: Any, suffix: str, use: str = "") -> tuple[PickledTensor, ...]:
        """The tensors of a part, under a name of their own."""
        return tuple(
            view._replace(name=suffix + view.name, use=use or view.use)
            for view in self.part(value).views
        )


def broken(problem: str) -> Description:
    return Description((PickledTensor("", "", UNKNOWN, (), (), 0, None, False, None, problem),))


def check(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, dtype: DType, nbytes: int
) -> str:
    """Why this is no view of ``nbytes`` bytes (-1: unknown), or an empty string."""
    if len(shape) != len(strides):
        return f"{len(shape)} sizes and {len(strides)} strides"
    if not 0 <= offset < _LARGEST:
        return "a negative or absurd offset"
    last = offset
    elements = 1
    for size, stride in zip(shape, strides, strict=True):
        if not (0 <= size < _LARGEST and 0 <= stride < _LARGEST):
            return "a negative or absurd size or stride"
        last += (size - 1) * stride
        elements *= size
    if elements >= _LARGEST:
        return "more elements than can be addressed"
    if elements and 0 <= nbytes < ((last + 1) * dtype.bits + 7) // 8:
        return (
            f"it ends at byte {((last + 1) * dtype.bits + 7) // 8:,} of a storage of {counted(nbytes, 'byte')}"
        )
    return ""


def integers(value: Any, most: int) -> tuple[int, ...] | None:
    """At most ``most`` integers out of a tuple, a list or a ``torch.Size``; None for all else."""
    if type(value) is Call and type(value.args) is tuple and len(value.args) == 1:
        value = value.args[0]
    if isinstance(value, ListValue):
        value = tuple(value.values[:most + 1])
    if type(value) is not tuple or len(value) > most:
        return None
    for item in value:
        if type(item) is not int:
            return None
    return value
