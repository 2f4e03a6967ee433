"""Run one harness under libFuzzer: ``python -m fuzz.run NAME [libFuzzer options] CORPUS``."""

from __future__ import annotations

import sys
from typing import Any


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["sizeforensics"]):
        from fuzz import harnesses
    from fuzz.mutator import mutate

    name, *options = sys.argv[1:]

    def target(data: bytes) -> None:
        harnesses.check(name, data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        return mutate(data, most, seed, atheris.Mutate)

    setup: Any = atheris.Setup
    setup([sys.argv[0], *options], target, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
