"""What the fuzzers found, as small as it gets: each input once broke the harness it is named with."""

from __future__ import annotations

import pytest

from fuzz.harnesses import check

FINDINGS = {
    "a tag whose varint never ends, at the beginning of a file": ("pytorch", b"\xba" + b"\x80" * 12),
}


@pytest.mark.parametrize("what", FINDINGS)
def test_a_finding_stays_mended(what):
    check(*FINDINGS[what])
