"""What the top-level keys of a checkpoint hold: the network, its optimizer, further copies of it.

A key only suggests; the role is given when what lies under it is what the key says.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from math import prod

from sizeforensics.formats.encodings.pickle_values import Call, DictValue, ListValue
from sizeforensics.formats.torch_parts.torch_values import PickledTensor

_OPTIMIZER_KEY = re.compile("optim", re.IGNORECASE)
_HELPER_KEY = re.compile("sched|scaler|amp", re.IGNORECASE)
# State dicts of torch.optim.lr_scheduler and torch.amp.GradScaler.
_HELPER_MEMBERS = frozenset((
    "last_epoch", "_step_count", "base_lrs", "_last_lr", "growth_factor", "backoff_factor",
    "growth_interval", "_growth_tracker", "loss_scaler",
))  # fmt: skip
_SURE = 3
"""Members of a helper's state that say what it is without the help of a key."""
# What optimizers of mixed precision keep beside, or instead of, the state of the one they wrap:
# DeepSpeed (deepspeed/checkpoint/constants.py; runtime/fp16), Apex and Megatron.
_MASTER_MEMBERS = frozenset((
    "base_optimizer_state", "single_partition_of_fp32_groups", "fp32_flat_groups",
    "fp32_groups_flat", "fp32_groups", "fp32_from_fp16", "fp32_from_fp16_params",
))  # fmt: skip
_LIGHTNING = "pytorch-lightning_version"
_LIGHTNING_PROGRESS = frozenset(("loops", "callbacks"))
"""Keys under which Lightning keeps what it needs to resume: best scores, counters, metrics."""
_AVERAGED = frozenset(("ema", "teacher", "swa", "averaged", "average", "avg", "shadow", "polyak"))
_CAMEL = re.compile("(?<=[a-z0-9])(?=[A-Z])")
_WRAPPERS = ("module", "_orig_mod", "model", "ema_model", "ema", "state_dict", "net", "network")
_NESTING = 3
_MOST_NETWORKS = 16
_NETWORK_USES = ("weight", "buffer")


def assign_uses(root: object, tensors: Sequence[PickledTensor]) -> list[PickledTensor]:
    """The tensors of a checkpoint with ``optimizer-state`` and ``ema-copy`` where they belong.

    ``root`` is the pickle's outermost object. Linear in the tensors and keys.
    """
    trees = _Trees()
    if trees.is_optimizer(root) or trees.is_helper(root, _SURE):
        return [tensor._replace(use="optimizer-state") for tensor in tensors]
    scopes: dict[str, list[PickledTensor]] = {}
    for tensor in tensors:
        scopes.setdefault(tensor.scope, []).append(tensor)
    members = _members(root)
    top = {} if members is None else {
        key: value
        for key, value in zip(members.keys, members.values, strict=True)
        if type(key) is str
    }  # fmt: skip
    shapes = Counter(tensor.shape for tensor in tensors)
    uses: dict[str, str] = {}
    for scope, held in scopes.items():
        value = top.get(scope)
        if scope and (
            trees.is_optimizer(value)
            or trees.is_helper(value, 1 if _HELPER_KEY.search(scope) else _SURE)
            or (_OPTIMIZER_KEY.search(scope) and _looks_like_moments(held, shapes))
        ):
            uses[scope] = "optimizer-state"
    networks = {scope: held for scope, held in scopes.items() if scope not in uses}
    if _LIGHTNING in top:
        for scope in _LIGHTNING_PROGRESS & networks.keys():
            others = [other for other in networks if other not in _LIGHTNING_PROGRESS]
            copied = any(_same_shapes(networks[scope], networks[other]) for other in others)
            uses[scope] = "ema-copy" if copied else "optimizer-state"
            del networks[scope]
    uses |= dict.fromkeys(_copies(networks), "ema-copy")
    averaged = {
        id(tensor)
        for scope, held in networks.items()
        if scope not in uses
        for tensor in _averaged_inside(scope, held)
    }

    def used(tensor: PickledTensor) -> PickledTensor:
        use = "ema-copy" if id(tensor) in averaged else uses.get(tensor.scope, tensor.use)
        decided = use != tensor.use and (tensor.use in _NETWORK_USES or use == "optimizer-state")
        return tensor._replace(use=use) if decided else tensor

    return [used(tensor) for tensor in tensors]


# Optimizers


class _Trees:
    """Tells trees of objects apart; each object is looked at once, however often it is shared."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], bool] = {}

    def is_optimizer(self, value: object) -> bool:
        """Whether this is ``torch.optim.Optimizer.state_dict()``, or a collection of them."""
        return self._all("optimizer", value, _is_optimizer_state, _NESTING)

    def is_helper(self, value: object, least: int) -> bool:
        """Whether this is the state of a learning-rate scheduler or gradient scaler, or several.

        ``least`` known members make one.
        """

        def holds(members: DictValue) -> bool:
            return sum(key in _HELPER_MEMBERS for key in _names(members)) >= least

        return self._all(f"helper {least}", value, holds, _NESTING)

    def _all(
        self, kind: str, value: object, holds: Callable[[DictValue], bool], nesting: int
    ) -> bool:
        key = (kind, nesting, id(value))
        if key not in self._known:
            members = _members(value)
            parts = _parts(value) if nesting else ()
            self._known[key] = (members is not None and holds(members)) or (
                len(parts) > 0
                and all(self._all(kind, part, holds, nesting - 1) for part in parts)
            )
        return self._known[key]


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


def _parts(value: object) -> Sequence[object]:
    if isinstance(value, ListValue):
        return value.values
    if isinstance(value, tuple):
        return value
    members = _members(value)
    return () if members is None else members.values


def _is_optimizer_state(members: DictValue) -> bool:
    if not _MASTER_MEMBERS.isdisjoint(_names(members)):
        return True
    return _members(members.get("state")) is not None and isinstance(
        members.get("param_groups"), ListValue
    )


def _names(members: DictValue) -> set[str]:
    return {key for key in members.keys if type(key) is str}


def _looks_like_moments(held: Sequence[PickledTensor], shapes: Counter[tuple[int, ...]]) -> bool:
    """Whether all tensors but scalars have the shape of a tensor under another key."""
    own = Counter(tensor.shape for tensor in held if prod(tensor.shape) > 1)
    return bool(own) and all(shapes[shape] > count for shape, count in own.items())


# Copies of the network


def _copies(networks: dict[str, list[PickledTensor]]) -> list[str]:
    """The keys that say they hold an average and hold a network that another key holds too.

    Only the largest networks are compared: real checkpoints have a handful.
    """
    largest = sorted(networks, key=lambda scope: -len(networks[scope]))[:_MOST_NETWORKS]
    averaged = [scope for scope in largest if _says_average(scope)]
    originals = [scope for scope in largest if scope not in averaged]
    copies = []
    for scope in averaged:
        if any(_same_network(networks, scope, original) for original in originals):
            copies.append(scope)
        else:
            originals.append(scope)
    return copies


def _averaged_inside(scope: str, held: Sequence[PickledTensor]) -> Iterator[PickledTensor]:
    """The tensors of a state dict below a prefix that says average, where the network is beside it.

    So keeps latent diffusion its average (ldm/modules/ema.py), under names without dots.
    """
    heads: dict[str, list[PickledTensor]] = defaultdict(list)
    for tensor in held:
        name = tensor.name.removeprefix(scope).strip(".")
        heads[name.partition(".")[0]].append(tensor)
    shapes = Counter(tensor.shape for tensor in held if prod(tensor.shape) > 1)
    for head, inside in heads.items():
        own = Counter(tensor.shape for tensor in inside if prod(tensor.shape) > 1)
        if _says_average(head) and own and all(
            2 * count <= shapes[shape] for shape, count in own.items()
        ):
            yield from inside


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


def _same_shapes(held: Sequence[PickledTensor], network: Sequence[PickledTensor]) -> bool:
    """Whether at least half of a network's tensors have one of the same shape among ``held``."""
    ours, theirs = (
        Counter(tensor.shape for tensor in tensors if prod(tensor.shape) > 1)
        for tensors in (held, network)
    )
    return bool(theirs) and 2 * (ours & theirs).total() >= theirs.total()


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
