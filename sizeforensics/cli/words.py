"""The verbs about the program's own words: ``explain`` and ``completion``."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from sizeforensics import terminal
from sizeforensics.cli import options, output
from sizeforensics.errors import InputError
from sizeforensics.spelling import did_you_mean


def _complete_cause(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    from sizeforensics.causes import CAUSES

    return [
        CompletionItem(cause.id, help=cause.title)
        for cause in CAUSES.values()
        if cause.id.startswith(typed)
    ]


@click.command(
    epilog=options.examples(
        "sizeforensics explain            all causes",
        "sizeforensics explain dtype",
    ),
)
@click.argument("cause", required=False, shell_complete=_complete_cause)
@options.debug
def explain(cause: str | None) -> None:
    """What a CAUSE is, how it is proved, and what to do about it."""
    from sizeforensics.causes import CAUSES
    from sizeforensics.report import catalogue

    if cause is None:
        output.write([catalogue.everything()])
        return
    known = CAUSES.get(cause.lower())
    if known is None:
        raise InputError(
            f"no cause {cause!r}{did_you_mean(cause, CAUSES)} (`sizeforensics explain` lists them all)"
        )
    output.write([catalogue.one(known, terminal.width())])


@click.command(
    epilog=options.examples(
        'eval "$(sizeforensics completion bash)"       in ~/.bashrc',
        'eval "$(sizeforensics completion zsh)"        in ~/.zshrc',
        "sizeforensics completion fish > ~/.config/fish/completions/sizeforensics.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@options.debug
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a SHELL."""
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    if complete is None:
        raise InputError(f"no completion for {shell}")
    everything = context.find_root().command
    script = complete(everything, {}, options.NAME, options.COMPLETE)
    output.write([script.source() + "\n"])
