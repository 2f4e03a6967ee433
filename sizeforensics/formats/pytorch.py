"""Checkpoints that ``torch.save`` writes as ZIP archives, since PyTorch 1.6.

The layout is that of ``_save`` in ``torch/serialization.py``: ``data.pkl`` describes objects, and
each storage is a record ``data/<key>``.
"""

from __future__ import annotations

from sizeforensics.formats.torch_parts.checkpoint_roles import assign_uses
from sizeforensics.formats.torch_parts.torch_archive import TorchArchive
from sizeforensics.formats.torch_parts.torch_inventory import Assembly, Part
from sizeforensics.inventory import Inventory
from sizeforensics.limits import DEFAULT_LIMITS, Limits


def read(torch: TorchArchive, limits: Limits = DEFAULT_LIMITS) -> Inventory:
    """The inventory of a checkpoint: bare tensors, state dicts, whole modules, training state."""
    assembly = Assembly(torch, limits)
    assembly.add_pickle(Part("data.pkl", "data/", assign_uses))
    assembly.claim_metadata()
    return assembly.finish("pytorch-zip")
