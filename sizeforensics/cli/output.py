"""Where what a verb found goes: files, standard output, warnings on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sizeforensics import terminal
from sizeforensics.errors import InputError
from sizeforensics.escape import one_line, visible
from sizeforensics.spelling import did_you_mean

if TYPE_CHECKING:
    from sizeforensics.inventory import Inventory
    from sizeforensics.report.save import Report
    from sizeforensics.report.styled import View

MAX_WARNINGS = 20


def check_outputs(outputs: Sequence[str], force: bool, kinds: Sequence[str] = ()) -> None:
    """Refuse what could not be written before any work is done; without ``kinds``, a report can be
    all of them."""
    if not outputs:
        return
    from sizeforensics.report import save

    for number, path in enumerate(outputs):
        save.check(path, force, kinds or save.KINDS)
        if path in outputs[:number]:
            raise InputError(f"{one_line(path)}: given twice")


def deliver(
    report: Report,
    form: str,
    outputs: Sequence[str],
    force: bool,
    *,
    figure: str = "",
    table: str = "",
) -> None:
    """The files, then stdout unless it gets a table."""
    from sizeforensics.report import save

    for path in outputs:
        save.save(report, path, force, figure, table)
    if form != "table":
        write_data(save.pieces(report, {"markdown": "md"}.get(form, form), table=table))


def write_data(pieces: Iterable[str]) -> None:
    """Text for a program on standard output: UTF-8 by contract, whatever the terminal speaks."""
    from sizeforensics.report import json

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    write(json.chunks(pieces))


def write(texts: Iterable[str]) -> None:
    try:
        sys.stdout.writelines(texts)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write to standard output: {error.strerror}") from None


def warn(warnings: Sequence[str]) -> None:
    for text in warnings[:MAX_WARNINGS]:
        click.echo(f"warning: {visible(text)}", err=True)
    hidden = len(warnings) - MAX_WARNINGS
    if hidden > 0:
        click.echo(f"warning: {hidden:,} more warnings in --format json", err=True)


def view_of(verbose: bool, sort: str, min_bytes: str, wanted: str) -> View:
    from sizeforensics.causes import CAUSES
    from sizeforensics.units import parse_bytes

    if wanted.startswith("cause="):
        cause = wanted.removeprefix("cause=")
        if cause not in CAUSES:
            raise InputError(f"no cause {cause!r}{did_you_mean(cause, CAUSES)}")
    return replace(
        plain_view(), verbose=verbose, sort=sort, min_bytes=parse_bytes(min_bytes), filter=wanted
    )


def plain_view() -> View:
    """What the terminal can show, of everything."""
    from sizeforensics.report.styled import View

    return View(
        width=terminal.width(),
        unicode=terminal.speaks_unicode(),
        colour=terminal.wants_colour(),
        wrap=sys.stdout.isatty(),
    )


def payload(inventory: Inventory) -> int:
    return sum(storage.nbytes for storage in inventory.storages)
