"""What the fuzzers found, as small as it gets: each input once broke the harness it is named with."""

from __future__ import annotations

import pytest

from fuzz.harnesses import check

LEGACY_MAGIC = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
FINDINGS = {
    "a no-break space in what a refusal quotes": ("pytorch-legacy", LEGACY_MAGIC + b"\x80\2X\2\0\0\0\xc2\xa0."),
    "a tag whose varint never ends, at the beginning of a file": ("pytorch", b"\xba" + b"\x80" * 12),
}


@pytest.mark.parametrize("what", FINDINGS)
def test_a_finding_stays_mended(what):
    check(*FINDINGS[what])
