"""Run one harness under libFuzzer: ``python -m fuzz.run NAME [libFuzzer options] CORPUS``."""

from __future__ import annotations

import sys
from typing import Any


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["sizeforensics"]):
        from fuzz import harnesses
        from sizeforensics.errors import FormatError
    from fuzz.mutator import mutate

    name, *options = sys.argv[1:]
    harness, _ = harnesses.HARNESSES[name]

    def target(data: bytes) -> None:
        try:
            harness(data)
        except FormatError as refusal:
            if not str(refusal).isprintable():
                raise

    def change(data: bytes, most: int, seed: int) -> bytes:
        return mutate(data, most, seed, atheris.Mutate)

    setup: Any = atheris.Setup
    setup([sys.argv[0], *options], target, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
