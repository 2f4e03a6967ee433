"""Scales that nothing names: snapshots tell the same of them as the files, and nothing of other weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sizeforensics import api
from sizeforensics.inventory import Inventory
from sizeforensics.matching import match
from tests.ledgers import ledger
from tests.renaming import renamed
from tests.unit.test_unnamed_scales import LAYOUTS, PACKED, Quantised, both, saved, weights


def agree(one: Inventory, two: Inventory) -> None:
    """Two snapshots, of the files under names of their own, have the ledger of the files."""
    models = renamed(one, 1), renamed(two, 2)
    for before, after in (models, models[::-1]):
        of_snapshots = api.compare(api.take_snapshot(before), api.take_snapshot(after))
        assert ledger(of_snapshots) == ledger(api.compare(before, after))
        matched = [row for row in of_snapshots.rows if row.cause in ("carried", "dtype")]
        assert {row.evidence for row in matched if row.before is not None} == {"inferred"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_one_code_in_each_element(
    tmp_path: Path, layout: Callable[[Tensor], Quantised], suffix: str
) -> None:
    agree(*both(tmp_path, layout, weights(4, 160, 192), suffix))


@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("shape", [(160, 192), (128, 320)])
def test_several_codes_in_each_element(
    tmp_path: Path, layout: Callable[[Tensor], dict[str, Tensor]], shape: tuple[int, int]
) -> None:
    kept = weights(3, *shape, dtype=torch.float16)
    before = saved(tmp_path / "before.safetensors", {f"{at}.weight": one for at, one in enumerate(kept)})
    after = {f"{at}.{name}": part for at, one in enumerate(kept) for name, part in layout(one).items()}
    agree(before, saved(tmp_path / "after.safetensors", after))


@pytest.mark.parametrize("layout", [*LAYOUTS, *PACKED])
def test_other_weights_match_nothing(
    tmp_path: Path, layout: Callable[[Tensor], Quantised | dict[str, Tensor]]
) -> None:
    """Neither those of another model nor those that were trained on."""
    kept = weights(12, 160, 192, dtype=torch.float16)
    stored: dict[str, Tensor] = {}
    for at, one in enumerate(kept[:6]):
        parts = layout(one)
        named = parts if isinstance(parts, dict) else dict(zip("qs", parts, strict=True))
        stored |= {f"{at}.{name}": part.contiguous() for name, part in named.items()}
    after = renamed(saved(tmp_path / "after.safetensors", stored), 2)
    trained = [one + torch.randn(one.shape).half() / 8 for one in kept[:6]]
    for others in (kept[6:], trained):
        models = {f"{at}.weight": one for at, one in enumerate(others)}
        before = renamed(saved(tmp_path / "before.safetensors", models), 1)
        assert not match(api.take_snapshot(before), api.take_snapshot(after)).matches
