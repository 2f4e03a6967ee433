"""What the top-level keys of a checkpoint hold: the network, its optimizer, further copies of it.

A key only suggests; the role is given when what lies under it is what the key says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod

from sizeforensics.formats.pickle_values import Call, DictValue, ListValue
from sizeforensics.formats.torch_objects import PickledTensor

_OPTIMIZER_KEY = re.compile("optim", re.IGNORECASE)
_HELPER_KEY = re.compile("sched|scaler|amp", re.IGNORECASE)
# State dicts of torch.optim.lr_scheduler and torch.amp.GradScaler.
_HELPER_MEMBERS = frozenset((
    "last_epoch", "_step_count", "base_lrs", "growth_factor", "_growth_tracker", "loss_scaler",
))  # fmt: skip
_AVERAGED = frozenset(("ema", "teacher", "swa", "averaged", "average", "avg", "shadow", "polyak"))
_CAMEL = re.compile("(?<=[a-z0-9])(?=[A-Z])")
_WRAPPERS = ("module", "_orig_mod", "model", "ema_model", "ema", "state_dict", "net", "network")
_NESTING = 3
_NETWORK_USES = ("weight", "buffer")


def assign_uses(root: object, tensors: Sequence[PickledTensor]) -> list[PickledTensor]:
    """The tensors of a checkpoint with ``optimizer-state`` and ``ema-copy`` where they belong.

    ``root`` is the pickle's outermost object.
    """
    if _is_optimizer_state(root):
        return [tensor._replace(use="optimizer-state") for tensor in tensors]
    scopes: dict[str, list[PickledTensor]] = {}
    for tensor in tensors:
        scopes.setdefault(tensor.scope, []).append(tensor)
    top = _members(root)
    uses: dict[str, str] = {}
    for scope, members in scopes.items():
        value = top.get(scope) if top is not None else None
        if scope and (
            _is_optimizer_state(value)
            or (_HELPER_KEY.search(scope) and _is_helper_state(value))
            or (_OPTIMIZER_KEY.search(scope) and _looks_like_moments(members, scope, scopes))
        ):
            uses[scope] = "optimizer-state"
    networks = {scope: members for scope, members in scopes.items() if scope not in uses}
    uses |= dict.fromkeys(_copies(networks), "ema-copy")
    return [
        tensor._replace(use=uses[tensor.scope])
        if tensor.scope in uses
        and (tensor.use in _NETWORK_USES or uses[tensor.scope] == "optimizer-state")
        else tensor
        for tensor in tensors
    ]


# Optimizers


def _members(value: object) -> DictValue | None:
    """The entries of a dict, of an OrderedDict, or of an object's attributes."""
    if isinstance(value, DictValue):
        return value
    if isinstance(value, Call):
        if value.dict_items is not None:
            return value.dict_items
        if isinstance(value.state, DictValue):
            return value.state
    return None


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, ListValue):
        return value.values
    if isinstance(value, tuple):
        return value
    members = _members(value)
    return () if members is None else members.values


def _is_optimizer_state(value: object, nesting: int = _NESTING) -> bool:
    """Whether this is ``torch.optim.Optimizer.state_dict()``, or a collection of nothing else."""
    members = _members(value)
    if members is not None and _members(members.get("state")) is not None:
        return isinstance(members.get("param_groups"), ListValue)
    parts = list(_parts(value)) if nesting else []
    return bool(parts) and all(_is_optimizer_state(part, nesting - 1) for part in parts)


def _is_helper_state(value: object, nesting: int = _NESTING) -> bool:
    """Whether this is the state of a learning-rate scheduler or gradient scaler, or of several."""
    members = _members(value)
    if members is not None and any(
        isinstance(key, str) and key in _HELPER_MEMBERS for key in members.keys
    ):
        return True
    parts = list(_parts(value)) if nesting else []
    return bool(parts) and all(_is_helper_state(part, nesting - 1) for part in parts)


def _looks_like_moments(
    members: Sequence[PickledTensor], scope: str, scopes: dict[str, list[PickledTensor]]
) -> bool:
    """Whether all tensors but scalars have the shape of a tensor under another key."""
    large = [tensor.shape for tensor in members if prod(tensor.shape) > 1]
    others = {
        tensor.shape for name, tensors in scopes.items() if name != scope for tensor in tensors
    }
    return bool(large) and all(shape in others for shape in large)


# Copies of the network


def _copies(networks: dict[str, list[PickledTensor]]) -> list[str]:
    """The keys that say they hold an average and hold a network that another key holds too."""
    averaged = [scope for scope in networks if _says_average(scope)]
    originals = [scope for scope in networks if scope not in averaged]
    copies = []
    for scope in averaged:
        if any(_same_network(networks, scope, original) for original in originals):
            copies.append(scope)
        else:
            originals.append(scope)
    return copies


def _says_average(scope: str) -> bool:
    words = re.split("[^a-z0-9]+", _CAMEL.sub("_", scope).lower())
    return not _AVERAGED.isdisjoint(words)


def _same_network(networks: dict[str, list[PickledTensor]], one: str, other: str) -> bool:
    """Whether two keys hold tensors of the same names and shapes, or lists of the same shapes."""
    ours, theirs = _signature(networks[one], one), _signature(networks[other], other)
    small, large = sorted((ours, theirs), key=len)
    if small and small <= large and 2 * len(small) >= len(large):
        return True
    # An average that is kept as a list of parameters has no names.
    shapes = Counter(tensor.shape for tensor in networks[one] if prod(tensor.shape) > 1)
    parameters = Counter(
        tensor.shape
        for tensor in networks[other]
        if tensor.use == "weight" and prod(tensor.shape) > 1
    )
    return bool(shapes) and shapes == parameters


def _signature(tensors: Sequence[PickledTensor], scope: str) -> set[tuple[str, tuple[int, ...]]]:
    return {
        (_unwrapped(tensor.name.removeprefix(scope)), tensor.shape)
        for tensor in tensors
        if tensor.use in _NETWORK_USES
    }


def _unwrapped(name: str) -> str:
    """A name without the attributes that wrappers put in front: ``module.``, ``_orig_mod.``."""
    parts = name.strip(".").split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        del parts[0]
    return ".".join(parts)
