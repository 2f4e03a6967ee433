"""The options that several verbs share."""

from __future__ import annotations

import click

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
verbose = click.option("-v", "--verbose", is_flag=True, help="List every tensor, fix and remedy.")
min_bytes = click.option(
    "--min-bytes", metavar="SIZE", default="0",
    help="Fold what is smaller, e.g. 10kB or 1MiB, into one 'more' line.",
)  # fmt: skip
wanted = click.option(
    "--filter", "wanted", metavar="TEXT", default="",
    help="Only causes and tensors whose name contains TEXT, or cause=ID; the rest is summed up.",
)  # fmt: skip
model = click.Path()
