"""Checkpoints laid out as training libraries write them: what each tensor in them is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sizeforensics import formats
from sizeforensics.errors import Unrecognized

torch.manual_seed(0)
NETWORK = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 8))
OPTIMIZER = torch.optim.AdamW(NETWORK.parameters())
SCHEDULE = torch.optim.lr_scheduler.LambdaLR(OPTIMIZER, lambda _step: 1.0)
NETWORK(torch.randn(4, 16)).sum().backward()
OPTIMIZER.step()
SCHEDULE.step()

STATE = {name: tensor.detach().clone() for name, tensor in NETWORK.state_dict().items()}
HALF = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
PARAMETERS = {name: tensor.detach() for name, tensor in NETWORK.named_parameters()}
AVERAGE = {name: tensor * 1.01 if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
FLAT = torch.cat([tensor.flatten() for tensor in PARAMETERS.values()])
SCALER = {
    "scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000,
    "_growth_tracker": 0,
}  # fmt: skip


def nbytes(*objects: object) -> int:
    """Bytes of all tensors inside of objects."""
    total = 0
    for value in objects:
        if isinstance(value, Tensor):
            total += value.nbytes
        elif isinstance(value, dict):
            total += nbytes(*value.values())
        elif isinstance(value, (list, tuple)):
            total += nbytes(*value)
    return total


def flat_state() -> dict[str, Any]:
    """The state of an optimizer that sees one flat parameter."""
    master = nn.Parameter(FLAT.clone())
    optimizer = torch.optim.AdamW([master])
    master.grad = torch.ones_like(master)
    optimizer.step()
    return optimizer.state_dict()


def latent_diffusion() -> tuple[Any, dict[str, int]]:
    """One state dict with the average below a prefix, names without dots (ldm/modules/ema.py)."""
    average = {f"model_ema.{name.replace('.', '')}": 1.01 * held for name, held in PARAMETERS.items()}
    average |= {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(3)}
    network = {f"model.{name}": tensor for name, tensor in STATE.items()}
    return {"state_dict": {**network, **average}, "epoch": 3}, {
        "weight": nbytes(network), "ema-copy": nbytes(average)}


def lightning() -> tuple[Any, dict[str, int]]:
    callbacks = {
        "ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)},
        "EarlyStopping{}": {"wait_count": 0, "best_score": torch.tensor(0.3)},
    }
    hyper = {"lr": 1e-3, "class_weights": torch.randn(8)}
    states = [OPTIMIZER.state_dict()]
    return {
        "epoch": 1, "pytorch-lightning_version": "2.2.0", "state_dict": STATE, "loops": {},
        "callbacks": callbacks, "optimizer_states": states, "lr_schedulers": [SCHEDULE.state_dict()],
        "hyper_parameters": hyper, "MixedPrecision": SCALER,
    }, {
        "weight": nbytes(STATE, hyper), "optimizer-state": nbytes(callbacks, states)}


def deepspeed_model() -> tuple[Any, dict[str, int]]:
    """``mp_rank_00_model_states.pt``: the module, and how its parameters were partitioned."""
    return {
        "module": HALF, "buffer_names": ["1.running_mean"], "optimizer": None,
        "param_shapes": [{name: tensor.shape for name, tensor in PARAMETERS.items()}],
        "lr_scheduler": SCHEDULE.state_dict(), "ds_config": {}, "ds_version": "0.14.0",
    }, {"weight": nbytes(HALF)}


def deepspeed_states(**held: Any) -> tuple[Any, dict[str, int]]:
    """``*_optim_states.pt`` of one rank (deepspeed/runtime/zero)."""
    state = {"clip_grad": 1.0, "partition_count": [1], **held}
    return {"optimizer_state_dict": state, "ds_version": "0.14.0"}, {"optimizer-state": nbytes(held)}


def named_states() -> tuple[Any, dict[str, int]]:
    """The full optimizer state of FSDP, by names of parameters."""
    state = {
        name: {"exp_avg": torch.randn_like(held), "exp_avg_sq": held**2, "step": torch.tensor(2.0)}
        for name, held in PARAMETERS.items()
    }
    whole = {"state": state, "param_groups": [{"lr": 1e-3, "params": list(state)}]}
    return whole, {"optimizer-state": nbytes(state)}


def swa() -> tuple[Any, dict[str, int]]:
    averaged = torch.optim.swa_utils.AveragedModel(NETWORK)
    averaged.update_parameters(deepcopy(NETWORK))
    state = averaged.state_dict()
    return {"model": STATE, "model_ema": state}, {"weight": nbytes(STATE), "ema-copy": nbytes(state)}


def timm() -> tuple[Any, dict[str, int]]:
    whole = {
        "arch": "r", "epoch": 1, "state_dict": STATE, "state_dict_ema": AVERAGE,
        "optimizer": OPTIMIZER.state_dict(), "amp_scaler": SCALER,
    }  # fmt: skip
    return whole, {
        "weight": nbytes(STATE), "ema-copy": nbytes(AVERAGE) - STATE["1.num_batches_tracked"].nbytes,
        "optimizer-state": nbytes(OPTIMIZER.state_dict())}


LAYOUTS: dict[str, Callable[[], tuple[Any, dict[str, int]]]] = {
    "optimizer.pt": lambda: (
        OPTIMIZER.state_dict(), {"optimizer-state": nbytes(OPTIMIZER.state_dict())}),
    "scheduler.pt": lambda: (SCHEDULE.state_dict(), {}),
    "scaler.pt": lambda: (SCALER, {}),
    "lightning": lightning,
    "latent diffusion": latent_diffusion,
    "timm": timm,
    "averaged model": swa,
    "DeepSpeed, module": deepspeed_model,
    "DeepSpeed, stage 2": lambda: deepspeed_states(
        base_optimizer_state=flat_state(), single_partition_of_fp32_groups=[FLAT.clone()]),
    "DeepSpeed, stage 3": lambda: deepspeed_states(
        optimizer_state_dict=flat_state(), fp32_flat_groups=[FLAT.clone()]),
    "DeepSpeed, bfloat16": lambda: deepspeed_states(
        base_optimizer_state=flat_state()["state"], fp32_groups=[FLAT.clone()]),
    "FSDP, whole optimizer": named_states,
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_has_its_role(layout: str, tmp_path: Path) -> None:
    whole, wanted = LAYOUTS[layout]()
    path = tmp_path / "checkpoint.pt"
    torch.save(whole, path)
    found: Counter[str] = Counter()
    storages = set()
    for tensor in formats.read(str(path)).tensors:
        if tensor.storage not in storages:  # what an average shares with the network is counted once
            found["weight" if tensor.use == "buffer" else tensor.use] += tensor.nbytes
        storages.add(tensor.storage)
    assert dict(found) == wanted


def test_a_network_that_only_sounds_like_an_average_is_none(tmp_path: Path) -> None:
    """Other shapes than those beside it: a part of the network."""
    path = tmp_path / "checkpoint.pt"
    state = {**STATE, "model_ema.0.weight": torch.randn(7, 5), "model_ema.0.bias": torch.randn(7)}
    torch.save({"state_dict": state}, path)
    assert "ema-copy" not in {tensor.use for tensor in formats.read(str(path)).tensors}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_shard_of_a_distributed_checkpoint_is_refused_as_what_it_is(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as distributed

    distributed.save({"model": STATE}, checkpoint_id=tmp_path / "shards", no_dist=True)
    (shard,) = (tmp_path / "shards").glob("*.distcp")
    with pytest.raises(Unrecognized, match=r"torch\.distributed\.checkpoint writes \(\.distcp\)"):
        formats.read(str(shard))
