"""The budgets of a project: ``[tool.sizeforensics]`` of pyproject.toml, or sizeforensics.toml.

A key nobody knows is an error, never ignored. Paths are relative to the file's folder and stay as
they are written, so that what is printed is the same on every machine.
"""

from __future__ import annotations

import datetime as dt
import glob
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizeforensics.budget.rules import KEYS, Budget, Waiver
from sizeforensics.errors import InputError, about
from sizeforensics.escape import one_line
from sizeforensics.spelling import closest, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN_FILE, SHARED_FILE = "sizeforensics.toml", "pyproject.toml"
MISSING = f"expected {OWN_FILE}, or [tool.sizeforensics] in {SHARED_FILE}"

_LIMITS = {key: key for key in ("baseline", *KEYS)} | {"max_bytes": "total", "max_growth": "growth"}
"""Key of the configuration to field of ``Budget``."""
_FILE_KEYS = ("path", "optional")
_KEYS = (*_FILE_KEYS, *_LIMITS, "waivers")
_WAIVER_KEYS = ("limit", "reason", "owner", "expires")
MOST_CHARACTERS, MOST_PARTS = 1 << 20, 100
"""Of a configuration, and of one of its keys: the parser keeps every beginning of a dotted key."""
_LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MOST_PARTS}}}"""
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A named budget and the files it is about: a path, or a glob with ``**`` for any folders."""

    name: str
    path: str
    """A text: the model, or a glob in which ``**`` stands for any folders; every file that matches is
    held to the budget. One that matches nothing is a failure. ``path = "dist/**/*.onnx"``"""
    budget: Budget
    optional: bool = False
    """``true`` or ``false``: whether it is fine when no file is there. ``optional = true``"""
    folder: str = ""
    """The configuration's folder as it was named; empty for the current one."""
    place: str = field(default="", compare=False)
    """Where it is written, for messages: the file and its table."""

    def paths(self) -> list[str]:
        """The files that exist, in order."""
        # A name may hold a bracket and still be a name.
        if os.path.lexists(Path(self.folder, self.path)):
            return [self._within(self.path)]
        # Path.glob refuses absolute patterns, and its paths lose a leading "./".
        found = glob.glob(self.path, root_dir=self.folder or None, recursive=True)  # noqa: PTH207
        return sorted(path for path in map(self._within, found) if Path(path).is_file())

    @property
    def wanted(self) -> str:
        """The path or glob, seen from the current folder."""
        return self._within(self.path)

    def baseline_of(self, path: str) -> str | None:
        """The baseline of one of the files; ``{name}`` stands for its file name."""
        if self.budget.baseline is None:
            return None
        return self._within(self.budget.baseline.replace("{name}", Path(path).name))

    def _within(self, path: str) -> str:
        return str(Path(self.folder, path)) if self.folder else path


def find(folder: str = "") -> Path:
    """The configuration of a folder. Raises InputError when it has none, or two."""
    own, shared = Path(folder, OWN_FILE), Path(folder, SHARED_FILE)
    there = is_configured(shared)
    if own.is_file() and there:
        raise InputError(f"{OWN_FILE} and {SHARED_FILE} both hold budgets: keep one of them")
    if own.is_file():
        return own
    if there:
        return shared
    raise InputError(f"{MISSING}{_misnamed(shared)}; `sizeforensics init` writes a first one")


def _misnamed(shared: Path) -> str:
    """The table of a shared file that may have been meant for this program."""
    tools = _read(shared).get("tool", {}) if shared.is_file() else {}
    close = closest("sizeforensics", tools, 0.8) if isinstance(tools, Mapping) else ""
    return f" (there is [tool.{close}])" if close else ""


def is_configured(path: Path) -> bool:
    """Whether the file exists and has a part for budgets."""
    return path.is_file() and _section(path, _read(path)) is not None


def load(path: Path) -> tuple[Entry, ...]:
    """The budgets of a configuration file, in its order.

    Raises InputError for what is no TOML, for a key nobody knows and for a limit nobody can keep.
    """
    section = _section(path, _read(path))
    with about(str(path)):
        if section is None:
            raise InputError("expected a table [tool.sizeforensics]")
        _check_keys(section, ("budgets",))
        budgets = section.get("budgets", {})
        if not isinstance(budgets, Mapping) or not budgets:
            raise InputError("expected at least one table [budgets.NAME]")
        return tuple(_entry(path, name, table) for name, table in budgets.items())


def _read(path: Path) -> dict[str, Any]:
    where = one_line(str(path))
    try:
        text = path.read_bytes().decode("utf-8")
        if len(text) > MOST_CHARACTERS:
            raise InputError(f"{where}: expected at most {MOST_CHARACTERS:,} characters, got {len(text):,}")
        if _LONG_KEY.search(text):
            raise InputError(f"{where}: expected keys of at most {MOST_PARTS} parts, got a longer one")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{where}: cannot read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: at {error.start:#x}: expected UTF-8") from None
    except (ValueError, RecursionError) as error:  # a ValueError also for numbers of 5,000 digits
        raise InputError(f"{where}: expected TOML: {error}") from None


def _section(path: Path, document: dict[str, Any]) -> Mapping[str, Any] | None:
    """The tables about budgets; None where a shared file has none."""
    if path.name != SHARED_FILE:
        return document
    tools = document.get("tool", {})
    section = tools.get("sizeforensics") if isinstance(tools, Mapping) else None
    if section is not None and not isinstance(section, Mapping):
        raise InputError(f"{one_line(str(path))}: expected a table [tool.sizeforensics]")
    return section


def _check_keys(table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            meant = did_you_mean(key, known)
            raise InputError(f"unknown key {key!r}{meant} (known: {', '.join(known)})")


def _entry(file: Path, name: str, table: object) -> Entry:
    folder = "" if file.parent == Path() else str(file.parent)
    with about(f"budgets.{name}"):
        if not isinstance(table, Mapping):
            raise InputError(f"expected a table, got {table!r}")
        _check_keys(table, _KEYS)
        path = _text(table, "path")
        optional = table.get("optional", False)
        if not isinstance(optional, bool):
            raise InputError(f"optional: expected true or false, got {optional!r}")
        limits = {key: value for key, value in table.items() if key not in _FILE_KEYS}
        return Entry(name, path, budget_of(limits), optional, folder, f"{file}: budgets.{name}")


def budget_of(table: Mapping[str, Any]) -> Budget:
    """The budget that keys and values of the configuration describe, without the files."""
    _check_keys(table, (*_LIMITS, "waivers"))
    if "baseline" in table:
        _text(table, "baseline")
    limits = {field: table[key] for key, field in _LIMITS.items() if key in table}
    return Budget(**limits, waivers=_waivers(table.get("waivers", [])))


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{key}: expected a text, got {value!r}")
    return value


def _waivers(tables: object) -> tuple[Waiver, ...]:
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        raise InputError(f"waivers: expected tables [[…waivers]], got {tables!r}")
    return tuple(map(_waiver, tables))


def _waiver(table: object) -> Waiver:
    if isinstance(table, Waiver):
        return table
    if not isinstance(table, Mapping):
        raise InputError(f"waivers: expected a table, got {table!r}")
    with about("waivers"):
        _check_keys(table, _WAIVER_KEYS)
        limit, reason, owner = (_text(table, key) for key in _WAIVER_KEYS[:3])
        return Waiver(limit, reason, owner, _date(table.get("expires")))


def _date(value: object) -> dt.date:
    if isinstance(value, str):
        try:
            value = dt.date.fromisoformat(value)
        except ValueError:
            raise InputError(f"expires: expected a date such as 2030-12-31, got {value!r}") from None
    # A datetime is a date to Python, but not a day to everyone.
    if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
        raise InputError(f"expires: expected a date such as 2030-12-31, got {value!r}")
    return value
