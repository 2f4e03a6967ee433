"""The functions of numpy that rebuild arrays, each reading its inert arguments and state.

Names and order are those of ``ndarray.__reduce__`` and ``__reduce_ex__``, and of ``MaskedArray`` in
``numpy/ma/core.py``. A wrong number of arguments raises ValueError, which ``Rebuilder`` expects.
"""

from __future__ import annotations

from typing import Any

from sizeforensics.dtypes import DTYPES, DType, opaque
from sizeforensics.formats.encodings.pickle_values import (
    Bytes,
    Call,
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
)
from sizeforensics.formats.torch_parts.torch_values import Payload, PickledTensor
from sizeforensics.inventory import c_strides


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


ARRAY_FUNCTIONS: dict[str, Function] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.ma.core._mareconstruct": _masked,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}
