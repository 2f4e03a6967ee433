"""Scales stored beside weights in the layouts of libraries: found and proved under any names."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import sizeforensics
from sizeforensics import formats
from sizeforensics.inventory import Inventory
from sizeforensics.matching import match
from sizeforensics.matching.arrays import ROUNDOFF
from sizeforensics.matching.quantization import scale_bounds
from sizeforensics.matching.quantization.scale_bounds import Grouped, fit, groupings
from sizeforensics.matching.quantization.spreads import span_of
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


# Several codes in one integer, as the writers of AutoGPTQ, AutoAWQ and compressed-tensors pack them

GROUP = 64


def grouped(weight: Tensor, *, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of 4 bits, shape (out, in), and scales and zero points, shape (out, groups)."""
    parts = weight.float().view(len(weight), -1, GROUP)
    low, high = parts.amin(dim=2).clamp(max=0), parts.amax(dim=2).clamp(min=0)
    if symmetric:
        scale = (torch.maximum(-low, high) / 7.5).half()
        zero = torch.full(scale.shape, 8, dtype=torch.int32)
    else:
        scale = ((high - low) / 15).half()
        zero = (-low / scale.float()).round().to(torch.int32)
    codes = (parts / scale.float()[:, :, None]).round() + zero[:, :, None]
    return codes.clamp(0, 15).to(torch.int32).view(weight.shape), scale, zero


def words(codes: Tensor, order: list[int]) -> Tensor:
    """Eight columns in each word; ``order`` are those from the low bits up."""
    packed = torch.zeros(len(codes), codes.shape[1] // 8, dtype=torch.int64)
    for place, column in enumerate(order):
        packed |= codes[:, column::8].to(torch.int64) << (4 * place)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)


IN_ORDER, AWQ = list(range(8)), [0, 2, 4, 6, 1, 3, 5, 7]


def gptq(weight: Tensor) -> dict[str, Tensor]:
    codes, scale, zero = grouped(weight, symmetric=False)
    return {
        "qweight": words(codes, IN_ORDER).T.contiguous(), "scales": scale.T.contiguous(),
        "qzeros": words(zero.T - 1, IN_ORDER),
    }  # fmt: skip


def awq(weight: Tensor) -> dict[str, Tensor]:
    codes, scale, zero = grouped(weight, symmetric=False)
    return {
        "qweight": words(codes.T, AWQ), "scales": scale.T.contiguous(), "qzeros": words(zero.T, AWQ),
    }  # fmt: skip


def compressed(weight: Tensor) -> dict[str, Tensor]:
    codes, scale, _ = grouped(weight, symmetric=True)
    return {"weight_packed": words(codes, IN_ORDER), "weight_scale": scale}


def in_bytes(weight: Tensor) -> dict[str, Tensor]:
    codes, scale, _ = grouped(weight, symmetric=True)
    return {"q": (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8), "s": scale}


def in_bytes_from_above(weight: Tensor) -> dict[str, Tensor]:
    codes, scale, _ = grouped(weight, symmetric=True)
    return {"q": (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8), "s": scale}


PACKED = [gptq, awq, compressed, in_bytes, in_bytes_from_above]


@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("shape", [(160, 192), (128, 128)])
def test_codes_that_share_a_word(
    tmp_path: Path, layout: Callable[[Tensor], dict[str, Tensor]], shape: tuple[int, int]
) -> None:
    kept = weights(4, *shape, dtype=torch.float16)
    shuffled, after = random.Random(5), {}
    for one in kept:
        after |= {f"{shuffled.getrandbits(64):x}": part.contiguous() for part in layout(one).values()}
    before = saved(tmp_path / "before.safetensors", {f"{at}.weight": one for at, one in enumerate(kept)})
    quantised = saved(tmp_path / "after.safetensors", dict(sorted(after.items())))
    found = diff(before, quantised)
    count = sum(one.numel() for one in kept)
    numbers = sum(part.nbytes for part in after.values()) - count // 2
    causes = {cause: sides for cause, sides in tensor_causes(found).items() if cause not in ("container", "names", "metadata", "alignment")}
    assert causes == {
        "carried": (count // 2, count // 2), "dtype": (count * 3 // 2, 0),
        "quantization-parameters": (0, numbers),
    }  # fmt: skip
    assert {row.label for row in found.rows if row.cause == "dtype"} == {"float16 -> uint4"}
    assert {row.evidence for row in found.rows if row.cause in causes} == {"proved"}
    back = tensor_causes(diff(quantised, before))
    assert {cause: back[cause] for cause in causes} == {cause: sides[::-1] for cause, sides in causes.items()}
    assert not changed_by_renaming(before, quantised)


@pytest.mark.parametrize("layout", PACKED)
def test_other_weights_are_not_in_these_words(
    tmp_path: Path, layout: Callable[[Tensor], dict[str, Tensor]]
) -> None:
    one, other = weights(2, 160, 192, dtype=torch.float16)
    after = saved(tmp_path / "after.safetensors", {name: part.contiguous() for name, part in layout(one).items()})
    changed = one.clone()
    changed[3, 5] += 0.5
    for value in (other, changed):
        matches = match(saved(tmp_path / "before.safetensors", {"w": value}), after).matches
        assert not [found for found in matches if found.evidence == "proved"]


def test_values_in_another_order_need_no_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of unrelated tensors are told apart by this alone."""
    def bounds(*_: object) -> None:
        pytest.fail("bounds were computed")

    monkeypatch.setattr(scale_bounds, "_scales", bounds)
    generator = np.random.default_rng(0)
    codes, values = generator.integers(0, 16, (4, 64)), generator.standard_normal((4, 64))
    for roundoff in (0.0, ROUNDOFF["float16"], ROUNDOFF["bfloat16"]):
        assert fit(Grouped("", codes, values), span_of(codes, "uint4"), None, roundoff) is None


def test_a_long_row_is_not_filled_up_to_squares() -> None:
    row = np.zeros((1, 1 << 16), dtype=np.int8)
    assert {grouped.codes.size for grouped in groupings(row, row)} == {row.size}


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 0.0])
def test_odd_values_are_no_scales(tmp_path: Path, odd: float) -> None:
    (weight,) = weights(1, 160, 192)
    codes, scale = per_channel(weight)
    for broken in (torch.full_like(scale, odd), scale.clone().index_fill_(0, torch.tensor([3]), odd)):
        after = saved(tmp_path / "after.safetensors", {"q": codes, "s": broken})
        matches = match(saved(tmp_path / "before.safetensors", {"w": weight}), after).matches
        assert not [found for found in matches if found.evidence == "proved"]
