"""The rows of a diff, and the law that they sum exactly."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from sizeforensics.causes import CAUSES
from sizeforensics.errors import LawBroken

EVIDENCE = ("proved", "parsed", "inferred", "unexplained")


class Place(NamedTuple):
    """Where one side of a row is stored: index of the file in the artifact, offset of the first byte.

    ``bytes`` are the stored bytes of the whole tensor, not the row's share of them.
    """

    name: str
    file: int
    offset: int
    bytes: int
    dtype: str
    shape: tuple[int, ...]


class Row(NamedTuple):
    """Bytes before and after that one cause explains for one subject.

    ``label`` tells rows of one cause apart, such as ``float16 -> float32``. ``evidence`` is how it is
    known and ``how`` what was compared, in words; ``before`` and ``after`` are where the tensors are
    stored, None for a row about none. ``before_bytes`` can be negative where a cause gives bytes back, as compression does; the
    rows of a diff still sum to the sizes of the artifacts.
    """

    cause: str
    label: str
    subject: str
    before_bytes: int
    after_bytes: int
    evidence: str
    how: str
    members: int = 1
    """Tensors, nodes or spans the row stands for."""
    elements: int = 0
    """Tensor elements matched; 0 where the row is not about a matched tensor."""
    before: Place | None = None
    after: Place | None = None
    difference: float = 0.0
    """The largest absolute difference between two matched tensors under the transformation."""

    @property
    def delta_bytes(self) -> int:
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class Ledger:
    """The diff of two artifacts as rows that sum to their sizes.

    Raises LawBroken unless the sums of ``before_bytes`` and ``after_bytes`` are exactly the sizes
    of the two artifacts and every cause and kind of evidence is one of the catalogue.
    """

    before_bytes: int
    after_bytes: int
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for side, size in (("before", self.before_bytes), ("after", self.after_bytes)):
            total = sum(map(attrgetter(f"{side}_bytes"), self.rows))
            if total != size:
                raise LawBroken(
                    f"the rows of the ledger hold {total:,} bytes {side}, the artifact {size:,}"
                )
        for row in self.rows:
            if row.cause not in CAUSES or row.evidence not in EVIDENCE:
                raise LawBroken(f"row {row.subject!r} has cause {row.cause!r}, {row.evidence!r}")
