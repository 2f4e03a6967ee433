"""Waste inside one artifact, with the exact bytes that removing it would save."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sizeforensics.causes import remedy
from sizeforensics.fingerprints import Fingerprint
from sizeforensics.inventory import Inventory
from sizeforensics.matching import exact_narrower_type, find_copies
from sizeforensics.matching.units import units_of
from sizeforensics.spans import DEBUG_INFO, UNCLAIMED, VALUE_INFO
from sizeforensics.views import Coverage

_BY_USE = ("optimizer-state", "ema-copy", "unreferenced")
_BY_ROLE = {DEBUG_INFO: "debug-info", VALUE_INFO: "value-info", UNCLAIMED: "unreferenced"}

_TENSOR_FRAMING = 16
"""Bytes, at least, of a TensorProto in an attribute beside its elements: tags, lengths, type, shape."""


class Waste(NamedTuple):
    """The bytes that could go of one subject; ``label`` as a row of a ledger has it."""

    subject: str
    nbytes: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes that one kind of waste takes; ``finding`` is a cause id.

    A byte is counted in one finding only, so the findings of an artifact can be added.
    """

    finding: str
    nbytes: int
    subjects: tuple[str, ...]
    """What is wasted, most bytes first."""
    remedy: str
    parts: tuple[Waste, ...] = ()
    """The same in the order of ``subjects``, with the bytes of each."""


def find(
    inventory: Inventory, coverage: Coverage, prints: Sequence[Fingerprint | None]
) -> tuple[Finding, ...]:
    """The waste of one artifact, most bytes first."""
    waste: dict[str, list[Waste]] = defaultdict(list)
    stored = stored_bytes(inventory, coverage)
    for tensor, nbytes in zip(inventory.tensors, stored, strict=True):
        if tensor.use in _BY_USE and nbytes:
            waste[tensor.use].append(Waste(tensor.name, nbytes))
    units = units_of(inventory, coverage, prints, 0)
    copies = {copy.tensor for copy in find_copies(inventory, units)}
    for index in sorted(copies):
        waste["duplicate"].append(Waste(inventory.tensors[index].name, stored[index]))
    for unit in units:
        # What should go altogether is not counted again as too wide.
        if unit.index not in copies and unit.tensor.use not in _BY_USE:
            narrower = exact_narrower_type(inventory, unit)
            if narrower is not None:
                saved = stored[unit.index] - narrower.nbytes(unit.tensor.elements)
                if saved > 0:
                    wide = unit.tensor.dtype.name
                    waste["dtype"].append(Waste(
                        f"{unit.tensor.name} as {narrower.name}", saved, f"{narrower.name} -> {wide}"
                    ))
    strings = {tensor.name for tensor in inventory.tensors if tensor.dtype.name == "string"}
    constants = {tensor.storage for tensor in inventory.tensors if tensor.use == "constant"}
    for at, (storage, slack) in enumerate(zip(inventory.storages, coverage.slack.tolist(), strict=True)):
        if slack:
            waste["storage-slack"].append(Waste(storage.name, min(slack, storage.stored_bytes)))
        elif storage.encoding == "typed" and storage.stored_bytes > storage.nbytes:
            saved = storage.stored_bytes - storage.nbytes
            # Strings have no other encoding; a short list in an attribute is shorter than a tensor.
            if storage.name in strings or (at in constants and saved <= _TENSOR_FRAMING):
                continue
            waste["encoding"].append(Waste(storage.name, saved))
    for (role, subject), (nbytes, _) in inventory.bytes_by_subject().items():
        if role in _BY_ROLE:
            waste[_BY_ROLE[role]].append(Waste(subject, nbytes))
    findings = [_finding(cause, parts, inventory.format) for cause, parts in waste.items()]
    return tuple(sorted(findings, key=lambda finding: (-finding.nbytes, finding.finding)))


def _finding(cause: str, parts: Iterable[Waste], artifact_format: str) -> Finding:
    largest_first = tuple(sorted(parts, key=lambda part: (-part.nbytes, part.subject)))
    return Finding(
        cause,
        sum(part.nbytes for part in largest_first),
        tuple(part.subject for part in largest_first),
        remedy(cause, artifact_format),
        largest_first,
    )


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
