"""What has to hold for whatever bytes a reader is given: explained to the byte, or refused in a line."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from sizeforensics import formats
from sizeforensics.errors import FormatError
from sizeforensics.inventory import Inventory
from sizeforensics.source import MemorySource


def read_or_refuse(data: bytes) -> Inventory | None:
    """The inventory, whose constructor checks its laws; None when the file is refused."""
    try:
        inventory = formats.read_source(MemorySource("model", data))
    except FormatError as refusal:
        message = str(refusal)
    else:
        assert inventory.nbytes == len(data)
        assert all(warning.isprintable() for warning in inventory.warnings)
        return inventory
    assert message.isprintable()
    return None


def accepted_cuts(data: bytes, cuts: Iterable[int]) -> list[int]:
    """Where a file can be cut without being refused."""
    return [cut for cut in cuts if read_or_refuse(data[:cut]) is not None]


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` with up to three other bytes."""
    changes = st.lists(
        st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=3
    )

    def apply(where: list[tuple[int, int]]) -> bytes:
        changed = bytearray(data)
        for position, value in where:
            changed[position] = value
        return bytes(changed)

    return changes.map(apply)
