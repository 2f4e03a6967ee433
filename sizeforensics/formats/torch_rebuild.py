"""What tensor an inert call describes: torch's rebuild functions, storages and numpy arrays.

The functions and the order of their arguments are those of ``torch/_utils.py`` and
``torch/_tensor.py`` (``_reduce_ex_internal``), persistent ids those of ``torch/serialization.py``
and ``torch/csrc/jit/serialization/pickler.h``, arrays those of numpy's ``ndarray.__reduce__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.formats.pickle_values import (
    Bytes,
    Call,
    Global,
    ListValue,
    OutOfBand,
    PersistentId,
    Pickle,
    Text,
)
from sizeforensics.inventory import c_strides
from sizeforensics.limits import Limits


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


class Payload(NamedTuple):
    """A storage inside the pickle: the elements of a numpy array at ``[start, end)``."""

    start: int
    end: int
    nbytes: int
    """Bytes of the elements; -1 until a text codec is decoded."""
    codec: str
    """``raw``; ``utf-8`` or ``raw-unicode-escape`` where each character stands for one byte
    (protocols 0 to 2); ``string-escape`` for a Python 2 string literal."""
    big_endian: bool


class Quantizer(NamedTuple):
    """How stored integers become values; per channel, the scales are tensors of their own."""

    scheme: str
    scale: float | None
    zero_point: int | None
    axis: int | None


class View(NamedTuple):
    """One tensor, without a name: ``shape``, ``strides`` and ``offset`` count elements."""

    suffix: str
    """What its name adds to that of the object: ``""``, ``.indices``, ``.scales``."""
    use: str
    """One of ``inventory.USES``; ``""`` when the place it is found in decides."""
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


class Description(NamedTuple):
    """The tensors an object consists of, and what hangs on it as attributes."""

    views: tuple[View, ...]
    states: tuple[Any, ...] = ()


_NOTHING = Description(())
_UNKNOWN = opaque("unknown", 8)
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

    Tuples ``("storage", type, key, location, elements[, view])`` of ZIP and legacy checkpoints; a
    bare key in the tar files of torch 0.1.
    """
    value = persistent.value
    if type(value) is int or type(value) is str:
        return StorageRef(str_of(value), None, -1, -1, "")
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage":
        return None
    _, kind, key, location, numel = value[:5]
    if type(key) not in (str, int) or type(numel) is not int or not 0 <= numel < _LARGEST:
        return None
    dtype, bits = _storage_dtype(kind)
    nbytes = numel * bits // 8
    return StorageRef(str_of(key), dtype, numel, nbytes, location if type(location) is str else "")


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


def _storage_dtype(kind: Any) -> tuple[DType | None, int]:
    if type(kind) is Global and kind.name.endswith("Storage"):
        found = _STORAGES.get(kind.name.removesuffix("Storage"))
        if found is not None:
            return DTYPES[found[0]], found[1]
        if kind.name in ("UntypedStorage", "_UntypedStorage"):
            return None, 8
    dtype = torch_dtype(kind)
    return (dtype, dtype.bits) if dtype is not None else (_UNKNOWN, 8)


def storage_view(persistent: PersistentId) -> View | None:
    """A storage that is saved on its own, as the one-dimensional tensor that it is."""
    storage = storage_ref(persistent)
    if storage is None or storage.numel < 0:
        return None
    dtype = storage.dtype or DTYPES["uint8"]
    numel = storage.nbytes * 8 // dtype.bits
    return View("", "", dtype, (numel,), (1,), 0, storage, False, None, "")


Persistent = Callable[[PersistentId], View | None]
"""The tensor that a persistent id on its own stands for; None where it stands for something else."""


# -- the rebuild functions of torch ----------------------------------------------------------------


class Rebuilder:
    """Describes calls of one pickle; ``describe`` returns None for what is no tensor."""

    def __init__(
        self, pickle: Pickle, limits: Limits, persistent: Persistent = storage_view
    ) -> None:
        self.pickle = pickle
        self.persistent = persistent
        self.rank = limits.tensor_rank
        self.parts: dict[Call, Description] = {}
        self.depth = 0
        self.allowance = (1 << 20) + pickle.size
        self.functions: dict[Any, Callable[[Rebuilder, tuple[Any, ...], Call], Description]] = {
            found: _FUNCTIONS[found.path]
            for found in pickle.globals.values()
            if found.path in _FUNCTIONS
        }
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
            return _broken(f"{func.path} is called with computed arguments")
        try:
            return function(self, call.args, call)
        except (ValueError, IndexError):
            return _broken(f"{func.path} is called with arguments it does not take")

    def _legacy(self, call: Call) -> Description | None:
        """Tensors before torch 0.4: ``(storage, offset, size, stride)`` as their state.

        A Variable's state is ``(data, requires_grad, volatile, hooks, ...)``
        (``Tensor.__setstate__``).
        """
        state = call.state
        if type(state) is not tuple or not state:
            return None
        if len(state) == 4 and type(state[0]) is PersistentId:
            return Description((self.view(state[0], state[1], state[2], state[3], None, False),))
        if type(state[0]) is Call:
            return self.describe(state[0])
        return None

    def view(  # noqa: PLR0917 - in the order of the rebuild functions
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: DType | None, grad: Any,
        quantizer: Quantizer | None = None,
    ) -> View:  # fmt: skip
        """A view of a storage outside of the pickle, checked against what the storage declares."""
        shape, strides = self.dimensions(size), self.dimensions(stride)
        ref = storage_ref(storage) if type(storage) is PersistentId else None
        if ref is None:
            problem = "its storage is not described by a persistent id of torch"
        elif shape is None or strides is None or type(offset) is not int:
            problem = "shape, strides or offset are not integers, or too many"
        else:
            dtype = dtype or ref.dtype or DTYPES["uint8"]
            if len(storage.value) == 6:
                offset += _view_offset(storage.value[5])
            problem = check(shape, strides, offset, dtype, ref.nbytes)
            if ref.dtype is _UNKNOWN:
                problem = problem or "its storage has an unknown type"
            if not problem:
                return View(
                    "", "", dtype, shape, strides, offset, ref, grad is True, quantizer, ""
                )
        return View(
            "", "", dtype or _UNKNOWN, shape or (), strides or (),
            offset if type(offset) is int else 0, ref, grad is True, quantizer, problem,
        )  # fmt: skip

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
            return _NOTHING
        found = self.parts.get(value)
        if found is None:
            self.depth += 1
            found = self.describe(value) if self.depth <= _DEEPEST else _broken("it is nested too deep")
            self.depth -= 1
            found = Description(found.views[:_MOST_PARTS], found.states[:_MOST_PARTS]) if found else _NOTHING
            self.parts[value] = found
        return found

    def named(self, value: Any, suffix: str, use: str = "") -> tuple[View, ...]:
        """The tensors of a part, under a name of their own."""
        return tuple(
            view._replace(suffix=suffix + view.suffix, use=use or view.use)
            for view in self.part(value).views
        )


def _broken(problem: str) -> Description:
    return Description((View("", "", _UNKNOWN, (), (), 0, None, False, None, problem),))


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
            f"it ends at byte {((last + 1) * dtype.bits + 7) // 8:,} of a storage of {nbytes:,} bytes"
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


def _tensor(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride = args[:4]
    return Description((self.view(storage, offset, size, stride, None, args[4:5] == (True,)),))


def _tensor_v2(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride, grad = args[:5]
    return Description((self.view(storage, offset, size, stride, None, grad),))


def _tensor_v3(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride, grad, _hooks, dtype = args[:7]
    found = torch_dtype(dtype)
    view = self.view(storage, offset, size, stride, found, grad)
    if found is None:
        view = view._replace(problem="an unknown element type")
    return Description((view,))


def _parameter(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    data, grad, _hooks, *state = args
    found = self.part(data)
    views = tuple(
        view._replace(requires_grad=grad is True, use=view.use or "weight") for view in found.views
    )
    return Description(
        views or _broken("a parameter without data").views, (*found.states, *state)
    )


def _from_type(self: Rebuilder, args: tuple[Any, ...], call: Call) -> Description:
    func, _cls, inner_args, state = args
    inner = Call("reduce", func, inner_args, call.start, call.args_start, call.end)
    found = self.part(inner)
    return Description(
        found.views or _broken("a tensor of unknown make").views, (*found.states, state)
    )


def _quantized(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride, params, grad = args[:6]
    scheme, scale, zero_point, *axis = params if type(params) is tuple else ("unknown", None, None)
    quantizer = Quantizer(
        scheme.name if type(scheme) is Global else "unknown",
        float(scale) if type(scale) in (int, float) else None,
        zero_point if type(zero_point) is int else None,
        axis[0] if axis and type(axis[0]) is int else None,
    )
    return Description((
        self.view(storage, offset, size, stride, None, grad, quantizer),
        *self.named(scale, ".scales", "quantization-parameters"),
        *self.named(zero_point, ".zero_points", "quantization-parameters"),
    ))


def _sparse(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    layout, data = args
    if type(layout) is Call and type(layout.args) is tuple and layout.args:
        layout = layout.args[0]
    name = layout.name if type(layout) is Global else str(layout) if type(layout) is str else ""
    name = name.removeprefix("torch.").removeprefix("sparse_")
    if type(data) is not tuple:
        return _broken("a sparse tensor without data")
    if name == "coo":
        indices, values = data[:2]
        return Description((
            *self.named(indices, ".indices", "sparse-index"), *self.named(values, ".values"),
        ))  # fmt: skip
    first, second = (
        (".crow_indices", ".col_indices") if name in ("csr", "bsr")
        else (".ccol_indices", ".row_indices")
    )  # fmt: skip
    compressed, plain, values = data[:3]
    return Description((
        *self.named(compressed, first, "sparse-index"), *self.named(plain, second, "sparse-index"),
        *self.named(values, ".values"),
    ))  # fmt: skip


def _nested(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    values, sizes, strides, offsets = args
    return Description((
        *self.named(values, ".values"), *self.named(sizes, ".sizes", "sparse-index"),
        *self.named(strides, ".strides", "sparse-index"),
        *self.named(offsets, ".offsets", "sparse-index"),
    ))  # fmt: skip


def _meta(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    dtype, size, stride, grad = args
    return _without_storage(self, dtype, size, stride, 0, grad)


def _wrapper(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    _cls, dtype, size, stride, offset, _layout, _device, grad = args
    return _without_storage(self, dtype, size, stride, offset, grad)


def _without_storage(  # noqa: PLR0917
    self: Rebuilder, dtype: Any, size: Any, stride: Any, offset: Any, grad: Any
) -> Description:
    found, shape, strides = torch_dtype(dtype), self.dimensions(size), self.dimensions(stride)
    if found is None or shape is None or strides is None or type(offset) is not int:
        return _broken("shape, strides or element type make no sense")
    problem = check(shape, strides, offset, found, -1)
    return Description((
        View("", "", found, shape, strides, offset, None, grad is True, None, problem),
    ))  # fmt: skip


def _from_other(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    """A tensor of a device that is saved through the CPU or numpy: what is stored is that."""
    data, _dtype, _device, grad = args
    views = tuple(view._replace(requires_grad=grad is True) for view in self.part(data).views)
    return Description(views or _broken("its data is no tensor").views)


def _table_entry(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    del self
    if type(args[0]) is int:
        return _broken(f"it is entry {str_of(args[0])} of a tensor table that is kept elsewhere")
    return _NOTHING


# -- numpy -----------------------------------------------------------------------------------------


def _reconstruct(self: Rebuilder, _: tuple[Any, ...], call: Call) -> Description:
    """``_reconstruct(ndarray, (0,), b"b")`` with state ``(version, shape, dtype, fortran, data)``."""
    state = call.state
    if type(state) is not tuple or len(state) not in (4, 5):
        return _NOTHING
    shape, dtype, fortran, data = state[-4:]
    return _array(self, shape, dtype, fortran is True, data)


def _frombuffer(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    """``_frombuffer(buffer, dtype, shape, order)``, protocol 5."""
    data, dtype, shape, order = args[:4]
    return _array(self, shape, dtype, order == "F", data)


def _array(self: Rebuilder, size: Any, dtype: Any, fortran: bool, data: Any) -> Description:
    if isinstance(data, ListValue):  # an array of objects: no tensor, the walk goes into them
        return _NOTHING
    found, big_endian = _numpy_dtype(dtype)
    shape = self.dimensions(size)
    if found is None or shape is None:
        return _broken("a numpy array of an unknown type or shape")
    strides = c_strides(shape)
    if fortran:
        strides = c_strides(shape[::-1])[::-1]
    if isinstance(data, OutOfBand):
        return Description((View(
            "", "", found, shape, strides, 0, None, False, None,
            "its elements are in a buffer outside of the pickle",
        ),))  # fmt: skip
    payload = _payload(self, data, big_endian)
    if payload is None:
        return _broken("a numpy array whose elements are not where numpy writes them")
    problem = check(shape, strides, 0, found, payload.nbytes)
    return Description((
        View("", "", found, shape, strides, 0, payload, False, None, problem),
    ))  # fmt: skip


_NUMPY_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}


def _numpy_dtype(value: Any) -> tuple[DType | None, bool]:
    """Element type and whether it is big-endian, of ``dtype("f4", False, True)`` and its state."""
    if type(value) is not Call or type(value.args) is not tuple or not value.args:
        return None, False
    code = value.args[0]
    if type(code) is Global:
        return DTYPES.get(code.name), False
    if type(code) is not str or not code[1:].isascii() or not code[1:].isdecimal():
        return None, False
    if len(code) > 10 or code[0] == "O":
        return None, False
    size = int(code[1:])
    state = value.state
    big = type(state) is tuple and len(state) > 1 and state[1] == ">"
    kind = _NUMPY_KINDS.get(code[0])
    if kind is not None:
        dtype = DTYPES.get("bool" if kind == "bool" else f"{kind}{8 * size}")
        if dtype is not None:
            return dtype, big and size > 1
    return opaque(f"numpy {code}", (32 if code[0] == "U" else 8) * size), False


def _payload(self: Rebuilder, data: Any, big_endian: bool) -> Payload | None:
    if type(data) is Bytes:
        nbytes = data.end - data.start if data.codec == "raw" else -1
        return Payload(data.start, data.end, nbytes, data.codec, big_endian)
    if type(data) is not Call or type(data.func) is not Global:
        return None
    if data.func.path in ("__builtin__.bytes", "builtins.bytes") and data.args == ():
        return Payload(data.end, data.end, 0, "raw", big_endian)
    if data.func.path != "_codecs.encode":
        return None
    if type(data.args) is not tuple or len(data.args) != 2 or data.args[1] != "latin1":
        return None
    text = data.args[0]
    if type(text) is Text:
        return Payload(text.start, text.end, -1, text.codec, big_endian)
    if type(text) is not str:
        return None
    found = _text_at(self.pickle, data.args_start)
    return found and Payload(*found[:2], len(text), found[2], big_endian)


def _text_at(pickle: Pickle, position: int) -> tuple[int, int, str] | None:
    """Where the string that is the first of the arguments at ``position`` has its bytes.

    None when it is a reference to a string that lies elsewhere.
    """
    data = pickle.data
    if data[position] == 0x28:  # MARK, in protocols 0 and 1
        position += 1
    opcode = data[position]
    if opcode == 0x56:  # UNICODE
        return position + 1, data.index(b"\n", position), "raw-unicode-escape"
    width = {0x58: 4, 0x8C: 1, 0x8D: 8}.get(opcode)
    if width is None:
        return None
    start = position + 1 + width
    return start, start + int.from_bytes(data[position + 1 : start], "little"), "utf-8"


_FUNCTIONS: dict[str, Callable[[Rebuilder, tuple[Any, ...], Call], Description]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_wrapper_subclass": _wrapper,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_other,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_other,
    "torch._utils._rebuild_xla_tensor": _from_other,
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.tensor._rebuild_from_type": _from_type,
    "torch.tensor._rebuild_from_type_v2": _from_type,
    "torch.jit._pickle.build_tensor_from_id": _table_entry,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}
