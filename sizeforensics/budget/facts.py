"""What one artifact holds and what it gained since its baseline: the values that limits are about.

A cause is measured in the artifact itself: the bytes of its finding (``duplicate``, ``dtype``…), of
its role (``metadata``, ``debug-info``…) or of the tensors of that use (``constant``…). With a
baseline it is measured in the ledger too, as bytes gained, and the larger value counts: what is new
is as unwanted as what is there. ``folded``, ``shape``, ``unmatched``, ``densified``,
``compression`` and ``carried`` only a comparison knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from sizeforensics.errors import InputError
from sizeforensics.findings import Finding
from sizeforensics.inventory import Inventory, Tensor, Waste
from sizeforensics.ledger import Ledger, Row
from sizeforensics.removal import stored_bytes
from sizeforensics.spans import ROLES, TENSOR_DATA, UNCLAIMED
from sizeforensics.views import cover

TOP = 3
"""Culprits named for one limit."""
_FOUND = (
    "duplicate", "dtype", "storage-slack", "encoding", "optimizer-state", "ema-copy", "unreferenced",
)  # fmt: skip
"""Causes that ``findings`` sees in one artifact; those about a role alone are that role."""
_USES = ("constant", "quantization-parameters", "sparse-index")
"""Causes that the use of a tensor decides in one artifact."""


class Culprit(NamedTuple):
    """What a value is made of: so many bytes of ``cause``, most of them ``subject``'s.

    ``cause`` is a cause or role, ``label`` a pair of element types or one type, ``count`` how many
    subjects there are.
    """

    cause: str
    label: str
    nbytes: int
    subject: str
    members: int = 1
    gained: bool = False
    """Whether these are bytes gained since the baseline."""


class Reading(NamedTuple):
    """A measured value; a limit that is a share is one of ``whole`` bytes."""

    value: int
    whole: int
    culprits: tuple[Culprit, ...] = ()
    """The largest parts of the value, of which no two share a byte."""
    removable: tuple[Culprit, ...] = ()
    """What would have to go, most bytes first, where the limit itself says that; else empty."""
    problem: str = ""
    """Why the limit is broken whatever the value is."""


@dataclass(frozen=True)
class Facts:
    """One artifact with its findings and, where there is a baseline, the ledger against it."""

    inventory: Inventory
    findings: Sequence[Finding]
    ledger: Ledger | None = None

    @property
    def nbytes(self) -> int:
        return self.inventory.nbytes

    @cached_property
    def tensors(self) -> list[tuple[Tensor, int]]:
        """Every tensor with the bytes in the file of what it is the first to view."""
        stored = stored_bytes(self.inventory, cover(self.inventory))
        return list(zip(self.inventory.tensors, stored, strict=True))

    @cached_property
    def by_subject(self) -> dict[str, list[Waste]]:
        """Role to its subjects and their bytes."""
        found: dict[str, list[Waste]] = {}
        for (role, subject), (nbytes, _) in self.inventory.bytes_by_subject().items():
            found.setdefault(ROLES[role], []).append(Waste(subject, nbytes))
        return found

    @cached_property
    def grown(self) -> dict[tuple[str, str], list[Waste]]:
        """(cause, label) to what the ledger says each subject gained or lost."""
        found: dict[tuple[str, str], list[Waste]] = {}
        for row in self.ledger.rows if self.ledger else ():
            found.setdefault((row.cause, row.label), []).append(_gain(row))
        return found

    def read(self, measure: str, of: tuple[str, ...]) -> Reading:
        """The value of one limit. Raises InputError where it takes a baseline and there is none."""
        return MEASURES[measure](self, of)

    def wasted(self) -> list[Culprit]:
        """What could go from the artifact, most bytes first; a byte is counted once."""
        groups = {
            (finding.finding, label): parts
            for finding in self.findings
            for label, parts in _by_label(finding).items()
        }
        return _culprits(groups)

    def gained(self) -> list[Culprit]:
        """What came since the baseline, most bytes first."""
        return [culprit._replace(gained=True) for culprit in _culprits(self.grown)]

    def held(self) -> list[Culprit]:
        """What the artifact is made of, most bytes first: its waste, and what is left of each role
        once the waste is taken out. They sum to the artifact."""
        wasted = self.wasted()
        data = ROLES[TENSOR_DATA]
        nbytes = {role: sum(part.nbytes for part in parts) for role, parts in self.by_subject.items()}
        for finding in self.findings:
            for role, size in zip(ROLES, finding.roles, strict=True):
                nbytes[role] = nbytes.get(role, 0) - size
        # Every tensor is a subject of its own; the spans know its storage only.
        named = {part.subject for finding in self.findings for part in finding.parts}
        tensors = [Waste(tensor.name, size) for tensor, size in self.tensors if tensor.name not in named]
        subjects = {**self.by_subject, data: tensors or self.by_subject.get(data, [])}
        rest = [
            culprit._replace(nbytes=nbytes[culprit.cause])
            for culprit in _culprits({(role, ""): parts for role, parts in subjects.items()})
            if nbytes.get(culprit.cause, 0) > 0
        ]
        return _largest_first([*wasted, *rest])


def _gain(row: Row) -> Waste:
    return Waste(row.subject, row.delta_bytes, row.label)


def _by_label(finding: Finding) -> dict[str, list[Waste]]:
    groups: dict[str, list[Waste]] = {}
    for part in finding.parts:
        groups.setdefault(part.label, []).append(part)
    return groups


def _culprits(groups: Mapping[tuple[str, str], Iterable[Waste]]) -> list[Culprit]:
    """One for each group that takes bytes, most bytes first."""
    found = []
    for (cause, label), parts in groups.items():
        largest = sorted(parts, key=lambda part: (-part.nbytes, part.subject))
        nbytes = sum(part.nbytes for part in largest)
        if nbytes > 0:
            members = sum(part.nbytes > 0 for part in largest)
            found.append(Culprit(cause, label, nbytes, largest[0].subject, members))
    return _largest_first(found)


def _largest_first(culprits: Iterable[Culprit]) -> list[Culprit]:
    return sorted(culprits, key=lambda culprit: (-culprit.nbytes, culprit.cause, culprit.label))


def _each(cause: str, parts: Iterable[Waste]) -> list[Culprit]:
    """Each subject that takes bytes as a culprit, most bytes first."""
    found = [Culprit(cause, part.label, part.nbytes, part.subject) for part in parts if part.nbytes > 0]
    return sorted(found, key=lambda culprit: (-culprit.nbytes, culprit.subject))


def _top(culprits: Sequence[Culprit]) -> tuple[Culprit, ...]:
    """The largest of one kind; the last one stands for all that are left, so that they sum."""
    rest = culprits[TOP - 1 :]
    if len(rest) < 2:
        return tuple(culprits)
    last = rest[0]._replace(nbytes=sum(culprit.nbytes for culprit in rest), members=len(rest))
    return (*culprits[: TOP - 1], last)


# -- what can be measured ----------------------------------------------------------------------


def _total(facts: Facts, _: tuple[str, ...]) -> Reading:
    return Reading(facts.nbytes, facts.nbytes, tuple(facts.held()[:TOP]))


def _growth(facts: Facts, _: tuple[str, ...]) -> Reading:
    if facts.ledger is None:
        raise InputError("expected a baseline to grow from")
    before = facts.ledger.before_bytes
    return Reading(facts.nbytes - before, before, tuple(facts.gained()[:TOP]))


def _cause(facts: Facts, of: tuple[str, ...]) -> Reading:
    (cause,) = of
    here = _own(facts, cause)
    if here is None and facts.ledger is None:
        raise InputError("expected a baseline: only a comparison knows this cause")
    gained = [part for (name, _), parts in facts.grown.items() if name == cause for part in parts]
    return _larger(facts, cause, here or [], gained)


def _own(facts: Facts, cause: str) -> list[Waste] | None:
    """What one artifact alone has of a cause or role; None for what only a comparison knows."""
    if cause in _FOUND:
        return [part for finding in facts.findings if finding.finding == cause for part in finding.parts]
    if cause == "unexplained":
        return facts.by_subject.get(ROLES[UNCLAIMED], [])
    if cause in ROLES:
        return facts.by_subject.get(cause, [])
    if cause in _USES:
        return [Waste(tensor.name, nbytes) for tensor, nbytes in facts.tensors if tensor.use == cause]
    return None


def _retyped(facts: Facts, of: tuple[str, ...]) -> Reading:
    """Tensors that a narrower type would hold exactly, or that were narrower in the baseline."""
    here = [
        part
        for finding in facts.findings if finding.finding == "dtype"
        for part in finding.parts if part.label in of
    ]  # fmt: skip
    gained = [part for pair in of for part in facts.grown.get(("dtype", pair), [])]
    return _larger(facts, "dtype", here, gained)


def _larger(facts: Facts, cause: str, here: Sequence[Waste], gained: Sequence[Waste]) -> Reading:
    held, added = (sum(part.nbytes for part in parts) for parts in (here, gained))
    parts, since = (here, False) if held >= added else (gained, True)
    labels: dict[tuple[str, str], list[Waste]] = {}
    for part in parts:
        labels.setdefault((cause, part.label), []).append(part)
    kinds = _culprits(labels)
    blamed = kinds[:TOP] if len(kinds) > 1 else _top(_each(cause, parts))
    return Reading(
        max(held, added), facts.nbytes,
        tuple(culprit._replace(gained=since) for culprit in blamed),
        tuple(culprit._replace(gained=since) for culprit in kinds),
    )  # fmt: skip


def _tensor(facts: Facts, of: tuple[str, ...]) -> Reading:
    """The largest tensor whose name matches, on its own."""
    (pattern,) = of
    matching = [
        Waste(tensor.name, nbytes, tensor.dtype.name)
        for tensor, nbytes in facts.tensors
        if tensor.name == pattern or fnmatchcase(tensor.name, pattern)
    ]
    # A limit on a tensor that was renamed must not pass for ever.
    problem = "" if matching or pattern == "*" else f"no tensor matches {pattern!r}"
    largest = max((part.nbytes for part in matching), default=0)
    culprits = tuple(_each(ROLES[TENSOR_DATA], matching))
    return Reading(largest, facts.nbytes, culprits[:TOP], culprits, problem)


def _dtypes(facts: Facts, of: tuple[str, ...]) -> Reading:
    """Bytes stored in any other type."""
    others = [
        Waste(tensor.name, nbytes, tensor.dtype.name)
        for tensor, nbytes in facts.tensors
        if tensor.dtype.name not in of
    ]
    groups: dict[tuple[str, str], list[Waste]] = {}
    for part in others:
        groups.setdefault((ROLES[TENSOR_DATA], part.label), []).append(part)
    value = sum(part.nbytes for part in others)
    culprits = tuple(_culprits(groups))
    return Reading(value, facts.nbytes, culprits[:TOP], culprits)


MEASURES: Mapping[str, Callable[[Facts, tuple[str, ...]], Reading]] = {
    "total": _total,
    "growth": _growth,
    "cause": _cause,
    "retyped": _retyped,
    "tensor": _tensor,
    "dtypes": _dtypes,
}
