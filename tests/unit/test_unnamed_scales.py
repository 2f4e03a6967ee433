"""Scales stored beside weights in the layouts of libraries: found and proved under any names."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sizeforensics
from sizeforensics import formats
from sizeforensics.inventory import Inventory
from sizeforensics.matching import match
from tests.builders import diff, tensor_causes
from tests.renaming import changed_by_renaming

FLOAT8 = torch.float8_e4m3fn
MOST = torch.finfo(FLOAT8).max

Quantised = tuple[Tensor, Tensor]
"""Codes, and the scale as it is stored."""


def weights(count: int, *shape: int, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Weights whose rows differ in size, as those of trained models do."""
    generator = torch.Generator().manual_seed(count)
    rows = torch.rand(count, shape[0], 1, generator=generator) + 0.5
    return list((torch.randn(count, *shape, generator=generator) * rows / 8).to(dtype))


def per_tensor(weight: Tensor) -> Quantised:
    scale = weight.float().abs().max() / MOST
    return (weight.float() / scale).to(FLOAT8), scale


def per_channel(weight: Tensor) -> Quantised:
    scale = weight.float().abs().amax(dim=1, keepdim=True) / MOST
    return (weight.float() / scale).to(FLOAT8), scale


def per_channel_narrow(weight: Tensor) -> Quantised:
    """Scales in bfloat16, by which vLLM and compressed-tensors divide in bfloat16."""
    scale = (weight.float().abs().amax(dim=1, keepdim=True) / 127).to(torch.bfloat16)
    return (weight / scale).round().clamp(-128, 127).to(torch.int8), scale


def squares(weight: Tensor, side: int = 128) -> Quantised:
    """``weight_scale_inv``: one scale for each square, the last ones cut off."""
    rows, columns = weight.shape
    filled = torch.nn.functional.pad(weight.float(), (0, -columns % side, 0, -rows % side))
    parts = filled.view(-(-rows // side), side, -(-columns // side), side)
    scale = parts.abs().amax(dim=(1, 3)) / MOST
    codes = (parts / scale[:, None, :, None]).view(filled.shape)[:rows, :columns]
    return codes.to(FLOAT8).contiguous(), scale


def largest(weight: Tensor) -> Quantised:
    """``SCB``: the largest value of each row."""
    most = weight.float().abs().amax(dim=1)
    return (weight.float() * 127 / most[:, None]).round().to(torch.int8), most


def exponents(weight: Tensor, block: int = 32) -> Quantised:
    """MX: powers of two, of which the exponents are stored."""
    parts = weight.float().view(len(weight), -1, block)
    scale = torch.exp2(torch.floor(torch.log2(parts.abs().amax(dim=2))) - 8)
    codes = (parts / scale[:, :, None]).clamp(-MOST, MOST).to(FLOAT8)
    return codes.view(weight.shape), scale.to(torch.float8_e8m0fnu)


def blocks(weight: Tensor, block: int = 64) -> Quantised:
    parts = weight.float().view(len(weight), -1, block)
    scale = (parts.abs().amax(dim=2) / 127).half()
    codes = (parts / scale.float()[:, :, None]).round().clamp(-127, 127)
    return codes.view(weight.shape).to(torch.int8), scale


def blocks_transposed(weight: Tensor) -> Quantised:
    codes, scale = blocks(weight)
    return codes, scale.T.contiguous()


LAYOUTS: list[Callable[[Tensor], Quantised]] = [
    per_tensor, per_channel, per_channel_narrow, squares, largest, exponents, blocks, blocks_transposed,
]  # fmt: skip


def saved(path: Path, tensors: dict[str, Tensor]) -> Inventory:
    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    return formats.read(str(path))


def both(
    directory: Path, layout: Callable[[Tensor], Quantised], kept: list[Tensor], suffix: str = ".safetensors"
) -> tuple[Inventory, Inventory]:
    """Weights under their names, and codes and scales under random ones, in random order."""
    before = saved(directory / f"before{suffix}", {f"{at}.weight": one for at, one in enumerate(kept)})
    after: dict[str, Tensor] = {}
    shuffled = random.Random(3)
    for one in kept:
        for part in layout(one):
            after[f"{shuffled.getrandbits(64):x}"] = part
    return before, saved(directory / f"after{suffix}", dict(sorted(after.items())))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_weight_finds_its_codes_and_its_scale(
    tmp_path: Path, layout: Callable[[Tensor], Quantised], suffix: str
) -> None:
    kept = weights(6, 160, 192)
    before, after = both(tmp_path, layout, kept, suffix)
    found = diff(before, after)
    codes = sum(one.numel() for one in kept)
    scales = sum(scale.nbytes for _, scale in map(layout, kept))
    names = ("container", "names", "metadata", "pickle", "alignment")
    causes = {cause: sides for cause, sides in tensor_causes(found).items() if cause not in names}
    assert causes == {
        "carried": (codes, codes), "dtype": (codes, 0), "quantization-parameters": (0, scales),
    }  # fmt: skip
    assert {row.evidence for row in found.rows if row.cause in causes} == {"proved"}
    back = tensor_causes(diff(after, before))
    assert {cause: back[cause] for cause in causes} == {
        cause: sides[::-1] for cause, sides in causes.items()
    }
    assert not changed_by_renaming(before, after)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_weights_and_other_scales_are_not_proved(
    tmp_path: Path, layout: Callable[[Tensor], Quantised]
) -> None:
    (weight, other), path = weights(2, 160, 192), tmp_path / "one.safetensors"
    codes, scale = layout(weight)
    off = {
        "weight": (other, codes, scale),
        "one element": (weight.clone().index_put_((torch.tensor(3), torch.tensor(5)), torch.tensor(9.0).bfloat16()), codes, scale),
        "scale": (weight, codes, (scale.float() * 1.5).to(scale.dtype) if scale.dtype != torch.float8_e8m0fnu else (scale.float() * 2).to(scale.dtype)),
    }  # fmt: skip
    for value, q, s in off.values():
        before = saved(tmp_path / "before.safetensors", {"w": value})
        matches = match(before, saved(path, {"q": q, "s": s})).matches
        assert not [found for found in matches if found.evidence == "proved"]


def test_the_story_of_one_tensor_names_the_scale(tmp_path: Path) -> None:
    (weight,) = weights(1, 160, 192)
    codes, scale = squares(weight)
    save_file({"w": weight}, tmp_path / "before.safetensors")
    save_file({"w": codes, "w_scale_inv": scale}, tmp_path / "after.safetensors")
    rows = sizeforensics.diff(tmp_path / "before.safetensors", tmp_path / "after.safetensors").rows
    (how,) = {row.how for row in rows if row.cause == "carried"}
    assert how == (
        "quantised in blocks of 128 x 128: one scale puts every element within half a step, as w_scale_inv does"
    )
