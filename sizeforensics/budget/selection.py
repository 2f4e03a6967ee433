"""Which budgets and files are to be checked: all of them, or those that are named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sizeforensics.budget.config import Entry
from sizeforensics.budget.rules import Budget
from sizeforensics.budget.verdict import Verdict
from sizeforensics.errors import InputError
from sizeforensics.escape import one_line
from sizeforensics.spelling import did_you_mean


@dataclass(frozen=True, slots=True)
class Task:
    """One file to check against one budget."""

    name: str
    path: str
    budget: Budget
    baseline: str | None


def select(
    entries: Sequence[Entry], wanted: Sequence[str] = (), baseline: str | None = None
) -> list[Task | Verdict]:
    """What to check, in the order of the budgets; a budget without a file is a verdict already.

    A word is the name of a budget, or a file that one is about; without words all are wanted.
    ``baseline`` stands in for the configured one. Raises InputError for a word that is neither, and
    where several files would share a baseline.
    """
    chosen: dict[tuple[str, str], Task | Verdict] = {}
    for entry in entries:
        for task in _tasks(entry, baseline):
            chosen[task.name, task.path] = task
    if wanted:
        keys = {key for word in wanted for key in _about(word, chosen.values(), entries)}
        chosen = {key: task for key, task in chosen.items() if key in keys}
    _check_baselines(chosen.values(), baseline)
    return list(chosen.values())


def _tasks(entry: Entry, baseline: str | None) -> list[Task | Verdict]:
    paths = entry.paths()
    if not paths:
        status = "skipped" if entry.optional else "fail"
        return [Verdict(entry.name, entry.path, status, problem=f"no file matches {one_line(entry.path)}")]
    return [
        Task(entry.name, path, entry.budget, baseline or entry.baseline_of(path)) for path in paths
    ]


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


def _check_baselines(tasks: Iterable[Task | Verdict], given: str | None) -> None:
    taken: dict[str, str] = {}
    for task in tasks:
        if isinstance(task, Task) and task.baseline is not None:
            other = taken.setdefault(task.baseline, task.path)
            if other != task.path:
                cure = "name one budget" if given else "write {name} where their file names differ"
                raise InputError(
                    f"{one_line(task.baseline)}: {one_line(other)} and {one_line(task.path)} would share "
                    f"this baseline: {cure}"
                )
