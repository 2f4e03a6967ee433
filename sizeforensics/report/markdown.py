"""The comment under a pull request: the verdict in its title, why in one sentence, all by the byte.

Whatever comes from a file stands in a code span that it cannot leave, where GitHub makes no link,
mention, reference or picture of it. Sentences of ours pass the same door word by word: only plain
words and numbers stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from urllib.parse import quote

from sizeforensics.escape import one_line
from sizeforensics.report.contents import InspectReport, TensorRow
from sizeforensics.report.lines import CauseLine, cause_lines
from sizeforensics.report.rows import DiffReport, Evidence, Fix, Side, TensorPair
from sizeforensics.report.words import counted
from sizeforensics.units import format_bytes, signed_bytes

MAX_CHARACTERS = 60_000
"""GitHub refuses comments of more than 65,536."""
MAX_CAUSES, MAX_TENSORS, MAX_WARNINGS, MAX_FIXES = 20, 20, 10, 10
_NAME_LIMIT = 120
_FILE_LIMIT = 200
# A word of a sentence that does nothing whoever wrote it: lower case after the first letter, or a
# number.
_WORD = re.compile(r"[A-Za-z]?[a-z]{0,24}|[A-Z]{1,5}|[+-]?\d{1,3}(,\d{3})*(\.\d+)?x?|->|%|[<>]\d+\.\d+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,}", re.ASCII)
_OPENING, _CLOSING = "(", ".,;:)"


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
        _marker("diff", report.after),
        f"## {code(report.after.name)} {moved} {format_bytes(report.after.bytes)}{ratio}{lost}",
        f"**Why:** {prose(report.headline, names)}",
        _causes(report),
        f"{mark} {' · '.join(report.reconciliation)} · gross change is all growth and all shrinking added up",
    ]
    optional = [
        _fixes(report.fixes), _warnings(report.warnings), _pairs(report),
    ]  # fmt: skip
    return _fitted(parts, [part for part in optional if part])


def inspect(report: InspectReport) -> str:
    """One artifact as a comment."""
    lost = report.unclaimed_bytes
    mark = "✗" if lost else "✓ every byte explained ·"
    parts = [
        _marker("inspect", report.side),
        f"## {code(report.side.name)} has {format_bytes(report.side.bytes)}"
        + (f"; {format_bytes(lost)} UNCLAIMED" if lost else ""),
        f"**What:** {prose(report.headline, [report.side.name])}",
        _table(
            ("role", "bytes", "share", "spans"), "lrrr",
            [
                *([part.name, format_bytes(part.bytes), part.percent, f"{part.count:,}"] for part in report.roles),
                ["**total**", f"**{format_bytes(report.side.bytes)}**", "", ""],
            ],
        ),
        f"{mark} {lost:,} unclaimed",
    ]  # fmt: skip
    optional = [_waste(report), _warnings(report.warnings), _kinds(report), _tensors(report)]
    return _fitted(parts, [part for part in optional if part])


def _fitted(parts: Sequence[str], optional: Sequence[str]) -> str:
    """All parts that fit, the last ones left out first and named by number; never half a part."""
    kept = list(optional)
    while True:
        missing = len(optional) - len(kept)
        note = f"{counted(missing, 'section')} left out: a comment has a limit."
        text = "\n\n".join([*parts, *kept, *([note] if missing else [])]) + "\n"
        if len(text) <= MAX_CHARACTERS or not kept:
            return text
        kept.remove(max(kept, key=len))


# -- sections ----------------------------------------------------------------------------------


def _marker(verb: str, side: Side) -> str:
    """A comment nobody sees, by which a bot finds its comment about the same model again.

    A relative path tells models apart; an absolute one is another one on every machine.
    """
    path = PurePath(side.path)
    name = path.name if path.is_absolute() else path.as_posix()
    safe = quote(name, safe="/", errors="surrogatepass")[:_FILE_LIMIT].replace("--", "-%2D")
    return f"<!-- sizeforensics {verb} {safe} -->"


def _causes(report: DiffReport) -> str:
    rows = [["**before**", code(report.before.name), format_bytes(report.before.bytes), "", ""]]
    rows += [_cause(line) for line in cause_lines(report, MAX_CAUSES)]
    rows.append([
        "**after**", code(report.after.name), f"**{format_bytes(report.after.bytes)}**", "",
        f"change {signed_bytes(report.delta_bytes)}",
    ])  # fmt: skip
    return _table(("cause", "what", "bytes", "% of gross change", "known by"), "llrrl", rows)


def _cause(line: CauseLine) -> list[str]:
    kinds = Evidence(*map(sum, zip(*(entry.evidence for entry in line.causes), strict=True)))
    detail = prose(line.detail, [line.detail]) if line.detail else ""
    if line.mostly:
        detail += f", {prose(line.mostly, [line.causes[0].largest])}"
    plain = line.plain if line.plain != line.title else ""
    what = ": ".join(text for text in (plain, detail) if text)
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
    return "**Fix**\n\n" + _table(("do", "saves", "risk"), "lrl", rows)


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
    return "**Waste**\n\n" + _table(("finding", "where", "saves", "what to do"), "llrl", rows)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(code, names[:3]))
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    lines = [f"- {code(text, _FILE_LIMIT)}" for text in warnings[:MAX_WARNINGS]]
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
    return _details(f"Tensors: {len(shown):,} of {len(report.tensors):,}, largest change first",
                    _table(head, "lllrrrll", rows))  # fmt: skip


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
    return _details("Element types and operators", _table(("", "which", "count", "bytes", "share"), "llrrr", rows))


def _tensors(report: InspectReport) -> str:
    if not report.tensors:
        return ""
    rows: list[TensorRow] = sorted(report.tensors, key=lambda row: (-row.bytes, row.name))
    cells = [
        [code(row.name), code(row.dtype), code(row.shape_text), format_bytes(row.bytes)]
        for row in rows[:MAX_TENSORS]
    ]
    more = rows[MAX_TENSORS:]
    if more:
        cells.append([counted(len(more), "more tensor"), "", "", format_bytes(sum(row.bytes for row in more))])
    return _details("Largest tensors, elements written out", _table(("tensor", "type", "shape", "bytes"), "lllr", cells))


def _details(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def _table(header: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in [header, rule, *rows])


def _cell(text: str) -> str:
    """A pipe would end the cell, inside code too. Renderers disagree about one that a backslash
    stands before already, so that one is written as an escape."""
    return text.replace("\\|", "\\\\x7c").replace("|", "\\|")


# -- untrusted text ----------------------------------------------------------------------------


def code(text: str, limit: int = _NAME_LIMIT) -> str:
    """``text`` as a code span: one line, with more backticks around it than in it."""
    text = one_line(text, limit)
    if not text.strip(" "):
        return f"`{text!r}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(text: str, names: Sequence[str] = ()) -> str:
    """A sentence of ours about ``names``: they and every word that might be one become code."""
    known = sorted({name for name in names if name and not _plain(name)}, key=lambda name: (-len(name), name))
    pieces = [text]
    if known:
        pieces = re.split("|".join(f"({re.escape(name)})" for name in known), text)
    done = []
    for piece in pieces:
        if piece is None:
            continue
        done.append(code(piece, _FILE_LIMIT) if piece in known else _words(piece))
    return "".join(done)


def _words(text: str) -> str:
    return " ".join(map(_word, text.split(" ")))


def _word(word: str) -> str:
    if not word:
        return ""
    start = len(word) - len(word.lstrip(_OPENING))
    core = word[start:].rstrip(_CLOSING)
    if "(" in core and word[start + len(core) :].startswith(")"):
        core += ")"  # half() is one word
    end = word[start + len(core):]
    # More punctuation than a sentence has is part of a name.
    if start > 1 or len(end) > 3 or not (_plain(core) or core):
        return code(word)
    return word[:start] + (core if _plain(core) else code(core)) + end


def _plain(word: str) -> bool:
    return all(
        _WORD.fullmatch(part) is not None and _COMMIT.fullmatch(part) is None
        for part in re.split(r" (?=\S)", word)
    )
