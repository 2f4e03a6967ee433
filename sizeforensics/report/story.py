"""The whole story of one tensor: both places, the transformation, its proof, and every byte."""

from __future__ import annotations

import difflib

from sizeforensics.causes import CAUSES
from sizeforensics.errors import InputError
from sizeforensics.escape import one_line, visible
from sizeforensics.ledger import Place, Row
from sizeforensics.report import styled
from sizeforensics.report.rows import DiffReport, shape_text
from sizeforensics.report.styled import Line, View
from sizeforensics.units import format_bytes, signed_bytes

_MEANING = {
    "proved": "both payloads were read in full and compared",
    "parsed": "the format's grammar says so",
    "inferred": "from name or shape only; the values were not shown to be the same",
}
_MEANING_OF_SNAPSHOTS = {
    **_MEANING,
    "proved": "digests of both payloads agree under the transformation",
    "inferred": "from what is kept of both payloads, or from name and shape only",
}

_RECOMPUTED = "every element was computed anew from that many bytes of numbers, and compared"


def story(report: DiffReport, name: str, view: View) -> str:
    """Every row of the tensors called ``name`` on either side, newline at the end.

    Raises InputError, with the closest names, when there is no such tensor.
    """
    found: dict[tuple[Place | None, Place | None], list[Row]] = {}
    for row in report.rows:
        if any(place is not None and place.name == name for place in (row.before, row.after)):
            found.setdefault((row.before, row.after), []).append(row)
    if not found:
        raise InputError(_missing(report, name))
    lines: list[Line] = []
    for (before, after), rows in found.items():
        lines += [[], *_one(report, before, after, rows, view)] if lines else _one(
            report, before, after, rows, view
        )
    return styled.render(lines, view)


def _one(
    report: DiffReport, before: Place | None, after: Place | None, rows: list[Row], view: View
) -> list[Line]:
    first = rows[0]
    place = after or before
    name = visible(place.name if place else first.subject)
    change = sum(row.after_bytes for row in rows) - sum(row.before_bytes for row in rows)
    lines = styled.sentence(f"{name}: {signed_bytes(change)}.", view)
    lines.append([])
    for label, side, place in (("before", report.before, before), ("after", report.after, after)):
        lines.append([(f"  {label:<9} {_where(side.files, place)}", "")])
    # Of a tensor that was cut and put together anew every part has a row.
    for number, how in enumerate(dict.fromkeys(row.how for row in rows)):
        lines.append([(f"  {'' if number else 'how':<9} {visible(how)}", "")])
    kept = "snapshot" in (report.before.format, report.after.format)
    meaning = (_MEANING_OF_SNAPSHOTS if kept else _MEANING).get(first.evidence, "")
    if first.cause == "constant" and first.evidence == "proved":
        meaning = _RECOMPUTED
    lines.append([(f"  {'evidence':<9} {first.evidence}: {meaning}", "")])
    if before and after and first.evidence == "proved":
        largest = max(row.difference for row in rows)
        equal = f"{largest:.3g}" if largest else "none, equal bit for bit once transformed"
        lines.append([(f"  {'largest':<9} difference: {equal}", "")])
    lines.append([])
    table = [
        [row.cause, visible(row.label or CAUSES[row.cause].title), f"{row.before_bytes:,}",
         f"{row.after_bytes:,}", signed_bytes(row.delta_bytes)]
        for row in rows
    ]  # fmt: skip
    header = ["cause", "what", "before", "after", "change"]
    return lines + styled.table(header, table, right={2, 3, 4})


def _where(files: tuple[tuple[str, int], ...], place: Place | None) -> str:
    if place is None:
        return "not there"
    return (
        f"{visible(place.name)}  {place.dtype} {shape_text(place.shape)}, "
        f"{format_bytes(place.bytes)} at {place.offset:#x} of {visible(files[place.file][0])}"
    )


def _missing(report: DiffReport, name: str) -> str:
    known = sorted({
        place.name for row in report.rows for place in (row.before, row.after) if place is not None
    })
    ending = [other for other in known if other.endswith(name)]
    close = ending[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"; did you mean {', '.join(map(repr, close))}?" if close else ""
    return one_line(f"no tensor is called {name!r} on either side{hint}", 600)
