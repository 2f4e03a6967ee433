"""What tensors and objects of a pickle are called: dotted names, and the Python way to get there.

Names repeat the names of what they are in, so what they may cost is bounded: a deep or long prefix
is elided, and all names together grow with the pickle.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from sizeforensics.escape import one_line
from sizeforensics.formats.encodings.pickle_values import (
    Call,
    DictValue,
    Global,
    ListValue,
    Pickle,
    Text,
)
from sizeforensics.formats.torch_parts.torch_rebuild import str_of

ROOT = "root"
"""Name and subject of the outermost object."""

_DEEPEST = 64  # containers inside each other that are named one by one
_LONGEST_PREFIX = 2_000  # characters of a container's name that its tensors repeat
_LONGEST_PART = 200  # characters of one key in it
_MOST_ITEMS = 4  # items of a tuple that is a key
_LONGEST_ITEM = 40  # characters of a string in it
MOST_ODDITIES = 100
_UNHASHABLE = frozenset({ListValue, DictValue})


class Path(NamedTuple):
    """Where the walk is: the prefix of tensor names there, and the Python expression for it."""

    name: str
    access: str
    subject: str
    scope: str
    use: str
    """What tensors are for that nothing else says it of: weights, or a module's buffers."""
    depth: int


class Oddities:
    """What makes no sense in a pickle, one line each, as many as are worth listing."""

    def __init__(self) -> None:
        self.listed: dict[str, None] = {}
        self.unseen = 0

    def add(self, text: str) -> None:
        """One oddity, in words that follow ``pickle``."""
        if len(self.listed) < MOST_ODDITIES:
            self.listed.setdefault(one_line(f"pickle {text}"))
        else:
            self.unseen += 1


class Names:
    """Makes the names of one pickle; those that are no text are ``oddities``."""

    def __init__(self, pickle: Pickle, oddities: Oddities) -> None:
        self.pickle = pickle
        self.oddities = oddities
        self.letters = (16 << 20) + 8 * pickle.size  # characters that may still be spent

    def child(self, path: Path, kind: str, text: str, *, few: bool) -> Path:
        """Where an entry, attribute or item of the object at ``path`` is.

        ``few`` says that there are so few of them that each may be a subject of its own.
        """
        if path.depth > _DEEPEST:
            return path
        if path.depth == _DEEPEST or len(path.name) > _LONGEST_PREFIX or self.letters < 0:
            return path._replace(
                name=f"{path.name}.…", access=f"{path.access}…", depth=_DEEPEST + 1
            )
        if len(text) > _LONGEST_PART:
            text = f"{text[: _LONGEST_PART // 2]}…{text[-_LONGEST_PART // 2 :]}"
        outer = path.access if path.depth else ""
        step = _step("attribute" if kind == "key" and path.depth == 0 else kind, text)
        access = outer + step if outer else step.removeprefix(".")
        subject = path.subject
        if kind == "module" and path.depth < 2:
            if not subject.endswith("_modules"):
                subject = f"{outer}._modules" if outer else "_modules"
        elif path.depth == 0 or (path.depth == 1 and kind != "index" and few):
            subject = access
        scope = text if path.depth == 0 and kind == "key" else path.scope
        self.letters -= len(access)
        return Path(self.join(path, text), access, subject, scope, path.use, path.depth + 1)

    def join(self, path: Path, text: str) -> str:
        """The dotted name of an entry; elided when names have used up their allowance."""
        self.letters -= len(path.name) + len(text)
        if not path.name:
            return text
        return f"{path.name}.{text}" if self.letters >= 0 else f"….{text}"

    def text(self, key: Any) -> str:
        """A key as text that UTF-8 can encode; a bounded description unless it is a string."""
        kind = type(key)
        if kind is Text:
            key = self.pickle.text(key)
        elif kind is not str:
            return one_line(_describe_key(key), _LONGEST_PART)
        if key.isascii():
            return str(key)
        try:
            key.encode()
        except UnicodeEncodeError:
            self.oddities.add("has names that are not Unicode text (shown with escapes)")
            return str(key.encode("utf-8", "backslashreplace").decode())
        return str(key)

    def check(self, entries: DictValue) -> None:
        """Warn of duplicate keys. Only strings are hashed, whose hashes a file cannot foresee."""
        if any(type(key) in _UNHASHABLE for key in entries.keys):
            self.oddities.add("uses a list or a dict as a key, which no dict can have")
        if len(entries) < 2:
            return
        texts = [key for key in entries.keys if type(key) is str]
        numbers = sorted(key for key in entries.keys if type(key) is int)
        if len(set(texts)) < len(texts):
            texts.sort()
        repeated: Any = next((a for a, b in pairwise(texts) if a == b), None)
        if repeated is None:
            repeated = next((a for a, b in pairwise(numbers) if a == b), None)
        if repeated is not None:
            self.oddities.add(f"stores key {self.text(repeated)} of a dict more than once; the last one counts")


def _step(kind: str, text: str) -> str:
    """How Python gets from an object to its entry or attribute."""
    if kind == "index":
        return f"[{text}]"
    if text.isidentifier() and kind != "key":
        return f".{text}"
    return f"._modules[{text!r}]" if kind == "module" else f"[{text!r}]"


def _describe_key(key: Any, depth: int = 2) -> str:
    """A key that is no string, in a few characters, without looking far into it."""
    kind = type(key)
    if kind is int:
        return str_of(key)
    if kind in (bool, float) or key is None:
        return str(key)
    if kind is str:
        return repr(key[:_LONGEST_ITEM])
    if kind is Global:
        return str(key.path[:_LONGEST_PART])
    if kind is Call and type(key.func) is Global and depth:
        # An enumeration's member is a call of its class.
        return f"{key.func.name[:_LONGEST_ITEM]}({_describe_items(key.args, depth)})"
    if kind is tuple and depth:
        return f"({_describe_items(key, depth)}{',' * (len(key) == 1)})"
    return f"<{kind.__name__}>"


def _describe_items(values: Any, depth: int) -> str:
    """``1, 'a'``: the first items of a tuple, deep enough for keys that people use."""
    if type(values) is not tuple:
        return "…"
    items = [_describe_key(item, depth - 1) for item in values[:_MOST_ITEMS]]
    return ", ".join(items + ["…"] * (len(values) > _MOST_ITEMS))
