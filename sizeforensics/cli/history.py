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
    read. Every version is one line: its bytes, the change, and the causes of the change.
    """
    from sizeforensics.report import history_pages, save

    output.check_outputs(outputs, force, _KINDS)
    if git and len(models) > 1:
        raise click.UsageError(f"--git takes one file, got {len(models):,}")
    names, inventories = zip(*_read(models, git, limits, links), strict=True)
    found = _history(names if git else _labels(names), inventories)
    for path in outputs:
        save.write(path, history_pages.chunks(found, save.kind_of(path, _KINDS)))
    if form == "table":
        output.warn(found.warnings)
        output.write([history_pages.console(found)])
    else:
        output.write_data([history_pages.text(found, {"markdown": "md"}.get(form, form))])


def _read(
    models: Sequence[str], git: bool, limits: Limits, links: str | None
) -> Iterator[tuple[str, Inventory]]:
    from sizeforensics import formats, versions

    if git:
        for name, source in versions.versions(models[0]):
            yield name, formats.read_source(source, limits)
    else:
        for path in models:
            yield path, formats.read(path, limits, links)


def _labels(paths: Sequence[str]) -> Sequence[str]:
    """Paths without the folders that all of them are in: a report does not tell where it lay."""
    if len({PurePath(path).is_absolute() for path in paths}) > 1:
        paths = list(map(os.path.abspath, paths))
    common = os.path.commonpath([PurePath(path).parent for path in paths])
    return [os.path.relpath(path, common) if common else path for path in paths]


def _history(names: Sequence[str], inventories: Sequence[Inventory]) -> History:
    from sizeforensics import api
    from sizeforensics.report import history as values
    from sizeforensics.report.contents import inspect_report

    # Roles alone: neither waste nor digests are shown, and those would read all payload once more.
    reports = [inspect_report(inventory, ()) for inventory in inventories]
    steps = []
    with terminal.progress(sum(map(output.payload, [*inventories[:-1], *inventories[1:]]))) as advance:
        for before, after in pairwise(inventories):
            steps.append(api.compare(before, after, advance).report)
    return values.history(names, reports, steps)
