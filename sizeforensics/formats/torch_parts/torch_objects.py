"""Walk the inert values of a pickle: its tensors, its modules, and who owns each of its bytes.

Every object is expanded once, the first time it is reached in the order of the file, so the work is
bounded by the pickle however often it shares its parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sizeforensics.escape import one_line
from sizeforensics.formats.encodings.pickle_claims import Claims
from sizeforensics.formats.encodings.pickle_values import (
    Call,
    DictValue,
    Global,
    ListValue,
    PersistentId,
    Pickle,
)
from sizeforensics.formats.torch_parts import pickle_globals, torch_sharing
from sizeforensics.formats.torch_parts.numpy_functions import ARRAY_FUNCTIONS
from sizeforensics.formats.torch_parts.torch_containers import (
    PLAIN,
    SCALARS,
    dict_of_pairs,
    hollow,
    list_of_pairs,
    parts_of,
    set_of,
    wrapped,
)
from sizeforensics.formats.torch_parts.torch_functions import FUNCTIONS
from sizeforensics.formats.torch_parts.torch_modules import (
    MODULE_DICTS,
    class_path,
    module_state,
    scripted,
)
from sizeforensics.formats.torch_parts.torch_names import MOST_ODDITIES, ROOT, Names, Oddities, Path
from sizeforensics.formats.torch_parts.torch_rebuild import (
    Description,
    Persistent,
    Rebuilder,
    storage_view,
)
from sizeforensics.formats.torch_parts.torch_sharing import CONTAINERS
from sizeforensics.formats.torch_parts.torch_values import (
    ARRAYS,
    FRAMING,
    KEYS,
    STORAGES,
    Objects,
    Payload,
    PickledModule,
    PickledTensor,
    StorageRef,
)
from sizeforensics.inventory import DESCRIPTIONS
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.spans import NAMES, PICKLE, TENSOR_DATA

_MOST_ALIASES = 100_000  # second and later names of tensors that are listed
_MOST_TOP_LEVEL = 4_096  # entries of the root that are owners and subjects one by one
_MOST_SUBJECTS = 64  # entries of a dict in one of them that are subjects one by one


def read_objects(
    pickle: Pickle, limits: Limits = DEFAULT_LIMITS, persistent: Persistent = storage_view
) -> Objects:
    """Everything the pickle holds. Does no I/O, and no bytes of a pickle make it raise.

    ``persistent`` says which tensor a persistent id on its own is; by default the storage it names.
    """
    walk = _Walk(pickle, limits, persistent)
    walk.run()
    tiling = walk.claims.tile(pickle.size)
    return Objects(
        walk.tensors, walk.modules, walk.storages(), walk.all_warnings(), walk.claims.names,
        walk.claims.subjects, tiling.starts, tiling.ends, tiling.roles, tiling.owners,
        walk.top_level,
    )  # fmt: skip


class _Place(NamedTuple):
    """What the entries of a dict are: ``key``, ``attribute``, ``member`` (a parameter or buffer of
    a module), ``module`` (a child of one) or ``script`` (an attribute in TorchScript).

    In ``coarse`` places, that is inside lists, only tensors and modules get an owner of their own:
    a history of a million dicts is one thing.
    """

    path: Path
    owner: int
    coarse: bool
    kind: str = "key"
    record: PickledModule | None = None
    few: bool = True
    """Whether there are so few entries that each may be a subject of its own."""


class _Walk:
    """Collects tensors, modules and claims while the tree is expanded depth first.

    The generators yield the children that are still to be expanded; tensors are handled at once.
    """

    def __init__(self, pickle: Pickle, limits: Limits, persistent: Persistent) -> None:
        self.pickle = pickle
        self.rebuilder = Rebuilder(pickle, limits, FUNCTIONS | ARRAY_FUNCTIONS, persistent)
        self.claims = Claims()
        self.tensors: list[PickledTensor] = []
        self.modules: list[PickledModule] = []
        self.oddities = Oddities()
        self.seen: set[int] = set()
        self.again: dict[int, Any] = {}
        """Containers that are reached more than once, by identity."""
        self.deepest = 0
        self.payloads: set[int] = set()
        self.top_level: dict[str, tuple[int, int]] = {}
        self.aliases = 0
        self.names = Names(pickle, self.oddities)

    def run(self) -> None:
        tasks = [self.root()]
        while tasks:
            task = next(tasks[-1], None)
            if task is None:
                tasks.pop()
                continue
            expanded = self.expand(*task)
            if expanded is not None:
                tasks.append(expanded)
                self.deepest = max(self.deepest, len(tasks))
        framing = self.claims.owner(FRAMING, FRAMING)
        for start, end in self.pickle.framing:
            self.claims.claim(start, end, PICKLE, framing)

    # -- the tree ----------------------------------------------------------------------------------

    def root(self) -> Iterator[_Task]:
        path = Path("", ROOT, ROOT, "", "weight", 0)
        place = _Place(path, self.claims.owner(ROOT, ROOT), coarse=False)
        self.claims.claim(0, self.pickle.size, PICKLE, place.owner)
        value = self.pickle.root
        found = self.describe(value)
        if found is None:
            yield value, place
        else:
            yield from self.tensor_in_list(value, found, "tensor", place)

    def expand(self, value: Any, place: _Place) -> Iterator[_Task] | None:
        """The children of a container or object, the first time it is reached."""
        kind = type(value)
        if kind in SCALARS or not self.first(value):
            return None
        if kind is tuple:
            return self.items(value, place)
        if kind is DictValue:
            return self.entries(value, place._replace(kind="key", record=None))
        if isinstance(value, ListValue):
            return self.items(value.values, place)
        return self.object(value, place)

    def first(self, value: Any) -> bool:
        before = len(self.seen)
        self.seen.add(id(value))
        if len(self.seen) > before:
            return True
        if type(value) in CONTAINERS:
            self.again[id(value)] = value
        return False

    def items(self, values: Sequence[Any], place: _Place) -> Iterator[_Task]:
        """The items of a list, tuple or set."""
        own = place.path.depth == 0 and not place.coarse and len(values) <= _MOST_SUBJECTS
        for index, value in enumerate(values):
            if type(value) in SCALARS:
                continue
            found = self.describe(value)
            if found is not None:
                name = self.names.join(place.path, str(index))
                yield from self.tensor_in_list(value, found, name, place)
                continue
            if not own and hollow(value):
                continue
            path = self.names.child(place.path, "index", str(index), few=place.few)
            if own:
                owner = self.claims.owner(path.access, path.subject)
                self.claim_whole(value, owner)
                yield value, _Place(path, owner, coarse=False)
            else:
                yield value, _Place(path, place.owner, coarse=True)

    def entries(self, entries: DictValue, place: _Place) -> Iterator[_Task]:
        """The entries of a dict, or of an object's attributes."""
        self.names.check(entries)
        place = place._replace(few=len(entries) <= (
            _MOST_TOP_LEVEL if place.path.depth == 0 else _MOST_SUBJECTS
        ))  # fmt: skip
        for number, entry in enumerate(entries.entries()):
            if type(entry[0]) in SCALARS:
                yield from self.entry(*entry, place)
            else:
                yield from self.keyed(number, *entry, place)

    def keyed(  # noqa: PLR0917 - an entry as DictValue.entries gives it
        self, number: int, key: Any, value: Any, start: int, middle: int, end: int, place: _Place
    ) -> Iterator[_Task]:
        """An entry whose key may be a tensor or hold some: optimizers know parameters by themselves.

        A tensor is no name, so the entry goes by its number.
        """
        found = self.describe(key)
        if found is None:
            if not hollow(key):
                path = self.names.child(place.path, "index", f"<key {number}>", few=False)
                yield key, _Place(path, place.owner, coarse=True)
            yield from self.entry(key, value, start, middle, end, place)
            return
        name = self.names.join(place.path, f"<key {number}>")
        owner, tasks = self.tensor(key, found, name, place)
        yield from tasks
        yield from self.entry(f"<value {number}>", value, start, middle, end, place)
        self.claim_whole(key, owner)

    def entry(  # noqa: PLR0917 - an entry as DictValue.entries gives it
        self, key: Any, value: Any, start: int, middle: int, end: int, place: _Place
    ) -> Sequence[_Task]:
        """One entry: claim its bytes, list its tensors, and return what else it holds."""
        path, record = place.path, place.record
        named = path.depth == 0 and place.kind == "key" and place.few
        if type(value) in SCALARS:
            if record is not None and type(value) in PLAIN and place.kind != "member":
                record.attributes[self.names.text(key)] = value
            if named:
                child = self.names.child(path, place.kind, self.names.text(key), few=True)
                owner = self.claims.owner(child.access, child.subject)
                self.claims.claim(start, end, PICKLE, owner)
            return ()
        found = self.describe(value)
        if found is None and not named and hollow(value):
            return ()
        text = self.names.text(key)
        if found is not None:
            name = self.names.join(path, text)
            index = len(self.tensors)
            owner, tasks = self.tensor(value, found, name, place)
            if record is not None and place.kind != "attribute" and len(self.tensors) > index:
                record.tensors[text] = index
            self.claims.claim(start, middle, NAMES, self.claims.owner(name, KEYS))
            self.claims.claim(middle, end, PICKLE, owner)
            return tasks
        child = self.names.child(path, place.kind, text, few=place.few)
        owner = place.owner
        if named or not (place.coarse or child is path):
            owner = self.claims.owner(child.access, child.subject)
            self.claims.claim(start, end, PICKLE, owner)
        if named:
            self.top_level[text] = start, end
        return ((value, _Place(child, owner, place.coarse)),)

    def object(self, value: Any, place: _Place) -> Iterator[_Task]:
        """What an object holds: arguments, items, state, in the order of the stream."""
        module = module_state(value)
        if module is not None and id(module) in self.seen:  # expanded already
            module = None
        if module is not None and place.coarse:
            owner = self.claims.owner(place.path.access, place.path.subject)
            self.claim_whole(value, owner)
            place = _Place(place.path, owner, coarse=False)
        if type(value) is Call:
            yield from self.arguments(value, place)
        if isinstance(value, (Call, PersistentId)):
            if value.list_items is not None:
                yield from self.items(value.list_items.values, place)
            if value.dict_items is not None:
                yield from self.entries(value.dict_items, place._replace(kind="key", record=None))
        for state in value.states or ():
            for index, part in enumerate(parts_of(state)):
                found = self.describe(part)
                if found is not None:  # packed parameters: a weight and a bias
                    name = self.names.join(place.path, str(index))
                    yield from self.tensor_in_list(part, found, name, place)
                elif type(part) is not DictValue:
                    yield part, place._replace(coarse=True)
                elif self.first(part):
                    if part is module:
                        yield from self.module(value, part, place)
                    else:
                        yield from self.entries(part, place._replace(kind="attribute", record=None))

    def arguments(self, call: Call, place: _Place) -> Iterator[_Task]:
        """What a call is made with, where it is no other way to write a container."""
        args = call.args
        inner, pairs = wrapped(call), list_of_pairs(call)
        if inner is not None:
            yield inner, place
        elif pairs is not None and self.first(pairs):
            yield from self.entries(dict_of_pairs(pairs), place._replace(kind="key", record=None))
        elif type(args) is not tuple:
            yield args, place._replace(coarse=True)
        elif args and self.first(args):
            yield from self.items(args, place._replace(coarse=True))
        if type(call.func) is not Global:
            yield call.func, place._replace(coarse=True)
        if call.kwargs is not None:
            yield call.kwargs, place._replace(coarse=True)

    # -- tensors -----------------------------------------------------------------------------------

    def describe(self, value: Any) -> Description | None:
        """The tensors a value consists of; None for what is none."""
        found = None
        if type(value) is Call:
            found = self.rebuilder.describe(value)
        elif type(value) is PersistentId:
            view = self.rebuilder.persistent(value)
            found = Description((view,)) if view else None
        return found if found is not None and found.views else None

    def tensor(
        self, value: Any, found: Description, name: str, place: _Place
    ) -> tuple[int, Sequence[_Task]]:
        """List the tensors of one description; its owner, and the attributes to be expanded."""
        tasks: Sequence[_Task] = ()
        new = self.first(value)
        if not new:
            self.aliases += 1
            if self.aliases > _MOST_ALIASES:
                self.oddities.add("refers to tensors more often than is listed")
                return place.owner, ()
        owner = self.claims.owner(name, DESCRIPTIONS)
        for view in found.views:
            self.tensors.append(view._replace(
                name=name + view.name, use=view.use or place.path.use, scope=place.path.scope,
                storage=None if view.problem else view.storage,
            ))  # fmt: skip
            if view.problem:
                self.oddities.add(f"describes tensor {name + view.name}, but {view.problem}")
            elif type(view.storage) is Payload:
                self.claim_payload(view.storage, name)
        if new and found.states:
            path = Path(name, name, DESCRIPTIONS, place.path.scope, "buffer", place.path.depth + 1)
            inside = _Place(path, owner, coarse=True)
            tasks = tuple((part, inside) for state in found.states for part in parts_of(state))
        return owner, tasks

    def tensor_in_list(
        self, value: Any, found: Description, name: str, place: _Place
    ) -> Sequence[_Task]:
        """As ``tensor``, for one whose place in its container is not recorded."""
        new = id(value) not in self.seen
        owner, tasks = self.tensor(value, found, name, place)
        if new:
            self.claim_whole(value, owner)
        return tasks

    def claim_whole(self, value: Any, owner: int) -> None:
        start = getattr(value, "start", None)
        if start is not None:
            self.claims.claim(start, self.pickle.after_memo(value.end), PICKLE, owner)

    def claim_payload(self, payload: Payload, name: str) -> None:
        if payload.start not in self.payloads:
            self.payloads.add(payload.start)
            owner = self.claims.owner(name, STORAGES if payload.torch else ARRAYS)
            self.claims.claim(payload.start, payload.end, TENSOR_DATA, owner)

    # -- modules -----------------------------------------------------------------------------------

    def module(self, value: Call, state: DictValue, place: _Place) -> Iterator[_Task]:
        """A module: its parameters, buffers and children under their own names."""
        path = place.path
        record = PickledModule(path.name, class_path(value))
        self.modules.append(record)
        if scripted(value):
            yield from self.entries(state, place._replace(kind="script", record=record))
            return
        self.names.check(state)
        attributes = _Place(
            path._replace(use="buffer"), place.owner, coarse=False, kind="attribute", record=record
        )
        for entry in state.entries():
            key, attribute = entry[:2]
            members = self.members(attribute)
            kind_and_use = MODULE_DICTS.get(key) if type(key) is str else None
            if kind_and_use is not None and members is not None and self.first(attribute):
                kind, use = kind_and_use
                yield from self.entries(members, _Place(
                    path._replace(use=use), place.owner, coarse=False, kind=kind, record=record
                ))  # fmt: skip
                continue
            if key == "_non_persistent_buffers_set":
                record.non_persistent.extend(map(self.names.text, set_of(attribute)))
            elif members is not None and type(key) is str and key.endswith("_hooks"):
                record.hooks[key] = len(members)
            yield from self.entry(*entry, attributes)

    def members(self, value: Any) -> DictValue | None:
        """The entries of a dict or OrderedDict, those of Python 2 once; None for all else."""
        if type(value) is DictValue:
            return value
        if type(value) is not Call:
            return None
        pairs = list_of_pairs(value)
        if value.dict_items is None and pairs is not None and self.first(pairs):
            return dict_of_pairs(pairs)
        return value.dict_items

    # -- oddities and the rest ---------------------------------------------------------------------

    def all_warnings(self) -> list[str]:
        """Oddities of the stream, what could do harm where it is loaded, and what makes no sense."""
        pickle = self.pickle
        found = pickle_globals.harmful(pickle)
        listed = [pickle_globals.shown(path) for path in found[:MOST_ODDITIES]]
        unseen = self.oddities.unseen + len(found) - len(listed)
        rest = [f"pickle has {unseen:,} more oddities that are not listed"] if unseen else []
        shape = torch_sharing.oddities(self.again.values(), self.deepest)
        return [*pickle.oddities, *shape, *listed, *self.oddities.listed, *rest]

    def storages(self) -> list[StorageRef]:
        """Every storage the pickle names, by key, the first description of each."""
        found: dict[str, StorageRef] = {}
        for persistent in self.pickle.persistent_ids:
            storage = self.rebuilder.storage(persistent)
            if storage is not None:
                if type(persistent.value) is str and storage.numel >= 0:
                    self.oddities.add("names storages in text (protocol 0), which torch.load refuses")
                known = found.setdefault(storage.key, storage)
                if known.nbytes != storage.nbytes:
                    self.oddities.add(f"describes storage {one_line(known.key, 80)} with several sizes")
        return list(found.values())


_Task = tuple[Any, _Place]
"""An object to expand, and where it is."""
