"""The verb about time: ``history``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from sizeforensics import terminal
from sizeforensics.cli import options, output
from sizeforensics.errors import FormatError, InputError, Outdated
from sizeforensics.limits import Limits

if TYPE_CHECKING:
    from sizeforensics.inventory import Inventory
    from sizeforensics.report.history import History

_KINDS = ("json", "csv", "md", "html", "png", "svg")


@click.command(
    epilog=options.examples(
        "sizeforensics history sizes/v1.json sizes/v2.json sizes/v3.json",
        "sizeforensics history --git sizes/yolov5s.json -o sizes.png",
    ),
)
@click.argument("models", nargs=-1, type=options.model, required=True, metavar="MODEL...")
@click.option(
    "--git", is_flag=True, help="The versions of one MODEL, a snapshot most likely, that git has kept."
)
@options.form
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE", type=click.Path(),
    help="Also write a report; the extension decides its kind: .html .md .png .svg .json .csv. "
    "Repeatable.",
)  # fmt: skip
@options.force
@options.limits
@options.links
@options.debug
def history(
    *, models: tuple[str, ...], git: bool, form: str, outputs: tuple[str, ...], force: bool,
    limits: Limits, links: str | None,
) -> None:  # fmt: skip
    """How did the size of a model change over its versions, and why?

    MODELs are versions of one model, the oldest first: snapshots, or any file that the other verbs
    read. Every version is one line: its bytes, the change, and the causes of the change. Snapshots of
    an earlier version, and what of the commits is no model, are left out with a warning.
    """
    from sizeforensics.report import history_pages, save

    output.check_outputs(outputs, force, _KINDS)
    if git and len(models) > 1:
        raise click.UsageError(f"--git takes one file, got {len(models):,}")
    left_out: list[InputError] = []
    read = list(_read(models, git, limits, links, left_out))
    if not read:
        raise left_out[-1]
    names, inventories = zip(*read, strict=True)
    found = _history(names if git else _labels(names), inventories, list(map(str, left_out)))
    for path in outputs:
        save.write(path, history_pages.chunks(found, save.kind_of(path, _KINDS)))
    if form != "json":
        output.warn(found.warnings)
    if form == "table":
        output.write([history_pages.console(found)])
    else:
        output.write_data([history_pages.text(found, {"markdown": "md"}.get(form, form))])


def _read(
    models: Sequence[str], git: bool, limits: Limits, links: str | None, left_out: list[InputError]
) -> Iterator[tuple[str, Inventory]]:
    """Name and content of each version; ``left_out`` gets what is wrong with those that nobody can
    mend: old snapshots, and whatever was committed."""
    from sizeforensics import formats, versions

    for name, source in versions.versions(models[0]) if git else ((path, None) for path in models):
        try:
            inventory = (
                formats.read(name, limits, links) if source is None
                else formats.read_source(source, limits)
            )  # fmt: skip
        except FormatError as error:
            if not git and not isinstance(error, Outdated):
                raise
            left_out.append(error)
            continue
        yield name, inventory


def _labels(paths: Sequence[str]) -> Sequence[str]:
    """Paths without the folders that all of them are in: a report does not tell where it lay."""
    if len({PurePath(path).is_absolute() for path in paths}) > 1:
        paths = list(map(os.path.abspath, paths))
    common = os.path.commonpath([PurePath(path).parent for path in paths])
    return [os.path.relpath(path, common) if common else path for path in paths]


def _history(
    names: Sequence[str], inventories: Sequence[Inventory], left_out: Sequence[str]
) -> History:
    from sizeforensics import api
    from sizeforensics.report import history as values
    from sizeforensics.report.contents import inspect_report

    # Roles alone: neither waste nor digests are shown, and those would read all payload once more.
    reports = [inspect_report(inventory, ()) for inventory in inventories]
    steps = []
    with terminal.progress(sum(map(output.payload, [*inventories[:-1], *inventories[1:]]))) as advance:
        for before, after in pairwise(inventories):
            steps.append(api.compare(before, after, advance).report)
    return values.history(names, reports, steps, left_out)
