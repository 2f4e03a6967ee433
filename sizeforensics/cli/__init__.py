"""The command line: verbs that only wire, and the one place that prints or exits.

stdout is data, stderr is progress, warnings and one line per error. Exit codes: 0 fine, 1 a budget is
exceeded, 2 bad input or usage, 3 a defect of this program, 130 interrupted, 141 the reader of stdout went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from sizeforensics import __version__, terminal
from sizeforensics.cli import budgets, history, look, options, words
from sizeforensics.errors import SizeforensicsError
from sizeforensics.escape import one_line
from sizeforensics.spelling import did_you_mean

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
Does every model keep its size budget? (a first configuration, then the verdicts)
    sizeforensics init
    sizeforensics check
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
    instruction = os.environ.get(options.COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, options.NAME, options.COMPLETE, instruction)
    with cli.make_context(options.NAME, arguments or ["--help"]) as context:
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
            raise click.UsageError(
                f"no command {args[0]!r}{did_you_mean(args[0], self.commands)} ({verbs})", ctx
            )
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{_TOUR}\n\nExit codes: 0 fine, 1 a budget is exceeded, 2 bad input or usage, 3 a defect of this program.",
)
@click.version_option(__version__, "-V", "--version", message="sizeforensics %(version)s")
@options.debug
def cli() -> None:
    """Where did every byte of a model file come from, and why is that one bigger?

    Reads checkpoints of PyTorch, old and new, TorchScript, torch.export, ONNX, safetensors and
    snapshots, each by its content, not by its name.
    Nothing inside a file is ever executed or imported, and nothing goes over the network.
    """


for command in (
    look.diff, look.inspect, look.map_, look.snapshot, history.history, budgets.check, budgets.init, words.explain, words.completion,
):  # fmt: skip
    cli.add_command(command)
