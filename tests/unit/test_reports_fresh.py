"""The examples in ``reports/`` are what the code makes now; ``python -m tests.golden`` makes them."""

from __future__ import annotations

import io

import matplotlib as mpl
import pytest
from PIL import Image

from tests.golden.digests import unpacked
from tests.golden.examples import FILES, FOLDER

STALE = "stale: run python -m tests.golden"


@pytest.mark.parametrize("name", FILES)
def test_fresh(name):
    made, kept = FILES[name](), (FOLDER / name).read_bytes()
    if name.endswith(".png"):
        with Image.open(io.BytesIO(made)) as new, Image.open(io.BytesIO(kept)) as old:
            assert new.text["Description"] == old.text["Description"], STALE
            assert new.size == old.size
            # Another version of matplotlib shades the edge of a letter differently.
            if old.text["Software"].endswith(mpl.__version__):
                assert new.convert("RGB").tobytes() == old.convert("RGB").tobytes(), STALE
    elif name.endswith(".html"):
        assert unpacked(made.decode()) == unpacked(kept.decode()), STALE
    else:
        assert made == kept, STALE


def test_nothing_is_left_over():
    assert {path.name for path in FOLDER.iterdir()} - {"README.md"} == set(FILES)
