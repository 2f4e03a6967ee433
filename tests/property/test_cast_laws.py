"""Whether one array is another one cast, against what numpy and ml_dtypes make of it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizeforensics.dtypes import numpy_dtype
from sizeforensics.matching.casts import castable, equal_after_cast, is_cast

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
          "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]  # fmt: skip
NARROW = FLOATS[2:]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN and overflow are the point
INTS = ["int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]


def patterns(name):
    """Every value of a type of at most 16 bits; many of all kinds of a wider one."""
    dtype = numpy_dtype(name)
    if dtype.itemsize <= 2:
        bits = 4 if name == "float4_e2m1fn" else 8 * dtype.itemsize
        return np.arange(1 << bits, dtype=f"u{dtype.itemsize}").view(dtype)
    rng = np.random.default_rng(7)
    raw = rng.integers(0, 256, 4_096 * dtype.itemsize, dtype=np.uint8).view(dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    extra = np.array(
        [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, tiny, -tiny, np.finfo(dtype).tiny,
         np.finfo(dtype).max, -np.finfo(dtype).max, 65_504, 65_520, 448, 464, 480, 57_344, 61_440],
        dtype=dtype,
    )  # fmt: skip
    return np.concatenate([raw, extra, rng.standard_normal(2_000).astype(dtype)])


def around_midpoints(narrow, wide):
    """Every value of ``narrow``, what lies midway to the next, and the ``wide`` neighbours."""
    values = np.unique(patterns(narrow).astype(wide))
    values = values[np.isfinite(values)]
    top = 2 * values[-1] - values[-2]
    points = np.concatenate([values, (values[:-1] + values[1:]) / 2, [(values[-1] + top) / 2]])
    points = np.concatenate([points, -points]).astype(wide)
    inf = np.asarray(np.inf, dtype=wide)
    return np.concatenate([points, np.nextafter(points, inf), np.nextafter(points, -inf)])


def cast(values, target):
    with np.errstate(all="ignore"):
        return values.astype(numpy_dtype(target))


def same(one, two):
    """Bit for bit, except that the payload of a NaN and the sign of a zero are free."""
    wide = one.astype(np.float64), two.astype(np.float64)
    return (wide[0] == wide[1]) | (np.isnan(wide[0]) & np.isnan(wide[1]))


def refuses_one_flip(values, source, result, target):
    """Change one element to another number: the cast is refused, there and nowhere else."""
    raw = result.copy()
    numbers = np.flatnonzero(np.isfinite(result.astype(np.float64)))
    for at in np.random.default_rng(1).choice(numbers, 20):
        changed = raw.copy()
        changed[at] = numpy_dtype(target).type(1.0 if float(result[at]) != 1.0 else 2.0)
        equal = equal_after_cast(values, source, changed, target)
        assert np.flatnonzero(~equal).tolist() == [at]
        assert not is_cast(values, source, changed, target)


@pytest.mark.parametrize("target", NARROW)
@pytest.mark.parametrize("source", FLOATS)
def test_every_kind_of_float_becomes_what_it_rounds_to(source, target):
    values = patterns(source)
    if source in ("float32", "float64"):
        values = np.concatenate([values, around_midpoints(target, source)])
    if target == "float4_e2m1fn":
        # It has nothing to give a NaN, and numpy gives infinity nothing either.
        values = values[np.isfinite(values.astype(np.float64))]
    # By way of float32, as torch rounds.
    result = values if source == target else cast(values.astype(np.float32), target)
    equal = equal_after_cast(values, source, result, target)
    assert values[~equal].tolist() == []
    if source != target:
        refuses_one_flip(values, source, result, target)


@pytest.mark.parametrize("target", ["float32", "float64"])
@pytest.mark.parametrize("source", FLOATS)
def test_widening_and_double_to_single(source, target):
    values = patterns(source)
    values = values[~np.isnan(values.astype(np.float64))]
    if source == "float64":
        with np.errstate(all="ignore"):
            middles = np.float64(np.float32([1, 3, 1e-40])) * (1 + 2.0**-25)
        values = np.concatenate([values, middles, np.nextafter(middles, 9), -middles])
    result = cast(values, target)
    assert is_cast(values, source, result, target)
    if source != target:
        refuses_one_flip(values, source, result, target)


@pytest.mark.parametrize("target", NARROW[:6])
def test_the_neighbours_of_the_right_result_are_refused(target):
    """At a midpoint the even neighbour is right and the odd one is not; elsewhere the nearest is."""
    values = around_midpoints(target, "float32")
    right = cast(values, target)
    codes = right.view(f"u{right.dtype.itemsize}")
    for step in (1, -1):
        wrong = (codes + np.asarray(step).astype(codes.dtype)).view(right.dtype)
        confused = equal_after_cast(values, "float32", wrong, target) & ~same(wrong, right)
        # Overflow alone is open: the largest number (ONNX) or NaN and infinity (torch).
        limit = float(ml_dtypes.finfo(numpy_dtype(target)).max)
        assert np.abs(values[confused].astype(np.float64)).min(initial=np.inf) > limit


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_double_rounding_of_doubles_is_taken_beside_the_exact_one(target):
    """torch narrows float64 by way of float32, numpy does not; nobody rounds any worse."""
    step = 2.0**-10 if target == "float16" else 2.0**-7
    tie = 1 + step / 2
    down, up = (np.array([value]).astype(numpy_dtype(target)) for value in (1.0, 1 + step))
    just_above, well_above = np.array([tie + 2.0**-40]), np.array([tie + 2.0**-20])
    assert is_cast(just_above, "float64", up, target)
    assert is_cast(just_above, "float64", down, target)
    assert is_cast(well_above, "float64", up, target)
    assert not is_cast(well_above, "float64", down, target)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20), st.sampled_from(NARROW[:3]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_single_precision_number(numbers, target):
    values = np.array(numbers, dtype=np.float32)
    assert is_cast(values, "float32", cast(values, target), target)


@pytest.mark.parametrize("target", INTS)
@pytest.mark.parametrize("source", INTS)
def test_integers_keep_their_value_or_the_cast_is_none(source, target):
    dtypes = numpy_dtype(source), numpy_dtype(target)
    low, high = np.iinfo(dtypes[0]).min, np.iinfo(dtypes[0]).max
    edges = {edge + step for name in INTS for step in (-1, 0, 1)
             for edge in (np.iinfo(name).min, np.iinfo(name).max, 0)}  # fmt: skip
    values = np.array(sorted(edge for edge in edges if low <= edge <= high), dtype=dtypes[0])
    with np.errstate(all="ignore"):
        result = values.astype(dtypes[1])
    fits = [int(one) == int(two) for one, two in zip(values, result, strict=True)]
    assert equal_after_cast(values, source, result, target).tolist() == fits
    assert is_cast(values, source, result, target) == all(fits)


def test_a_wrapped_integer_is_no_cast():
    assert not is_cast(np.array([300], dtype="<i4"), "int32", np.array([44], dtype="<u1"), "uint8")
    assert not is_cast(np.array([-1], dtype="<i8"), "int64",
                       np.array([2**64 - 1], dtype="<u8"), "uint64")  # fmt: skip


def test_unsigned_integers_beyond_the_signed_range():
    large = np.array([2**63, 2**63 + 1, 2**64 - 1], dtype="<u8")
    assert is_cast(large, "uint64", large.copy(), "uint64")
    assert not is_cast(large, "uint64", large.view("<i8"), "int64")
    assert not is_cast(large, "uint64", np.full(3, 2**63 - 1, dtype="<i8"), "int64")
    below = np.array([2**63 - 1], dtype="<u8")
    assert is_cast(below, "uint64", below.view("<i8"), "int64")


@pytest.mark.parametrize("target", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("source", INTS)
def test_integers_become_the_nearest_float(source, target):
    info = np.iinfo(source)
    values = np.array([0, 1, 7, 100, info.max // 3, max(info.min, -100)], dtype=numpy_dtype(source))
    values = values[np.abs(values.astype(np.float64)) < 2.0**53]
    result = cast(values.astype(np.float64), target)
    assert is_cast(values, source, result, target)
    refuses_one_flip(values, source, result, target)


@pytest.mark.parametrize("source", ["float16", "float32", "float64", "bfloat16"])
def test_floats_become_integers_towards_zero(source):
    values = np.array([0, 0.5, -0.5, 1.75, -1.75, 100, -100]).astype(numpy_dtype(source))
    whole = np.array([0, 0, 0, 1, -1, 100, -100], dtype="<i8")
    assert is_cast(values, source, whole, "int64")
    refuses_one_flip(values, source, whole, "int64")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_no_integer_is_the_cast_of_what_no_integer_can_hold(bad):
    values = np.array([bad])
    for result in (0, np.iinfo("i8").min, np.iinfo("i8").max):
        assert not is_cast(values, "float64", np.array([result], dtype="<i8"), "int64")


@pytest.mark.parametrize("source", [*FLOATS, *INTS])
def test_to_bool_is_whether_it_is_zero(source):
    values = np.array([0, 1, 2, 0, 1]).astype(numpy_dtype(source))
    flags = np.array([0, 1, 1, 0, 1], dtype=np.uint8)
    assert is_cast(values, source, flags, "bool")
    for at in range(5):
        flipped = flags.copy()
        flipped[at] ^= 1
        assert not is_cast(values, source, flipped, "bool")


@pytest.mark.parametrize("target", [*FLOATS, *INTS])
def test_from_bool(target):
    flags = np.array([0, 1, 1, 0], dtype=np.uint8)
    result = np.array([0, 1, 1, 0]).astype(numpy_dtype(target))
    assert is_cast(flags, "bool", result, target)
    result[3] = result[1]
    assert not is_cast(flags, "bool", result, target)


def test_the_same_type_means_the_same_bits():
    zeros = np.array([0.0, -0.0], dtype="<f4")
    assert equal_after_cast(zeros, "float32", np.zeros(2, dtype="<f4"), "float32").tolist() == [
        True, False]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "can"),
    [("float32", True), ("bool", True), ("int4", True), ("float4_e2m1fn", True),
     ("complex64", False), ("string", False), ("float8_e8m0fnu", False), ("bits16", False),
     ("int1", False)],
)
def test_castable(name, can):
    assert castable(name) is can
