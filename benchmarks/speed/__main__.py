"""Measure speed and memory: ``python -m benchmarks.speed``.

Models that are not in the cache yet are generated first (3 GB in all). Nothing here fails when a
target is missed: the verdict is in what is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.marks import README, update
from benchmarks.speed import measure
from benchmarks.speed.cases import CACHE, CASES, FULL, QUICK
from benchmarks.speed.report import as_json, as_text


def main() -> None:
    """Run the cases and print what they took."""
    options = _parser().parse_args()
    scale = QUICK if options.quick else FULL
    if options.rounds:
        scale = replace(scale, rounds=options.rounds)
    with ExitStack() as stack:
        if options.quick:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = options.cache
        # As pip does when it installs a package.
        measure.run([sys.executable, "-m", "compileall", "-q", "sizeforensics", "benchmarks"])
        results = []
        for name in options.only or CASES:
            print(f"{name}: {CASES[name].__doc__}", file=sys.stderr, flush=True)
            results.append(CASES[name](scale, folder))
    if options.json:
        print(as_json(results, scale))
    else:
        print(as_text(results, scale, markdown=options.markdown), end="")
    if options.update_readme:
        update(README, "speed", as_text(results, scale, markdown=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", choices=CASES, metavar="NAME",
        help=f"measure this case only; repeatable: {', '.join(CASES)}",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="tiny models, one round: does the runner work at all?"
    )
    parser.add_argument("--rounds", type=int, help="how often each command runs; the best counts")
    parser.add_argument(
        "--cache", type=Path, default=CACHE / "speed", metavar="DIR",
        help="where generated models are kept (default: %(default)s)",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--update-readme", action="store_true", help="put the tables into benchmarks/README.md too"
    )
    return parser


if __name__ == "__main__":
    main()
