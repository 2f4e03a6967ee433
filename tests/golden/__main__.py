"""``python -m tests.golden`` writes every golden file again; review the change before committing."""

from tests.golden.cases import CASES, HERE

for name, make in CASES.items():
    (HERE / name).write_text(make(), encoding="utf-8", newline="")
