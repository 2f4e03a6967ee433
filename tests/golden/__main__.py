"""``python -m tests.golden`` writes every golden file, every example in ``reports/``, the reference in
``docs/`` and the outputs that the README and the other pages quote again; review the change before
committing."""

from docs import _generate
from tests.golden import digests, snippets
from tests.golden.cases import CASES, HERE
from tests.golden.examples import FILES, FOLDER
from tests.golden.readme import PAGES, README, ROOT, refresh


def main() -> None:
    """Write them all."""
    for name, make in CASES.items():
        (HERE / name).write_text(make(), encoding="utf-8", newline="")
    for name, text in digests.everything():
        (HERE / name).write_text(text, encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    for name, make_bytes in FILES.items():
        (FOLDER / name).write_bytes(make_bytes())
    _generate.write(ROOT / "docs" / "reference")
    refresh({"output": ROOT})
    snippets.refresh([README, *PAGES])


if __name__ == "__main__":  # the processes that help import this file
    main()
