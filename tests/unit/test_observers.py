"""What torch's quantisation keeps beside weights is counted as its parameters, and nothing else is."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from sizeforensics import formats


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.conv = nn.Conv2d(3, 6, 3)
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.dequant(self.conv(self.quant(image)))
        return output


def uses(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.use for tensor in formats.read(str(path)).tensors}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("aware", [False, True], ids=["observed", "trained with quantisation"])
def test_observers_and_fake_quantisers(tmp_path: Path, legacy: bool, aware: bool) -> None:
    ao = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net().train(aware)
        net.qconfig = ao.get_default_qat_qconfig("x86") if aware else ao.get_default_qconfig("x86")
        prepared = ao.prepare_qat(net) if aware else ao.prepare(net)
        prepared(torch.randn(1, 3, 8, 8))
        path = tmp_path / "net.pt"
        torch.save(prepared.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    found = uses(path)
    assert found.keys() == prepared.state_dict().keys()
    assert {name for name, use in found.items() if use == "weight"} == {"conv.weight", "conv.bias"}
    assert {found[name] for name in found.keys() - {"conv.weight", "conv.bias"}} == {
        "quantization-parameters"
    }


def test_scales_of_activations_in_torchscript(tmp_path: Path) -> None:
    ao = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net().eval()
        net.qconfig = ao.get_default_qconfig("x86")
        prepared = ao.prepare(net)
        prepared(torch.randn(1, 3, 8, 8))
        torch.jit.script(ao.convert(prepared)).save(tmp_path / "net.ts")
    found = uses(tmp_path / "net.ts")
    assert found["quant.scale"] == found["quant.zero_point"] == "quantization-parameters"


def test_a_layer_may_have_a_scale_or_a_range_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(
        {
            "norm.scale": torch.ones(8), "norm.eps": torch.ones(1), "other.zero_point": torch.ones(8),
            "clip.max_val": torch.ones(8), "both.scale": torch.ones(8), "both.zero_point": torch.ones(3),
        },
        path,
    )  # fmt: skip
    assert set(uses(path).values()) == {"weight"}


def test_scales_of_the_inputs_of_a_graph(tmp_path: Path) -> None:
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    net, image = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).eval(), torch.randn(1, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(net, torch.ao.quantization.get_default_qconfig_mapping("x86"), (image,))
        prepared(image)
        quantised = convert_fx(prepared)
        torch.save(quantised.state_dict() | {"other_scale_0": torch.ones(6)}, tmp_path / "graph.pt")
    found = uses(tmp_path / "graph.pt")
    numbers = [name for name in found if "_input_" in name]
    assert len(numbers) == 2
    assert {found[name] for name in numbers} == {"quantization-parameters"}
    assert found["other_scale_0"] == "weight"
