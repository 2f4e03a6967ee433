"""A first configuration, written from what the models of a project are today: green as it stands."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from sizeforensics.causes import CAUSES
from sizeforensics.findings import Finding
from sizeforensics.inventory import Inventory
from sizeforensics.spans import ROLES, UNCLAIMED
from sizeforensics.units import format_bytes

_HEAD = """\
# Size budgets, checked by `sizeforensics check`.
#
# A limit is a size ("15 MB", "14 MiB", 15_000_000) or a share of the file ("2 %").
# { warn = "14 MB", fail = "15 MB" } warns before it fails. Lines that are commented out are further
# limits to choose from.
"""
_WASTE = (
    "duplicate", "unreferenced", "storage-slack", "optimizer-state", "ema-copy", "dtype", "encoding",
    "debug-info",
)  # fmt: skip
"""What a model that is shipped should not have, and what findings can tell."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_INDEX = ".safetensors.index.json"
_ROOM = 20
"""A limit leaves a twentieth above today's size."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model that was found, with its waste."""

    inventory: Inventory
    findings: Sequence[Finding]


def write(models: Sequence[Found]) -> str:
    """The configuration as TOML, one budget for each model."""
    names = _names([model.inventory.path for model in models])
    return _HEAD + "".join(
        f"\n{line}" for name, model in zip(names, models, strict=True) for line in _budget(name, model)
    ) + "\n"  # fmt: skip


def _budget(name: str, model: Found) -> Iterator[str]:
    inventory = model.inventory
    key = name if _BARE_KEY.fullmatch(name) else _quoted(name)
    yield f"[budgets.{key}]"
    yield f"path = {_quoted(inventory.path)}"
    yield f"max_bytes = {_quoted(_rounded(inventory.nbytes))}  # {format_bytes(inventory.nbytes)} today"
    yield '# max_growth = "2 %"  # over the baseline, which the next line names'
    yield f"# baseline = {_quoted(f'sizes/{name}.json')}  # `sizeforensics check --update` writes it"
    types = sorted({tensor.dtype.name for tensor in inventory.tensors})
    yield f"# dtypes = [{', '.join(map(_quoted, types))}]  # no others"
    unclaimed = int(inventory.bytes_by_role()[UNCLAIMED])
    if unclaimed:
        yield f"unexplained = {unclaimed}  # {ROLES[UNCLAIMED]} bytes of today; 0 unless stated"
    yield ""
    yield f"[budgets.{key}.causes]"
    yield from _causes(model.findings)
    yield ""


def _causes(findings: Iterable[Finding]) -> Iterator[str]:
    """Zero for the waste there is none of; a remark for what there is."""
    found = {finding.finding: finding.nbytes for finding in findings}
    for cause in _WASTE:
        if cause not in found:
            yield f"{cause} = 0"
    for cause in _WASTE:
        if cause in found:
            yield f"# {cause} = 0  # {format_bytes(found[cause])} today: {CAUSES[cause].title}"


def _names(paths: Sequence[str]) -> list[str]:
    """The stem of each file; where two share it, with the extension, else with the folders."""
    known = [PurePath(path) for path in paths]
    choices = [
        (path.name.removesuffix(_INDEX) if path.name.endswith(_INDEX) else path.stem, path.name.replace(".", "-"), path.as_posix().replace("/", "-").replace(".", "-"))
        for path in known
    ]
    counts = [Counter(names) for names in zip(*choices, strict=True)]
    names = []
    for number, choice in enumerate(choices, 1):
        unique = [name for name, count in zip(choice, counts, strict=True) if count[name] == 1]
        names.append(next((name for name in unique if name not in names), f"model-{number}"))
    return names


def _rounded(nbytes: int) -> str:
    """Today's size with some room, in two or three digits of the largest unit that fits."""
    most = nbytes + nbytes // _ROOM + 1
    unit, factor = max(
        ((unit, factor) for unit, factor in (("B", 1), ("kB", 10**3), ("MB", 10**6), ("GB", 10**9)) if factor * 10 <= most),
        key=lambda known: known[1], default=("B", 1),
    )  # fmt: skip
    return f"{-(-most // factor)} {unit}"


def _quoted(text: str) -> str:
    """A basic string: JSON's escapes are TOML's too, and DEL needs one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
