"""The functions of torch that rebuild tensors, each reading its inert arguments.

Names and order of arguments are those of ``torch/_utils.py`` and ``torch/_tensor.py``
(``_reduce_ex_internal``) and of ``torch/jit/_pickle.py``. A wrong number of arguments raises
ValueError, which ``Rebuilder`` expects.
"""

from __future__ import annotations

from typing import Any

from sizeforensics.dtypes import opaque
from sizeforensics.formats.encodings.pickle_values import (
    Call,
    DictValue,
    Global,
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
from sizeforensics.formats.torch_parts.torch_values import PickledTensor, Quantizer


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
}
