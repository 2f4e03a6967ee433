"""Waste inside one artifact, with the exact bytes that removing it would save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sizeforensics.causes import remedy
from sizeforensics.errors import LawBroken
from sizeforensics.excerpts import ORIGIN
from sizeforensics.fingerprints import Fingerprint
from sizeforensics.inventory import Found, Inventory, Waste
from sizeforensics.matching import exact_narrower_type, find_copies
from sizeforensics.matching.units import units_of
from sizeforensics.removal import Removal
from sizeforensics.spans import DEBUG_INFO, UNCLAIMED, VALUE_INFO
from sizeforensics.views import Coverage

_BY_USE = ("optimizer-state", "ema-copy", "unreferenced")
_BY_ROLE = {DEBUG_INFO: "debug-info", VALUE_INFO: "value-info", UNCLAIMED: "unreferenced"}

_TENSOR_FRAMING = 16
"""Bytes, at least, of a TensorProto in an attribute beside its elements: tags, lengths, type, shape."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes that one kind of waste takes; ``finding`` is a cause id.

    They are what the files lose when all of it goes and nothing else does, framing included. A byte
    is counted in one finding only, so the findings of an artifact can be added: framing that two of
    them would save is in the one that ``waste_of`` comes to first.
    """

    finding: str
    nbytes: int
    subjects: tuple[str, ...]
    """What is wasted, most bytes first."""
    remedy: str
    parts: tuple[Waste, ...] = ()
    """The same in the order of ``subjects``, with the bytes of each."""
    roles: tuple[int, ...] = ()
    """What the bytes are: as many of each role, in the order of ``ROLES``."""


def find(
    inventory: Inventory, coverage: Coverage, prints: Sequence[Fingerprint | None]
) -> tuple[Finding, ...]:
    """The waste of one artifact, most bytes first.

    Raises LawBroken when it is more than the artifact.
    """
    waste = inventory.waste
    if waste is None:
        waste = waste_of(inventory, coverage, prints)
    original = dict(inventory.metadata).get(ORIGIN, inventory.format)
    findings = [_finding(found, original) for found in waste]
    total = sum(finding.nbytes for finding in findings)
    if total > inventory.nbytes:
        raise LawBroken(
            f"{inventory.path}: findings of {total:,} bytes in an artifact of {inventory.nbytes:,}"
        )
    return tuple(sorted(findings, key=lambda finding: (-finding.nbytes, finding.finding)))


def waste_of(
    inventory: Inventory, coverage: Coverage, prints: Sequence[Fingerprint | None]
) -> tuple[Found, ...]:
    """What ``find`` makes findings of: by cause, the bytes that each part of it would save.

    In the order in which a byte is given to the first that applies: what is not needed altogether,
    copies, what says nothing about the model, and then what could be smaller.
    """
    removal = Removal(inventory, coverage)
    gone = set()
    for index, tensor in enumerate(inventory.tensors):
        if tensor.use in _BY_USE and tensor.storage is not None:
            removal.tensor(tensor.use, index)
            gone.add(index)
    units = units_of(inventory, coverage, prints, 0)
    for index in sorted({copy.tensor for copy in find_copies(inventory, units)} - gone):
        removal.tensor("duplicate", index)
        gone.add(index)
    for role, cause in _BY_ROLE.items():
        removal.spans(cause, role)
    for number, slack in enumerate(coverage.slack.tolist()):
        removal.storage("storage-slack", number, slack, inventory.storages[number].name)
    _take_encodings(inventory, coverage, removal)
    for unit in units:
        if unit.index not in gone:
            narrower = exact_narrower_type(inventory, unit)
            if narrower is not None and unit.tensor.storage is not None:
                wide, number = unit.tensor.dtype.name, unit.tensor.storage
                saved = removal.stored[unit.index] - narrower.nbytes(unit.tensor.elements)
                removal.storage(
                    "dtype", number, saved, f"{unit.tensor.name} as {narrower.name}",
                    f"{narrower.name} -> {wide}",
                )  # fmt: skip
    return tuple(removal.waste())


def _take_encodings(inventory: Inventory, coverage: Coverage, removal: Removal) -> None:
    """What the elements of typed fields take beyond their own bytes."""
    strings = {tensor.name for tensor in inventory.tensors if tensor.dtype.name == "string"}
    constants = {tensor.storage for tensor in inventory.tensors if tensor.use == "constant"}
    slack = coverage.slack.tolist()
    for number, storage in enumerate(inventory.storages):
        saved = storage.stored_bytes - storage.nbytes
        # Strings have no other encoding; a short list in an attribute is shorter than a tensor.
        if slack[number] or storage.encoding != "typed" or storage.name in strings:
            continue
        if number not in constants or saved > _TENSOR_FRAMING:
            removal.storage("encoding", number, saved, storage.name)


def _finding(found: Found, artifact_format: str) -> Finding:
    largest_first = tuple(sorted(found.parts, key=lambda part: (-part.nbytes, part.subject)))
    return Finding(
        found.cause,
        sum(part.nbytes for part in largest_first),
        tuple(part.subject for part in largest_first),
        remedy(found.cause, artifact_format),
        largest_first,
        found.roles,
    )
