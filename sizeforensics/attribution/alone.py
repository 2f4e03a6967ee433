"""Rows of tensors that correspond to nothing on the other side, and of what is stored beside them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from sizeforensics.attribution.sides import NO_REFERENCE, Side
from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Place, Row
from sizeforensics.matching import Matching

_USE_ROWS = {
    "optimizer-state": ("optimizer-state", "parsed", "held under the optimizer's key"),
    "quantization-parameters": (
        "quantization-parameters", "parsed", "scales or shifts another tensor"),
    "unreferenced": ("unreferenced", "proved", NO_REFERENCE),
    "ema-copy": ("ema-copy", "inferred", "a network of the same names and shapes under another key"),
    "sparse-index": ("sparse-index", "parsed", "indices of a sparse tensor"),
    "constant": ("constant", "parsed", "stored by the program as a constant"),
}  # fmt: skip


def alone(
    side: Side, index: int, *, averaged: bool, recipe: tuple[str, int] | None
) -> Row:
    """A tensor without counterpart: its use says why it is there."""
    tensor = side.inventory.tensors[index]
    use = "ema-copy" if averaged else tensor.use
    cause, evidence, how = _USE_ROWS.get(
        use, ("unmatched", "parsed", "no tensor of the other side equals it or has its name")
    )
    if cause == "unmatched" and (index in side.data or (recipe is not None and side.program)):
        cause, how = "constant", "data that the program computes with"
    if cause == "constant" and recipe is not None:
        evidence, how = "proved", f"{recipe[0]}: {recipe[1]:,} bytes regenerate it"
    return side.row(
        cause, tensor.name, side.claimed[index], evidence, how,
        place=side.place(index), elements=side.claimed_elements(index),
    )


def twins_of_averaged(
    inventory: Inventory, matching: Matching, placed: set[int], side: int
) -> set[int]:
    """Tensors of the network whose averaged copy is what the other side holds.

    One of the two networks is the further copy; it is the one that the other side does not have.
    Networks are the same where at least half of the tensors of one have the shapes of the other's.
    """
    taken = {match.on(side) for match in matching.matches}
    taken |= {fold.tensor for fold in matching.folds if fold.side == side}
    averaged = {
        inventory.tensors[index].scope
        for index in taken
        if inventory.tensors[index].use == "ema-copy"
    }
    if not averaged:
        return set()
    networks: dict[str, list[int]] = defaultdict(list)
    for index, tensor in enumerate(inventory.tensors):
        if tensor.scope and tensor.use in ("weight", "buffer", "ema-copy"):
            networks[tensor.scope].append(index)
    twins: set[int] = set()
    for scope in sorted(networks.keys() - averaged):
        for other in sorted(averaged):
            waiting = Counter(inventory.tensors[index].shape for index in networks[other])
            alike = set()
            for index in networks[scope]:
                shape = inventory.tensors[index].shape
                if waiting[shape] > 0:
                    waiting[shape] -= 1
                    alike.add(index)
            if 2 * len(alike) >= len(networks[scope]):
                twins |= alike
    return twins - placed


def slack(side: Side) -> Iterator[Row]:
    """The bytes of storages that no tensor views."""
    for number, storage in enumerate(side.inventory.storages):
        amount = side.slack[number]
        if amount:
            place = Place(storage.name, storage.file, storage.offset, storage.stored_bytes, "", ())
            yield side.row(
                "storage-slack", storage.name, amount, "proved", "no tensor views these bytes",
                place=place,
            )


def encodings(side: Side, rows: Mapping[int, Row]) -> Iterator[Row]:
    """What storages cost or save against raw elements.

    Where a tensor is matched that difference has a cause of its own. Where none is, the bytes stay
    with the cause that explains the tensor, whose row is in ``rows``: it is there, however it is
    written.
    """
    viewers: dict[int, int] = {}
    for index, tensor in enumerate(side.inventory.tensors):
        if tensor.storage is not None and side.claimed[index]:
            known = viewers.setdefault(tensor.storage, index)
            if known in rows and index not in rows:
                viewers[tensor.storage] = index
    for number, storage in enumerate(side.inventory.storages):
        amount = storage.stored_bytes - storage.nbytes
        if amount:
            viewer = viewers.get(number)
            cause, label, evidence = "storage-slack", "", "proved"
            if viewer is not None and viewer in rows:
                row = rows[viewer]
                cause, label, evidence = row.cause, row.label, row.evidence
            elif viewer is not None:
                cause = "compression" if storage.encoding == "deflate" else "encoding"
                evidence = "parsed"
            how = f"stored as {storage.encoding}"
            yield side.row(cause, storage.name, amount, evidence, how, label=label)
