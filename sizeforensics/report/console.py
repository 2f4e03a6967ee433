"""Reports as text for a terminal: the answer first, exact bytes, bars, nothing cropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sizeforensics.causes import CAUSES
from sizeforensics.escape import visible
from sizeforensics.inventory import Inventory
from sizeforensics.report.contents import InspectReport, Part
from sizeforensics.report.lines import CauseLine, cause_lines
from sizeforensics.report.rows import CauseRow, DiffReport, TensorPair
from sizeforensics.spans import ROLES
from sizeforensics.units import format_bytes, signed_bytes

MAX_LINES = 20
"""Lines of a view without ``-v``."""
_BAR_CELLS = 20
_MIN_BAR_CELLS = 4
_GREW, _SHRANK, _STRONG, _FAINT = "#D55E00", "#0072B2", "bold", "dim"

Segment = tuple[str, str]
"""Text and its style; a style never says anything that the text does not."""
Line = list[Segment]


@dataclass(frozen=True, slots=True)
class View:
    """How and how much to print. ``wrap`` breaks sentences at ``width``, which a pipe does not
    want: its reader takes the first line for the answer."""

    width: int = 80
    unicode: bool = True
    colour: bool = False
    wrap: bool = False
    verbose: bool = False
    sort: str = "delta"
    min_bytes: int = 0
    filter: str = ""

    def keeps_cause(self, cause: str, texts: Iterable[str]) -> bool:
        """Whether ``--filter`` lets a row of this cause with these texts through."""
        if self.filter.startswith("cause="):
            return cause == self.filter.removeprefix("cause=")
        wanted = self.filter.casefold()
        return not wanted or any(wanted in text.casefold() for text in (cause, *texts))


def diff(report: DiffReport, view: View) -> str:
    """The terminal view of a diff, newline at the end."""
    head = _sentence(report.headline, view)
    fixes = _fix_lines(report, view)
    fixed = len(head) + 1 + 2 + 1 + (len(fixes) + 1 if fixes else 0)
    lines = cause_lines(
        report, max(MAX_LINES - fixed, 1), view.sort, lambda entry: _wanted(entry, view, report)
    )
    body = [*head, [], *_waterfall(report, lines, view), _reconciliation(report, view)]
    if fixes:
        body += [[], *fixes]
    if view.verbose:
        body += [[], *_pairs(report, view)]
    return _text(body, view)


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
    left += [(line.title, _detail(line)) for line in lines]
    left += [("after", report.after.name)]
    labels = [_label(sign, *pair) for sign, pair in zip(["", *signs, ""], left, strict=True)]
    amounts = [format_bytes(report.before.bytes)]
    amounts += [signed_bytes(line.delta_bytes) for line in lines]
    amounts += [format_bytes(report.after.bytes)]

    label_width, amount_width = max(map(_cells, labels)), max(map(len, amounts))
    fixed = label_width + 2 + amount_width
    percents = [line.percent for line in lines]
    percent_width = max(map(len, percents), default=0)
    bar_width = min(_BAR_CELLS, view.width - fixed - percent_width - 4)
    bar_width = bar_width if bar_width >= _MIN_BAR_CELLS else 0

    table: list[Line] = []
    for index, (label, amount) in enumerate(zip(labels, amounts, strict=True)):
        style = "" if not 0 < index <= len(lines) else _GREW if signs[index - 1] == "+" else _SHRANK
        row: Line = [(_pad(label, label_width), ""), (f"  {amount:>{amount_width}}", style)]
        if 0 < index <= len(lines):
            if bar_width:
                bar = _bar(lines[index - 1].share, bar_width, view)
                row.append((f"  {bar:<{bar_width}}", style))
            row.append((f"  {percents[index - 1]:>{percent_width}}", ""))
        table.append(row)
    table[-1].append((f"  ({report.delta_bytes:+,})", ""))
    if lines:
        end = fixed + (2 + bar_width if bar_width else 0) + 2 + percent_width
        table[-1].append((_legend(_cells("".join(text for text, _ in table[-1])), end, view), _FAINT))
    return table


def _legend(used: int, end: int, view: View) -> str:
    """What the percentages are of: under their column's right edge where there is room, and as
    short as it must be to stay on the line."""
    for text in ("% of gross change", "% of gross"):
        right = max(end, used + 2 + len(text))
        if right <= max(view.width, end):
            return text.rjust(right - used)
    return ""


def _detail(line: CauseLine) -> str:
    # A plain catalogue title beside its own id says the same thing twice.
    single = line.causes[0] if len(line.causes) == 1 else None
    return line.detail if single is None or single.label else ""


def _label(sign: str, title: str, detail: str) -> str:
    head = f"  {sign} {visible(title)}" if sign else f"  {title:<6}"
    return f"{head}  {visible(detail)}" if detail else head


def _bar(share: float, cells: int, view: View) -> str:
    """Proportional to a cell's eighth; the smallest change still shows a mark."""
    if not view.unicode:
        full = round(share * cells)
        return "#" * full if full else "." if share else ""
    eighths = max(round(share * cells * 8), 1 if share else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _reconciliation(report: DiffReport, view: View) -> Line:
    return [(f"  {_mark(report.reconciled, view)} ", ""), (_dotted(report.reconciliation, view), "")]


def _mark(good: bool, view: View) -> str:
    if good:
        return "✓" if view.unicode else "ok"
    return "✗" if view.unicode else "!!"


def _dotted(parts: Sequence[str], view: View) -> str:
    return (" · " if view.unicode else " - ").join(parts)


def _fix_lines(report: DiffReport, view: View) -> list[Line]:
    fixes = report.fixes if view.verbose else report.fixes[:2]
    if not fixes:
        return []
    width = max(len(fix.action) for fix in fixes)
    lines: list[Line] = [
        [(f"Fix: {visible(fix.action):<{width}}  ", ""), (fix.saving, _STRONG)] for fix in fixes
    ]
    if len(report.fixes) > len(fixes):
        lines[-1].append((f"  (+{len(report.fixes) - len(fixes)} more with -v)", _FAINT))
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
        (f"{len(left_out):,} more tensors", left_out), ("everything else", report.others),
    ):  # fmt: skip
        if group:
            before = sum(item.before_bytes for item in group)
            after = sum(item.after_bytes for item in group)
            rows.append([f"({title})", "", "", *_three(before, after), "", ""])
    rows.append(["(total)", "", "", *_three(report.before.bytes, report.after.bytes), "", ""])
    header = ["tensor", "type", "shape", "before", "after", "change", "evidence", "how"]
    return _table(header, rows, right={3, 4, 5})


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
    body: list[Line] = [*_sentence(report.headline, view), []]
    if len(report.side.files) > 1:
        body += [[(f"  {visible(file.path)}  {format_bytes(file.bytes)}", "")] for file in report.side.files]
    body += _shares(report, view)
    good = report.unclaimed_bytes == 0
    parts = ["every byte explained"] if good else []
    body.append([(f"  {_mark(good, view)} {_dotted([*parts, f'{report.unclaimed_bytes:,} unclaimed'], view)}", "")])
    if report.dtypes:
        body += [[], [("  types    ", _STRONG), (_top(report.dtypes, "tensor", 4), "")]]
    if report.ops:
        body.append([("  ops      ", _STRONG), (_top(report.ops, "node", 4), "")])
    body += _finding_lines(report, view)
    if view.verbose:
        body += [[], *_facts(report), *_tensor_table(report, view, len(report.tensors))]
    elif report.tensors:
        room = max(MAX_LINES - len(body) - 2, 3)
        body += [[], *_tensor_table(report, view, min(room, 5))]
    return _text(body, view)


def _shares(report: InspectReport, view: View) -> list[Line]:
    names = [part.name for part in report.roles] + ["total"]
    amounts = [format_bytes(part.bytes) for part in report.roles]
    amounts.append(format_bytes(report.side.bytes))
    name_width, amount_width = max(map(len, names)), max(map(len, amounts))
    bar_width = min(_BAR_CELLS, view.width - name_width - amount_width - 32)
    lines: list[Line] = []
    for part, name, amount in zip(report.roles, names, amounts, strict=False):
        line: Line = [(f"  {name:<{name_width}}  {amount:>{amount_width}}", "")]
        if bar_width >= _MIN_BAR_CELLS:
            line.append((f"  {_bar(part.share, bar_width, view):<{bar_width}}", _SHRANK))
        spans = f"{part.count:,} span{'s' * (part.count != 1)}"
        lines.append([*line, (f"  {part.percent:>7}", ""), (f"  {spans}", _FAINT)])
    lines.append([(f"  {'total':<{name_width}}  {amounts[-1]:>{amount_width}}", _STRONG)])
    return lines


def _top(parts: Sequence[Part], noun: str, limit: int) -> str:
    shown = [
        f"{visible(part.name)} {format_bytes(part.bytes)} in {part.count:,} {noun}{'s' * (part.count != 1)}"
        for part in parts[:limit]
    ]
    rest = parts[limit:]
    if rest:
        shown.append(f"{len(rest):,} more {format_bytes(sum(part.bytes for part in rest))}")
    return ", ".join(shown)


def _finding_lines(report: InspectReport, view: View) -> list[Line]:
    lines: list[Line] = []
    for finding in report.findings if view.verbose else report.findings[:3]:
        who = visible(finding.subjects[0]) if finding.subjects else CAUSES[finding.finding].title
        more = f" and {len(finding.subjects) - 1:,} more" if len(finding.subjects) > 1 else ""
        saving = f"saves {format_bytes(finding.bytes)} ({finding.percent})"
        lines.append([("Waste: ", _STRONG), (f"{finding.finding}  {who}{more}  ", ""), (saving, _STRONG)])
        if view.verbose:
            lines += [[(f"  {text}", "")] for text in _wrapped(visible(finding.remedy), view)]
    hidden = 0 if view.verbose else len(report.findings) - 3
    if hidden > 0:
        lines.append([(f"       {hidden:,} more with -v", _FAINT)])
    return [[], *lines] if lines else []


def _facts(report: InspectReport) -> list[Line]:
    facts = [("format", report.side.format), *report.metadata]
    width = max(_cells(visible(key)) for key, _ in facts)
    return [[(f"  {_pad(visible(key), width)}  {visible(value)}", "")] for key, value in facts] + [[]]


def _tensor_table(report: InspectReport, view: View, limit: int) -> list[Line]:
    wanted = view.filter.removeprefix("cause=").casefold()
    kept = [
        row for row in report.tensors
        if row.bytes >= view.min_bytes and (wanted in row.name.casefold() or wanted in row.use)
    ]  # fmt: skip
    kept.sort(key=lambda row: (0 if view.sort == "name" else -row.bytes, row.name))
    rows = [
        [visible(row.name), row.dtype, row.shape_text, f"{row.bytes:,}",
         "-" if row.offset is None else f"{row.offset:#x}", row.use]
        for row in kept[:limit]
    ]  # fmt: skip
    rest = len(report.tensors) - len(rows)
    if rest:
        nbytes = sum(row.bytes for row in report.tensors) - sum(row.bytes for row in kept[:limit])
        rows.append([f"({rest:,} more tensors)", "", "", f"{nbytes:,}", "", ""])
    return _table(["tensor", "type", "shape", "bytes", "offset", "use"], rows, right={3, 4})


# -- text --------------------------------------------------------------------------------------


def _table(header: list[str], rows: list[list[str]], right: set[int]) -> list[Line]:
    """Columns as wide as their widest cell: a name is never cropped."""
    widths = [max(map(_cells, column)) for column in zip(header, *rows, strict=True)]
    lines: list[Line] = []
    for number, cells in enumerate([header, *rows]):
        padded = [
            " " * (width - _cells(cell)) + cell if column in right else _pad(cell, width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append([("  " + "  ".join(padded), _FAINT if number == 0 else "")])
    return lines


def _sentence(text: str, view: View) -> list[Line]:
    return [[(line, _STRONG)] for line in _wrapped(text, view)]


def _wrapped(text: str, view: View) -> list[str]:
    if not view.wrap:
        return [text]
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and _cells(lines[-1]) + 1 + _cells(word) > view.width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))


def _text(lines: Sequence[Line], view: View) -> str:
    if not view.colour:
        return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)
    from rich.style import Style

    styles = {style: Style.parse(style) for line in lines for _, style in line if style}
    return "".join(
        "".join(styles[style].render(text) if style else text for text, style in line) + "\n"
        for line in lines
    )


# -- spans -------------------------------------------------------------------------------------


def spans(inventory: Inventory) -> Iterator[str]:
    """Every span of every file, in pieces: start, end, length, role, owner."""
    names = [visible(name) for name in inventory.owners.names]
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
