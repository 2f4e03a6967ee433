"""Reports as text for a terminal: the answer first, exact bytes, bars, nothing cropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizeforensics.causes import CAUSES
from sizeforensics.escape import cut, visible
from sizeforensics.inventory import Inventory
from sizeforensics.report import styled
from sizeforensics.report.contents import InspectReport, Part
from sizeforensics.report.lines import CauseLine, cause_lines
from sizeforensics.report.rows import CauseRow, DiffReport, TensorPair
from sizeforensics.report.styled import Line, View
from sizeforensics.report.words import percent
from sizeforensics.spans import ROLES, UNCLAIMED
from sizeforensics.units import counted, format_bytes, signed_bytes

MAX_LINES = 20
"""Lines of a view without ``-v``."""
_BAR_CELLS = 20
_MIN_BAR_CELLS = 4


def diff(report: DiffReport, view: View) -> str:
    """The terminal view of a diff, newline at the end."""
    head = styled.sentence(report.headline, view)
    sums, fixes = _reconciliation(report, view), _fix_lines(report, view)
    fixed = len(head) + 1 + 2 + len(sums) + (len(fixes) + 1 if fixes else 0)
    lines = _lines(report, max(MAX_LINES - fixed, 1), view)
    body = [*head, [], *_waterfall(report, lines, view), *sums]
    if fixes:
        body += [[], *fixes]
    if view.verbose:
        body += [[], *_pairs(report, view)]
    return styled.render(body, view)


def _lines(report: DiffReport, room: int, view: View) -> tuple[CauseLine, ...]:
    def fitting(limit: int) -> tuple[CauseLine, ...]:
        return cause_lines(report, limit, view.sort, lambda entry: _wanted(entry, view, report))

    lines = fitting(room)
    return lines if len(lines) <= room else fitting(room - 1)


def _wanted(entry: CauseRow, view: View, report: DiffReport) -> bool:
    if abs(entry.delta_bytes) < view.min_bytes:
        return False
    if view.keeps_cause(entry.cause, (entry.title,)):
        return True
    return not view.filter.startswith("cause=") and any(
        row.cause == entry.cause and row.label == entry.label
        and view.keeps_cause(row.cause, (row.subject,))
        for row in report.rows
    )  # fmt: skip


def _waterfall(report: DiffReport, lines: Sequence[CauseLine], view: View) -> list[Line]:
    signs = ["+" if line.delta_bytes > 0 else "-" if line.delta_bytes < 0 else " " for line in lines]
    left = [("before", report.before.name)]
    left += [(line.title, line.detail) for line in lines]
    left += [("after", report.after.name)]
    labels = [_label(sign, *pair) for sign, pair in zip(["", *signs, ""], left, strict=True)]
    amounts = [format_bytes(report.before.bytes)]
    amounts += [signed_bytes(line.delta_bytes) for line in lines]
    amounts += [format_bytes(report.after.bytes)]

    label_width, amount_width = max(map(styled.cell_width, labels)), max(map(len, amounts))
    fixed = label_width + 2 + amount_width
    percents = [line.percent for line in lines]
    percent_width = max(map(len, percents), default=0)
    bar_width = min(_BAR_CELLS, view.width - fixed - percent_width - 4)
    bar_width = bar_width if bar_width >= _MIN_BAR_CELLS else 0

    end = fixed + (2 + bar_width if bar_width else 0) + 2 + percent_width
    table: list[Line] = []
    for index, (label, amount) in enumerate(zip(labels, amounts, strict=True)):
        style = ""
        if 0 < index <= len(lines):
            style = styled.GREW if signs[index - 1] == "+" else styled.SHRANK
        row: Line = [(styled.pad(label, label_width), ""), (f"  {amount:>{amount_width}}", style)]
        if 0 < index <= len(lines):
            if bar_width:
                bar = styled.bar(lines[index - 1].share, bar_width, view)
                row.append((f"  {bar:<{bar_width}}", style))
            row.append((f"  {percents[index - 1]:>{percent_width}}", ""))
            named = visible(lines[index - 1].mostly)
            # A name is shown whole or not at all.
            if named and not (view.wrap and end + 2 + styled.cell_width(named) > view.width):
                row.append((f"  {named}", styled.FAINT))
        table.append(row)
    change = f"{report.delta_bytes:+,}" if report.delta_bytes else "0"
    table[-1].append((f"  ({change})", ""))
    if lines:
        _add_legend(table, end, view)
    return table


def _add_legend(table: list[Line], end: int, view: View) -> None:
    """Say what the percentages are of: in the last line, else in the first, as short as it must be
    to stay within the terminal."""
    for line in (table[-1], table[0]):
        used = styled.cell_width("".join(text for text, _ in line))
        for text in ("% of gross change", "% of gross", "of gross"):
            right = max(end, used + 2 + len(text))
            if right <= max(view.width, end):
                line.append((text.rjust(right - used), styled.FAINT))
                return


def _label(sign: str, title: str, detail: str) -> str:
    head = f"  {sign} {visible(title)}" if sign else f"  {title:<6}"
    return f"{head}  {visible(detail)}" if detail else head


def _reconciliation(report: DiffReport, view: View) -> list[Line]:
    mark = f"  {styled.mark(report.reconciled, view)} "
    return [[(line, "")] for line in styled.hanging(mark, report.reconciliation, styled.dot(view), view)]


def _fix_lines(report: DiffReport, view: View) -> list[Line]:
    fixes = report.fixes if view.verbose else report.fixes[:2]
    if not fixes:
        return []
    width = max(len(fix.action) for fix in fixes)
    lines: list[Line] = [
        [(f"Fix: {visible(fix.action):<{width}}  ", ""), (fix.saving, styled.STRONG)] for fix in fixes
    ]
    if view.wrap and any(sum(len(text) for text, _ in line) > view.width for line in lines):
        pairs = [(visible(fix.action), fix.saving) for fix in fixes]
        lines = [[(line, "")] for pair in pairs for line in styled.hanging("Fix: ", pair, "  ", view)]
    if len(report.fixes) > len(fixes):
        lines.append([(f"     {len(report.fixes) - len(fixes)} more with -v", styled.FAINT)])
    return lines


def _pairs(report: DiffReport, view: View) -> list[Line]:
    """The tensors, the rest and the total, so that the column adds up to the change."""
    kept: list[TensorPair] = []
    left_out: list[TensorPair] = []
    for pair in report.tensors:
        fits = abs(pair.delta_bytes) >= view.min_bytes and _pair_matches(pair, view)
        (kept if fits else left_out).append(pair)
    kept.sort(key=lambda pair: _pair_order(pair, view.sort))
    rows = [
        [visible(pair.name), pair.dtype, pair.shape, *_three(pair.before_bytes, pair.after_bytes),
         pair.evidence, visible(_how(pair))]
        for pair in kept
    ]  # fmt: skip
    for title, group in (
        (counted(len(left_out), "more tensor"), left_out), ("everything else", report.others),
    ):  # fmt: skip
        if group:
            before = sum(item.before_bytes for item in group)
            after = sum(item.after_bytes for item in group)
            rows.append([f"({title})", "", "", *_three(before, after), "", ""])
    rows.append(["(total)", "", "", *_three(report.before.bytes, report.after.bytes), "", ""])
    header = ["tensor", "type", "shape", "before", "after", "change", "evidence", "how"]
    return styled.table(header, rows, right={3, 4, 5})


def _pair_matches(pair: TensorPair, view: View) -> bool:
    texts = [place.name for place in (pair.before, pair.after) if place]
    return any(view.keeps_cause(cause, (*texts, pair.how)) for cause in pair.causes)


def _pair_order(pair: TensorPair, sort: str) -> tuple[int, str]:
    size = {"before": pair.before_bytes, "after": pair.after_bytes, "name": 0}
    return -size.get(sort, abs(pair.delta_bytes)), pair.name


def _how(pair: TensorPair) -> str:
    if pair.before and pair.after and pair.before.name != pair.after.name:
        return f"{pair.how}; from {pair.before.name}" if pair.how else f"from {pair.before.name}"
    return pair.how


def _three(before: int, after: int) -> list[str]:
    return [f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else "0"]


# -- one artifact ------------------------------------------------------------------------------


def inspect(report: InspectReport, view: View) -> str:
    """The terminal view of one artifact, newline at the end."""
    head = [*styled.sentence(report.headline, view), [], *_files(report)]
    facts = [_claims(report, view), *_kinds(report), *_finding_lines(report, view)]
    room = len(report.roles) if view.verbose else MAX_LINES - len(head) - len(facts) - 1
    body = [*head, *_shares(_fitting(report, room), report.side.bytes, view), *facts]
    if view.verbose:
        body += [[], *_facts(report)]
    if view.verbose or view.filter or view.min_bytes or view.sort == "name":
        body += [[], *_tensor_table(report, view)]
    return styled.render(body, view)


def _fitting(report: InspectReport, room: int) -> list[Part]:
    """The roles, the smallest ones as one line where there is no room; never unclaimed bytes."""
    shown = list(report.roles)
    small = [part for part in reversed(shown) if part.name != ROLES[UNCLAIMED]]
    hidden = small[: len(shown) - max(room, 3) + 1] if len(shown) > room else []
    if len(hidden) < 2:
        return shown
    nbytes = sum(part.bytes for part in hidden)
    more = Part(
        f"{len(hidden)} more", nbytes, sum(part.count for part in hidden),
        sum(part.share for part in hidden), percent(nbytes, report.side.bytes),
    )  # fmt: skip
    return [*(part for part in shown if part not in hidden), more]


def _shares(parts: Sequence[Part], total: int, view: View) -> list[Line]:
    names = [part.name for part in parts] + ["total"]
    amounts = [format_bytes(part.bytes) for part in parts] + [format_bytes(total)]
    name_width, amount_width = max(map(len, names)), max(map(len, amounts))
    bar_width = min(_BAR_CELLS, view.width - name_width - amount_width - 32)
    lines: list[Line] = []
    for part, name, amount in zip(parts, names, amounts, strict=False):
        line: Line = [(f"  {name:<{name_width}}  {amount:>{amount_width}}", "")]
        if bar_width >= _MIN_BAR_CELLS:
            line.append((f"  {styled.bar(part.share, bar_width, view):<{bar_width}}", styled.SHRANK))
        spans = counted(part.count, "span")
        lines.append([*line, (f"  {part.percent:>7}", ""), (f"  {spans}", styled.FAINT)])
    lines.append([(f"  {'total':<{name_width}}  {amounts[-1]:>{amount_width}}", styled.STRONG)])
    return lines


def _claims(report: InspectReport, view: View) -> Line:
    unclaimed = f"{report.unclaimed_bytes:,} unclaimed"
    good = report.unclaimed_bytes == 0
    parts = ["every byte explained", unclaimed] if good else [unclaimed]
    return [(f"  {styled.mark(good, view)} {styled.dot(view).join(parts)}", "")]


def _kinds(report: InspectReport) -> list[Line]:
    """The largest element types, operators and tensors, a line each."""
    largest = sorted(report.tensors, key=lambda row: (-row.stored_bytes, row.name))[:3]
    kinds = (
        ("tensors", _top(report.dtypes)), ("nodes", _top(report.ops)),
        ("largest", ", ".join(f"{visible(row.name)} {format_bytes(row.stored_bytes)}" for row in largest)),
    )  # fmt: skip
    lines: list[Line] = [[(f"  {name:<8} ", styled.STRONG), (text, "")] for name, text in kinds if text]
    return [[], *lines] if lines else []


def _files(report: InspectReport) -> list[Line]:
    if len(report.side.files) == 1:
        return []
    rows = [(visible(file.path), format_bytes(file.bytes)) for file in report.side.files]
    name_width, size_width = (max(map(styled.cell_width, column)) for column in zip(*rows, strict=True))
    lines: list[Line] = [
        [(f"  {styled.pad(name, name_width)}  {size:>{size_width}}", "")] for name, size in rows
    ]
    return [*lines, []]


def _top(parts: Sequence[Part]) -> str:
    """``60 Conv 14,626 B, 69 Mul 9,106 B, 10 more 6,591 B``: the largest kinds."""
    shown = [f"{part.count:,} {visible(part.name)} {format_bytes(part.bytes)}" for part in parts[:3]]
    rest = parts[3:]
    if rest:
        count, nbytes = sum(part.count for part in rest), sum(part.bytes for part in rest)
        shown.append(f"{count:,} more {format_bytes(nbytes)}")
    return ", ".join(shown)


def _finding_lines(report: InspectReport, view: View) -> list[Line]:
    lines: list[Line] = []
    for finding in report.findings if view.verbose else report.findings[:3]:
        who = visible(finding.subjects[0]) if finding.subjects else CAUSES[finding.finding].title
        more = f" and {len(finding.subjects) - 1:,} more" if len(finding.subjects) > 1 else ""
        saving = f"saves {format_bytes(finding.bytes)} ({finding.percent})"
        lines.append([("Waste: ", styled.STRONG), (f"{finding.finding}  {who}{more}  ", ""), (saving, styled.STRONG)])
        if view.verbose:
            lines += [[(f"  {text}", "")] for text in styled.wrapped(visible(finding.remedy), view)]
    hidden = 0 if view.verbose else len(report.findings) - 3
    if hidden > 0:
        lines.append([(f"       {hidden:,} more with -v", styled.FAINT)])
    return [[], *lines] if lines else []


def _facts(report: InspectReport) -> list[Line]:
    facts = [("format", report.side.format), *report.metadata]
    width = max(styled.cell_width(visible(key)) for key, _ in facts)
    return [[(f"  {styled.pad(visible(key), width)}  {visible(value)}", "")] for key, value in facts]


def _tensor_table(report: InspectReport, view: View) -> list[Line]:
    wanted = view.filter.removeprefix("cause=").casefold()
    kept = [
        row for row in report.tensors
        if row.bytes >= view.min_bytes and (wanted in row.name.casefold() or wanted in row.use)
    ]  # fmt: skip
    kept.sort(key=lambda row: (0 if view.sort == "name" else -row.bytes, row.name))
    rows = [
        [visible(row.name), row.dtype, row.shape_text, f"{row.bytes:,}", f"{row.stored_bytes:,}",
         "-" if row.offset is None else f"{row.offset:#x}", row.use]
        for row in kept
    ]  # fmt: skip
    rest = len(report.tensors) - len(rows)
    if rest:
        nbytes, stored = (
            sum(getattr(row, size) for row in report.tensors) - sum(getattr(row, size) for row in kept)
            for size in ("bytes", "stored_bytes")
        )
        rows.append([f"({counted(rest, 'more tensor')})", "", "", f"{nbytes:,}", f"{stored:,}", "", ""])
    head = ["tensor", "type", "shape", "bytes", "stored", "offset", "use"]
    if all(row.stored_bytes == row.bytes for row in report.tensors):
        del head[4]
        for cells in rows:
            del cells[4]
    return styled.table(head, rows, right=set(range(3, len(head) - 1)))


# -- spans -------------------------------------------------------------------------------------


def spans(inventory: Inventory) -> Iterator[str]:
    """Every span of every file, in pieces: start, end, length, role, owner."""
    names = [visible(cut(name)) for name in inventory.owners.names]
    for number, file in enumerate(inventory.files):
        yield f"{chr(10) * bool(number)}{visible(file.path)}  {format_bytes(file.nbytes)}\n"
        offset, length = len(f"{file.nbytes:#x}"), len(f"{file.nbytes:,}")
        role_width = max(map(len, ROLES))
        yield f"{'start':>{offset}}  {'end':>{offset}}  {'bytes':>{length}}  {'role':<{role_width}}  owner\n"
        for start, end, role, owner in file.spans:
            yield (
                f"{start:#{offset}x}  {end:#{offset}x}  {end - start:>{length},}  "
                f"{role:<{role_width}}  {names[owner]}\n"
            )
