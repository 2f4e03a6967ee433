"""What a benchmark measured, put between two marks of a document."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "benchmarks" / "README.md"


def update(document: Path, mark: str, text: str) -> None:
    """Replace what stands between the marks; raise ValueError when they are not there."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    head, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{document}: expected the lines {begin.strip()!r} and {end!r}")
    document.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
