"""Floats that were cast by a detour: rounded through a narrower type, or clamped before the cast.

``weight.half().float()`` is float32 again and holds what float16 left of it. Converters to float16
keep small numbers from becoming zero and large ones from becoming infinite: ONNX Runtime's clamps sizes
to [5.96e-08, 65504] (``convert_np_to_float16`` in ``transformers/float16.py``), the one of
``onnxconverter-common`` to [1e-07, 10000]. Every element is taken along the same way and compared with
what is there, bit by bit; of snapshots, those elements that are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizeforensics.matching.casts import cast_sample, is_cast
from sizeforensics.matching.pairing import Pairing
from sizeforensics.matching.relations import typed_blocks
from sizeforensics.matching.units import Unit

CANDIDATES = 16
"""Tensors of one fingerprint that are compared in full with another."""

CLAMPS = ((5.96e-08, 65504.0), (1e-07, 1e4))
"""Smallest and largest sizes that converters to float16 let through."""

_FLOATS = ("float64", "float32", "float16", "bfloat16")
_NARROWER = {
    "float64": ("float32", "float16", "bfloat16"),
    "float32": ("float16", "bfloat16"),
    "float16": ("bfloat16",),
    "bfloat16": ("float16",),
}

Array = npt.NDArray[Any]
_Key = tuple[str, int, bytes]


class _Detour(NamedTuple):
    """A way from one type to another: what is done first, and the type it leads to."""

    words: str
    first: Callable[[Array], Array]
    through: str
    target: str


def match_detours(pairing: Pairing) -> None:
    """Pair free floats of which one is what the other becomes on a way that is no plain cast."""
    for side in (0, 1):
        by_sample: dict[_Key, list[Unit]] = defaultdict(list)
        for unit in _floats(pairing, 1 - side):
            by_sample[_key(unit, _sample(unit))].append(unit)
        names = {name for name, _, _ in by_sample}
        sizes = {elements for _, elements, _ in by_sample}
        for source in list(_floats(pairing, side)) if by_sample else ():
            if source.tensor.elements in sizes:
                _match_one(pairing, source, by_sample, names)


def _match_one(
    pairing: Pairing, source: Unit, by_sample: dict[_Key, list[Unit]], names: set[str]
) -> None:
    for detour in _detours(source.tensor.dtype.name):
        if detour.target not in names:
            continue
        sample = cast_sample(detour.first(_sample(source)), detour.through, detour.target)
        likely = by_sample.get((detour.target, source.tensor.elements, sample.tobytes()), [])
        for target in [unit for unit in likely if pairing.is_free(unit)][:CANDIDATES]:
            if _leads_to(pairing, source, target, detour):
                reshaped = ", reshaped" if source.tensor.shape != target.tensor.shape else ""
                pairing.pair(source, target, pairing.computed, detour.words + reshaped)
                return


def _detours(source: str) -> Iterator[_Detour]:
    """The shortest first."""
    for through in _NARROWER[source]:
        for target in _FLOATS:
            if target != through:
                back = "and widened" if target == source else f"then cast to {target}"
                words = f"rounded through {through}, nearest-even, {back}"
                narrow = partial(cast_sample, source=source, target=through)
                yield _Detour(words, narrow, through, target)
    if source == "float32":
        for least, most in CLAMPS:
            words = f"sizes clamped to [{least:g}, {most:g}], cast float32 -> float16"
            yield _Detour(words, partial(_clamped, least=least, most=most), source, "float16")


def _clamped(values: Array, least: float, most: float) -> Array:
    sizes = np.abs(values)
    kept = np.where((sizes > 0) & (sizes < least), np.float32(least), sizes)
    kept = np.where((sizes > most) & np.isfinite(sizes), np.float32(most), kept)
    return np.copysign(kept, values)


def _leads_to(pairing: Pairing, source: Unit, target: Unit, detour: _Detour) -> bool:
    if source.excerpt is not None:
        return source.tensor.shape == target.tensor.shape  # the samples are equal already
    sides = (typed_blocks(pairing.inventories[unit.side], unit.tensor) for unit in (source, target))
    return all(
        is_cast(detour.first(ours), detour.through, theirs, detour.target)
        for ours, theirs in zip(*sides, strict=True)
    )


def _floats(pairing: Pairing, side: int) -> Iterator[Unit]:
    for unit in pairing.free[side].values():
        if unit.distinctive and unit.sample is not None and unit.tensor.dtype.name in _FLOATS:
            yield unit


def _key(unit: Unit, sample: Array) -> _Key:
    return unit.tensor.dtype.name, unit.tensor.elements, sample.tobytes()


def _sample(unit: Unit) -> Array:
    if unit.sample is None:
        raise ValueError(f"tensor {unit.tensor.name!r} has no sample")
    return unit.sample
