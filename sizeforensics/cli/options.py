"""The options that several verbs share."""

from __future__ import annotations

import click

from sizeforensics.errors import InputError
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.spelling import did_you_mean
from sizeforensics.units import parse_bytes

NAME = "sizeforensics"
COMPLETE = "_SIZEFORENSICS_COMPLETE"
"""The variable by which a shell asks for completions."""


def examples(*lines: str) -> str:
    """The end of a command's help; the mark keeps click from filling the lines into a paragraph."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


debug = click.option(
    "--debug", is_flag=True, expose_value=False,
    help="Show the traceback of an error (or set SIZEFORENSICS_DEBUG=1).",
)  # fmt: skip
outputs = click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE", type=click.Path(),
    help="Also write a report; the extension decides its kind: .html .md .png .svg .json .csv "
    ".parquet. Repeatable.",
)  # fmt: skip
map_outputs = click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE", type=click.Path(),
    help="Also write the spans; the extension decides the kind: .json .csv .parquet. Repeatable.",
)  # fmt: skip
figure = click.option(
    "--figure", type=click.Choice(["waterfall", "treemap"]), default="waterfall", show_default=True,
    help="What .png and .svg show.",
)  # fmt: skip
force = click.option("--force", is_flag=True, help="Let -o replace a file that exists.")
form = click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "csv"]), default="table",
    show_default=True, help="What stdout gets; markdown is the comment for a pull request.",
)  # fmt: skip
map_format = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table",
    show_default=True, help="What stdout gets.",
)  # fmt: skip
table = click.option(
    "--table", type=click.Choice(["rows", "tensors"]), default="rows", show_default=True,
    help="What .csv and .parquet list: the ledger that sums up, or one line per tensor.",
)  # fmt: skip
verbose = click.option("-v", "--verbose", is_flag=True, help="List every tensor and every fix.")
inspect_verbose = click.option(
    "-v", "--verbose", is_flag=True, help="List every tensor and all waste, with what to do about it."
)
min_bytes = click.option(
    "--min-bytes", metavar="SIZE", default="0",
    help="Fold what is smaller, e.g. 10kB or 1MiB, into one 'more' line.",
)  # fmt: skip
wanted = click.option(
    "--filter", "wanted", metavar="TEXT", default="",
    help="Only causes and tensors whose name contains TEXT, or cause=ID; the rest is summed up.",
)  # fmt: skip
inspect_wanted = click.option(
    "--filter", "wanted", metavar="TEXT", default="",
    help="Only tensors whose name, or whose use such as buffer or constant, contains TEXT; the rest "
    "is summed up.",
)  # fmt: skip
model = click.Path()


def _limits(
    context: click.Context, parameter: click.Parameter, settings: tuple[str, ...]
) -> Limits:
    del context, parameter
    from dataclasses import fields, replace

    known = {field.name for field in fields(Limits)}
    chosen: dict[str, int] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise InputError(
                f"no limit {name!r}{did_you_mean(name, known)} (there are {', '.join(sorted(known))})"
            )
        if name.endswith("_bytes"):
            chosen[name] = parse_bytes(value)
        elif value.isascii() and value.isdigit() and len(value) < 20:
            chosen[name] = int(value)
        else:
            raise InputError(f"expected a number for the limit {name}, such as "
                             f"{name}={getattr(DEFAULT_LIMITS, name)}, got {value!r}")  # fmt: skip
    return replace(DEFAULT_LIMITS, **chosen)


limits = click.option(
    "--limits", multiple=True, metavar="NAME=N", callback=_limits,
    help="Raise or lower a bound on what a file may cost, e.g. inflated_bytes=8GiB or "
    "pickle_opcodes=20000000; an error names the one that was met. Repeatable.",
)  # fmt: skip
links = click.option(
    "--follow-links", "links", metavar="DIR", type=click.Path(), default=None,
    help="Read files beside a model that are symbolic links into DIR, such as "
    "~/.cache/huggingface/hub.",
)  # fmt: skip
