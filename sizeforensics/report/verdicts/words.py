"""What every report about budgets says: one line for a verdict, a diagnosis for what is broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from sizeforensics.budget.bounds import format_bound
from sizeforensics.budget.facts import Culprit
from sizeforensics.budget.verdict import Outcome, Verdict
from sizeforensics.causes import CAUSES
from sizeforensics.dtypes import DTYPES
from sizeforensics.escape import one_line
from sizeforensics.report.words import advice, joined
from sizeforensics.spans import ROLES, TENSOR_DATA
from sizeforensics.units import counted, format_bytes, signed_bytes

NAME_LIMIT = 60
"""Characters of a tensor name in a line."""
_ACTIONS = {
    "tensor-data": "store fewer or narrower tensors",
    "unclaimed": "write the file anew without what nothing refers to",
    "unexplained": "write the file anew without what nothing refers to",
}
"""What to do about bytes of one artifact that no cause of the catalogue gives advice on."""
_NOTHING = "nothing in the file is waste: make the model smaller, or raise the limit"


class Line(NamedTuple):
    """A verdict in one line; the cells are text of ours and names that are still as they were."""

    status: str
    budget: str
    path: str
    limit: str
    value: str
    allowed: str
    causes: tuple[str, ...]


def line(verdict: Verdict) -> Line:
    """The verdict with the limit that decides it, and the causes with most bytes; or why there is
    none."""
    outcome = verdict.decisive
    if outcome is None:
        return Line(verdict.status, verdict.name, verdict.path, "", "", "", (verdict.problem,))
    return Line(
        verdict.status, verdict.name, verdict.path, outcome.rule.title,
        format_bytes(outcome.value), allowed(outcome), tuple(map(_together, by_kind(outcome.culprits))),
    )  # fmt: skip


def headline(verdicts: Sequence[Verdict]) -> str:
    """How many budgets are kept, and which ones are not."""
    by_status: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_status[verdict.status].append(verdict)
    bad = []
    whole = f" of {counted(len(verdicts), 'size budget')}"
    for status, what in (("fail", "broken"), ("error", "not judged")):
        if by_status[status]:
            bad.append(f"{len(by_status[status]):,}{whole} {what}: {_titles(by_status[status])}")
            whole = ""
    if bad:
        return "; ".join(bad)
    skipped, warned = len(by_status["skipped"]), len(by_status["warn"])
    good = [f"{counted(len(verdicts) - skipped, 'size budget')} kept"]
    if warned:
        good.append(f"{warned:,} with a warning")
    if skipped:
        good.append(f"{skipped:,} skipped")
    return ", ".join(good)


def _titles(verdicts: Iterable[Verdict]) -> str:
    names = list(dict.fromkeys(map(title, verdicts)))
    return joined(names[:5] + ([f"{len(names) - 5:,} more"] if len(names) > 5 else []))


def title(verdict: Verdict) -> str:
    """The name of a budget; the model where it has none."""
    return one_line(verdict.name or verdict.path)


def subject(verdict: Verdict) -> str:
    """The budget and the model it is about."""
    path = one_line(verdict.path)
    return f"{one_line(verdict.name)} ({path})" if verdict.name else path


def diagnosis(verdict: Verdict) -> list[str]:
    """What is broken, limit by limit: value, limit, excess, who is to blame, what would help."""
    if verdict.problem:
        return [f"{subject(verdict)}: {verdict.problem}"]
    lines = [f"{subject(verdict)}: {broken(verdict)}"]
    for outcome in verdict.broken:
        lines.append(f"  {statement(outcome)}")
        lines += [f"    {text}" for text in details(outcome)]
    return lines


def broken(verdict: Verdict) -> str:
    """``2 of 7 limits broken, 1 with a warning, 1 waived``."""
    count = Counter(outcome.status for outcome in verdict.outcomes)
    parts = [f"{count['fail']:,} of {counted(len(verdict.outcomes), 'limit')} broken"]
    parts += [
        f"{count[status]:,} {what}" for status, what in (("warn", "with a warning"), ("waived", "waived"))
        if count[status]
    ]  # fmt: skip
    return ", ".join(parts)


def statement(outcome: Outcome) -> str:
    """One broken limit: its value, what is allowed, and how much is too much."""
    head = f"{outcome.status.upper()} {one_line(outcome.rule.title)}"
    if outcome.problem:
        return f"{head}: {one_line(outcome.problem)}"
    return (
        f"{head}: {format_bytes(outcome.value)}, limit {allowed(outcome)}, "
        f"excess {format_bytes(outcome.excess)}"
    )


def details(outcome: Outcome) -> list[str]:
    """The lines under a statement: causes, the fix, the waiver."""
    lines = [culprit(one) for one in outcome.culprits] if outcome.excess else []
    if outcome.excess:
        lines.append(f"Fix: {fix(outcome)}")
    if outcome.waiver:
        lines.append(waiver(outcome))
    return lines


def allowed(outcome: Outcome) -> str:
    """``15,000,000 B``, or ``293,291 B (2 %)`` for a share."""
    limit = format_bytes(outcome.limit)
    return limit if isinstance(outcome.bound, int) else f"{limit} ({format_bound(outcome.bound)})"


def culprit(one: Culprit) -> str:
    """``dtype float16 -> float32 +229,138 B (model.7.conv.weight and 119 more)``."""
    return f"{kind(one)} {amount(one)} ({subjects(one)})"


def by_kind(culprits: Sequence[Culprit]) -> list[list[Culprit]]:
    """Culprits of one cause together, so that a line names it once."""
    return [list(group) for _, group in groupby(culprits, key=kind)]


def _together(culprits: Sequence[Culprit]) -> str:
    """``duplicate 9,216 B (head.copy), 512 B (neck.copy and 3 more)``."""
    each = ", ".join(f"{amount(one)} ({subjects(one)})" for one in culprits)
    return f"{kind(culprits[0])} {each}"


def amount(one: Culprit) -> str:
    """Its bytes, with a sign where they were gained."""
    return signed_bytes(one.nbytes) if one.gained else format_bytes(one.nbytes)


def kind(one: Culprit) -> str:
    """The cause with its pair of types; of plain tensor data the type says more."""
    if one.label and one.cause == ROLES[TENSOR_DATA]:
        return one_line(one.label)
    return f"{one.cause} {one_line(one.label)}".rstrip()


def subjects(one: Culprit) -> str:
    """The largest subject, and how many more there are."""
    more = f" and {one.members - 1:,} more" if one.members > 1 else ""
    return f"{one_line(one.subject, NAME_LIMIT)}{more}"


def waiver(outcome: Outcome) -> str:
    """Who waived the limit until when and why; or that this is over."""
    known = outcome.waiver
    if known is None:
        return ""
    owner, reason = one_line(known.owner), one_line(known.reason)
    if outcome.status == "waived":
        return f"Waived until {known.expires} by {owner}: {reason}"
    return f"The waiver by {owner} expired on {known.expires}: {reason}"


# -- what would help ---------------------------------------------------------------------------


def fix(outcome: Outcome) -> str:
    """What brings the value under its limit, with the bytes each step saves."""
    if not outcome.remedies:
        return _NOTHING
    if outcome.rule.measure == "tensor":
        return _narrower(outcome, outcome.remedies[0])
    steps = joined([_step(outcome, remedy) for remedy in outcome.remedies])
    if outcome.curable:
        return f"{steps}: down to {format_bytes(outcome.value - outcome.saved)}"
    return f"{steps}: still {format_bytes(outcome.excess - outcome.saved)} too much"


def _step(outcome: Outcome, remedy: Culprit) -> str:
    saves = f"saves up to {format_bytes(remedy.nbytes)}"
    if outcome.rule.measure == "dtypes":
        return _retyped(outcome, remedy, saves)
    if remedy.cause in _ACTIONS and not remedy.gained:
        return f"{_ACTIONS[remedy.cause]} ({saves})"
    known = advice(remedy.cause, remedy.label)
    if known is None:
        cause = CAUSES.get(remedy.cause)
        # Of a longer remedy the first clause is what to do.
        action = cause.remedy.rstrip(".").split("; ")[0] if cause else f"remove {remedy.cause}"
        return f"{action[:1].lower()}{action[1:]} ({saves})"
    return f"{known.action} ({saves.replace('up to ', '') if known.exact else saves})"


def _retyped(outcome: Outcome, remedy: Culprit, saves: str) -> str:
    """Into an allowed type of the same kind; there are no indices or masks as fractions."""
    now = DTYPES.get(remedy.label)
    types = [name for name in outcome.rule.of if now and DTYPES[name].kind == now.kind]
    tensors = counted(remedy.members, f"{remedy.label} tensor")
    if not types:
        return f"allow {remedy.label} or do without {tensors} ({saves})"
    return f"store {tensors} as {' or '.join(types)} ({saves})"


def _narrower(outcome: Outcome, tensor: Culprit) -> str:
    """How few bits an element of the largest may have."""
    name, them = subjects(tensor), "them" if tensor.members > 1 else "it"
    now = DTYPES.get(tensor.label)
    bits = now.bits * outcome.limit // outcome.value if now else 0
    if not bits:
        return f"make {name} smaller, or split {them}"
    return f"store {name} in at most {counted(bits, 'bit')} an element instead of {tensor.label}, or split {them}"
