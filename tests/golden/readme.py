"""The outputs that the README quotes, and how to quote them anew."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(
    page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "reference"
)
"""The pages that are written by hand."""
_BLOCK = re.compile(
    r"^<!-- (output|full-size) -->\n```console\n\$ (.*)\n((?:.*\n)*?)```$", re.MULTILINE
)


class Quote(NamedTuple):
    """``kind`` is ``output`` for committed files, ``full-size`` for those built on demand."""

    kind: str
    command: str
    text: str


def quotes(page: Path = README) -> list[Quote]:
    return [Quote(*match.groups()) for match in _BLOCK.finditer(page.read_text("utf-8"))]


def run(command: str, folder: Path) -> str:
    """What a command of the README prints when started in ``folder``."""
    words = shlex.split(command)
    # A reader's terminal prints UTF-8 whatever this machine's locale is.
    environment = os.environ | {"PYTHONUTF8": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    # 1 is the verdict that a budget is broken, which is worth quoting.
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{command}: {done.stderr}")
    return done.stdout


def refresh(folders: dict[str, Path]) -> None:
    """Quote again what the commands of each kind print in the folder given for it."""

    def quoted(match: re.Match[str]) -> str:
        kind, command, old = match.groups()
        text = run(command, folders[kind]) if kind in folders else old
        return f"<!-- {kind} -->\n```console\n$ {command}\n{text}```"

    for page in (README, *PAGES):
        page.write_text(_BLOCK.sub(quoted, page.read_text("utf-8")), "utf-8")
