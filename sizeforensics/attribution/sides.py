"""One artifact of a diff with what each of its tensors claims, and the rows it makes."""

from __future__ import annotations

from functools import cached_property

from sizeforensics.inventory import Inventory
from sizeforensics.ledger import Place, Row
from sizeforensics.program_data import has_program, program_data
from sizeforensics.views import Coverage

GRAMMAR = "the format's grammar"
NO_REFERENCE = "nothing in the artifact refers to it"
"""How a row is known, where several modules say the same."""


class Side:
    """One artifact with what each of its tensors claims; ``after`` says which column it fills."""

    def __init__(self, inventory: Inventory, coverage: Coverage, *, after: bool) -> None:
        self.inventory = inventory
        self.after = after
        # Lists: one number at a time is asked for, a hundred thousand times.
        self.claimed: list[int] = coverage.claimed.tolist()
        self.slack: list[int] = coverage.slack.tolist()

    @cached_property
    def data(self) -> set[int]:
        """Tensors that the program holds as data, not as weights."""
        return program_data(self.inventory)

    @cached_property
    def program(self) -> bool:
        """Whether there is a program that could compute a tensor."""
        return has_program(self.inventory)

    def name(self, index: int) -> str:
        return self.inventory.tensors[index].name

    def row(
        self, cause: str, subject: str, amount: int, evidence: str, how: str,
        *, label: str = "", members: int = 1, place: Place | None = None, elements: int = 0,
    ) -> Row:
        """A row with bytes on this side only."""
        before, after = (0, amount) if self.after else (amount, 0)
        places = (None, place) if self.after else (place, None)
        return Row(cause, label, subject, before, after, evidence, how, members, elements, *places)

    def place(self, index: int) -> Place:
        """Where a tensor of this side is stored."""
        tensor = self.inventory.tensors[index]
        claimed = self.claimed[index]
        if tensor.storage is None:
            return Place(tensor.name, 0, 0, claimed, tensor.dtype.name, tensor.shape)
        storage = self.inventory.storages[tensor.storage]
        offset = storage.offset
        if storage.encoding == "raw":
            offset += tensor.offset * tensor.dtype.bits // 8
        return Place(tensor.name, storage.file, offset, claimed, tensor.dtype.name, tensor.shape)

    def claimed_elements(self, index: int) -> int:
        """Elements a tensor is the first to view; fewer than it has when it broadcasts."""
        tensor = self.inventory.tensors[index]
        return min(self.claimed[index] * 8 // tensor.dtype.bits, tensor.elements)
