"""What goes of an artifact when something of it goes, no byte twice, and what that saves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from sizeforensics.inventory import Found, Inventory, Waste
from sizeforensics.layout import PLAIN, inside
from sizeforensics.spans import ROLES, Integers, sum_by
from sizeforensics.views import Coverage

_Cut = tuple[int, int, int, int]
"""File, start, end, and the number of what is cut with it."""


class Removal:
    """Takes bytes out of an artifact for one cause after the other; what is taken is not there for
    the next.

    A storage loses bytes from its end, whichever they are: only how many stay decides what else
    goes. Where every tensor that views a storage goes, all of it does.
    """

    def __init__(self, inventory: Inventory, coverage: Coverage) -> None:
        self._inventory = inventory
        self.stored = stored_bytes(inventory, coverage)
        """See ``stored_bytes``."""
        self._left = [storage.stored_bytes for storage in inventory.storages]
        self._viewers = Counter(tensor.storage for tensor in inventory.tensors)
        self._holders = None if inventory.holders is None else list(map(tuple, inventory.holders.tolist()))
        self._held = Counter(self._holders or ())
        self._stays = self._held.copy()
        self._ranges: list[tuple[int, int, int]] = []
        self._cuts: dict[str, list[_Cut]] = defaultdict(list)
        self._parts: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)

    def tensor(self, cause: str, index: int) -> None:
        """One tensor: the bytes that it is the first to view, and what is there for it alone."""
        tensor = self._inventory.tensors[index]
        part = self._part(cause, tensor.name)
        self._hold(cause, index)
        if tensor.storage is not None:
            self._viewers[tensor.storage] -= 1
            alone = not self._viewers[tensor.storage]
            wanted = self._left[tensor.storage] if alone else self.stored[index]
            self._take(cause, part, tensor.storage, wanted)

    def storage(self, cause: str, number: int, nbytes: int, subject: str, label: str = "") -> None:
        """Bytes of one storage, which keeps the others."""
        if min(nbytes, self._left[number]) > 0:
            self._take(cause, self._part(cause, subject, label), number, nbytes)

    def spans(self, cause: str, role: int) -> None:
        """All spans of a role that nothing has taken yet."""
        taken = np.array(sorted(self._ranges), dtype=np.int64).reshape(-1, 3)
        subjects = self._inventory.owners.subjects
        for number, file in enumerate(self._inventory.files):
            chosen = np.flatnonzero(file.spans.roles == role)
            starts, ends = file.spans.starts[chosen], file.spans.ends[chosen]
            of_file = taken[taken[:, 0] == number]
            at = np.searchsorted(of_file[:, 1], starts, side="right") - 1
            free = at < 0
            free[~free] = of_file[at[~free], 2] <= starts[~free]
            for start, end, owner in zip(
                starts[free].tolist(), ends[free].tolist(), file.spans.owners[chosen][free].tolist(),
                strict=True,
            ):
                part = self._part(cause, subjects[owner])
                self._cuts[cause].append((number, start, end, part))

    def waste(self) -> Iterator[Found]:
        """What each cause would save on its own, where that is anything.

        Two causes may save the same framing: the padding that either makes needless, the digit that
        either takes off a length. It is counted in the first, so that the sum is never more than what
        the files lose when all causes go.
        """
        cut: list[_Cut] = []
        told = np.zeros(len(ROLES), dtype=np.int64)
        for cause, cuts in self._cuts.items():
            saved, roles = self._saved(cuts, len(self._parts[cause]))
            cut += cuts
            left = self._saved(cut, 1 + max(part for *_, part in cut))[1] - told if told.any() else roles
            if left.sum() < roles.sum():
                saved, roles = _less(saved, int((roles - left).sum())), left
            parts = tuple(
                Waste(subject, nbytes, label)
                for (subject, label), nbytes in zip(self._parts[cause], saved.tolist(), strict=True)
                if nbytes
            )
            if saved.sum() > 0:
                told += roles
                yield Found(cause, parts, tuple(roles.tolist()))

    def _part(self, cause: str, subject: str, label: str = "") -> int:
        parts = self._parts[cause]
        return parts.setdefault((subject, label), len(parts))

    def _hold(self, cause: str, index: int) -> None:
        """Take what holds the tensor, once nothing in it stays."""
        if self._holders is None:
            return
        start, end = holder = self._holders[index]
        self._stays[holder] -= 1
        if start == end or self._stays[holder]:
            return
        tensor = self._inventory.tensors[index]
        subject = tensor.scope if self._held[holder] > 1 else tensor.name
        self._ranges.append((0, start, end))
        if tensor.storage is not None:
            storage = self._inventory.storages[tensor.storage]
            if storage.file == 0 and start <= storage.offset < end:
                self._left[tensor.storage] = 0
        self._cuts[cause].append((0, start, end, self._part(cause, subject)))

    def _take(self, cause: str, part: int, number: int, wanted: int) -> None:
        storage, left = self._inventory.storages[number], self._left[number]
        nbytes = min(wanted, left)
        if nbytes:
            end = storage.offset + left
            self._left[number] = left - nbytes
            self._cuts[cause].append((storage.file, end - nbytes, end, part))

    def _saved(self, cuts: list[_Cut], count: int) -> tuple[Integers, Integers]:
        """Bytes by part, and the same by role.

        What the rest of the files saves or spends in framing is the largest part's.
        """
        saved, by_role = np.zeros(count, dtype=np.int64), np.zeros(len(ROLES), dtype=np.int64)
        rest = 0
        table = np.array(cuts, dtype=np.int64)
        for number in np.unique(table[:, 0]).tolist():
            rows = table[table[:, 0] == number]
            rows = rows[np.lexsort((-rows[:, 2], rows[:, 1]))]
            # An entry of a pickle may hold elements: what lies in another cut is cut already.
            reached = np.maximum.accumulate(np.append(0, rows[:-1, 2]))
            rows[:, 1] = np.maximum(rows[:, 1], reached)
            _, starts, ends, parts = rows[rows[:, 2] > rows[:, 1]].T
            np.add.at(saved, parts, ends - starts)
            ranges, spans = np.stack([starts, ends], axis=1), self._inventory.files[number].spans
            by_role += sum_by(spans.roles, inside(ranges, spans.starts, spans.ends), len(ROLES))
            layouts = self._inventory.layouts
            layout = layouts[number] if number < len(layouts) else PLAIN
            places, nbytes, roles = layout.besides(ranges)
            by_role += sum_by(roles, nbytes, len(ROLES))
            at = np.searchsorted(starts, places, side="right") - 1
            own = (at >= 0) & (places < ends[at])
            np.add.at(saved, parts[at[own]], nbytes[own])
            rest += int(nbytes[~own].sum())
        saved[np.argmax(saved)] += rest
        return saved, by_role


def _less(saved: Integers, nbytes: int) -> Integers:
    """The bytes of the parts without so many, which are those of the largest."""
    saved = saved.copy()
    for part in np.argsort(-saved, kind="stable").tolist():
        taken = min(nbytes, max(int(saved[part]), 0))
        saved[part] -= taken
        nbytes -= taken
    return saved


def stored_bytes(inventory: Inventory, coverage: Coverage) -> list[int]:
    """Bytes in the file for what each tensor claims: fewer than decoded where deflated.

    Typed fields count as raw here; what they cost beyond that is a finding of its own.
    """
    stored = []
    for tensor, claimed in zip(inventory.tensors, coverage.claimed.tolist(), strict=True):
        storage = None if tensor.storage is None else inventory.storages[tensor.storage]
        if storage is not None and storage.encoding == "deflate" and storage.nbytes:
            stored.append(claimed * storage.stored_bytes // storage.nbytes)
        else:
            stored.append(claimed)
    return stored
