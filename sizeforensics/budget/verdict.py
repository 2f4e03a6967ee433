"""A budget against the facts: for every limit the value, the excess, who is to blame, what helps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sizeforensics.budget.bounds import Bound, most
from sizeforensics.budget.facts import TOP, Culprit, Facts, Reading
from sizeforensics.budget.rules import Budget, Rule, Waiver
from sizeforensics.errors import about

STATUSES = ("error", "fail", "warn", "waived", "ok", "skipped")
"""From the one that decides to the ones that do not; ``error`` is a model that cannot be judged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One limit, measured."""

    rule: Rule
    status: str
    """``fail``, ``warn``, ``waived`` or ``ok``."""
    value: int
    """What was measured, in bytes."""
    bound: Bound
    """The bound that was crossed; where none was, the one to fail at, else the one to warn at."""
    limit: int
    """The same in bytes."""
    culprits: tuple[Culprit, ...]
    """What the value is made of, most bytes first."""
    remedies: tuple[Culprit, ...] = ()
    """What has to go so that the limit is kept, as few as it takes; empty where it is kept."""
    waiver: Waiver | None = None
    """The waiver that holds, or the one that no longer does."""
    problem: str = ""
    """Why the limit is broken whatever the value is."""

    @property
    def excess(self) -> int:
        """Bytes above the limit; 0 where there are none."""
        return max(self.value - self.limit, 0)

    @property
    def saved(self) -> int:
        """What all remedies take away together."""
        return sum(remedy.nbytes for remedy in self.remedies)

    @property
    def curable(self) -> bool:
        """Whether the remedies bring the value under the limit."""
        return self.saved >= self.excess > 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One artifact under one budget."""

    name: str
    """The name of the budget in the configuration; empty for one without."""
    path: str
    """The artifact, or the pattern that no file matches."""
    status: str
    """The worst of the outcomes (``fail``, ``warn``, ``waived``, ``ok``), ``error`` where the artifact or
    its baseline cannot be read, ``skipped`` where an optional file is not there."""
    nbytes: int = 0
    """Bytes of all files of the artifact."""
    baseline: str | None = None
    """The model or snapshot that growth was measured from."""
    baseline_bytes: int | None = None
    """Bytes of all files of the baseline."""
    outcomes: tuple[Outcome, ...] = ()
    """Every limit of the budget, in its order."""
    problem: str = ""
    """Why there is no artifact."""
    warnings: tuple[str, ...] = ()
    """What the artifact was read with, such as external data that are not there to be counted."""

    @property
    def ok(self) -> bool:
        """Whether it was judged and nothing fails; what only warns does not."""
        return self.status not in ("error", "fail")

    @property
    def decisive(self) -> Outcome | None:
        """The outcome that stands for all: the first of the worst status."""
        ranked = sorted(self.outcomes, key=lambda outcome: STATUSES.index(outcome.status))
        return ranked[0] if ranked else None

    @property
    def broken(self) -> tuple[Outcome, ...]:
        """The outcomes that are not as they should be, the worst first, waived ones included."""
        found = [outcome for outcome in self.outcomes if outcome.status != "ok"]
        return tuple(sorted(found, key=lambda outcome: STATUSES.index(outcome.status)))


def judge(
    budget: Budget, facts: Facts, today: dt.date, *, name: str = "", baseline: str | None = None
) -> Verdict:
    """Every limit of the budget, measured. ``today`` decides nothing but which waivers hold.

    Raises InputError where a limit needs a baseline and there is none.
    """
    outcomes = tuple(_outcome(rule, budget.waivers, facts, today) for rule in budget.rules)
    before = facts.ledger.before_bytes if facts.ledger else None
    return Verdict(
        name, facts.inventory.path, worst(outcome.status for outcome in outcomes), facts.nbytes,
        baseline, before, outcomes,
    )  # fmt: skip


def worst(statuses: Iterable[str]) -> str:
    """The status that decides; ``ok`` where there is none."""
    return min(statuses, key=STATUSES.index, default="ok")


def _outcome(
    rule: Rule, waivers: Sequence[Waiver], facts: Facts, today: dt.date
) -> Outcome:
    with about(rule.key):
        reading = facts.read(rule.measure, rule.of)
    status, bound = _crossed(rule, reading)
    waiver = None if status == "ok" else _waiver(rule, waivers)
    if waiver and waiver.holds(today):
        status = "waived"
    limit = most(bound, reading.whole)
    culprits = reading.culprits
    remedies: tuple[Culprit, ...] = ()
    if reading.value > limit:
        culprits, remedies = _blamed(rule, facts, reading, limit)
    return Outcome(
        rule, status, reading.value, bound, limit, culprits, remedies, waiver, reading.problem
    )


def _blamed(
    rule: Rule, facts: Facts, reading: Reading, limit: int
) -> tuple[tuple[Culprit, ...], tuple[Culprit, ...]]:
    """What is to blame for a value above its limit, and what would bring it under it."""
    if rule.measure == "tensor":
        large = tuple(tensor for tensor in reading.removable if tensor.nbytes > limit)
        return large[:TOP], (large[0]._replace(members=len(large)),)
    culprits = reading.culprits
    if rule.measure == "total" and facts.ledger and facts.ledger.before_bytes <= limit:
        # The baseline kept the limit: to blame is what came since.
        culprits = tuple(facts.gained()[:TOP])
    return culprits, _remedies(rule, facts, reading, reading.value - limit)


def _waiver(rule: Rule, waivers: Sequence[Waiver]) -> Waiver | None:
    """The waiver of a limit; of several, the one that holds longest."""
    about_it = [waiver for waiver in waivers if waiver.limit in rule.names]
    return max(about_it, key=lambda waiver: waiver.expires, default=None)


def _crossed(rule: Rule, reading: Reading) -> tuple[str, Bound]:
    """The status without waivers, and the bound that it is about."""
    bounds = [
        (severity, bound)
        for severity, bound in (("fail", rule.threshold.fail), ("warn", rule.threshold.warn))
        if bound is not None
    ]
    for severity, bound in bounds:
        if reading.problem or reading.value > most(bound, reading.whole):
            return severity, bound
    return "ok", bounds[0][1]


def _remedies(rule: Rule, facts: Facts, reading: Reading, excess: int) -> tuple[Culprit, ...]:
    """As few of the largest removable things as bring the value under its limit, or all of them."""
    choices: list[Sequence[Culprit]] = [reading.removable]
    if rule.measure == "total":
        choices = [facts.wasted(), facts.gained()]
    elif rule.measure == "growth":
        choices = [facts.gained(), facts.wasted()]
    prefixes = [_prefix(choice, excess) for choice in choices]
    for prefix in prefixes:
        if sum(remedy.nbytes for remedy in prefix) >= excess:
            return prefix
    return max(prefixes, key=lambda prefix: sum(remedy.nbytes for remedy in prefix))


def _prefix(removable: Sequence[Culprit], excess: int) -> tuple[Culprit, ...]:
    taken, saved = 0, 0
    while saved < excess and taken < len(removable):
        saved += removable[taken].nbytes
        taken += 1
    return tuple(removable[:taken])
