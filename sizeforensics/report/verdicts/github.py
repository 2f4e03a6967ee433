"""Verdicts as GitHub workflow commands, which become annotations of the run and the pull request.

A command is one line, ``::error file=…,title=…::message``; what a value must not hold is written as
``%25``, ``%0D`` and ``%0A``, and in a property ``%3A`` and ``%2C`` too (docs.github.com, "Workflow
commands for GitHub Actions"; actions/toolkit, packages/core/src/command.ts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizeforensics.budget.verdict import Verdict
from sizeforensics.escape import one_line, visible
from sizeforensics.report.verdicts import words

_COMMANDS = {"fail": "error", "warn": "warning", "waived": "notice"}


def render(verdicts: Sequence[Verdict]) -> str:
    """A command for each limit that is not kept, then one line with the sum; newline at the end."""
    lines = [line for verdict in verdicts for line in _commands(verdict)]
    return "".join(f"{line}\n" for line in [*lines, _command("notice", "", "size budgets", words.headline(verdicts))])


def _commands(verdict: Verdict) -> Iterator[str]:
    if verdict.problem and not verdict.ok:
        yield _command("error", verdict.path, f"size budget {words.title(verdict)}", verdict.problem)
    for outcome in verdict.broken:
        title = f"{words.title(verdict)}: {one_line(outcome.rule.title)}"
        text = "\n".join([words.statement(outcome), *words.details(outcome)])
        yield _command(_COMMANDS[outcome.status], verdict.path, f"size budget {title}", text)


def _command(name: str, path: str, title: str, message: str) -> str:
    pairs = [f"{key}={_property(value)}" for key, value in (("file", path), ("title", title)) if value]
    return f"::{name} {','.join(pairs)}::{_message(message)}"


def _message(text: str) -> str:
    safe = "\n".join(map(visible, text.split("\n")))
    return safe.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
