"""The comment under a pull request: the verdict in its title, why in one sentence, all by the byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sizeforensics.escape import one_line
from sizeforensics.report.contents import InspectReport, TensorRow
from sizeforensics.report.lines import CauseLine, cause_lines
from sizeforensics.report.marked import LINE_LIMIT, code, details, fitted, marker, prose, table
from sizeforensics.report.rows import DiffReport, Evidence, Fix, TensorPair
from sizeforensics.units import counted, format_bytes, signed_bytes

MAX_CAUSES, MAX_TENSORS, MAX_WARNINGS, MAX_FIXES = 20, 20, 10, 10


def render(report: DiffReport | InspectReport) -> str:
    """The report as a comment of at most ``MAX_CHARACTERS``, newline at the end."""
    return diff(report) if isinstance(report, DiffReport) else inspect(report)


def diff(report: DiffReport) -> str:
    """Two artifacts as a comment."""
    change = report.delta_bytes
    verb = "grew" if change > 0 else "shrank"
    moved = f"{verb} by {format_bytes(abs(change))} to" if change else "stays at"
    ratio = f" ({report.ratio})" if change and report.ratio else ""
    lost = "" if report.reconciled else f"; {format_bytes(report.unexplained_bytes)} UNEXPLAINED"
    names = [report.before.name, report.after.name]
    names += [one_line(entry.largest, 60) for entry in report.causes]
    names += [entry.label for entry in report.causes]
    mark = "✓" if report.reconciled else "✗"
    parts = [
        marker("diff", report.after.path),
        f"## {code(report.after.name)} {moved} {format_bytes(report.after.bytes)}{ratio}{lost}",
        f"**Why:** {prose(report.headline, names)}",
        _causes(report),
        f"{mark} {' · '.join(report.reconciliation)} · gross change is all growth and all shrinking added up",
    ]
    optional = [
        _fixes(report.fixes), _warnings(report.warnings), _pairs(report),
    ]  # fmt: skip
    return fitted(parts, [part for part in optional if part])


def inspect(report: InspectReport) -> str:
    """One artifact as a comment."""
    lost = report.unclaimed_bytes
    mark = "✗" if lost else "✓ every byte explained ·"
    parts = [
        marker("inspect", report.side.path),
        f"## {code(report.side.name)} has {format_bytes(report.side.bytes)}"
        + (f"; {format_bytes(lost)} UNCLAIMED" if lost else ""),
        f"**What:** {prose(report.headline, [report.side.name])}",
        table(
            ("role", "bytes", "share", "spans"), "lrrr",
            [
                *([part.name, format_bytes(part.bytes), part.percent, f"{part.count:,}"] for part in report.roles),
                ["**total**", f"**{format_bytes(report.side.bytes)}**", "", ""],
            ],
        ),
        f"{mark} {lost:,} unclaimed",
    ]  # fmt: skip
    optional = [_waste(report), _warnings(report.warnings), _kinds(report), _tensors(report)]
    return fitted(parts, [part for part in optional if part])


# -- sections ----------------------------------------------------------------------------------


def _causes(report: DiffReport) -> str:
    rows = [["**before**", code(report.before.name), format_bytes(report.before.bytes), "", ""]]
    rows += [_cause(line) for line in cause_lines(report, MAX_CAUSES)]
    rows.append([
        "**after**", code(report.after.name), f"**{format_bytes(report.after.bytes)}**", "",
        f"change {signed_bytes(report.delta_bytes)}",
    ])  # fmt: skip
    return table(("cause", "what", "bytes", "% of gross change", "known by"), "llrrl", rows)


def _cause(line: CauseLine) -> list[str]:
    kinds = Evidence(*map(sum, zip(*(entry.evidence for entry in line.causes), strict=True)))
    parts = [prose(line.detail, [line.detail])] if line.detail else []
    if line.mostly:
        parts.append(prose(line.mostly, [line.causes[0].largest]))
    plain = line.plain if line.plain != line.title else ""
    what = ": ".join(text for text in (plain, ", ".join(parts)) if text)
    return [line.title, what, signed_bytes(line.delta_bytes), line.percent.removesuffix(" %"), kinds.summary]


def _fixes(fixes: Sequence[Fix]) -> str:
    if not fixes:
        return ""
    rows = [
        [prose(fix.action), prose(fix.saving.removeprefix("saves ")), prose(fix.risk)]
        for fix in fixes[:MAX_FIXES]
    ]
    if len(fixes) > MAX_FIXES:
        rows.append([f"{len(fixes) - MAX_FIXES:,} more", "", ""])
    return "**Fix**\n\n" + table(("do", "saves", "risk"), "lrl", rows)


def _waste(report: InspectReport) -> str:
    if not report.findings:
        return ""
    shown, rest = report.findings[:MAX_FIXES], report.findings[MAX_FIXES:]
    rows = [
        [row.finding, _some(row.subjects), f"{format_bytes(row.bytes)} ({row.percent})", prose(row.remedy)]
        for row in shown
    ]
    if rest:
        rows.append([f"{len(rest):,} more", "", format_bytes(sum(row.bytes for row in rest)), ""])
    return "**Waste**\n\n" + table(("finding", "where", "saves", "what to do"), "llrl", rows)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(code, names[:3]))
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    lines = [f"- {code(text, LINE_LIMIT)}" for text in warnings[:MAX_WARNINGS]]
    hidden = len(warnings) - MAX_WARNINGS
    if hidden > 0:
        lines.append(f"- {hidden:,} more")
    return "**Warnings**\n\n" + "\n".join(lines)


def _pairs(report: DiffReport) -> str:
    """The tensors that changed most, the rest and the total, so that the column adds up."""
    changed = sum(pair.delta_bytes != 0 for pair in report.tensors)
    if not changed:
        return ""
    count = min(changed, MAX_TENSORS)
    shown, more = report.tensors[:count], report.tensors[count:]
    rows = [
        [code(pair.name), code(pair.dtype), code(pair.shape), *_three([pair]), pair.evidence, _how(pair)]
        for pair in shown
    ]
    if more:
        rows.append([counted(len(more), "more tensor"), "", "", *_three(more), "", ""])
    if report.others:
        rows.append(["everything else", "", "", *_three(report.others), "", ""])
    rows.append(["**total**", "", "", *_three([*report.tensors, *report.others]), "", ""])
    head = ("tensor", "type", "shape", "before", "after", "change", "evidence", "how")
    return details(f"Tensors: {len(shown):,} of {len(report.tensors):,}, largest change first",
                    table(head, "lllrrrll", rows))  # fmt: skip


def _how(pair: TensorPair) -> str:
    texts = [code(pair.how)] if pair.how else []
    if pair.before and pair.after and pair.before.name != pair.after.name:
        texts.append(f"from {code(pair.before.name)}")
    return ", ".join(texts)


def _three(items: Iterable[object]) -> list[str]:
    before = sum(getattr(item, "before_bytes", 0) for item in items)
    after = sum(getattr(item, "after_bytes", 0) for item in items)
    return [f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "0"]


def _kinds(report: InspectReport) -> str:
    parts = [("type", part) for part in report.dtypes] + [("operator", part) for part in report.ops]
    rows = [
        [kind, code(part.name), f"{part.count:,}", format_bytes(part.bytes), part.percent]
        for kind, part in parts[:MAX_TENSORS]
    ]
    if not rows:
        return ""
    if len(parts) > MAX_TENSORS:
        rows.append(["", f"{len(parts) - MAX_TENSORS:,} more", "", "", ""])
    return details("Element types and operators", table(("", "which", "count", "bytes", "share"), "llrrr", rows))


def _tensors(report: InspectReport) -> str:
    if not report.tensors:
        return ""
    rows: list[TensorRow] = sorted(report.tensors, key=lambda row: (-row.bytes, row.name))
    cells = [
        [code(row.name), code(row.dtype), code(row.shape_text), format_bytes(row.bytes), format_bytes(row.stored_bytes)]
        for row in rows[:MAX_TENSORS]
    ]
    more = rows[MAX_TENSORS:]
    if more:
        nbytes, stored = sum(row.bytes for row in more), sum(row.stored_bytes for row in more)
        cells.append([counted(len(more), "more tensor"), "", "", format_bytes(nbytes), format_bytes(stored)])
    head = ("tensor", "type", "shape", "written out", "stored")
    return details("Largest tensors", table(head, "lllrr", cells))
