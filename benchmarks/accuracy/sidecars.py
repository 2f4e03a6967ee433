"""External data: files that were appended to, aligned, or split off."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron
from benchmarks.accuracy.planted import Planted, Size, planted, recipe

WEIGHTS = "model.onnx.data"


@recipe("appended-sidecar", "unreferenced")
def appended_sidecar(directory: Path, size: Size) -> Planted:
    """External data saved once, and three times to one file, which onnx appends to."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    inline = directory / "inline.onnx"
    nets.export(model, x, inline)
    for path, times in ((before, 1), (after, 3)):
        for _ in range(times):
            onnx.save(
                onnx.load(inline), path, save_as_external_data=True, location=WEIGHTS,
                size_threshold=0,
            )  # fmt: skip
    weights = nbytes(model.parameters())
    dead = (after.parent / WEIGHTS).stat().st_size - (before.parent / WEIGHTS).stat().st_size
    if dead < 2 * weights:
        raise AssertionError(f"onnx appended {dead:,} bytes, two copies are {2 * weights:,}")
    return planted(before, after, {"carried": (weights, weights)})


@recipe("sidecar-gaps", "alignment")
def sidecar_gaps(directory: Path, size: Size) -> Planted:
    """External data in which every tensor begins at a multiple of 64 KiB."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    inline = directory / "inline.onnx"
    nets.export(model, x, inline)
    for path, alignment in ((before, 1), (after, 1 << 16)):
        program = onnx.load(inline)
        data = bytearray()
        for tensor in program.graph.initializer:
            data += bytes(-len(data) % alignment)
            raw = tensor.raw_data
            set_external_data(tensor, WEIGHTS, offset=len(data), length=len(raw))
            data += raw
            tensor.ClearField("raw_data")
        (path.parent / WEIGHTS).write_bytes(data)
        onnx.save(program, path)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("split-sidecar", "container")
def split_sidecar(directory: Path, size: Size) -> Planted:
    """The same program in one file, and with its weights in a second one."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    program = nets.export_dynamo(model, x)
    program.save(before, external_data=False)
    program.save(after, external_data=True)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})
