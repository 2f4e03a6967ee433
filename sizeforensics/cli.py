"""The command line: verbs that only wire, and the one place that prints or exits.

stdout is data, stderr is progress, warnings and one line per error. Exit codes: 0 fine, 2 bad input
or usage, 3 a defect of this program, 130 interrupted, 141 the reader of stdout went away.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from sizeforensics import __version__, terminal
from sizeforensics.errors import InputError, SizeforensicsError
from sizeforensics.escape import one_line, visible

if TYPE_CHECKING:
    from sizeforensics.inventory import Inventory
    from sizeforensics.report.save import Report
    from sizeforensics.report.styled import View

_NAME = "sizeforensics"
_COMPLETE = "_SIZEFORENSICS_COMPLETE"
_MAX_WARNINGS = 20
_TOUR = """\
\b
Why is the ONNX file twice the checkpoint?
    sizeforensics diff yolov5s.pt yolov5s.onnx
Where do the bytes of one file go, and what of it is waste?
    sizeforensics inspect yolov5s.onnx
Which tensor became which, largest change first?
    sizeforensics diff -v --min-bytes 1MB yolov5s.pt yolov5s.onnx
The same for a script, and as a file:
    sizeforensics diff yolov5s.pt yolov5s.onnx --format json -o diff.csv
What does a word of the report mean?
    sizeforensics explain dtype"""
"""The examples of the main help; the mark keeps click from filling them into a paragraph."""


def main() -> None:
    """The installed command: run, then leave with the exit code."""
    terminal.open_closed_streams()
    _settle()
    code = run(sys.argv[1:])
    terminal.finish()
    sys.exit(code)


def _settle() -> None:
    """Spare a process of its own what it gains nothing from; a host's settings are its own."""
    # Looking for cycles among a million objects that all stay takes a seventh of the time.
    gc.set_threshold(200_000, 50, 1000)
    # Only vectors are multiplied; starting threads for matrices costs more than all of that.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; the only place that maps exceptions to it."""
    debug = "--debug" in arguments or bool(os.environ.get("SIZEFORENSICS_DEBUG"))
    try:
        return _dispatch(list(arguments))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _fail(f"{error.format_message()} {_hint(error)}".rstrip(), 2, debug)
    except SizeforensicsError as error:
        return _fail(str(error), error.exit_code, debug)
    except BrokenPipeError:
        terminal.abandon(sys.stdout)
        return 141
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130, debug=False)
    except MemoryError:
        return _fail("not enough memory for this file", 2, debug)
    except Exception as error:  # noqa: BLE001  the user gets one line whatever our defect is
        what = f"internal error ({type(error).__name__}: {error})"
        return _fail(f"{what}, please report it with the output of --debug", 3, debug)


def _dispatch(arguments: list[str]) -> int:
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, _NAME, _COMPLETE, instruction)
    with cli.make_context(_NAME, arguments or ["--help"]) as context:
        cli.invoke(context)
    return 0


def _hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"(see {context.command_path} --help)" if context else ""


def _fail(message: str, exit_code: int, debug: bool) -> int:
    # Nobody may be listening on stderr; the exit code still has to be the right one.
    with suppress(OSError):
        if debug:
            import traceback

            traceback.print_exc(file=sys.stderr)
        # Twice the usual limit: a message names a path and what was expected of it.
        click.echo(f"error: {one_line(' '.join(message.split()), 600)}", err=True)
    return exit_code


# -- the commands ------------------------------------------------------------------------------


class _Group(click.Group):
    """A group that suggests the verb one meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.get_command(ctx, args[0])
        if known is None and not args[0].startswith("-"):
            verbs = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"no command {args[0]!r}{_meant(args[0], self.commands)} ({verbs})", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)


def _meant(typed: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(typed.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _examples(*lines: str) -> str:
    # The mark keeps click from filling the lines into a paragraph.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


_debug = click.option(
    "--debug", is_flag=True, expose_value=False,
    help="Show the traceback of an error (or set SIZEFORENSICS_DEBUG=1).",
)  # fmt: skip
_outputs = click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE", type=click.Path(),
    help="Also write a report; the extension decides its kind: .html .md .png .svg .json .csv "
    ".parquet. Repeatable.",
)  # fmt: skip
_figure = click.option(
    "--figure", type=click.Choice(["waterfall", "treemap"]), default="waterfall", show_default=True,
    help="What .png and .svg show.",
)  # fmt: skip
_force = click.option("--force", is_flag=True, help="Let -o replace a file that exists.")
_format = click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "csv"]), default="table",
    show_default=True, help="What stdout gets; markdown is the comment for a pull request.",
)  # fmt: skip
_map_format = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table",
    show_default=True, help="What stdout gets.",
)  # fmt: skip
_table = click.option(
    "--table", type=click.Choice(["rows", "tensors"]), default="rows", show_default=True,
    help="What .csv and .parquet list: the ledger that sums up, or one line per tensor.",
)  # fmt: skip
_verbose = click.option("-v", "--verbose", is_flag=True, help="List every tensor, fix and remedy.")
_min_bytes = click.option(
    "--min-bytes", metavar="SIZE", default="0",
    help="Fold what is smaller, e.g. 10kB or 1MiB, into one 'more' line.",
)  # fmt: skip
_filter = click.option(
    "--filter", "wanted", metavar="TEXT", default="",
    help="Only causes and tensors whose name contains TEXT, or cause=ID; the rest is summed up.",
)  # fmt: skip
_model = click.Path()


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{_TOUR}\n\nExit codes: 0 fine, 2 bad input or usage, 3 a defect of this program.",
)
@click.version_option(__version__, "-V", "--version", message="sizeforensics %(version)s")
@_debug
def cli() -> None:
    """Where did every byte of a model file come from, and why is that one bigger?

    Reads .pt and .pth checkpoints, TorchScript and ONNX files by their content, not by their name.
    Nothing inside a file is ever executed or imported, and nothing goes over the network.
    """


@cli.command(
    epilog=_examples(
        "sizeforensics diff model.pt model.onnx",
        "sizeforensics diff model.pt model.onnx -v --filter cause=dtype",
        "sizeforensics diff model.pt model.onnx --tensor model.0.conv.weight",
        "sizeforensics diff old.onnx new.onnx --format json | jq .delta_bytes",
    ),
)
@click.argument("before", type=_model)
@click.argument("after", type=_model)
@_verbose
@click.option(
    "--sort", type=click.Choice(["delta", "before", "after", "name"]), default="delta",
    show_default=True, help="Order of causes and tensors.",
)  # fmt: skip
@_min_bytes
@_filter
@click.option(
    "--tensor", metavar="NAME", default=None,
    help="Tell the whole story of one tensor instead: both places, transformation, proof, bytes.",
)  # fmt: skip
@_format
@_outputs
@_figure
@_table
@_force
@_debug
def diff(
    *, before: str, after: str, verbose: bool, sort: str, min_bytes: str, wanted: str,
    tensor: str | None, form: str, outputs: tuple[str, ...], figure: str, table: str, force: bool,
) -> None:  # fmt: skip
    """Why is AFTER bigger, or smaller, than BEFORE?

    The first line is the answer. Below it every byte of the difference has a cause, signed, and
    they add up from the one size to the other exactly. A tensor is recognised by its content: the
    line with the check mark says how much of the tensor data was compared bit for bit.
    """
    view = _view(verbose, sort, min_bytes, wanted)
    _check_outputs(outputs, force)
    from sizeforensics import api, formats

    inventories = formats.read(before), formats.read(after)
    with terminal.progress(sum(map(_payload, inventories))) as advance:
        report = api.compare(*inventories, advance).report
    _deliver(report, form, outputs, force, figure=figure, table=table)
    if form == "table":
        from sizeforensics.report import console
        from sizeforensics.report.story import story

        _warn(report.warnings)
        _write([console.diff(report, view) if tensor is None else story(report, tensor, view)])


@cli.command(
    epilog=_examples(
        "sizeforensics inspect model.pt",
        "sizeforensics inspect model.onnx -v",
        "sizeforensics inspect model.onnx --format json | jq '.findings[]'",
    ),
)
@click.argument("model", type=_model)
@_verbose
@click.option(
    "--sort", type=click.Choice(["size", "name"]), default="size", show_default=True,
    help="Order of tensors.",
)  # fmt: skip
@_min_bytes
@_filter
@_format
@_outputs
@_figure
@_force
@_debug
def inspect(
    *, model: str, verbose: bool, sort: str, min_bytes: str, wanted: str, form: str,
    outputs: tuple[str, ...], figure: str, force: bool,
) -> None:  # fmt: skip
    """Where do MODEL's bytes go, and what of it is waste?

    Bytes by role with their sum, element types, operators, what could be saved and how, and the
    largest tensors. JSON has every tensor with the digest of its elements.
    """
    view = _view(verbose, sort, min_bytes, wanted)
    _check_outputs(outputs, force)
    from sizeforensics import api, formats

    inventory = formats.read(model)
    with terminal.progress(_payload(inventory)) as advance:
        report = api.look_into(inventory, advance).report
    _deliver(report, form, outputs, force, figure=figure)
    if form == "table":
        from sizeforensics.report import console

        _warn(report.warnings)
        _write([console.inspect(report, view)])


@cli.command(
    "map",
    short_help="Every span of MODEL: start, end, what it is, whose it is.",
    epilog=_examples(
        "sizeforensics map model.pt | less",
        "sizeforensics map model.onnx --format csv > spans.csv",
    ),
)
@click.argument("model", type=_model)
@_map_format
@_outputs
@_force
@_debug
def map_(*, model: str, form: str, outputs: tuple[str, ...], force: bool) -> None:
    """Every span of MODEL: where it starts and ends, what it is, whose it is.

    The spans of a file neither overlap nor leave gaps; bytes that nothing accounts for are spans
    with the role 'unclaimed'.
    """
    _check_outputs(outputs, force, spans=True)
    from sizeforensics import formats

    inventory = formats.read(model)
    _deliver(inventory, form, outputs, force)
    if form == "table":
        from sizeforensics.report import console, rows

        _warn(rows.warnings_of(inventory))
        _write(console.spans(inventory))


def _complete_cause(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    from sizeforensics.causes import CAUSES

    return [
        CompletionItem(cause.id, help=cause.title)
        for cause in CAUSES.values()
        if cause.id.startswith(typed)
    ]


@cli.command(
    epilog=_examples(
        "sizeforensics explain            all causes",
        "sizeforensics explain dtype",
    ),
)
@click.argument("cause", required=False, shell_complete=_complete_cause)
@_debug
def explain(cause: str | None) -> None:
    """What a CAUSE is, how it is proved, and what to do about it."""
    from sizeforensics.causes import CAUSES
    from sizeforensics.report import catalogue

    if cause is None:
        _write([catalogue.everything()])
        return
    known = CAUSES.get(cause.lower())
    if known is None:
        raise InputError(
            f"no cause {cause!r}{_meant(cause, CAUSES)} (`sizeforensics explain` lists them all)"
        )
    _write([catalogue.one(known, terminal.width())])


@cli.command(
    epilog=_examples(
        'eval "$(sizeforensics completion bash)"       in ~/.bashrc',
        'eval "$(sizeforensics completion zsh)"        in ~/.zshrc',
        "sizeforensics completion fish > ~/.config/fish/completions/sizeforensics.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@_debug
def completion(shell: str) -> None:
    """Print the completion script for a SHELL."""
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:
        raise InputError(f"no completion for {shell}")
    _write([complete(cli, {}, _NAME, _COMPLETE).source() + "\n"])


# -- output ------------------------------------------------------------------------------------


def _check_outputs(outputs: Sequence[str], force: bool, *, spans: bool = False) -> None:
    """Refuse what could not be written before any work is done."""
    if not outputs:
        return
    from sizeforensics.report import save

    for number, path in enumerate(outputs):
        save.check(path, force, save.MAP_KINDS if spans else save.KINDS)
        if path in outputs[:number]:
            raise InputError(f"{one_line(path)}: given twice")


def _deliver(
    report: Report, form: str, outputs: Sequence[str], force: bool, *, figure: str = "", table: str = ""
) -> None:
    """The files, then stdout unless it gets a table."""
    from sizeforensics.report import json, save

    for path in outputs:
        save.save(report, path, force, figure, table)
    if form != "table":
        if hasattr(sys.stdout, "reconfigure"):
            # Data are UTF-8 by contract, whatever the terminal speaks.
            sys.stdout.reconfigure(encoding="utf-8")
        _write(json.chunks(save.pieces(report, {"markdown": "md"}.get(form, form), table=table)))


def _write(texts: Iterable[str]) -> None:
    try:
        sys.stdout.writelines(texts)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"cannot write to standard output: {error.strerror}") from None


def _warn(warnings: Sequence[str]) -> None:
    for text in warnings[:_MAX_WARNINGS]:
        click.echo(f"warning: {visible(text)}", err=True)
    hidden = len(warnings) - _MAX_WARNINGS
    if hidden > 0:
        click.echo(f"warning: {hidden:,} more warnings in --format json", err=True)


def _view(verbose: bool, sort: str, min_bytes: str, wanted: str) -> View:
    from sizeforensics.causes import CAUSES
    from sizeforensics.report.styled import View
    from sizeforensics.units import parse_bytes

    if wanted.startswith("cause="):
        cause = wanted.removeprefix("cause=")
        if cause not in CAUSES:
            raise InputError(f"no cause {cause!r}{_meant(cause, CAUSES)}")
    return View(
        width=terminal.width(),
        unicode=terminal.speaks_unicode(),
        colour=terminal.wants_colour(),
        wrap=sys.stdout.isatty(),
        verbose=verbose,
        sort=sort,
        min_bytes=parse_bytes(min_bytes),
        filter=wanted,
    )


def _payload(inventory: Inventory) -> int:
    return sum(storage.nbytes for storage in inventory.storages)
