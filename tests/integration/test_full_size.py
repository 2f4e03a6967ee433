"""Full-size YOLOv5s: the numbers that a known export by the original code has."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

import sizeforensics as sf
from fixtures.build import build_yolo, cache_directory
from sizeforensics.report.rows import DiffReport

pytestmark = pytest.mark.full
KINDS = ("pt", "train", "onnx", "torchscript", "fp16", "dynamo")


@pytest.fixture(scope="module")
def paths():
    return build_yolo("s", cache_directory(), kinds=KINDS)


def deltas(report: DiffReport) -> Counter[str]:
    return Counter({
        cause: sum(row.delta_bytes for row in report.rows if row.cause == cause)
        for cause in {row.cause for row in report.rows}
    })


def test_growth_of_the_onnx_export(paths):
    report = sf.diff(paths["pt"], paths["onnx"]).report
    (dtype,) = (cause for cause in report.causes if cause.cause == "dtype")
    assert (dtype.label, dtype.elements, dtype.delta_bytes) == (
        "float16 -> float32", 7_225_885, 14_451_770)
    constants = [row for row in report.rows if row.cause == "constant"]
    grids = [row for row in constants if row.evidence == "proved" and row.after_bytes > 4096]
    assert (len(grids), sum(row.after_bytes for row in grids)) == (6, 403_200)
    inventory = sf.inspect(paths["onnx"])
    assert len(inventory.nodes) == 263
    weights = [tensor for tensor in inventory.tensors if tensor.use == "weight"]
    assert (len(weights), sum(tensor.bytes for tensor in weights)) == (120, 28_903_540)


def test_the_checkpoint_and_the_torchscript_archive(paths):
    checkpoint = sf.inspect(paths["pt"]).inventory
    assert len(checkpoint.storages) == 357
    assert sum(storage.nbytes for storage in checkpoint.storages) == 14_509_808
    records = sf.inspect(paths["torchscript"]).inventory.records
    assert sum(record.name.endswith(".py") for record in records) == 207
    assert sum(record.name.endswith(".debug_pkl") for record in records) == 207


@pytest.mark.parametrize("after", ["onnx", "torchscript"])
def test_nearly_every_tensor_byte_is_proved(paths, after):
    known = sf.diff(paths["pt"], paths[after]).report.tensor_evidence
    assert 1000 * known.proved >= 999 * known.total


@pytest.mark.parametrize(("one", "two"), list(permutations(KINDS, 2)))
def test_every_pair_sums_and_mirrors(paths, one, two):
    report = sf.diff(paths[one], paths[two]).report
    assert sum(row.before_bytes for row in report.rows) == report.before.bytes
    assert sum(row.after_bytes for row in report.rows) == report.after.bytes
    assert report.unexplained_bytes == 0
    mirrored = sf.diff(paths[two], paths[one]).report
    assert deltas(report) == Counter({k: -v for k, v in deltas(mirrored).items()})


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_differs_from_itself(paths, kind):
    assert not any(row.delta_bytes for row in sf.diff(paths[kind], paths[kind]).report.rows)
