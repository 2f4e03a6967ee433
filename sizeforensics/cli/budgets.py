"""The verbs about budgets: ``check`` and ``init``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sizeforensics import terminal
from sizeforensics.cli import options, output
from sizeforensics.errors import InputError, Outdated, SourceError, Unrecognized
from sizeforensics.escape import one_line
from sizeforensics.limits import Limits
from sizeforensics.units import counted

if TYPE_CHECKING:
    from sizeforensics.budget import Verdict
    from sizeforensics.budget.selection import Task
    from sizeforensics.budget.starter import Found

_EXIT_CODES = {"fail": 1, "error": 2}
_SKIPPED_FOLDERS = {"node_modules", "__pycache__", "site-packages", "venv"}
"""Folders whose models are not the project's own; so are those whose names begin with a dot."""


@click.command(
    epilog=options.examples(
        "sizeforensics check                                  every budget of the project",
        "sizeforensics check detector",
        "sizeforensics check dist/yolov5s.onnx --baseline released/yolov5s.onnx",
        "sizeforensics check --format github -o sizes.md      in a workflow",
    )
    + "\n\nExit codes: 0 every budget is kept, 1 one is not or has no file, 2 bad input or usage: a "
    "model or baseline that cannot be read is a verdict of its own, beside those of the others.",
)
@click.argument("wanted", nargs=-1, metavar="[NAME | FILE]...")
@click.option("--baseline", type=options.model, metavar="FILE", help="Measure growth from FILE instead.")
@click.option(
    "--config", type=click.Path(), metavar="FILE",
    help="The configuration; by default sizeforensics.toml or pyproject.toml of this folder.",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "junit", "github"]),
    default="table", show_default=True,
    help="What stdout gets; github are annotations of a workflow, markdown is the comment for a "
    "pull request.",
)  # fmt: skip
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE", type=click.Path(),
    help="Also write a report; the extension decides its kind: .json .md .xml (JUnit). Repeatable.",
)  # fmt: skip
@click.option(
    "--update", is_flag=True,
    help="Then write the baselines anew, as snapshots of the models as they are.",
)  # fmt: skip
@options.force
@options.limits
@options.links
@options.debug
@click.pass_context
def check(
    context: click.Context, *, wanted: tuple[str, ...], baseline: str | None, config: str | None,
    form: str, outputs: tuple[str, ...], update: bool, force: bool, limits: Limits, links: str | None,
) -> None:  # fmt: skip
    """Does every model keep its size budget, and what is to blame where one does not?

    Budgets are tables of [tool.sizeforensics.budgets] in pyproject.toml, or of [budgets] in
    sizeforensics.toml. NAME checks one of them, FILE those that are about this file. One line for
    each budget and file: the verdict, the value, the limit, and the causes with most bytes.

    --update prints these verdicts, then replaces the baselines, those of an earlier version too; the
    exit code is that of the limits that are broken all the same.
    """
    from sizeforensics.budget.config import find, load
    from sizeforensics.budget.selection import select
    from sizeforensics.report import verdicts as report

    output.check_outputs(outputs, force, tuple(report.KINDS))
    tasks = select(load(Path(config) if config else find()), wanted, baseline)
    verdicts = [_judged(task, limits, links, may_lack=update) for task in tasks]
    _deliver(verdicts, form, outputs)
    if form != "json":
        output.warn([text for verdict in verdicts for text in verdict.warnings])
    if update:
        baselines = _baselines(tasks, verdicts, limits, links)
        _check_baselines(baselines, limits)
        _write_baselines(baselines, limits, links)
        verdicts = [_judged(task, limits, links) for task in tasks]
    context.exit(max(_EXIT_CODES.get(verdict.status, 0) for verdict in verdicts))


def _judged(
    task: Task | Verdict, limits: Limits, links: str | None, *, may_lack: bool = False
) -> Verdict:
    """The verdict, also where a file cannot be read; a baseline that is yet to be written may be
    lacking."""
    from sizeforensics import api
    from sizeforensics.budget import Verdict

    if isinstance(task, Verdict):
        return task
    try:
        if task.baseline is not None and not _exists(task.baseline):
            if may_lack:
                api.read(task.path, limits, links)
                problem = f"no baseline yet: {one_line(task.baseline)}"
                return Verdict(task.name, task.path, "skipped", baseline=task.baseline, problem=problem)
            raise SourceError(task.baseline, "a baseline (--update writes a first one)", "no such file")
        return _measured(task, limits, links)
    except InputError as error:
        return Verdict(task.name, task.path, "error", baseline=task.baseline, problem=str(error))


def _measured(task: Task, limits: Limits, links: str | None) -> Verdict:
    """The verdict. Raises InputError for a model or baseline that cannot be read."""
    from sizeforensics import api

    inventory = api.read(task.path, limits, links)
    before = api.read(task.baseline, limits, links) if task.baseline is not None else None
    read = [inventory] if before is None else [inventory, before, inventory]
    with terminal.progress(sum(map(output.payload, read))) as advance:
        inspection = api.look_into(inventory, advance)
        against = api.compare(before, inventory, advance) if before is not None else None
    return api.judge(inspection, against, task.budget, name=task.name, baseline=task.baseline)


def _baselines(
    tasks: Sequence[Task | Verdict], verdicts: Sequence[Verdict], limits: Limits, links: str | None
) -> dict[str, str]:
    """Each baseline to write anew, and the model that it is one of; what could not be read is left
    as it is, but for snapshots of an earlier version. Raises InputError where no budget has one."""
    from sizeforensics.budget import Verdict

    found = {
        task.baseline: (task.path, verdict.status)
        for task, verdict in zip(tasks, verdicts, strict=True)
        if not isinstance(task, Verdict) and task.baseline is not None
    }
    if not found:
        raise InputError("--update: expected a budget with a baseline")
    return {
        baseline: path for baseline, (path, status) in found.items()
        if status != "error" or (_is_outdated(baseline, limits) and _can_be_read(path, limits, links))
    }  # fmt: skip


def _is_outdated(path: str, limits: Limits) -> bool:
    """Whether this is a snapshot of an earlier version, which nothing but taking it anew helps."""
    from sizeforensics import api

    try:
        api.read(path, limits)
    except Outdated:
        return True
    except InputError:
        pass
    return False


def _can_be_read(path: str, limits: Limits, links: str | None) -> bool:
    from sizeforensics import api

    try:
        api.read(path, limits, links)
    except InputError:
        return False
    return True


def _check_baselines(baselines: Iterable[str], limits: Limits) -> None:
    """Refuse baselines that could not be written, or that no snapshot is, before any is written."""
    from sizeforensics import api
    from sizeforensics.report import snapshots

    for path in baselines:
        snapshots.check(path, force=True)
        if not _exists(path) or _is_outdated(path, limits):
            continue
        if api.read(path, limits).format != "snapshot":
            raise InputError(f"{one_line(path)}: expected a snapshot to replace, got a model")


def _write_baselines(baselines: Mapping[str, str], limits: Limits, links: str | None) -> None:
    from sizeforensics import api
    from sizeforensics.report import snapshots

    for path, model in baselines.items():
        inventory = api.read(model, limits, links)
        with terminal.progress(output.payload(inventory)) as advance:
            taken = api.take_snapshot(inventory, advance)
        snapshots.write(taken, path, force=True)


def _deliver(verdicts: Sequence[Verdict], form: str, outputs: Sequence[str]) -> None:
    """The files, then stdout."""
    from sizeforensics.report import save
    from sizeforensics.report import verdicts as report

    for path in outputs:
        kind = report.KINDS[save.kind_of(path, tuple(report.KINDS))]
        save.write(path, (text.encode("utf-8") for text in report.pieces(verdicts, kind)))
    if form != "table":
        output.write_data(report.pieces(verdicts, form))
        return
    from sizeforensics.report.verdicts import console

    output.write([console.render(verdicts, output.plain_view())])


@click.command(
    epilog=options.examples(
        "sizeforensics init                 from the models below this folder",
        "sizeforensics init dist --force    from those in dist, over an older configuration",
    ),
)
@click.argument("places", nargs=-1, metavar="[FOLDER | FILE]...", type=click.Path())
@click.option("--force", is_flag=True, help="Replace a configuration that exists.")
@options.limits
@options.links
@options.debug
def init(*, places: tuple[str, ...], force: bool, limits: Limits, links: str | None) -> None:
    """Write a first sizeforensics.toml with a budget for every model found.

    Files are recognised by their content. Every limit is kept by the models as they are today, and
    what could be stricter stands there as a comment.
    """
    from sizeforensics.budget import config, starter
    from sizeforensics.report import save

    target = config.OWN_FILE
    if os.path.lexists(target) and not force:
        raise InputError(f"{target}: exists; --force replaces it")
    if config.is_configured(Path(config.SHARED_FILE)):
        raise InputError(f"{config.SHARED_FILE} holds budgets already: expected one place for them")
    models = _models(places or (".",), limits, links)
    if not models:
        raise InputError(f"{', '.join(map(one_line, places)) or '.'}: expected a model, found none "
                         "(hidden and installed folders are left out unless named)")  # fmt: skip
    save.write(target, [starter.write(models).encode("utf-8")])
    output.write([f"{target}: {counted(len(models), 'budget')}; `sizeforensics check` checks them\n"])


def _models(places: Sequence[str], limits: Limits, links: str | None) -> list[Found]:
    """The models at these places, without snapshots of such and the further files of a model."""
    from sizeforensics import api
    from sizeforensics.budget.starter import Found

    found: dict[str, Found] = {}
    parts: set[str] = set()
    left_out: list[str] = []
    for path in sorted({str(path) for place in places for path in _files(Path(place))}):
        try:
            inventory = api.read(path, limits, links)
        except Unrecognized:
            continue
        except InputError as error:
            left_out.append(str(error))
            continue
        if not path.isprintable():
            left_out.append(f"{path}: a configuration cannot hold this name")
        elif inventory.tensors and inventory.excerpts is None:
            parts.update(file.path for file in inventory.files[1:])
            with terminal.progress(output.payload(inventory)) as advance:
                found[path] = Found(inventory, api.look_into(inventory, advance).waste)
    output.warn(left_out)
    return [model for path, model in found.items() if path not in parts]


def _files(place: Path) -> Iterator[Path]:
    if not os.path.isdir(place):  # noqa: PTH112
        if not _exists(place):
            raise InputError(f"{one_line(str(place))}: expected a folder or a file, got nothing")
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = [
            name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS
        ]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _exists(path: str | Path) -> bool:
    """As pathlib says it, which raises for a name that is too long."""
    return os.path.exists(path)  # noqa: PTH110
