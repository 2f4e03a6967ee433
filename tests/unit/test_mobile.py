"""Archives for the mobile interpreter: TorchScript with bytecode beside the source."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from sizeforensics.spans import CODE, DEBUG_INFO, TENSOR_DATA, UNCLAIMED
from tests.laws import accepted_cuts, damaged, read_or_refuse
from tests.torch_files import read, repacked

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.constant = torch.arange(2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.constant + torch.tensor([1.0, 2.0])


def saved() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(Net())
        return bytes(module._save_to_buffer_for_lite_interpreter(_save_mobile_debug_info=True))


MOBILE = saved()


def test_bytecode_is_code_and_debug_handles_are_debug_info() -> None:
    inventory = read(MOBILE)
    assert inventory.format == "torchscript"
    assert inventory.warnings == ()
    roles = {record.name.partition("/")[2]: record.role for record in inventory.records}
    assert roles["bytecode.pkl"] == CODE
    assert roles["mobile_debug_handles.pkl"] == DEBUG_INFO
    assert (CODE, "bytecode") in inventory.bytes_by_subject()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_tensors_are_counted_once() -> None:
    inventory = read(MOBILE)
    names = [tensor.name for tensor in inventory.tensors]
    assert sorted(names) == sorted(set(names))
    assert {"linear.weight", "linear.bias", "constant"} <= set(names)
    assert inventory.bytes_by_role()[TENSOR_DATA] == sum(
        storage.stored_bytes for storage in inventory.storages
    )


def test_an_archive_with_bytecode_alone_beside_its_data() -> None:
    """Optimised archives leave the source out."""
    inventory = read(repacked(MOBILE, change=lambda name, data: (
        None if "/code/" in name else data
    )))  # fmt: skip
    assert inventory.format == "torchscript"
    assert inventory.warnings == ()


def test_truncations_are_refused() -> None:
    assert accepted_cuts(MOBILE, range(0, len(MOBILE), 101)) == []


@settings(max_examples=60, deadline=None)
@given(damaged(MOBILE))
def test_damage_is_refused_or_explained(data: bytes) -> None:
    read_or_refuse(data)
