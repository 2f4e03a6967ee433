"""Models in memory are counted as torch writes them, and torch is needed for nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import sizeforensics as sf
from sizeforensics import api, formats, live


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)
        self.tied = self.head

    def forward(self, x):
        return self.tied(self.norm(self.conv(x)).mean((2, 3)))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def exported() -> torch.export.ExportedProgram:
    return torch.export.export(net(), (torch.zeros(1, 3, 8, 8),))


def trained():
    """A checkpoint as training scripts write it."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5, "names": ["a"]}


def cyclic():
    value = {"more": [1, {"w": torch.ones(3)}]}
    value["self"] = value
    return value


MODELS = {
    "module": (net, torch.save),
    "state dict": (lambda: net().state_dict(), torch.save),
    "plain state dict": (lambda: {"w": torch.ones(3, 4), "_extra_state": 1}, torch.save),
    "checkpoint": (trained, torch.save),
    "checkpoint with a module": (lambda: {"model": net(), "epoch": 3}, torch.save),
    "list of layers": (lambda: [torch.ones(3), (torch.zeros(2), {"b": torch.ones(1)})], torch.save),
    "numbered": (lambda: {1: torch.ones(2), 2: torch.ones(3)}, torch.save),
    "cyclic": (cyclic, torch.save),
    "bare tensor": (lambda: torch.arange(6.0).reshape(2, 3).t(), torch.save),
    "scripted module": (lambda: torch.jit.script(net()), torch.jit.save),
    "exported program": (exported, torch.export.save),
}


def facts(inventory):
    return (
        inventory.format, inventory.nbytes, inventory.bytes_by_subject(), inventory.tensors,
        [(storage.offset, storage.stored_bytes) for storage in inventory.storages],
        [row.digest for row in api.look_into(inventory).tensors],
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", MODELS)
def test_a_live_model_is_what_torch_writes_into_a_buffer(kind):
    make, save = MODELS[kind]
    model = make()
    buffer = io.BytesIO()
    save(model, buffer)
    source = live.saved(model)
    assert source.array(0, source.size).tobytes() == buffer.getvalue()
    assert sf.inspect(model).bytes == len(buffer.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("stem", ["yolov5s", "archive", "a-much-longer-name.v1.2", "kürzer"])
@pytest.mark.parametrize("kind", MODELS)
def test_with_its_name_it_is_what_torch_writes_to_a_file(kind, stem, tmp_path, monkeypatch):
    make, save = MODELS[kind]
    model = make()
    monkeypatch.chdir(tmp_path)
    name = f"{stem}.pt2" if kind == "exported program" else f"{stem}.pt"
    save(model, name)
    source = live.saved(model, f"dist/{name}")
    assert source.array(0, source.size).tobytes() == Path(name).read_bytes()
    inspection = sf.inspect(model, name=name)
    assert inspection.path == name
    assert facts(inspection.inventory) == facts(formats.read(name))
    assert list(Path().iterdir()) == [Path(name)]
    if stem == "archive":
        diff = sf.diff(model, name)
        assert diff.before_bytes == diff.after_bytes == Path(name).stat().st_size
        assert not any(row.delta_bytes for row in diff.rows)


def test_the_name_costs_bytes_in_every_record():
    sizes = [sf.inspect(net(), name=f"{'n' * length}.pt").bytes for length in (1, 100)]
    assert sizes[1] - sizes[0] >= 99 * len(net().state_dict())
    with pytest.raises(sf.errors.InputError, match=r"^model\.pt: is called so: name is for models in memory"):
        sf.inspect("model.pt", name="other.pt")


def test_a_live_model_is_named_after_its_class():
    inspection = sf.inspect(net())
    assert inspection.path == "Net"
    assert inspection.headline.startswith("Net is ")
    assert sf.inspect(OrderedDict(w=torch.ones(9))).path == "OrderedDict"


def test_half_a_module_is_told_from_the_whole():
    diff = sf.diff(net().half().state_dict(), net().state_dict())
    (dtype,) = (cause for cause in diff.causes if cause.cause == "dtype")
    weights = sum(tensor.numel() for tensor in net().state_dict().values() if tensor.is_floating_point())
    tied = sum(parameter.numel() for parameter in net().head.parameters())
    assert dtype.delta_bytes == 2 * (weights - tied)
    assert dtype.evidence.proved == dtype.delta_bytes


@pytest.mark.parametrize("value", [None, 3, b"model.pt", ["a"], {}, {"a": 1}, [{"a": [1]}], object()], ids=lambda value: type(value).__name__)
def test_what_is_no_model_is_refused_in_one_line(value):
    with pytest.raises(sf.errors.InputError) as refused:
        sf.inspect(value)
    message = str(refused.value)
    assert message.startswith(f"expected {live.MODELS}, got {type(value).__name__}")
    assert "\n" not in message


def test_a_module_that_cannot_be_saved_is_refused_in_one_line():
    model = net()
    model.hook = lambda: None
    with pytest.raises(sf.errors.InputError, match=r"^Net: torch cannot save it: .*lambda") as refused:
        sf.inspect(model)
    assert "\n" not in str(refused.value)


def test_without_torch_the_line_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import sizeforensics as sf\n"
        "try: sf.inspect({'w': 1})\n"
        "except sf.errors.InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "expected a path, got dict: models in memory need: pip install 'sizeforensics[torch]'\n"
    )


def test_paths_need_no_torch(tmp_path):
    torch.save({"w": torch.ones(4)}, tmp_path / "model.pt")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import sizeforensics as sf\n"
        f"print(sf.inspect({str(tmp_path / 'model.pt')!r}).bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == (tmp_path / "model.pt").stat().st_size


def test_a_live_model_has_a_budget():
    size = sf.inspect(net()).bytes
    assert sf.inspect(net()) <= sf.Budget(total=size)
    assert not api.check(net(), sf.Budget(total=size - 1)).ok
