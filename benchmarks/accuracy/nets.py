"""Small networks with seeded values, and the writers that recipes share."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from benchmarks.accuracy.planted import Size, pick
from fixtures import neutral

OPSET = 17


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal random values, drawn in float64 so that every type rounds the same ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and buffer values of its own, so that no two tensors are equal."""
    with torch.no_grad():
        for number, tensor in enumerate(unique([*module.parameters(), *module.buffers()])):
            if tensor.is_floating_point():
                values = seeded(*tensor.shape, seed=seed * 1000 + number + 1)
                tensor.copy_(values / max(tensor.shape[-1] if tensor.dim() > 1 else 4, 1) ** 0.5)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # the common base
                for statistic in (part.weight, part.running_var):
                    statistic.copy_(statistic.abs() + 0.5)
                part.num_batches_tracked.fill_(1200)
    return module.eval()


def unique(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Every storage once."""
    return list({tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}.values())


def count(tensors: Iterable[Tensor]) -> int:
    """Elements of tensors."""
    return sum(tensor.numel() for tensor in tensors)


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.itemsize for tensor in tensors)


def width_of(size: Size) -> int:
    """Channels of a layer: miniature or real."""
    return pick(size, 24, 512)


class Perceptron(nn.Module):
    """Three linear layers with biases: exported, they keep names, order and layout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * width)
        self.second = nn.Linear(2 * width, 3 * width)
        self.last = nn.Linear(3 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


def perceptron(size: Size, seed: int = 0) -> tuple[Perceptron, Tensor]:
    """A seeded perceptron and an input for it."""
    model = Perceptron(width_of(size))
    fill(model, seed)
    return model, seeded(1, width_of(size), seed=99)


def pair(directory: Path, before: str, after: str | None = None) -> tuple[Path, Path]:
    """Two paths of the same file name, so that names of archives are equally long."""
    paths = directory / "before" / before, directory / "after" / (after or before)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    return paths


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, logs, gradients or printed graphs of exporters, and one thread."""
    threads = torch.get_num_threads()
    level = logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _no_standard_output() -> Iterator[None]:
    """``verbose=True`` prints the graph from C++, past ``sys.stdout``."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def export(model: nn.Module, x: Tensor | tuple[Any, ...], path: Path, **options: Any) -> None:
    """Write ONNX with the exporter that traces (``dynamo=False``).

    Source lines of ``verbose=True`` lose the folders of this machine, so that sizes can be compared.
    """
    arguments = x if isinstance(x, tuple) else (x,)
    with quiet(), _no_standard_output():
        torch.onnx.export(
            model, arguments, path, **{"dynamo": False, "opset_version": OPSET, **options}
        )
    if options.get("verbose"):
        program = onnx.load(path)
        for node in program.graph.node:
            node.doc_string = neutral.neutral(node.doc_string)
        onnx.save(program, path)


def export_dynamo(model: nn.Module, x: Tensor | tuple[Any, ...], **options: Any) -> Any:
    """The program that the exporter on ``torch.export`` makes (``dynamo=True``), not saved.

    Its stack traces lose the folders of this machine, so that sizes can be compared.
    """
    arguments = x if isinstance(x, tuple) else (x,)
    with quiet():
        program = torch.onnx.export(model, arguments, dynamo=True, verbose=False, **options)
    if program is None:
        raise AssertionError("torch.onnx.export(dynamo=True) returned no program")
    neutral.relabel_onnx(program.model)
    return program


def values(path: Path) -> dict[str, int]:
    """Initializers of a model by name, in bytes of their elements; to check a recipe against."""
    from benchmarks.accuracy.oracle import tensor_bytes

    model = onnx.load(path, load_external_data=False)
    return {tensor.name: tensor_bytes(tensor) for tensor in model.graph.initializer}
