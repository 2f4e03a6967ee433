"""Which budgets and files are to be checked: all of them, or those that are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sizeforensics.budget.config import Entry
from sizeforensics.budget.rules import Budget
from sizeforensics.budget.verdict import Verdict
from sizeforensics.errors import InputError, about
from sizeforensics.escape import one_line
from sizeforensics.spelling import did_you_mean


@dataclass(frozen=True, slots=True)
class Task:
    """One file to check against the budget of one entry."""

    entry: Entry
    path: str
    baseline: str | None

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def budget(self) -> Budget:
        return self.entry.budget


def select(
    entries: Sequence[Entry], wanted: Sequence[str] = (), baseline: str | None = None
) -> list[Task | Verdict]:
    """What to check, in the order of the budgets; a budget without a file is a verdict already.

    A word is the name of a budget, or a file that one is about; without words all are wanted.
    ``baseline`` stands in for the configured one. Raises InputError for a word that is neither,
    where a limit lacks its baseline, and where several files would share one.
    """
    chosen: dict[tuple[str, str], Task | Verdict] = {}
    for entry in entries:
        for task in _tasks(entry, baseline):
            chosen[task.name, task.path] = task
    if wanted:
        keys = {key for word in wanted for key in _about(word, chosen.values(), entries)}
        chosen = {key: task for key, task in chosen.items() if key in keys}
    names = {task.name for task in chosen.values()}
    for entry in entries:
        if entry.name in names and baseline is None:
            _check_limits(entry)
    _check_baselines(chosen.values(), baseline)
    return list(chosen.values())


def _tasks(entry: Entry, baseline: str | None) -> list[Task | Verdict]:
    paths = entry.paths()
    if not paths:
        status = "skipped" if entry.optional else "fail"
        problem = f"no file matches {one_line(entry.wanted)}"
        return [Verdict(entry.name, entry.wanted, status, problem=problem)]
    return [Task(entry, path, baseline or entry.baseline_of(path)) for path in paths]


def _about(
    word: str, tasks: Iterable[Task | Verdict], entries: Sequence[Entry]
) -> list[tuple[str, str]]:
    """The tasks that a word of the command line means."""
    names = [entry.name for entry in entries]
    if word in names:
        return [(task.name, task.path) for task in tasks if task.name == word]
    place = os.path.realpath(word)
    found = [(task.name, task.path) for task in tasks if os.path.realpath(task.path) == place]
    if not found:
        known = ", ".join(map(one_line, names))
        raise InputError(f"no budget is called or covers {word!r}{did_you_mean(word, names)} (budgets: {known})")
    return found


def _check_limits(entry: Entry) -> None:
    if entry.budget.baseline is None:
        for rule in entry.budget.rules:
            if rule.compares:
                with about(entry.place), about(rule.key):
                    raise InputError("expected a baseline to compare with: the key baseline, or --baseline FILE")


def _check_baselines(tasks: Iterable[Task | Verdict], given: str | None) -> None:
    taken: dict[str, str] = {}
    for task in tasks:
        if isinstance(task, Task) and task.baseline is not None:
            other = taken.setdefault(task.baseline, task.path)
            if other != task.path:
                cure = "name one budget" if given else "write {name} where their file names differ"
                with about("--baseline" if given else task.entry.place), about(task.baseline):
                    raise InputError(
                        f"{one_line(other)} and {one_line(task.path)} would share this baseline: {cure}"
                    )
