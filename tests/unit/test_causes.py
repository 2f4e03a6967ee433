"""The catalogue is a contract: no id is missing, none is renamed, all say what they mean."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sizeforensics.causes import CAUSES, Cause
from sizeforensics.inventory import FINDINGS
from sizeforensics.spans import ROLES

CONTRACT = [
    "carried", "dtype", "quantization-parameters", "duplicate", "constant", "densified",
    "sparse-index", "shape", "unmatched", "folded", "optimizer-state", "ema-copy",
    "storage-slack", "unreferenced", "graph", "names", "code", "pickle", "metadata",
    "value-info", "debug-info", "container", "alignment", "compression", "encoding",
    "unexplained",
]  # fmt: skip


def test_every_id_of_the_contract_is_there_once():
    assert sorted(CAUSES) == sorted(CONTRACT)
    assert all(cause.id == key for key, cause in CAUSES.items())


@pytest.mark.parametrize("cause", CAUSES.values(), ids=lambda cause: cause.id)
def test_every_text_says_something(cause):
    for field in fields(Cause):
        text = getattr(cause, field.name)
        assert text == text.strip()
        assert "\n" not in text
        if field.name == "family":
            assert bool(text) == (cause.id not in ("carried", "unexplained"))
        elif field.name == "saves":
            assert bool(text) == (cause.id in FINDINGS)
        else:
            assert text
    for text in (cause.counts, cause.proof, cause.remedy, cause.cost):
        assert text.endswith(".")


def test_titles_tell_causes_apart():
    assert len({cause.title for cause in CAUSES.values()}) == len(CAUSES)


def test_every_role_of_a_span_is_a_cause_of_its_own():
    assert set(ROLES) - set(CAUSES) == {"tensor-data", "unclaimed"}
