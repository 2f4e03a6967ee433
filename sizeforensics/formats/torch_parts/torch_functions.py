"""The functions that rebuild tensors and arrays, each reading its inert arguments.

Names and order of arguments are those of ``torch/_utils.py`` and ``torch/_tensor.py``
(``_reduce_ex_internal``), of ``torch/jit/_pickle.py``, and of numpy's ``ndarray.__reduce__`` and
``__reduce_ex__``. A wrong number of arguments raises ValueError, which ``Rebuilder`` expects.
"""

from __future__ import annotations

from typing import Any

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.formats.encodings.pickle_values import (
    Bytes,
    Call,
    DictValue,
    Global,
    ListValue,
    OutOfBand,
    Pickle,
    Text,
)
from sizeforensics.formats.torch_parts.torch_rebuild import (
    NOTHING,
    Description,
    Function,
    Rebuilder,
    broken,
    check,
    str_of,
    torch_dtype,
)
from sizeforensics.formats.torch_parts.torch_values import Payload, PickledTensor, Quantizer
from sizeforensics.inventory import c_strides


def _tensor(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride = args[:4]
    return Description((self.view(storage, offset, size, stride, None, args[4:5] == (True,)),))


def _tensor_v2(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    storage, offset, size, stride, grad = args[:5]
    view = self.view(storage, offset, size, stride, None, grad)
    return Description((_lazily_turned(view, args[6:7]),))


def _lazily_turned(view: PickledTensor, metadata: tuple[Any, ...]) -> PickledTensor:
    """A view whose elements are the stored ones conjugated or negated (``conj`` and ``neg`` bits,
    torch/_utils.py ``set_tensor_metadata``): a type of its own, for the bytes are not its values."""
    turns = [
        key
        for found in metadata
        if isinstance(found, DictValue)
        for key, value in zip(found.keys, found.values, strict=True)
        if isinstance(key, str) and key in ("conj", "neg") and value is True
    ]
    if not turns:
        return view
    name = f"{view.dtype.name} ({' and '.join(sorted(turns))} not applied)"
    return view._replace(dtype=opaque(name, view.dtype.bits))


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
        views or broken("a parameter without data").views, (*found.states, *state)
    )


def _from_type(self: Rebuilder, args: tuple[Any, ...], call: Call) -> Description:
    func, _cls, inner_args, state = args
    inner = Call("reduce", func, inner_args, call.start, call.args_start, call.end)
    found = self.part(inner)
    return Description(
        found.views or broken("a tensor of unknown make").views, (*found.states, state)
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
        return broken("a sparse tensor without data")
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


def _jagged(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    """A nested tensor of the layout ``torch.jagged``: rows one after the other, and where each begins
    (``torch/nested/_internal/nested_tensor.py``)."""
    (parts,) = args
    if type(parts) is not DictValue:
        return broken("a jagged tensor without parts")
    return Description((
        *self.named(parts.get("values"), ".values"),
        *self.named(parts.get("offsets"), ".offsets", "sparse-index"),
        *self.named(parts.get("lengths"), ".lengths", "sparse-index"),
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
        return broken("shape, strides or element type make no sense")
    problem = check(shape, strides, offset, found, -1)
    return Description((
        PickledTensor("", "", found, shape, strides, offset, None, grad is True, None, problem),
    ))  # fmt: skip


def _from_other(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    """A tensor of a device that is saved through the CPU or numpy: what is stored is that."""
    data, _dtype, _device, grad = args
    views = tuple(view._replace(requires_grad=grad is True) for view in self.part(data).views)
    return Description(views or broken("its data is no tensor").views)


def _table_entry(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    del self
    if type(args[0]) is int:
        return broken(f"it is entry {str_of(args[0])} of a tensor table that is kept elsewhere")
    return NOTHING


# -- numpy -----------------------------------------------------------------------------------------


def _reconstruct(self: Rebuilder, _: tuple[Any, ...], call: Call) -> Description:
    """``_reconstruct(ndarray, (0,), b"b")`` with state ``(version, shape, dtype, fortran, data)``."""
    state = call.state
    if type(state) is not tuple or len(state) not in (4, 5):
        return NOTHING
    shape, dtype, fortran, data = state[-4:]
    return _array(self, shape, dtype, fortran is True, data)


def _frombuffer(self: Rebuilder, args: tuple[Any, ...], _: Call) -> Description:
    """``_frombuffer(buffer, dtype, shape, order)``, protocol 5."""
    data, dtype, shape, order = args[:4]
    return _array(self, shape, dtype, order == "F", data)


def _masked(self: Rebuilder, _: tuple[Any, ...], call: Call) -> Description:
    """``_mareconstruct(...)``, whose state is that of an array, then the bytes of its mask and the
    value that stands for what is masked (``MaskedArray.__getstate__`` in numpy/ma/core.py)."""
    state = call.state
    if type(state) is not tuple or len(state) != 7:
        return NOTHING
    _version, shape, dtype, fortran, data, mask, fill_value = state
    found = _array(self, shape, dtype, fortran is True, data)
    hidden = _elements(self, shape, _mask_dtype(dtype), fortran is True, mask, big_endian=False)
    return Description((
        *found.views, *(view._replace(name=".mask") for view in hidden.views),
        *self.named(fill_value, ".fill_value"),
    ))  # fmt: skip


def _mask_dtype(dtype: Any) -> DType:
    """What a mask is made of: a bool for each element, or for each of its fields."""
    fields = dtype.state[3] if type(dtype) is Call and type(dtype.state) is tuple and len(dtype.state) > 3 else None
    if type(fields) is not tuple or not fields:
        return DTYPES["bool"]
    return opaque(f"numpy V{len(fields)}", 8 * len(fields))


def _array(self: Rebuilder, size: Any, dtype: Any, fortran: bool, data: Any) -> Description:
    if isinstance(data, ListValue):  # an array of objects: no tensor, the walk goes into them
        return NOTHING
    found, big_endian = _numpy_dtype(dtype)
    return _elements(self, size, found, fortran, data, big_endian=big_endian)


def _elements(
    self: Rebuilder, size: Any, found: DType | None, fortran: bool, data: Any, *, big_endian: bool
) -> Description:
    """The elements of an array that lie in the pickle, one after the other."""
    shape = self.dimensions(size)
    if found is None or shape is None:
        return broken("a numpy array of an unknown type or shape")
    strides = c_strides(shape)
    if fortran:
        strides = c_strides(shape[::-1])[::-1]
    if isinstance(data, OutOfBand):
        return Description((PickledTensor(
            "", "", found, shape, strides, 0, None, False, None,
            "its elements are in a buffer outside of the pickle",
        ),))  # fmt: skip
    payload = _payload(self, data, big_endian)
    if payload is None:
        return broken("a numpy array whose elements are not where numpy writes them")
    problem = check(shape, strides, 0, found, payload.nbytes)
    return Description((
        PickledTensor("", "", found, shape, strides, 0, payload, False, None, problem),
    ))  # fmt: skip


_NUMPY_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}


def _numpy_dtype(value: Any) -> tuple[DType | None, bool]:
    """Element type and whether it is big-endian, of ``dtype("f4", False, True)`` and its state."""
    if type(value) is not Call or type(value.args) is not tuple or not value.args:
        return None, False
    code, state = value.args[0], value.state
    if type(code) is Global:
        if code.name == "record" and type(state) is tuple and len(state) > 5:
            return _record(state[5]), False
        return DTYPES.get(code.name), False
    if type(code) is not str or not code[1:].isascii() or not code[1:].isdecimal():
        return None, False
    if len(code) > 10 or code[0] == "O":
        return None, False
    size = int(code[1:])
    big = type(state) is tuple and len(state) > 1 and state[1] == ">"
    kind = _NUMPY_KINDS.get(code[0])
    if kind is not None:
        dtype = DTYPES.get("bool" if kind == "bool" else f"{kind}{8 * size}")
        if dtype is not None:
            return dtype, big and size > 1
    return opaque(f"numpy {code}", (32 if code[0] == "U" else 8) * size), False


def _record(size: Any) -> DType | None:
    """The type of ``numpy.record`` elements of so many bytes."""
    return opaque(f"numpy V{size}", 8 * size) if type(size) is int and 0 < size < 1 << 31 else None


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


FUNCTIONS: dict[str, Function] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_nested_tensor": _nested,
    "torch.nested._internal.nested_tensor._rebuild_njt": _jagged,
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
    "numpy.ma.core._mareconstruct": _masked,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}
