"""Generate the models to measure: ``python -m benchmarks.speed.models KIND PATH NUMBER ...``.

The runner starts this in processes of its own. Every payload is random and seeded, so no two
tensors hold the same, and a file is the same each time.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

SMALL = 32
"""Elements of each tensor where there are very many."""

MODULES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
"""What has a weight in one block of a decoder."""

RENAMED = ("attn.query", "attn.key", "attn.value", "attn.out", "ffn.w1", "ffn.w3", "ffn.w2")
"""The same as another implementation calls them."""

OPERATORS = ("Relu", "Sigmoid", "Tanh", "Softmax", "Identity", "Neg", "Abs", "Transpose")


# -- few large tensors and many nodes ----------------------------------------------------------


def large(path: Path, nodes: int, weights: int, side: int) -> None:
    """An ONNX chain of ``nodes`` operators, of which ``weights`` multiply by a square float32.

    The file is written piece by piece. Protobuf defines the concatenation of two encoded messages
    as their merger, so the encodings of graphs that hold one part each are the encoding of a graph.
    """
    import onnx

    zeros = itertools.repeat(bytes(4 * side * side), weights)
    nbytes = sum(map(len, _graph(nodes, weights, side, zeros)))
    with path.open("wb") as stream:
        stream.write(onnx.ModelProto(ir_version=8, producer_name="speed").SerializeToString())
        stream.write(_head_of_graph(nbytes))
        stream.writelines(_graph(nodes, weights, side, _payloads(weights, side)))
        opset = onnx.helper.make_opsetid("", 17)
        stream.write(onnx.ModelProto(opset_import=[opset]).SerializeToString())


def _payloads(weights: int, side: int) -> Iterator[bytes]:
    import numpy as np

    random = np.random.default_rng(0)
    for _ in range(weights):
        yield random.standard_normal((side, side), dtype=np.float32).tobytes()


def _head_of_graph(nbytes: int) -> bytes:
    """Tag and length of ``ModelProto.graph``: field 7, length-delimited."""
    head = bytearray([7 << 3 | 2])
    while nbytes > 127:
        head.append(nbytes & 127 | 128)
        nbytes >>= 7
    return bytes([*head, nbytes])


def _graph(nodes: int, weights: int, side: int, payloads: Iterable[bytes]) -> Iterator[bytes]:
    """A graph in the order of its fields: nodes, name, initializers, input, output."""
    import onnx
    from onnx import TensorProto, helper

    last = yield from _chain(nodes, weights)
    yield onnx.GraphProto(name="main_graph").SerializeToString()
    for number, payload in zip(range(weights), payloads, strict=True):
        tensor = TensorProto(
            name=_weight(number), data_type=TensorProto.FLOAT, dims=[side, side], raw_data=payload
        )
        yield onnx.GraphProto(initializer=[tensor]).SerializeToString()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", side])
            for name in ("hidden", last)]  # fmt: skip
    yield onnx.GraphProto(input=ends[:1], output=ends[1:]).SerializeToString()


def _chain(nodes: int, weights: int) -> Generator[bytes, None, str]:
    """The encodings of the nodes, and as its result the name of the last one's output."""
    import onnx
    from onnx import helper

    value = "hidden"
    every = nodes // weights
    for number in range(nodes):
        block, place = divmod(number // every, len(MODULES))
        scope = f"/model/layers.{block}/{MODULES[place].replace('.', '/')}"
        inputs, operator = [value], OPERATORS[number % len(OPERATORS)]
        options: dict[str, Any] = {}
        if number % every == 0 and number // every < weights:
            operator = "MatMul"
            inputs.append(_weight(number // every))
        elif operator == "Softmax":
            options = {"axis": -1}
        elif operator == "Transpose":
            options = {"perm": [0, 1]}
        name = f"{scope}/{operator}_{number}"
        value = f"{name}_output_0"
        node = helper.make_node(operator, inputs, [value], name=name, **options)
        yield onnx.GraphProto(node=[node]).SerializeToString()
    return value


def _weight(number: int) -> str:
    block, place = divmod(number, len(MODULES))
    return f"model.layers.{block}.{MODULES[place]}.weight"


# -- many small tensors ------------------------------------------------------------------------


def many(path: Path, count: int) -> None:
    """``count`` float32 tensors of ``SMALL`` elements, and beside them the same renamed.

    The suffix of ``path`` decides: a state dict, or initializers that one operator each reads.
    """
    import numpy as np

    values = np.random.default_rng(count).standard_normal((count, SMALL), dtype=np.float32)
    names = _names(count, "transformer.h.{}.{}.kernel", RENAMED)
    _save_many(renamed(path), zip(names, values, strict=True))
    names = _names(count, "model.layers.{}.{}.weight", MODULES)
    _save_many(path, zip(names, values, strict=True))


def renamed(path: Path) -> Path:
    """Where the same tensors are under other names."""
    return path.with_stem(f"{path.stem}-renamed")


def _save_many(path: Path, named: Iterable[tuple[str, Any]]) -> None:
    if path.suffix == ".pt":
        import torch

        # A clone each: rows of one array would share its storage.
        torch.save({name: torch.from_numpy(row).clone() for name, row in named}, path)
    else:
        _save_sum(path, named)


def _names(count: int, pattern: str, parts: Sequence[str]) -> Iterator[str]:
    for number in range(count):
        block, place = divmod(number, len(parts))
        yield pattern.format(block, parts[place])


def _save_sum(path: Path, named: Iterable[tuple[str, Any]]) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = onnx.GraphProto(name="main_graph")
    value = "hidden"
    for number, (name, row) in enumerate(named):
        graph.initializer.append(numpy_helper.from_array(row, name))
        graph.node.append(
            helper.make_node("Add", [value, name], [f"/Add_{number}_output_0"], name=f"/Add_{number}")
        )
        value = f"/Add_{number}_output_0"
    graph.input.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [SMALL]))
    graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, [SMALL]))
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


# -- YOLOv5 ------------------------------------------------------------------------------------


def yolo(path: Path) -> None:
    """The published YOLOv5l: the checkpoint at ``path`` and its export beside it."""
    from fixtures.build import build_yolo

    build_yolo("l", path.parent, kinds=("pt", "onnx"))


KINDS: dict[str, Callable[..., None]] = {"large": large, "many": many, "yolo": yolo}


def main() -> None:
    """Write what was asked for; a file appears whole or not at all."""
    kind, path, *numbers = sys.argv[1:]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "yolo":
        yolo(target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        KINDS[kind](Path(folder) / target.name, *map(int, numbers))
        # The one that the runner looks for comes last.
        for made in sorted(Path(folder).iterdir(), key=lambda made: made.name == target.name):
            made.replace(target.parent / made.name)


if __name__ == "__main__":
    main()
