"""The Python API: what the command line shows, as objects, tables and a notebook view."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sizeforensics import collector
from sizeforensics.errors import InputError
from sizeforensics.escape import one_line, visible
from sizeforensics.findings import Finding
from sizeforensics.fingerprints import Advance, silent
from sizeforensics.frames import PART, flat_cause, flat_pair, flat_part, flat_row, frame
from sizeforensics.inventory import File, Inventory
from sizeforensics.ledger import Ledger, Row
from sizeforensics.limits import DEFAULT_LIMITS, Limits
from sizeforensics.report.contents import (
    FindingRow,
    InspectReport,
    NodeRow,
    TensorRow,
    inspect_report,
    node_rows,
)
from sizeforensics.report.presentation import diff_report
from sizeforensics.report.rows import CauseRow, DiffReport, Fix, TensorPair

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sizeforensics.budget import Budget, Verdict
    from sizeforensics.live import Live

PathLike = str | os.PathLike[str]

observers: list[Callable[[Inspection, Diff | None, Verdict], None]] = []
"""Who is told of every verdict with what it was reached from: a test run that writes reports."""

NOTEBOOK_ROWS = 20
"""Rows of a table in the notebook view; ``to_frame`` has them all."""


def inspect(
    model: PathLike | Live,
    *,
    name: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    follow_links: PathLike | None = None,
    advance: Advance = silent,
) -> Inspection:
    """Everything that ``model`` contains, to the byte.

    A model is the path of a file (a text or ``os.PathLike``), or in memory a ``torch.nn.Module``, a
    state dict, a checkpoint of such things or an exported program, which is counted as torch would save
    it (``sizeforensics[torch]``): into a buffer, or with ``name`` into a file that is called so, whose
    stem torch puts into the name of every record.
    ``limits`` bounds what a hostile file can cost. Files beside the model may be symbolic links into
    the directory ``follow_links``, such as the cache of the Hugging Face hub. ``advance`` is called
    with the number of payload bytes done since the last call.

    Raises InputError when the file cannot be read, and a FormatError, which is one, when it
    contradicts its format: Unrecognized, Truncated, Corrupt, Unsupported or LimitExceeded.
    """
    return look_into(read(model, limits, follow_links, name), advance)


def diff(
    before: PathLike | Live,
    after: PathLike | Live,
    *,
    limits: Limits = DEFAULT_LIMITS,
    follow_links: PathLike | None = None,
    advance: Advance = silent,
) -> Diff:
    """Why the model ``after`` is bigger or smaller than ``before``, to the byte.

    Either may be a file, a snapshot, or in memory. ``limits`` and ``follow_links`` hold for both and
    mean what they mean to ``inspect``; ``advance`` is called with the number of payload bytes done since
    the last call. Raises what ``inspect`` raises, for either side.
    """
    return compare(
        read(before, limits, follow_links), read(after, limits, follow_links), advance
    )


def check(
    model: PathLike | Live | Inspection,
    budget: Budget,
    *,
    limits: Limits = DEFAULT_LIMITS,
    follow_links: PathLike | None = None,
    today: dt.date | None = None,
) -> Verdict:
    """Whether a model keeps its budget, limit by limit: the value, the excess, what is to blame.

    A model is what ``inspect`` takes, or what it returned. A limit that is broken raises nothing: it is
    in the verdict. ``limits`` and ``follow_links`` hold for the model and for its baseline, as in
    ``inspect``. ``today`` decides which waivers hold; without it, the day in UTC does. Raises
    InputError when a file cannot be read, and where a limit needs a baseline that the budget does not
    name.
    """
    if isinstance(model, Inspection):
        inspection = model
    else:
        inspection = inspect(model, limits=limits, follow_links=follow_links)
    against = None
    if budget.baseline is not None:
        against = compare(read(budget.baseline, limits, follow_links), inspection.inventory)
    return judge(inspection, against, budget, today=today)


def judge(
    inspection: Inspection, against: Diff | None, budget: Budget, *, name: str = "",
    baseline: str | None = None, today: dt.date | None = None,
) -> Verdict:  # fmt: skip
    """``check`` of what was read already; ``against`` is the diff from the baseline."""
    from sizeforensics.budget import verdict
    from sizeforensics.budget.facts import Facts

    ledger = None
    if against is not None:
        report = against.report
        ledger = Ledger(report.before.bytes, report.after.bytes, report.rows)
    facts = Facts(inspection.inventory, inspection.waste, ledger)
    told = verdict.judge(
        budget, facts, today or dt.datetime.now(dt.timezone.utc).date(), name=name,
        baseline=baseline or budget.baseline,
    )  # fmt: skip
    told = replace(told, warnings=inspection.warnings)
    for observer in observers:
        observer(inspection, against, told)
    return told


def read(
    model: PathLike | Live, limits: Limits = DEFAULT_LIMITS, follow_links: PathLike | None = None,
    name: str | None = None,
) -> Inventory:  # fmt: skip
    """The inventory alone, for ``look_into`` and ``compare``; arguments as of ``inspect``."""
    from sizeforensics import formats

    if not isinstance(model, str | os.PathLike):
        from sizeforensics import live

        return formats.read_source(live.saved(model, name), limits)
    if name is not None:
        raise InputError(f"{one_line(os.fspath(model))}: is called so: name is for models in memory")
    return formats.read(os.fspath(model), limits, None if follow_links is None else os.fspath(follow_links))


@contextmanager
def _at_work() -> Iterator[None]:
    """What holds while payload is looked at: it is anybody's, and a signalling NaN is no news.

    What is not finite fails the comparisons that it takes part in.
    """
    with collector.paused(), np.errstate(all="ignore"):
        yield


def look_into(inventory: Inventory, advance: Advance = silent) -> Inspection:
    """``inspect`` of an inventory that was read already."""
    from sizeforensics import findings
    from sizeforensics.fingerprints import fingerprints
    from sizeforensics.views import cover

    with _at_work():
        coverage = cover(inventory)
        prints = fingerprints(inventory, coverage, advance)
        digests = [known.digest.hex() if known else None for known in prints]
        found = findings.find(inventory, coverage, prints)
        return Inspection(inventory, inspect_report(inventory, found, digests), found)


def compare(before: Inventory, after: Inventory, advance: Advance = silent) -> Diff:
    """``diff`` of two inventories that were read already.

    A snapshot is compared with what a snapshot of the other one would hold.
    """
    from sizeforensics import snapshot
    from sizeforensics.attribution import attribute
    from sizeforensics.matching import match

    with _at_work():
        if before.excerpts is not None or after.excerpts is not None:
            before, after = snapshot.take(before, advance), snapshot.take(after, advance)
        ledger = attribute(before, after, match(before, after, advance))
        return Diff(diff_report(before, after, ledger))


def take_snapshot(inventory: Inventory, advance: Advance = silent) -> Inventory:
    """The same inventory without payload, as ``report.snapshots.write`` writes it."""
    from sizeforensics import snapshot

    with _at_work():
        return snapshot.take(inventory, advance)


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """One artifact: what ``inspect`` found in it.

    ``inspection <= budget`` is whether it keeps that budget. Printed it is what the command line shows,
    and in a notebook a table. ``inventory``, ``report`` and ``waste`` are what all this is made from;
    they change without notice.
    """

    inventory: Inventory
    report: InspectReport
    waste: tuple[Finding, ...]

    @property
    def headline(self) -> str:
        """The artifact in one sentence."""
        return self.report.headline

    @property
    def path(self) -> str:
        """As it was given."""
        return self.inventory.path

    @property
    def format(self) -> str:
        """``onnx``, ``pytorch-zip``, ``torchscript``…, as in the JSON."""
        return self.inventory.format

    @property
    def bytes(self) -> int:
        """Bytes of all files of the artifact."""
        return self.inventory.nbytes

    @property
    def files(self) -> tuple[File, ...]:
        """The file that was named, then the external data or shards that it names."""
        return self.inventory.files

    @property
    def spans(self) -> list[SpanRow]:
        """Every span of every file, tiling them; made anew at each access."""
        names = self.inventory.owners.names
        return [
            SpanRow(file.path, start, end, role, names[owner])
            for file in self.inventory.files
            for start, end, role, owner in file.spans
        ]

    @property
    def tensors(self) -> tuple[TensorRow, ...]:
        """Every tensor, in the order of the artifact."""
        return self.report.tensors

    @property
    def nodes(self) -> list[NodeRow]:
        """Every operator; made anew at each access."""
        return node_rows(self.inventory)

    @property
    def findings(self) -> tuple[FindingRow, ...]:
        """Waste, most bytes first."""
        return self.report.findings

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing and changes no number, such as external data that are not there."""
        return self.report.warnings

    def to_frame(self, kind: str = "tensors") -> pd.DataFrame:
        """A pandas table of ``tensors``, ``spans``, ``nodes``, ``roles``, ``dtypes``, ``ops`` or
        ``findings``, with the keys of the JSON among its columns. Raises InputError for another
        word."""
        tables: dict[str, Callable[[], Iterable[Any]]] = {
            "tensors": lambda: self.tensors,
            "spans": lambda: self.spans,
            "nodes": lambda: self.nodes,
            "roles": lambda: (flat_part("role", part) for part in self.report.roles),
            "dtypes": lambda: (flat_part("dtype", part) for part in self.report.dtypes),
            "ops": lambda: (flat_part("op", part) for part in self.report.ops),
            "findings": lambda: self.findings,
        }
        columns: dict[str, tuple[str, ...]] = {
            "tensors": TensorRow._fields, "spans": SpanRow._fields, "nodes": NodeRow._fields,
            "findings": FindingRow._fields, "roles": ("role", *PART), "dtypes": ("dtype", *PART),
            "ops": ("op", *PART),
        }  # fmt: skip
        return frame(kind, tables, columns)

    def to_dict(self) -> dict[str, Any]:
        """What ``inspect --format json`` prints, as plain values."""
        from sizeforensics.report import json

        return json.plain(json.inspect(self.report))

    def to_html(self) -> str:
        """The HTML report as text."""
        from sizeforensics.report import html

        return "".join(html.render(self.report))

    def to_markdown(self) -> str:
        """The comment for a pull request."""
        from sizeforensics.report import markdown

        return markdown.inspect(self.report)

    def plot(self, figure: str = "waterfall", *, by: str = "") -> Figure:
        """A ``waterfall`` of roles, or a ``treemap`` by ``module`` or by ``role``, as a matplotlib
        Figure. Raises InputError for another word."""
        from sizeforensics.report import figures

        return figures.draw(figures.arrange(self.report, figure, by=by))

    def save(self, path: PathLike, *, force: bool = False, figure: str = "waterfall") -> None:
        """Write a report whose kind the extension decides: .html, .md, .png, .svg, .json, .csv or
        .parquet; ``figure`` is what .png and .svg show. Raises InputError when the file exists and
        ``force`` is not given, or cannot be written."""
        from sizeforensics.report.save import save

        save(self.report, os.fspath(path), force, figure)

    def __le__(self, budget: object) -> bool:
        from sizeforensics.budget import Budget  # most reports are not about one

        if not isinstance(budget, Budget):
            return NotImplemented
        return check(self, budget, limits=self.inventory.limits).ok

    def save_snapshot(self, path: PathLike, *, force: bool = False) -> None:
        """Write the snapshot: the inventory without its weights, which ``inspect`` and ``diff`` take
        in place of the model. ``path`` ends in .json, .json.gz or .json.zst. Raises InputError when
        the file exists and ``force`` is not given, or cannot be written."""
        from sizeforensics.report import snapshots

        snapshots.check(os.fspath(path), force)
        snapshots.write(take_snapshot(self.inventory), os.fspath(path), force)

    def __str__(self) -> str:
        from sizeforensics.report import console
        from sizeforensics.report.styled import View

        return console.inspect(self.report, View()).rstrip("\n")

    def __repr__(self) -> str:
        return f"<Inspection {visible(self.headline)}>"

    def _repr_html_(self) -> str:
        from sizeforensics.report import html

        return html.notebook(self.report, NOTEBOOK_ROWS)


class SpanRow(NamedTuple):
    """``[start, end)`` of one file, what it is and whose it is."""

    path: str
    start: int
    end: int
    role: str
    owner: str


@dataclass(frozen=True, slots=True, repr=False)
class Diff:
    """Two artifacts, and where every byte of the difference comes from.

    Printed it is what the command line shows, and in a notebook a table. ``report`` is what all this is
    made from; it changes without notice.
    """

    report: DiffReport

    @property
    def headline(self) -> str:
        """The answer in one sentence."""
        return self.report.headline

    @property
    def before_bytes(self) -> int:
        """Bytes of all files of the first artifact."""
        return self.report.before.bytes

    @property
    def after_bytes(self) -> int:
        """Bytes of all files of the second artifact."""
        return self.report.after.bytes

    @property
    def delta_bytes(self) -> int:
        """``after_bytes - before_bytes``, the sum over ``causes`` and over ``rows``."""
        return self.report.delta_bytes

    @property
    def causes(self) -> tuple[CauseRow, ...]:
        """Largest change first."""
        return self.report.causes

    @property
    def rows(self) -> tuple[Row, ...]:
        """The ledger, largest change first."""
        return self.report.rows

    @property
    def tensors(self) -> tuple[TensorPair, ...]:
        """Which tensor became which, largest change first."""
        return self.report.tensors

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """What would make the second artifact smaller, largest saving first."""
        return self.report.fixes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing and changes no number, such as external data that are not there."""
        return self.report.warnings

    def to_frame(self, kind: str = "rows") -> pd.DataFrame:
        """A pandas table of ``rows``, ``causes`` or ``tensors``, with the keys of the JSON among its
        columns; ``before`` and ``after`` are names. Raises InputError for another word."""
        tables: dict[str, Callable[[], Iterable[Any]]] = {
            "rows": lambda: map(flat_row, self.rows),
            "causes": lambda: map(flat_cause, self.causes),
            "tensors": lambda: map(flat_pair, self.tensors),
        }
        return frame(kind, tables, {})

    def to_dict(self) -> dict[str, Any]:
        """What ``diff --format json`` prints, as plain values."""
        from sizeforensics.report import json

        return json.plain(json.diff(self.report))

    def to_html(self) -> str:
        """The HTML report as text."""
        from sizeforensics.report import html

        return "".join(html.render(self.report))

    def to_markdown(self) -> str:
        """The comment for a pull request."""
        from sizeforensics.report import markdown

        return markdown.diff(self.report)

    def plot(self, figure: str = "waterfall", *, area: str = "", by: str = "") -> Figure:
        """A ``waterfall`` of causes, or a ``treemap``, as a matplotlib Figure.

        The boxes of a treemap are as large as the bytes ``after``, ``before`` or of ``change`` that
        ``area`` says, by ``module`` or by ``cause``. Raises InputError for another word.
        """
        from sizeforensics.report import figures

        return figures.draw(figures.arrange(self.report, figure, area, by))

    def save(
        self, path: PathLike, *, force: bool = False, figure: str = "waterfall", table: str = "rows"
    ) -> None:
        """Write a report whose kind the extension decides: .html, .md, .png, .svg, .json, .csv or
        .parquet; ``figure`` is what .png and .svg show, ``table`` whether .csv and .parquet list
        ``rows`` or ``tensors``. Raises InputError when the file exists and ``force`` is not given,
        or cannot be written."""
        from sizeforensics.report.save import save

        save(self.report, os.fspath(path), force, figure, table)

    def __str__(self) -> str:
        from sizeforensics.report import console
        from sizeforensics.report.styled import View

        return console.diff(self.report, View()).rstrip("\n")

    def __repr__(self) -> str:
        return f"<Diff {visible(self.headline)}>"

    def _repr_html_(self) -> str:
        from sizeforensics.report import html

        return html.notebook(self.report, NOTEBOOK_ROWS)
