"""What the containers of a pickle hold, whatever protocol or language wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizeforensics.formats.encodings.pickle_values import (
    BigInt,
    Bytes,
    Call,
    DictValue,
    Global,
    ListValue,
    OutOfBand,
    Text,
)

SCALARS = frozenset({int, float, str, bool, type(None), Bytes, Text, BigInt, OutOfBand})
"""Types of the values that hold no others."""
PLAIN = frozenset({int, float, str, bool, type(None)})
"""Those of them that stand for themselves."""
_WRAPPERS = frozenset({
    # Sets before protocol 4.
    "builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset",
    # Lists that TorchScript tags with their type.
    "torch.jit._pickle.restore_type_tag", "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_tensorlist", "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
})  # fmt: skip


def wrapped(call: Call) -> Any:
    """The list that a call only gives a type to; None where it does more."""
    if type(call.func) is Global and call.func.path in _WRAPPERS and type(call.args) is tuple:
        return next(iter(call.args), None)
    return None


def set_of(value: Any) -> Sequence[Any]:
    """The items of a set."""
    inner = wrapped(value) if type(value) is Call else value
    return inner.values if isinstance(inner, ListValue) else ()


def list_of_pairs(call: Call) -> ListValue | None:
    """``[[key, value], ...]`` that Python 2 makes an ``OrderedDict`` of; None for another call."""
    args = call.args
    if (
        type(call.func) is Global and call.func.path == "collections.OrderedDict"
        and type(args) is tuple and len(args) == 1 and type(args[0]) is ListValue
    ):  # fmt: skip
        return args[0]
    return None


def dict_of_pairs(pairs: ListValue) -> DictValue:
    """A dict of these pairs, whose entries have no places of their own."""
    flat: list[Any] = []
    for pair in pairs.values:
        items = pair.values if type(pair) is ListValue else pair
        if isinstance(items, (list, tuple)) and len(items) == 2:
            flat.extend(items)
    entries = DictValue(pairs.start, pairs.end)
    entries.extend(flat, [0] * len(flat), 0)
    return entries


def parts_of(state: Any) -> tuple[Any, ...]:
    """The attributes of an object, and those in its slots (``copyreg``: a pair with those second)."""
    return state if type(state) is tuple and len(state) == 2 else (state,)


def hollow(value: Any) -> bool:
    """Whether a value is so empty that its bytes may stay with the object it is part of."""
    if type(value) is tuple:
        return len(value) <= 8 and all(
            type(item) in SCALARS or (type(item) is ListValue and not item.values)
            for item in value
        )
    if isinstance(value, (ListValue, DictValue)):
        return not value.values
    if type(value) is Call:
        return (
            value.states is None and value.list_items is None and value.dict_items is None
            and value.kwargs is None and hollow(value.args)
        )  # fmt: skip
    return type(value) is Global
