"""Whatever is waste, findings never sum to more than goes when all of it does: over the models here."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sizeforensics.errors import LawBroken
from sizeforensics.findings import find
from sizeforensics.formats import read
from sizeforensics.inventory import FINDINGS, Found, Waste
from sizeforensics.removal import Removal
from sizeforensics.spans import ALIGNMENT, CONTAINER, ROLES, TENSOR_DATA
from sizeforensics.views import cover
from tests.builders import artifact

FOLDER = Path(__file__).parents[2] / "fixtures" / "models"
MODELS = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".data")
FEW = ("unreferenced", "duplicate", "storage-slack", "encoding")


@lru_cache
def opened(name):
    inventory = read(str(FOLDER / name))
    return inventory, cover(inventory)


@st.composite
def steps(draw, inventory):
    """What goes in which order: tensors, parts of storages, all spans of a role that is no framing."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.01, 0.3, 1.0]))
    cause = st.sampled_from(FEW if draw(st.booleans()) else FINDINGS)
    tensors = seed.permutation(len(inventory.tensors))[: int(share * len(inventory.tensors))].tolist()
    found = [("tensor", draw(cause), index) for index in tensors[:40]]
    found += [("tensor", found[0][1] if found else draw(cause), index) for index in tensors[40:]]
    numbers = seed.permutation(len(inventory.storages))[: draw(st.integers(0, 30))].tolist()
    found += [("storage", draw(cause), number) for number in numbers for _ in range(2)]
    roles = sorted(set(range(len(ROLES))) - {TENSOR_DATA, CONTAINER, ALIGNMENT})
    found += [("spans", draw(cause), role) for role in draw(st.lists(st.sampled_from(roles), max_size=2))]
    return draw(st.permutations(found)) if len(found) < 60 else found, seed


def waste(inventory, coverage, steps, seed):
    removal = Removal(inventory, coverage)
    for kind, cause, number in steps:
        if kind == "tensor":
            removal.tensor(cause, number)
        elif kind == "spans":
            removal.spans(cause, number)
        else:
            nbytes = int(seed.integers(0, 1 + inventory.storages[number].stored_bytes))
            removal.storage(cause, number, nbytes, f"part of {number}")
    return list(removal.waste())


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_goes_was_there(name, data):
    inventory, coverage = opened(name)
    chosen, seed = data.draw(steps(inventory))
    state = seed.bit_generator.state
    found = waste(inventory, coverage, chosen, seed)
    seed.bit_generator.state = state
    together = waste(inventory, coverage, [(kind, "all", number) for kind, _, number in chosen], seed)
    for cause in found:
        assert sum(part.nbytes for part in cause.parts) == sum(cause.roles) > 0
    total = sum(sum(cause.roles) for cause in found)
    assert total <= sum(sum(cause.roles) for cause in together) <= inventory.nbytes


def test_more_waste_than_bytes_breaks_the_law():
    found = Found("duplicate", (Waste("a", 1 << 40),), (1 << 40,))
    inventory = replace(artifact({}), waste=(found,))
    with pytest.raises(LawBroken, match="findings of 1,099,511,627,776 bytes"):
        find(inventory, cover(inventory), [])
