"""The size of one model over its versions: what it is made of, and why each step was one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sizeforensics.report.contents import InspectReport
from sizeforensics.report.rows import DiffReport
from sizeforensics.spans import ROLES
from sizeforensics.units import counted, format_bytes, signed_bytes

CAUSES_SHOWN = 3
"""Causes of a step that are named; the others are one sum, so that the line can be added up."""


class Version(NamedTuple):
    """One version: its bytes by role, and the change that led to it, by cause."""

    name: str
    bytes: int
    roles: dict[str, int]
    delta_bytes: int | None
    """None for the first version, which nothing led to."""
    causes: tuple[tuple[str, int], ...]
    """(title, bytes) of every cause that changed something, largest change first."""

    @property
    def shown(self) -> tuple[tuple[str, int], ...]:
        """The largest causes, and the sum of the others."""
        first, rest = self.causes[:CAUSES_SHOWN], self.causes[CAUSES_SHOWN:]
        if not rest:
            return first
        return *first, (f"{len(rest):,} more", sum(delta for _, delta in rest))


class History(NamedTuple):
    """All versions, the oldest first, and the roles that any of them has, in their order."""

    headline: str
    versions: tuple[Version, ...]
    roles: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """Of all versions, each once, and of those that were left out."""


def history(
    names: Sequence[str], reports: Sequence[InspectReport], steps: Sequence[DiffReport],
    left_out: Sequence[str] = (),
) -> History:
    """``steps`` lead from each of ``reports`` to the next one; ``names`` say which version it is,
    ``left_out`` why others are not among them."""
    versions = []
    for name, report, step in zip(names, reports, (None, *steps), strict=True):
        changed = [] if step is None else [cause for cause in step.causes if cause.delta_bytes]
        changed.sort(key=lambda cause: (-abs(cause.delta_bytes), cause.title))
        versions.append(Version(
            name, report.side.bytes, {role.name: role.bytes for role in report.roles},
            None if step is None else step.delta_bytes,
            tuple((cause.title, cause.delta_bytes) for cause in changed),
        ))  # fmt: skip
    held = {role for version in versions for role, nbytes in version.roles.items() if nbytes}
    warnings = dict.fromkeys([*left_out, *(text for report in reports for text in report.warnings)])
    return History(
        _headline(versions), tuple(versions), tuple(role for role in ROLES if role in held),
        tuple(warnings),
    )  # fmt: skip


def _headline(versions: Sequence[Version]) -> str:
    first, last = versions[0], versions[-1]
    over = f"over {counted(len(versions), 'version')}"
    change = last.bytes - first.bytes
    if not change:
        return f"{last.name} is {format_bytes(last.bytes)}, as {first.name} was, {over}."
    return f"{last.name} is {format_bytes(last.bytes)}, {signed_bytes(change)} since {first.name}, {over}."
