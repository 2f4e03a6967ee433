"""The examples in ``reports/`` are what the code makes now; ``python -m tests.golden`` makes them."""

from __future__ import annotations

import base64
import gzip
import io
import re

import matplotlib as mpl
import pytest
from PIL import Image

from tests.golden.examples import FILES, FOLDER

STALE = "stale: run python -m tests.golden"


def unpacked(page: bytes) -> str:
    """Compressed data differ between versions of zlib; what they hold does not."""
    return re.sub(
        r'(<script[^>]*type="application/json"[^>]*>)([A-Za-z0-9+/=\s]+)(</script>)',
        lambda match: match[1] + gzip.decompress(base64.b64decode(match[2])).decode() + match[3],
        page.decode("utf-8"),
    )


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
        assert unpacked(made) == unpacked(kept), STALE
    else:
        assert made == kept, STALE


def test_nothing_is_left_over():
    assert {path.name for path in FOLDER.iterdir()} - {"README.md"} == set(FILES)
