"""Measure snapshots: ``python -m benchmarks.snapshots``.

Bytes of a compressed snapshot for each tensor, for models of one to two hundred tensors in three
formats, and the processor's time that taking one costs beside ``inspect``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.accuracy import nets
from benchmarks.marks import ROOT, update
from sizeforensics import api, formats
from sizeforensics.report import snapshots

DOCUMENT = ROOT / "docs" / "explanation" / "snapshots.md"
COUNTS = (1, 2, 5, 10, 15, 20, 50, 200)
SUFFIXES = (".safetensors", ".onnx", ".pt")
WIDTH = 32
TARGET = 200
"""Bytes that a tensor may take."""

LARGE = 1024
"""Rows and columns of the weights whose snapshot is timed, and their number."""
LAYERS = 32


class Line(NamedTuple):
    """A model of so many tensors, and the bytes of its snapshot in each format."""

    tensors: int
    nbytes: tuple[int, ...]


def model_of(tensors: int, width: int) -> nn.Sequential:
    """Linear layers with as many weights and biases."""
    torch.manual_seed(tensors)
    return nn.Sequential(
        *(nn.Linear(width, width, bias=2 * at + 1 < tensors) for at in range((tensors + 1) // 2))
    )


def write(model: nn.Module, path: Path, width: int) -> None:
    """The model as the extension says."""
    if path.suffix == ".pt":
        torch.save(model.state_dict(), path)
    elif path.suffix == ".safetensors":
        save_file(model.state_dict(), path)
    else:
        nets.export(model, torch.zeros(2, width), path)


def measured(tensors: int, directory: Path) -> Line:
    """Write and measure one model in every format."""
    model, sizes = model_of(tensors, WIDTH), []
    for suffix in SUFFIXES:
        path, out = directory / f"model{suffix}", directory / "model.json.gz"
        write(model, path, WIDTH)
        snapshots.write(api.take_snapshot(formats.read(str(path))), str(out), force=True)
        sizes.append(out.stat().st_size)
    return Line(tensors, tuple(sizes))


def table(lines: Iterable[Line]) -> str:
    """Bytes for each tensor as Markdown; what is over the target in bold."""
    rows = [
        f"| {line.tensors:,} | " + " | ".join(_cell(size / line.tensors) for size in line.nbytes) + " |"
        for line in lines
    ]
    head = f"| tensors | {' | '.join(SUFFIXES)} |"
    return "\n".join([head, "| ---: " * (1 + len(SUFFIXES)) + "|", *rows])


def _cell(size: float) -> str:
    return f"**{size:,.0f}**" if size > TARGET else f"{size:,.0f}"


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Processor's time of all threads, the best of some rounds."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def timed(directory: Path) -> str:
    """What a snapshot costs beside an inspection, in words, for float32 and float16."""
    said = []
    for dtype in (torch.float32, torch.float16):
        path = directory / "large.safetensors"
        state = model_of(2 * LAYERS, LARGE).to(dtype).state_dict()
        save_file(state, path)
        inventory = formats.read(str(path))
        taken, looked = (seconds(partial(work, inventory)) for work in (api.take_snapshot, api.look_into))
        name = str(dtype).removeprefix("torch.")
        said.append(f"{name}: {taken * 1e9 / path.stat().st_size:.1f} s a GB, {taken / looked:.0f} times `inspect`")
    return "\n".join(said)


def main() -> None:
    """Print both, and put the table into the documentation when asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.snapshots", description=__doc__)
    parser.add_argument("--update-docs", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        text = table([measured(count, Path(directory)) for count in COUNTS])
        print(text)
        print(timed(Path(directory)))
    if options.update_docs:
        update(DOCUMENT, "snapshots", text)


if __name__ == "__main__":
    main()
