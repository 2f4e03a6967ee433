"""Debugging information, inferred shapes, and initializers that nothing reads."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import numpy_helper

from benchmarks.accuracy import nets
from benchmarks.accuracy.nets import nbytes, pair, perceptron, seeded
from benchmarks.accuracy.planted import Planted, Size, planted, recipe


@recipe("dead-initializer", "unreferenced")
def dead_initializer(directory: Path, size: Size) -> Planted:
    """An initializer that no node reads."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    nets.export(model, x, before)
    dead = seeded(nets.width_of(size), 100, seed=5)
    program = onnx.load(before)
    program.graph.initializer.append(numpy_helper.from_array(dead.numpy(), "momentum"))
    onnx.save(program, after)
    weights = nbytes(model.parameters())
    return planted(before, after, {
        "carried": (weights, weights), "unreferenced": (0, nbytes([dead])),
    })  # fmt: skip


@recipe("doc-strings", "debug-info")
def doc_strings(directory: Path, size: Size) -> Planted:
    """The source lines that ``verbose=True`` writes into every node."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    nets.export(model, x, before)
    nets.export(model, x, after, verbose=True)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("exporter-traces", "debug-info")
def exporter_traces(directory: Path, size: Size) -> Planted:
    """Stack traces and scopes that the exporter on ``torch.export`` keeps in every node."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    nets.export_dynamo(model, x).save(after, external_data=False)
    program = onnx.load(after)
    for node in program.graph.node:
        del node.metadata_props[:]
    onnx.save(program, before)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})


@recipe("inferred-shapes", "value-info")
def inferred_shapes(directory: Path, size: Size) -> Planted:
    """Shapes of intermediate values that ``onnx.shape_inference`` stores."""
    before, after = pair(directory, "model.onnx")
    model, x = perceptron(size)
    nets.export(model, x, before)
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(before)), after)
    weights = nbytes(model.parameters())
    return planted(before, after, {"carried": (weights, weights)})
