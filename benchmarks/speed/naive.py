"""The script one writes to compare two model files: load both, join the tensors by name.

It knows less than sizeforensics does (nothing outside the tensors, nothing of renamed ones), and
loads with ``torch.load`` and ``onnx.load``, so it runs what the checkpoint's pickle asks for.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper

Arrays = dict[str, npt.NDArray[Any]]


def load(path: str) -> Arrays:
    """The tensors of a checkpoint or of an ONNX model, by name."""
    if path.endswith(".onnx"):
        model = onnx.load(path)
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    checkpoint = load_checkpoint(path)
    if isinstance(checkpoint.get("model"), torch.nn.Module):
        checkpoint = checkpoint["model"].state_dict()
    return {name: tensor.numpy() for name, tensor in checkpoint.items()}


def load_checkpoint(path: str) -> Any:
    """``torch.load``, with YOLOv5's classes at hand; a user has them as they cloned its code."""
    from fixtures.yolov5 import public_names

    with public_names():
        return torch.load(path, map_location="cpu", weights_only=False)


def main() -> None:
    """Print bytes by element type, what is on one side only, and what differs."""
    before, after = (load(path) for path in sys.argv[1:3])
    for title, arrays in (("before", before), ("after", after)):
        sizes: Counter[str] = Counter()
        for array in arrays.values():
            sizes[str(array.dtype)] += array.nbytes
        print(title, len(arrays), "tensors", sum(sizes.values()), "bytes", dict(sizes))
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            print("only before", name, before[name].nbytes)
        elif name not in before:
            print("only after", name, after[name].nbytes)
        else:
            one, two = before[name], after[name]
            same = one.shape == two.shape and np.array_equal(one.astype(two.dtype), two)
            print("equal" if same else "different", name, one.nbytes, two.nbytes)


if __name__ == "__main__":
    main()
