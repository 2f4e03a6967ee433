"""The reference pages, written from the code when the documentation is built."""

from __future__ import annotations

import dataclasses

import mkdocs_gen_files

from sizeforensics.causes import CAUSES
from sizeforensics.limits import Limits


def causes() -> str:
    """The catalogue of causes."""
    sections = (
        f"## {cause.id}\n\n{cause.title}: {cause.counts}\n\n* Proved by: {cause.proof}\n"
        f"* What to do: {cause.remedy}\n* What it costs: {cause.cost}\n"
        for cause in CAUSES.values()
    )
    return "# Causes\n\n" + "\n".join(sections)


def limits() -> str:
    """The limits and their defaults."""
    rows = (f"| `{field.name}` | {field.default:,} |\n" for field in dataclasses.fields(Limits))
    return "# Limits\n\n| limit | default |\n|---|---:|\n" + "".join(rows)


CLI = "# Command line\n\n::: mkdocs-click\n    :module: sizeforensics.cli\n    :command: cli\n    :prog_name: sizeforensics\n    :depth: 1\n"

for name, text in {"causes": causes(), "limits": limits(), "cli": CLI}.items():
    with mkdocs_gen_files.open(f"reference/{name}.md", "w") as page:
        page.write(text)
