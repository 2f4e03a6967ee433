"""What the Python of the documentation prints or fails with, and how to quote it anew.

On a page, a block marked ``<!-- printed -->`` shows what the Python block before it prints when it is
run at the root of the repository; where that block has tests, it is the diagnosis of those that fail.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$|^<!-- printed -->\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Snippet(NamedTuple):
    """A block of Python and what is quoted below it; None where nothing is."""

    code: str
    text: str | None

    @property
    def is_test(self) -> bool:
        return "\ndef test_" in f"\n{self.code}"


def snippets(page: Path) -> Iterator[Snippet]:
    """The Python of a page."""
    code = None
    for match in _BLOCK.finditer(page.read_text("utf-8")):
        if match["code"] is None:
            if code is None:
                raise ValueError(f"{page}: there is no Python before what is printed")
            yield Snippet(code, match["text"])
            code = None
        else:
            if code is not None:
                yield Snippet(code, None)
            code = match["code"]
    if code is not None:
        yield Snippet(code, None)


def run(code: str) -> str:
    """What a script prints. Raises RuntimeError when it fails."""
    done = _python("-W", "error", "-c", code)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def run_tests(code: str) -> tuple[int, str]:
    """The exit code of pytest, and the lines that say why a test failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test_sizes.py")
        file.write_text(code, "utf-8")
        done = _python(
            "-m", "pytest", "-p", "sizeforensics.pytest_plugin", "-p", "no:cacheprovider", "-q", "--no-header",
            "-c", os.devnull, f"--rootdir={folder}", str(file),
        )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode, "".join(re.findall(r"^E .*\n", done.stdout, re.MULTILINE))


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The plugin is named, because this package may be installed here or not.
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "NO_COLOR": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def refresh(pages: list[Path]) -> None:
    """Quote again what the Python of the pages prints."""
    for page in pages:
        quoted = iter([snippet for snippet in snippets(page) if snippet.text is not None])

        def anew(match: re.Match[str], quoted: Iterator[Snippet] = quoted) -> str:
            if match["code"] is not None:
                return match[0]
            snippet = next(quoted)
            text = run_tests(snippet.code)[1] if snippet.is_test else run(snippet.code)
            return f"<!-- printed -->\n```text\n{text}```"

        page.write_text(_BLOCK.sub(anew, page.read_text("utf-8")), "utf-8")
