"""Laws of reading pickles: values survive, ranges nest and tile, damage is refused or accounted."""

from __future__ import annotations

import collections
import io
import pickle
import warnings
import zipfile
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics.errors import FormatError
from sizeforensics.formats.encodings.pickle_stream import load
from sizeforensics.formats.encodings.pickle_values import (
    BigInt,
    Bytes,
    Call,
    DictValue,
    ListValue,
    Pickle,
    SetValue,
    Text,
)
from sizeforensics.formats.torch_parts.torch_objects import read_objects
from sizeforensics.formats.torch_parts.torch_values import Objects
from sizeforensics.source import MemorySource

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.integers(min_value=-(2**80), max_value=2**80)
    | st.floats(allow_nan=False) | st.text(max_size=20) | st.binary(max_size=20)
)  # fmt: skip
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.tuples(inner) | st.tuples(inner, inner)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=5) | st.sets(HASHABLE, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4).map(collections.OrderedDict)
        | st.lists(inner, min_size=1, max_size=2).map(lambda items: [*items, items, items[0]])
    ),
    max_leaves=25,
)  # fmt: skip
PROTOCOLS = st.integers(min_value=0, max_value=pickle.HIGHEST_PROTOCOL)


def read(data: bytes) -> tuple[Pickle, Objects]:
    found = load(MemorySource("a.pkl", data), 0, len(data))
    objects = read_objects(found)
    starts, ends = objects.starts.tolist(), objects.ends.tolist()
    assert [0, *ends[:-1]] == starts
    assert ends[-1] == found.size <= len(data)
    assert all(start < end for start, end in zip(starts, ends, strict=True))
    assert len(objects.owner_names) == len(objects.owner_subjects) > objects.owners.max()
    for text in (*objects.owner_names, *objects.owner_subjects, *objects.warnings):
        text.encode()
    for tensor in objects.tensors:
        tensor.name.encode()
    return found, objects


def same(value: Any, expected: object, found: Pickle) -> bool:
    """Whether an inert value stands for the Python object ``expected``."""
    if isinstance(value, Call):
        return same_call(value, expected, found)
    if isinstance(value, Bytes):
        return found.payload(value) == expected
    if isinstance(value, Text):
        return found.text(value) == expected
    if isinstance(value, BigInt):
        return isinstance(expected, int)
    if isinstance(expected, (set, frozenset)):
        return isinstance(value, SetValue) and same_set(value.values, expected, found)
    if isinstance(expected, list):
        return type(value) is ListValue and same_items(value.values, expected, found)
    if isinstance(expected, tuple):
        return type(value) is tuple and same_items(value, expected, found)
    if isinstance(expected, dict):
        return isinstance(value, DictValue) and same_dict(value, expected, found)
    return type(value) is type(expected) and value == expected


def same_call(call: Call, expected: object, found: Pickle) -> bool:
    name = call.func.name
    if isinstance(expected, collections.OrderedDict):
        entries = call.dict_items if call.dict_items is not None else DictValue(0, 0)
        return name == "OrderedDict" and same_dict(entries, expected, found)
    if isinstance(expected, (set, frozenset)):
        return name in ("set", "frozenset") and same_set(call.args[0].values, expected, found)
    if name == "encode":
        return call.args[0].encode("latin1") == expected
    return name == "bytes" and expected == b""


def same_items(values: Any, expected: Any, found: Pickle) -> bool:
    return len(values) == len(expected) and all(
        same(value, item, found) for value, item in zip(values, expected, strict=True)
    )


def same_dict(entries: DictValue, expected: dict[Any, Any], found: Pickle) -> bool:
    return same_items(entries.keys, list(expected), found) and same_items(
        entries.values, list(expected.values()), found
    )


def same_set(values: Any, expected: Any, found: Pickle) -> bool:
    return len(values) == len(expected) and all(
        any(same(value, item, found) for item in expected) for value in values
    )


@settings(max_examples=300, deadline=None)
@given(VALUES, PROTOCOLS)
def test_values_survive_and_their_bytes_tile(value: object, protocol: int) -> None:
    for dumps in (pickle.dumps, pickle._dumps):
        data = dumps(value, protocol)
        found, objects = read(data)
        assert found.size == len(data)
        assert same(found.root, pickle.loads(data), found)
        assert objects.tensors == []
        assert not found.oddities


def check_nesting(value: Any, start: int, end: int) -> None:
    """Every container that is built in place lies inside of what it is built in."""
    if isinstance(value, (Call, ListValue, DictValue)):
        if not start <= value.start < end:
            return  # a reference to something that was built elsewhere
        assert value.start < value.end <= end
    if isinstance(value, DictValue):
        last = value.start
        for key, item, first, middle, stop in value.entries():
            assert last <= first < middle < stop <= value.end
            check_nesting(key, first, middle)
            check_nesting(item, middle, stop)
            last = stop
    elif isinstance(value, ListValue):
        for item in value.values:
            check_nesting(item, value.start, value.end)
    elif isinstance(value, tuple):
        for item in value:
            check_nesting(item, start, end)


@settings(max_examples=200, deadline=None)
@given(VALUES, PROTOCOLS)
def test_ranges_nest(value: object, protocol: int) -> None:
    found, _ = read(pickle.dumps(value, protocol))
    check_nesting(found.root, 0, found.size)


@settings(max_examples=100, deadline=None)
@given(VALUES, PROTOCOLS, st.data())
def test_every_truncation_is_refused(value: object, protocol: int, data: st.DataObject) -> None:
    whole = pickle.dumps(value, protocol)
    size = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    with pytest.raises(FormatError) as caught:
        load(MemorySource("a", whole[:size]), 0, size)
    assert 0 <= caught.value.offset <= size
    assert str(caught.value).isprintable()


@cache
def samples() -> list[bytes]:
    """Real pickles to damage: state dicts, a module, quantised, sparse and numpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 2), torch.nn.BatchNorm2d(1))
        quantised = torch.quantize_per_channel(
            torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.qint8
        )
        values: list[object] = [
            net, {"m": net.state_dict(), "e": 1}, [quantised, torch.eye(2).to_sparse()],
            torch.zeros(2).to(torch.float8_e5m2), {"meta": torch.empty(2, device="meta")},
        ]
        pickles = [_record(value) for value in values]
    arrays = {"a": np.arange(4.0), "f": np.asfortranarray(np.eye(2)), "s": np.float64(1)}
    return pickles + [pickle.dumps(arrays, protocol) for protocol in range(6)]


def _record(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    records = zipfile.ZipFile(stream)
    return records.read(next(name for name in records.namelist() if name.endswith("data.pkl")))


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_damage_is_refused_or_accounted_for(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(samples())))
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        at = data.draw(st.integers(min_value=0, max_value=len(damaged) - 1))
        how = data.draw(st.sampled_from(("set", "delete", "insert", "copy")))
        if how == "set":
            damaged[at] = data.draw(st.integers(min_value=0, max_value=255))
        elif how == "delete" and len(damaged) > 1:
            del damaged[at : at + data.draw(st.integers(min_value=1, max_value=9))]
        elif how == "insert":
            damaged[at:at] = data.draw(st.binary(max_size=9))
        else:
            start = data.draw(st.integers(min_value=0, max_value=len(damaged) - 1))
            damaged[at:at] = damaged[start : start + 40]
        damaged = damaged or bytearray(b".")
    check_outcome(bytes(damaged))


def check_outcome(data: bytes) -> None:
    """Success with a tiling (``read`` checks it) or a FormatError; nothing else may come out."""
    refusal = None
    try:
        read(data)
    except FormatError as error:
        refusal = error
    if refusal is not None:
        assert 0 <= refusal.offset <= len(data)
        assert str(refusal).isprintable()


OPCODES = st.sampled_from([
    b"N", b"\x88", b"K\x01", b"X\x01\x00\x00\x00a", b"C\x02ab", b"(", b")", b"]", b"}", b"\x8f", b"t",
    b"\x85", b"\x86", b"\x87", b"l", b"d", b"a", b"e", b"s", b"u", b"\x90", b"\x91", b"0", b"1", b"2",
    b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"\x94", b"cos\nsystem\n", b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"cnumpy.core.multiarray\n_reconstruct\n",
    b"X\x0b\x00\x00\x00_parameters", b"X\x08\x00\x00\x00_buffers", b"X\x08\x00\x00\x00_modules",
    b"R", b"\x81", b"\x92", b"b", b"o", b"ios\nsystem\n", b"Q", b"Pid\n", b"\x93", b"\x82\x01", b"\x97",
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ",
    b"c__torch__\nNet\n", b"ctorch\nFloatTensor\n",
])  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(OPCODES, max_size=40))
def test_any_opcodes_are_refused_or_accounted_for(opcodes: list[bytes]) -> None:
    data = b"\x80\x02" + b"".join(opcodes) + b"."
    check_outcome(data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_accounted_for(data: bytes) -> None:
    check_outcome(data)
