"""Measure HTML reports: ``python -m benchmarks.reports``.

Bytes of the page and seconds to write it, for a thousand to a hundred thousand tensors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.marks import README, update
from benchmarks.reports.synthetic import KINDS
from sizeforensics.report import html, html_data

COUNTS = (1_000, 10_000, 100_000)
TARGETS = {1_000: 200_000, 100_000: 1_200_000}
"""Bytes that a page of so many tensors may take."""


class Line(NamedTuple):
    """One page; ``names_bytes`` of it are the names."""

    kind: str
    tensors: int
    page_bytes: int
    names_bytes: int
    seconds: float

    @property
    def verdict(self) -> str:
        target = TARGETS.get(self.tensors)
        if target is None:
            return ""
        return f"<= {target:,}: {'yes' if self.page_bytes <= target else 'NO'}"


def measured(kind: str, tensors: int) -> Line:
    """Write one page to nowhere."""
    report = KINDS[kind](tensors)
    started = time.perf_counter()
    size = sum(len(piece.encode("utf-8")) for piece in html.render(report))
    seconds = time.perf_counter() - started
    data = html_data.of_diff(report)
    names = html_data.packed({key: data[key] for key in ("names", "matched")})
    return Line(kind, tensors, size, len(names), seconds)


def table(lines: Iterable[Line]) -> str:
    """The results as Markdown."""
    rows = [
        f"| {line.kind} | {line.tensors:,} | {line.page_bytes:,} | {line.names_bytes:,} | "
        f"{line.seconds:.2f} | {line.verdict} |"
        for line in lines
    ]
    head = "| names and sizes | tensors | page, bytes | of these names | seconds | target, bytes |"
    return "\n".join([head, "| --- | ---: | ---: | ---: | ---: | --- |", *rows])


def main() -> None:
    """Print the table, and put it into the README when asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a thousand tensors only")
    parser.add_argument("--update-readme", action="store_true", help="put the table into benchmarks/README.md too")
    options = parser.parse_args()
    counts = COUNTS[:1] if options.quick else COUNTS
    if options.quick and options.update_readme:
        parser.error("--update-readme needs every size, not --quick")
    text = table(measured(kind, count) for kind in KINDS for count in counts)
    print(text)
    if options.update_readme:
        update(README, "reports", text)


if __name__ == "__main__":
    main()
