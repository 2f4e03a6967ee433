"""What a budget limits: each limit as one rule, checked when it is written down."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sizeforensics.budget.bounds import Threshold, by_severity, format_bound, parse_bound
from sizeforensics.causes import CAUSES
from sizeforensics.dtypes import DTYPES
from sizeforensics.errors import InputError, about
from sizeforensics.spans import ROLES
from sizeforensics.spelling import did_you_mean

LIMITABLE = tuple(dict.fromkeys((*CAUSES, *ROLES)))
"""What ``causes`` may name: every cause of the catalogue and every role of a span."""
COMPARED = ("carried", "folded", "shape", "unmatched", "densified", "compression")
"""Causes that only a comparison with a baseline knows."""
KEYS = ("max_bytes", "max_growth", "causes", "forbid", "tensors", "dtypes", "unexplained")
"""What a configuration calls the limits."""
_ARROW = " -> "
_FORBID = "forbid"


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of a budget.

    ``key`` is where the limit stands in the configuration, ``measure`` one of ``facts.MEASURES``,
    ``of`` what it needs to know: a cause, a pair of element types, a pattern of tensor names, the
    element types that are allowed.
    """

    key: str
    measure: str
    of: tuple[str, ...]
    threshold: Threshold

    @property
    def title(self) -> str:
        """What is limited, in a few words."""
        if self.measure == "tensor":
            return f"tensor {self.of[0]}"
        if self.measure == "retyped":
            return f"dtype {', '.join(self.of)}"
        return {"total": "total", "growth": "growth", "dtypes": "element types"}.get(
            self.measure, "".join(self.of)
        )


    @property
    def names(self) -> tuple[str, str]:
        """What a waiver may call it: its key, and what a verdict shows."""
        return self.key, self.title

    @property
    def compares(self) -> bool:
        """Whether it cannot be measured without a baseline."""
        return self.measure == "growth" or (self.measure == "cause" and self.of[0] in COMPARED)


@dataclass(frozen=True, slots=True)
class Waiver:
    """A limit that may be crossed until ``expires``, that day included, and who says why.

    Raises InputError where nobody says who or why.
    """

    limit: str
    """The limit that is waived, by its key (``max_growth``, ``causes.duplicate``, ``forbid.debug-info``)
    or by what a verdict calls it (``growth``). ``limit = "causes.duplicate"``"""
    reason: str
    """Why, as a text for whoever reads the report. ``reason = "tied in the next export"``"""
    owner: str
    """Who takes care of it, a text. ``owner = "vision team"``"""
    expires: dt.date
    """A date: the last day on which it holds, in UTC; after that day the limit counts again.
    ``expires = 2030-12-31``"""

    def __post_init__(self) -> None:
        for key in ("reason", "owner"):
            if not getattr(self, key).strip():
                raise InputError(f"{key}: expected a text, got {getattr(self, key)!r}")

    def holds(self, today: dt.date) -> bool:
        """Whether it counts on that day."""
        return today <= self.expires


@dataclass(frozen=True)
class Budget:
    """What one model may weigh, and of what.

    A limit is a number of bytes, a size such as ``"15 MB"`` or a share such as ``"2 %"``, or
    ``{"warn": …, "fail": …}`` of two such; a share is one of the artifact, that of ``growth`` one
    of the baseline. Raises InputError, with what was probably meant, for a limit nobody can keep, and
    where there is none: a budget that cannot fail is no promise. The last words about each field are how
    a configuration says it.
    """

    total: object = None
    """Limit on the bytes of all files of the artifact, external data included: a size, because a
    share of the artifact itself would limit nothing. ``max_bytes = "15 MB"``"""
    growth: object = None
    """Limit on the bytes that the artifact has more than its baseline: a size, or a share of the
    baseline. Needs a baseline. ``max_growth = { warn = "1 %", fail = "2 %" }``"""
    baseline: str | None = None
    """Path of the model or snapshot that growth is measured from; with it, causes are measured as what
    was gained since, too. ``{name}`` stands for the file name of the model, for a path that is a glob.
    ``baseline = "sizes/{name}.json"``"""
    causes: Mapping[str, object] = field(default_factory=dict)
    """Table of limits on the bytes of a cause or role; a share is one of the artifact. A cause is
    measured in the artifact and, with a baseline, as what was gained since: the larger value counts.
    ``"forbid"`` means none, and for ``dtype`` one pair of element types, or a list of such texts, can
    be forbidden.
    ``causes = { duplicate = 0, metadata = "1 %", dtype = "forbid float16 -> float32" }``"""
    forbid: Sequence[str] = ()
    """List of causes, roles and pairs of element types of which there may not be a byte.
    ``forbid = ["optimizer-state", "debug-info"]``"""
    tensors: Mapping[str, object] = field(default_factory=dict)
    """Table of limits on the stored bytes of any single tensor whose name matches the pattern, in which
    ``*`` stands for any text, ``?`` for a character and ``[…]`` for one of several; a share is one of
    the artifact. A pattern other than ``*`` that matches nothing is a failure.
    ``tensors = { "*.anchor_grid" = "100 kB", "*" = "20 MB" }``"""
    dtypes: object = None
    """List of the element types that tensors may have, or such lists to warn and to fail at.
    ``dtypes = ["float16", "int64"]``"""
    unexplained: object = None
    """Limit on the bytes that nothing accounts for; a share is one of the artifact. Where it
    is not given, not a byte is allowed. ``unexplained = "1 kB"``"""
    waivers: Sequence[Waiver] = ()
    """Limits that may be crossed until a day, as tables with the keys of a waiver.
    ``waivers = [{ limit = "unexplained", reason = "vendor tail", owner = "me", expires = 2030-12-31 }]``"""
    rules: tuple[Rule, ...] = field(init=False, repr=False)
    """All of this as rules, in the order in which they are reported."""

    def __post_init__(self) -> None:
        if isinstance(self.baseline, os.PathLike):
            object.__setattr__(self, "baseline", os.fspath(self.baseline))
        rules = list(self._rules())
        if not rules:
            raise InputError(f"expected a limit, got none (there are {', '.join(KEYS)})")
        if self.unexplained is None and "unexplained" not in self.causes:
            rules.append(_plain("unexplained", "cause", ("unexplained",), 0))
        object.__setattr__(self, "rules", tuple(rules))
        known = [name for rule in rules for name in rule.names]
        for waiver in self.waivers:
            if waiver.limit not in known:
                meant = did_you_mean(waiver.limit, known)
                raise InputError(f"waivers: no limit {waiver.limit!r} to waive{meant}")

    def _rules(self) -> Iterator[Rule]:
        if self.total is not None:
            yield _plain("max_bytes", "total", (), self.total)
        if self.growth is not None:
            yield _plain("max_growth", "growth", (), self.growth)
        for name, value in _table("causes", self.causes):
            yield from _about_cause(name, value)
        for name in _names("forbid", self.forbid):
            if _ARROW.strip() in name:
                pair = _pair("forbid", name)
                yield Rule(f"forbid.{pair}", "retyped", (pair,), Threshold(fail=0))
            else:
                _known("forbid", name, LIMITABLE)
                yield Rule(f"forbid.{name}", "cause", (name,), Threshold(fail=0))
        for pattern, value in _table("tensors", self.tensors):
            yield _plain(f"tensors.{pattern}", "tensor", (pattern,), value)
        if self.dtypes is not None:
            yield from _dtypes(self.dtypes)
        if self.unexplained is not None:
            yield _plain("unexplained", "cause", ("unexplained",), self.unexplained)


# -- one limit ---------------------------------------------------------------------------------


def _plain(key: str, measure: str, of: tuple[str, ...], value: object) -> Rule:
    """A limit in bytes or as a share."""
    with about(key):
        bounds = {severity: parse_bound(bound) for severity, bound in by_severity(value).items()}
        shares = [bound for bound in bounds.values() if isinstance(bound, Fraction)]
        if measure == "total" and shares:
            raise InputError(f"expected a size: {format_bound(shares[0])} of the artifact is no limit to it")
        if len(bounds) == 2 and len(shares) != 1 and bounds["warn"] >= bounds["fail"]:
            raise InputError("expected less to warn at than to fail at")
    return Rule(key, measure, of, Threshold(**bounds))


def _about_cause(name: str, value: object) -> Iterator[Rule]:
    """A limit on a cause: bytes, a share, ``forbid``, or ``forbid A -> B`` for pairs of types."""
    key = f"causes.{name}"
    _known("causes", name, LIMITABLE)
    with about(key):
        parts = by_severity(value)
    amounts: dict[str, object] = {}
    for severity, part in parts.items():
        pairs = _forbidden(part)
        if pairs == ("",):
            amounts[severity] = 0
        elif pairs:
            if name != "dtype":
                raise InputError(f"{key}: expected a limit (only dtype has pairs of types), got {part!r}")
            yield Rule(key, "retyped", tuple(_pair(key, pair) for pair in pairs), Threshold(**{severity: 0}))
        else:
            amounts[severity] = part
    if amounts:
        yield _plain(key, "cause", (name,), amounts)


def _forbidden(value: object) -> tuple[str, ...]:
    """What follows the word ``forbid`` in a text or in each of a list of texts; empty for a
    limit."""
    texts = value if isinstance(value, list | tuple) else [value]
    rest = []
    for text in texts:
        word, _, pair = text.strip().partition(" ") if isinstance(text, str) else ("", "", "")
        if word != _FORBID:
            return ()
        rest.append(pair.strip())
    return tuple(rest)


def _pair(where: str, text: str) -> str:
    """``float16 -> float32`` with the spaces that a ledger writes."""
    before, arrow, after = (part.strip() for part in text.partition(_ARROW.strip()))
    if not arrow:
        raise InputError(f"{where}: expected a pair such as 'float16 -> float32', got {text!r}")
    for name in (before, after):
        _known(where, name, DTYPES)
    return f"{before}{_ARROW}{after}"


def _dtypes(value: object) -> Iterator[Rule]:
    """One rule for each severity: the lists may differ."""
    for severity, part in by_severity(value).items():
        names = _names("dtypes", part)
        for name in names:
            _known("dtypes", name, DTYPES)
        yield Rule("dtypes", "dtypes", names, Threshold(**{severity: 0}))


# -- what a value must look like ---------------------------------------------------------------


def _known(where: str, name: str, known: Sequence[str] | Mapping[str, object]) -> None:
    if name not in known:
        raise InputError(f"{where}: no {name!r}{did_you_mean(name, known)}")


def _table(where: str, value: object) -> list[tuple[str, object]]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where}: expected a table of limits, got {value!r}")
    return list(value.items())


def _names(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where}: expected a list of names, got {value!r}")
    return tuple(value)
