"""Checkpoints: what refers to a record claims it, and every oddity is said in one line."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sizeforensics import formats
from sizeforensics.errors import Corrupt, FormatError, LimitExceeded, Truncated, Unrecognized
from sizeforensics.inventory import Inventory
from sizeforensics.limits import Limits
from sizeforensics.source import MemorySource
from sizeforensics.spans import ALIGNMENT, METADATA, PICKLE, ROLES, TENSOR_DATA, UNCLAIMED
from tests.torch_files import read, repacked, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def uses(inventory: Inventory) -> dict[str, set[str]]:
    """Uses of the tensors under each top-level key."""
    found: dict[str, set[str]] = {}
    for tensor in inventory.tensors:
        found.setdefault(tensor.scope, set()).add(tensor.use)
    return found


def said(inventory: Inventory, words: str) -> bool:
    return any(words in warning for warning in inventory.warnings)


STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}


# --- records --------------------------------------------------------------------------------------


def test_storages_own_their_records() -> None:
    inventory = read(saved(STATE))
    assert inventory.format == "pytorch-zip"
    assert [storage.name for storage in inventory.storages] == ["archive/data/0", "archive/data/1"]
    assert [storage.nbytes for storage in inventory.storages] == [48, 12]
    roles = {record.name: ROLES[record.role] for record in inventory.records}
    assert roles["archive/data.pkl"] == "pickle"
    assert roles["archive/data/0"] == "tensor-data"
    assert roles["archive/version"] == "metadata"
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_metadata_records_are_named_after_themselves() -> None:
    inventory = read(saved(STATE))
    subjects = {subject for role, subject in inventory.bytes_by_subject() if role == METADATA}
    assert subjects == {
        "version", "byteorder", ".format_version", ".storage_alignment", "serialization_id",
    }  # fmt: skip
    facts = dict(inventory.metadata)
    assert facts["byteorder"] == "little"
    assert facts["archive name"] == "archive"
    assert facts["version"].isdecimal()


@pytest.mark.parametrize("zipped", [True, False])
def test_storages_named_in_text_are_read_though_torch_refuses_them(zipped: bool) -> None:
    """Protocol 0 has no room for tuples as persistent ids: torch writes their ``str``."""
    contents = []
    for protocol in (0, 1):
        stream = io.BytesIO()
        torch.save(STATE, stream, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        if protocol == 0:
            with pytest.raises(AssertionError, match="saved_id must be a tuple"):
                torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
        inventory = read(stream.getvalue())
        assert inventory.bytes_by_role()[UNCLAIMED] == 0
        assert said(inventory, "in text (protocol 0), which torch.load refuses") == (protocol == 0)
        contents.append([
            (tensor.name, tensor.dtype, tensor.shape, elements_of(inventory, index))
            for index, tensor in enumerate(inventory.tensors)
        ])  # fmt: skip
    assert contents[0] == contents[1]


def elements_of(inventory: Inventory, index: int) -> bytes:
    storage = inventory.tensors[index].storage
    payload = None if storage is None else inventory.storages[storage].payload
    assert payload is not None
    return payload.read(0, payload.size)


def test_tied_tensors_share_one_storage() -> None:
    tied = torch.ones(1000)
    inventory = read(saved({"a": tied, "b": tied, "c": tied[3:]}))
    assert len(inventory.storages) == 1
    assert {tensor.storage for tensor in inventory.tensors} == {0}
    assert inventory.bytes_by_role()[TENSOR_DATA] == 4000


def test_a_saved_view_keeps_its_whole_storage() -> None:
    inventory = read(saved(torch.zeros(10_000)[10:20]))
    assert inventory.storages[0].nbytes == 40_000
    assert (inventory.tensors[0].offset, inventory.tensors[0].elements) == (10, 10)


def test_records_nothing_refers_to_are_unclaimed() -> None:
    data = repacked(saved(STATE), extra={"archive/data/99": b"x" * 50, "elsewhere/y": b"12"})
    inventory = read(data)
    assert len(inventory.storages) == 2
    by_subject = inventory.bytes_by_subject()
    assert by_subject[UNCLAIMED, "records nothing refers to"] == (52, 2)
    assert said(inventory, "2 records have data that nothing in the archive refers to")


def test_directories_are_nothing_to_speak_of() -> None:
    inventory = read(repacked(saved(STATE), extra={"archive/extra/": b""}))
    assert inventory.warnings == ()
    inventory = read(repacked(saved(STATE), zipfile.ZIP_DEFLATED, extra={"archive/x/": b""}))
    assert inventory.warnings == ()
    assert inventory.bytes_by_role()[UNCLAIMED] == 0


def test_the_directory_is_that_of_the_first_record() -> None:
    data = repacked(saved(STATE))
    renamed = data.replace(b"archive/", b"other_x/")
    assert dict(read(renamed).metadata)["archive name"] == "other_x"
    assert said(read(data.replace(b"archive/data.pkl", b"archivX/data.pkl")), "are missing")
    first = repacked(b"PK\x05\x06" + bytes(18), extra={"other/x": b""})
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        extra = {name: old.read(name) for name in old.namelist()}
    with pytest.raises(Unrecognized, match="without a model"):
        read(repacked(first, extra=extra))


def test_missing_storages_are_flagged() -> None:
    data = repacked(saved(STATE), change=lambda name, content: (
        None if name.endswith("data/1") else content
    ))  # fmt: skip
    inventory = read(data)
    assert said(inventory, "1 storage record is missing: 'data/1'")
    assert [tensor.storage for tensor in inventory.tensors] == [0, None]
    assert inventory.tensors[1].shape == (3,)


@pytest.mark.parametrize("change", [-4, 4])
def test_storages_of_another_size_are_flagged(change: int) -> None:
    def resize(name: str, content: bytes) -> bytes:
        if name.endswith("data/0"):
            return content[:change] if change < 0 else content + bytes(change)
        return content

    inventory = read(repacked(saved(STATE), change=resize))
    assert said(inventory, "has another size than the pickle declares: 'archive/data/0'")
    assert said(inventory, "reaches past the end of the storage") is (change < 0)
    assert inventory.tensors[0].storage == (None if change < 0 else 0)
    assert inventory.bytes_by_role()[TENSOR_DATA] == 60 + change


def test_bytes_behind_the_pickle_are_unclaimed() -> None:
    data = repacked(saved(STATE), change=lambda name, content: (
        content + b"tail" if name.endswith("data.pkl") else content
    ))  # fmt: skip
    inventory = read(data)
    assert inventory.bytes_by_subject()[UNCLAIMED, "bytes behind the pickle"] == (4, 1)
    assert said(inventory, "1 record has bytes behind the pickle")


def test_an_empty_or_broken_pickle_is_refused() -> None:
    for content in (b"", b"\x80\x02}", b"\x80\x02."):
        data = repacked(saved(STATE), change=lambda name, old, content=content: (
            content if name.endswith("data.pkl") else old
        ))  # fmt: skip
        with pytest.raises((Truncated, Corrupt)):
            read(data)


def test_a_large_pickle_is_refused_before_it_is_read() -> None:
    data = repacked(saved(STATE), zipfile.ZIP_DEFLATED)
    size = len(zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl"))
    formats.read_source(MemorySource("x", data), replace(Limits(), pickle_bytes=size))
    with pytest.raises(LimitExceeded, match="pickle_bytes"):
        formats.read_source(MemorySource("x", data), replace(Limits(), pickle_bytes=size - 1))


def test_a_deflated_pickle_is_one_span() -> None:
    inventory = read(repacked(saved({**STATE, "n": np.arange(100)}), zipfile.ZIP_DEFLATED))
    record = next(record for record in inventory.records if record.name == "archive/data.pkl")
    assert inventory.bytes_by_subject()[PICKLE, "data.pkl"] == (record.stored_bytes, 1)
    array = next(storage for storage in inventory.storages if not storage.stored_bytes)
    assert array.payload is not None
    assert array.payload.read(0, array.nbytes) == np.arange(100).tobytes()


def test_numpy_arrays_own_their_part_of_the_pickle() -> None:
    data = saved({"n": np.arange(100, dtype="i4"), "w": torch.ones(2)}, pickle_protocol=4)
    inventory = read(data)
    array = next(storage for storage in inventory.storages if storage.nbytes == 400)
    assert data[array.offset : array.offset + 400] == np.arange(100, dtype="i4").tobytes()
    assert inventory.bytes_by_role()[TENSOR_DATA] == 408


def test_arrays_of_protocol_two_are_typed() -> None:
    # Bytes above 0x7F take two bytes each in a pickle without a bytes type.
    inventory = read(saved({"n": np.full(10, 0xFF, dtype="u1")}, pickle_protocol=2))
    storage = inventory.storages[0]
    assert (storage.stored_bytes, storage.nbytes, storage.encoding) == (20, 10, "typed")


def test_padding_is_counted_for_each_record() -> None:
    data = saved(STATE)
    inventory = read(data)
    padding = inventory.bytes_by_role()[ALIGNMENT]
    archive_padding = 0
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        for info in theirs.infolist():
            header = data[info.header_offset : info.header_offset + 30]
            archive_padding += int.from_bytes(header[28:30], "little") - 4
    assert padding == archive_padding


def test_an_odd_byte_order_is_flagged() -> None:
    data = repacked(saved(STATE), change=lambda name, content: (
        b"middle" if name.endswith("byteorder") else content
    ))  # fmt: skip
    assert said(read(data), "the byteorder record says 'middle'")


# --- hostile pickles ------------------------------------------------------------------------------


def with_pickle(content: bytes) -> bytes:
    return repacked(saved(STATE), change=lambda name, old: (
        content if name.endswith("data.pkl") else old
    ))  # fmt: skip


def test_nothing_in_a_pickle_runs(tmp_path_factory: pytest.TempPathFactory) -> None:
    mark = tmp_path_factory.mktemp("mark") / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {mark}",)

    inventory = read(with_pickle(pickle.dumps({"x": Bomb()}, protocol=2)))
    assert not mark.exists()
    assert said(inventory, "never called")


@pytest.mark.parametrize("number", [1 << 62, -1, 1 << 200])
@pytest.mark.parametrize("field", ["numel", "size", "stride", "offset"])
def test_absurd_numbers_describe_no_tensor(number: int, field: str) -> None:
    numbers = {"numel": 12, "size": 3, "stride": 1, "offset": 0, field: number}

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def persistent_id(self, value: object) -> object:
            if value == "the storage":
                return ("storage", torch.FloatStorage, "0", "cpu", numbers["numel"])
            return None

    class Fake:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return torch._utils._rebuild_tensor_v2, (
                "the storage", numbers["offset"], (numbers["size"],), (numbers["stride"],), False, {},
            )  # fmt: skip

    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"x": Fake()})
    inventory = read(with_pickle(out.getvalue()))
    assert inventory.warnings
    tensor = inventory.tensors[0]
    assert tensor.storage is None or field == "numel"
    assert tensor.nbytes < 1 << 62


def test_hostile_keys_stay_inside_the_archive() -> None:
    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def persistent_id(self, value: object) -> object:
            if isinstance(value, torch.storage.TypedStorage):
                return ("storage", torch.FloatStorage, "../../version", "cpu", 3)
            return None

    out = io.BytesIO()
    Pickler(out, protocol=2).dump({"x": torch.ones(3)})
    inventory = read(with_pickle(out.getvalue()))
    assert said(inventory, "is missing")


def test_a_pickle_that_calls_itself_a_storage_is_flagged() -> None:
    inventory = read(saved(STATE).replace(b"data/0", b"data/1"))
    assert said(inventory, "share")
    assert said(inventory, "is missing: 'data/0'")


# --- what the keys of a checkpoint hold -----------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    return optimizer


def test_a_copy_under_an_averaged_key_is_a_copy() -> None:
    for key in ("ema", "model_ema", "ema_state_dict", "teacher", "netEMA", "params_ema"):
        inventory = read(saved({"model": network().state_dict(), key: network().state_dict()}))
        assert uses(inventory)[key] == {"ema-copy"}, key
        assert "ema-copy" not in uses(inventory)["model"]


def test_wrapped_and_whole_averages_are_copies_too() -> None:
    whole = {"model": network(), "ema": network()}
    assert uses(read(saved(whole)))["ema"] == {"ema-copy"}
    averaged = torch.optim.swa_utils.AveragedModel(network())
    inventory = read(saved({"model": network().state_dict(), "swa": averaged.state_dict()}))
    assert uses(inventory)["swa"] == {"ema-copy"}
    shadow = {"decay": 0.99, "shadow_params": [p.detach().clone() for p in network().parameters()]}
    modules = {"model": network(), "ema": shadow}
    assert uses(read(saved(modules)))["ema"] == {"ema-copy"}


def test_a_key_that_lies_decides_nothing() -> None:
    ema, optimizer = nn.Linear(7, 9).state_dict(), nn.Linear(9, 7).state_dict()
    inventory = read(saved({"model": network().state_dict(), "ema": ema, "optimizer": optimizer}))
    assert uses(inventory) == {"model": {"weight"}, "ema": {"weight"}, "optimizer": {"weight"}}


def test_an_average_alone_is_the_network() -> None:
    inventory = read(saved({"model": None, "ema": network().state_dict()}))
    assert uses(inventory) == {"ema": {"weight"}}


def test_optimizer_states_in_their_many_homes() -> None:
    model = network()
    state = stepped(model).state_dict()
    weights = model.state_dict()
    for key, value in {
        "optimizer": state, "optimizer_state_dict": state, "optim": state, "anything": state,
        "optimizer_states": [state, state], "optimizers": {"g": state, "d": state},
    }.items():
        inventory = read(saved({"state_dict": weights, key: value}))
        assert uses(inventory)[key] == {"optimizer-state"}, key
        assert uses(inventory)["state_dict"] == {"weight"}, key


def test_a_whole_optimizer_is_optimizer_state() -> None:
    model = network()
    inventory = read(saved({"model": model.state_dict(), "optimizer": stepped(model)}))
    assert "optimizer-state" in uses(inventory)["optimizer"]


def test_moments_without_the_usual_tree() -> None:
    weights = network().state_dict()
    moments = {f"exp_avg.{name}": value for name, value in weights.items()}
    inventory = read(saved({"model": weights, "optim_moments": moments, "moments": moments}))
    assert uses(inventory)["optim_moments"] == {"optimizer-state"}
    inventory = read(saved({"model": weights, "moments": moments}))
    assert uses(inventory)["moments"] == {"weight"}


def test_schedulers_and_scalers_are_optimizer_state() -> None:
    scaler = {"scale": torch.tensor(1.0), "growth_factor": 2.0, "_growth_tracker": 0}
    scheduler = {"base_lrs": [0.1], "last_epoch": 3, "mean": torch.ones(4)}
    checkpoint = {"model": STATE, "scaler": scaler, "lr_schedulers": [scheduler]}
    found = uses(read(saved(checkpoint)))
    assert found["scaler"] == found["lr_schedulers"] == {"optimizer-state"}


def test_a_file_that_is_an_optimizer_state_is_all_optimizer_state() -> None:
    inventory = read(saved(stepped(network()).state_dict()))
    assert {tensor.use for tensor in inventory.tensors} == {"optimizer-state"}


def master_copies(model: nn.Module) -> list[torch.Tensor]:
    return [torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])]


def adam_state(model: nn.Module) -> dict[str, object]:
    return stepped(model).state_dict()


def deepspeed_zero(model: nn.Module) -> dict[str, object]:
    """``zero_pp_rank_0_mp_rank_00_optim_states.pt`` of stages 1 and 2."""
    return {
        "loss_scaler": None, "dynamic_loss_scale": True, "overflow": False, "zero_stage": 2,
        "base_optimizer_state": adam_state(model), "group_paddings": [0], "partition_count": [1],
        "single_partition_of_fp32_groups": master_copies(model),
    }  # fmt: skip


MIXED_PRECISION = {
    "ZeRO 1 and 2": deepspeed_zero,
    "ZeRO, elastic": lambda model: {
        "base_optimizer_state": [{"exp_avg": flat, "step": 3} for flat in master_copies(model)],
        "base_optimizer_state_step": torch.tensor(3),
    },
    "ZeRO 3": lambda model: {
        "zero_stage": 3, "optimizer_state_dict": adam_state(model),
        "fp32_flat_groups": master_copies(model),
    },
    "DeepSpeed fp16": lambda model: {
        "cur_scale": 1.0, "optimizer_state_dict": adam_state(model),
        "fp32_groups_flat": master_copies(model),
    },
    "Apex": lambda model: {
        "loss_scaler": None, "optimizer_state_dict": adam_state(model),
        "fp32_from_fp16": [master_copies(model)],
    },
    "Megatron": lambda model: {
        "optimizer": adam_state(model), "fp32_from_fp16_params": [master_copies(model)],
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", MIXED_PRECISION)
def test_optimizers_of_mixed_precision(layout: str) -> None:
    model = network()
    state = MIXED_PRECISION[layout](model)
    alone = read(saved({"optimizer_state_dict": state, "ds_config": {}, "ds_version": "0.14"}))
    assert {tensor.use for tensor in alone.tensors} == {"optimizer-state"}
    beside = uses(read(saved({"module": model.state_dict(), "optimizer": state, "ds_version": ""})))
    assert beside == {"module": {"weight"}, "optimizer": {"optimizer-state"}}


def test_a_lightning_checkpoint() -> None:
    model = network()
    state = stepped(model).state_dict()
    checkpoint = {
        "epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.2.0",
        "state_dict": model.state_dict(), "optimizer_states": [state],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 3, "best": torch.tensor(0.2)}],
        "loops": {"fit_loop": {"state_dict": {"mean": torch.tensor([1.0, 2.0])}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "MixedPrecision": {**torch.amp.GradScaler("cpu").state_dict(), "scale": torch.tensor(2.0)},
        "hyper_parameters": {"weight": torch.ones(3)},
    }  # fmt: skip
    found = uses(read(saved(checkpoint)))
    assert found.pop("state_dict") == {"weight"}
    assert found.pop("hyper_parameters") == {"weight"}
    assert len(found) == 5
    assert set().union(*found.values()) == {"optimizer-state"}
    del checkpoint["pytorch-lightning_version"]
    assert uses(read(saved(checkpoint)))["callbacks"] == {"weight"}


def test_a_callback_that_keeps_an_average() -> None:
    checkpoint = {
        "pytorch-lightning_version": "2.2.0", "state_dict": network().state_dict(),
        "callbacks": {"EMA": {"weights": list(network().parameters())}},
    }  # fmt: skip
    assert uses(read(saved(checkpoint)))["callbacks"] == {"ema-copy"}


def test_files_that_a_trainer_writes_beside_the_model() -> None:
    model = network()
    optimizer = stepped(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scaler = {**torch.amp.GradScaler("cpu").state_dict(), "scale": torch.tensor(2.0)}
    rate = {**scheduler.state_dict(), "_last_lr": [torch.tensor(0.1)]}
    for state in (optimizer.state_dict(), scaler, rate):
        inventory = read(saved(state))
        assert {tensor.use for tensor in inventory.tensors} == {"optimizer-state"}
    # A counter beside a network makes no scheduler of it.
    assert uses(read(saved({"last_epoch": 3, "model": model.state_dict()}))) == {"model": {"weight"}}


# --- refused --------------------------------------------------------------------------------------


def test_refusals_name_the_place() -> None:
    data = bytearray(saved(STATE))
    at = data.index(b"PK\x03\x04", 10)
    data[at] = 0
    with pytest.raises(FormatError, match=f"at {at:#x}: expected the local header"):
        read(bytes(data))
