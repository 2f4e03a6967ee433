"""The verbs that look at models: ``diff``, ``inspect``, ``map`` and ``snapshot``."""

from __future__ import annotations

import click

from sizeforensics import terminal
from sizeforensics.cli import options, output
from sizeforensics.limits import Limits


@click.command(
    epilog=options.examples(
        "sizeforensics diff model.pt model.onnx",
        "sizeforensics diff model.pt model.onnx -v --filter cause=dtype",
        "sizeforensics diff model.pt model.onnx --tensor model.0.conv.weight",
        "sizeforensics diff old.onnx new.onnx --format json | jq .delta_bytes",
    ),
)
@click.argument("before", type=options.model)
@click.argument("after", type=options.model)
@options.verbose
@click.option(
    "--sort", type=click.Choice(["delta", "before", "after", "name"]), default="delta",
    show_default=True, help="Order of causes and tensors.",
)  # fmt: skip
@options.min_bytes
@options.wanted
@click.option(
    "--tensor", metavar="NAME", default=None,
    help="Tell the whole story of one tensor instead: both places, transformation, proof, bytes.",
)  # fmt: skip
@options.form
@options.outputs
@options.figure
@options.table
@options.force
@options.limits
@options.links
@options.debug
def diff(
    *, before: str, after: str, verbose: bool, sort: str, min_bytes: str, wanted: str,
    tensor: str | None, form: str, outputs: tuple[str, ...], figure: str, table: str, force: bool,
    limits: Limits, links: str | None,
) -> None:  # fmt: skip
    """Why is AFTER bigger, or smaller, than BEFORE?

    The first line is the answer. Below it every byte of the difference has a cause, signed, and
    they add up from the one size to the other exactly. A tensor is recognised by its content: the
    line with the check mark says how much of the tensor data was compared bit for bit.
    """
    view = output.view_of(verbose, sort, min_bytes, wanted)
    output.check_outputs(outputs, force)
    from sizeforensics import api, formats

    inventories = [formats.read(path, limits, links) for path in (before, after)]
    with terminal.progress(sum(map(output.payload, inventories))) as advance:
        report = api.compare(inventories[0], inventories[1], advance).report
    output.deliver(report, form, outputs, force, figure=figure, table=table)
    if form == "table":
        from sizeforensics.report import console
        from sizeforensics.report.story import story

        output.warn(report.warnings)
        output.write(
            [console.diff(report, view) if tensor is None else story(report, tensor, view)]
        )


@click.command(
    epilog=options.examples(
        "sizeforensics inspect model.pt",
        "sizeforensics inspect model.onnx -v",
        "sizeforensics inspect model.onnx --format json | jq '.findings[]'",
    ),
)
@click.argument("model", type=options.model)
@options.inspect_verbose
@click.option(
    "--sort", type=click.Choice(["size", "name"]), default="size", show_default=True,
    help="Order of tensors.",
)  # fmt: skip
@options.min_bytes
@options.inspect_wanted
@options.form
@options.outputs
@options.figure
@options.force
@options.limits
@options.links
@options.debug
def inspect(
    *, model: str, verbose: bool, sort: str, min_bytes: str, wanted: str, form: str,
    outputs: tuple[str, ...], figure: str, force: bool, limits: Limits,
    links: str | None,
) -> None:  # fmt: skip
    """Where do MODEL's bytes go, and what of it is waste?

    Bytes by role with their sum, element types, operators, what could be saved and how, and the
    largest tensors. JSON has every tensor with the digest of its elements.
    """
    view = output.view_of(verbose, sort, min_bytes, wanted)
    output.check_outputs(outputs, force)
    from sizeforensics import api, formats

    inventory = formats.read(model, limits, links)
    with terminal.progress(output.payload(inventory)) as advance:
        report = api.look_into(inventory, advance).report
    output.deliver(report, form, outputs, force, figure=figure)
    if form == "table":
        from sizeforensics.report import console

        output.warn(report.warnings)
        output.write([console.inspect(report, view)])


@click.command(
    "map",
    short_help="Every span of MODEL: start, end, what it is, whose it is.",
    epilog=options.examples(
        "sizeforensics map model.pt | less",
        "sizeforensics map model.onnx --format csv > spans.csv",
    ),
)
@click.argument("model", type=options.model)
@options.map_format
@options.map_outputs
@options.force
@options.limits
@options.links
@options.debug
def map_(
    *, model: str, form: str, outputs: tuple[str, ...], force: bool, limits: Limits,
    links: str | None,
) -> None:  # fmt: skip
    """Every span of MODEL: where it starts and ends, what it is, whose it is.

    The spans of a file neither overlap nor leave gaps; bytes that nothing accounts for are spans
    with the role 'unclaimed'. Of a snapshot, which knows totals only, one span stands for all of a
    role and a subject: their sizes are exact, their places are not those of the model.
    """
    from sizeforensics import formats
    from sizeforensics.report import save

    output.check_outputs(outputs, force, save.MAP_KINDS)

    inventory = formats.read(model, limits, links)
    output.deliver(inventory, form, outputs, force)
    if form == "table":
        from sizeforensics.report import console, presentation

        output.warn(presentation.warnings_of(inventory))
        output.write(console.spans(inventory))


@click.command(
    short_help="The inventory of MODEL without its weights, small enough to commit.",
    epilog=options.examples(
        "sizeforensics snapshot model.onnx -o sizes/model.json",
        "sizeforensics snapshot model.onnx -o sizes/model.json.gz --force",
        "sizeforensics diff sizes/model.json model.onnx",
    ),
)
@click.argument("model", type=options.model)
@click.option(
    "-o", "--output", "path", metavar="FILE", type=click.Path(),
    help="Write to FILE (.json, .json.gz or .json.zst) instead of standard output.",
)  # fmt: skip
@options.force
@options.limits
@options.links
@options.debug
def snapshot(
    *, model: str, path: str | None, force: bool, limits: Limits, links: str | None
) -> None:
    """The inventory of MODEL without its weights, small enough to commit.

    Every verb takes a snapshot where it takes a model. A diff gives each cause the same bytes as a
    diff of the models; what only the weights can prove is marked as inferred. One tensor a line, so
    that git shows which one changed.
    """
    from sizeforensics import api
    from sizeforensics.report import snapshots

    if path is not None:
        snapshots.check(path, force)
    inventory = api.read(model, limits, links)
    with terminal.progress(output.payload(inventory)) as advance:
        taken = api.take_snapshot(inventory, advance)
    if path is None:
        output.write_data(snapshots.text(taken))
    else:
        snapshots.write(taken, path, force)
