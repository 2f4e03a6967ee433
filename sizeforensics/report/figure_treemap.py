"""The treemap: boxes as large as their bytes, by module or by cause; what is small shares a box."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sizeforensics.errors import InputError
from sizeforensics.escape import one_line, visible
from sizeforensics.report import figure_scene as scene
from sizeforensics.report.contents import InspectReport
from sizeforensics.report.figure_scene import FAINT, HEIGHT, MARGIN, WIDTH, Box, Line, Scene, Text
from sizeforensics.report.rows import DiffReport
from sizeforensics.report.words import percent
from sizeforensics.spans import ROLES, TENSOR_DATA, UNCLAIMED
from sizeforensics.units import counted, format_bytes, signed_bytes

MAX_BOXES = 40
AREAS = ("after", "before", "change")
GROUPS = ("module", "cause")
_SAME, _GREW, _SHRANK, _OTHER = "#E4E7EA", "#FADCC8", "#CFE3F1", "#EFE9D8"
_LOST = "#F5E7A8"
_EDGE = 9
_NAME_LINES = 4
_LEAST_LETTERS, _LEAST_WIDTH = 7, 4
"""Of a shortened name: characters, and sizes of the width it needs."""
_LEAST_SHARE = 0.009
"""Of the whole: a smaller box has no room for a word."""
_SIZES = (20, 17)
_SEPARATORS = re.compile(r"[./]+")
_ALWAYS = frozenset({"unexplained", ROLES[UNCLAIMED]})
_ALONE = _ALWAYS | {"container", "alignment"}
"""Never part of what is small."""


@dataclass(slots=True)
class _Node:
    """Bytes below one path."""

    path: str
    size: int = 0
    delta: int = 0
    count: int = 0
    tensors: bool = True
    children: dict[str, _Node] = field(default_factory=dict)

    def add(self, size: int, delta: int, count: int = 1) -> None:
        self.size += size
        self.delta += delta
        self.count += count


def diff(report: DiffReport, area: str = "after", by: str = "module") -> Scene:
    """Two artifacts: boxes by the bytes ``area`` says. Raises InputError for unknown words."""
    _known("area", area, AREAS)
    _known("by", by, GROUPS)

    def sized(before: int, after: int) -> int:
        return {"before": before, "after": after}.get(area, abs(after - before))

    rest: dict[str, _Node] = {}
    tree = _Node("")
    if by == "cause":
        for entry in report.causes:
            node = rest.setdefault(entry.cause, _Node(entry.cause, tensors=False))
            node.add(sized(entry.before_bytes, entry.after_bytes), entry.delta_bytes, entry.count)
    else:
        for row in report.others:
            node = rest.setdefault(row.cause, _Node(row.cause, tensors=False))
            node.add(sized(row.before_bytes, row.after_bytes), row.delta_bytes, row.members)
        tree = _tree(
            (pair.name, sized(pair.before_bytes, pair.after_bytes), pair.delta_bytes)
            for pair in report.tensors
        )
    whole = {"before": report.before, "after": report.after}.get(area)
    what = f"bytes in {whole.name}" if whole else "bytes of change, in either direction"
    return _scene(
        report.headline,
        f"Area: {what}, by {by}. A striped edge grew, a blue one shrank.",
        _boxes(tree, rest.values()),
        scene.reconciliation(report),
        changes=True,
        less="".join(f", less {node.path} {signed_bytes(node.size)}" for node in rest.values() if node.size < 0),
    )


def inspect(report: InspectReport, by: str = "module") -> Scene:
    """One artifact: stored tensors by module, everything else by role."""
    _known("by", by, ("module", "role"))
    tree = _Node("")
    if by == "role":
        rest = [_Node(part.name, part.bytes, 0, part.count, tensors=False) for part in report.roles]
    else:
        tree = _tree(
            (row.name, row.stored_bytes, 0) for row in report.tensors if row.stored_bytes
        )
        sums: dict[str, _Node] = {}
        for subject in report.subjects:
            name = subject.subject if subject.role == ROLES[TENSOR_DATA] else subject.role
            sums.setdefault(name, _Node(name, tensors=False)).add(subject.bytes, 0, subject.spans)
        rest = list(sums.values())
    return _scene(
        report.headline,
        f"Area: bytes in {report.side.name}, by {by}. Grey holds tensors, sand everything else.",
        _boxes(tree, rest), scene.claims(report), changes=False,
    )  # fmt: skip


def _known(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{what}: expected one of {', '.join(known)}, got {value!r}")


# -- which boxes -------------------------------------------------------------------------------


def _tree(leaves: Iterable[tuple[str, int, int]]) -> _Node:
    """(name, size, delta) of tensors as a tree of module paths."""
    root = _Node("")
    for name, size, delta in leaves:
        node = root
        node.add(size, delta)
        # A hostile name has as many parts as characters; nobody sees more than a few.
        parts = [part for part in _SEPARATORS.split(name, maxsplit=32) if part] or ["(no name)"]
        for part in parts:
            path = f"{node.path}.{part}" if node.path else part
            node = node.children.setdefault(part, _Node(one_line(path, 200)))
            node.add(size, delta)
    return root


def _boxes(tree: _Node, rest: Iterable[_Node]) -> list[_Node]:
    """At most MAX_BOXES nodes, largest first: modules are split as far as there is room."""
    fixed = [node for node in rest if node.size > 0]
    whole = tree.size + sum(node.size for node in fixed)
    room = MAX_BOXES - len(fixed) - 1
    done: list[_Node] = []
    tree = _inner(tree)
    # The number decides between paths that look the same once shortened.
    waiting = [(-tree.size, tree.path, 0, tree)] if tree.size > 0 else []
    seen = itertools.count(1)
    while waiting:
        *_, node = heapq.heappop(waiting)
        parts = [child for child in node.children.values() if child.size > 0]
        own = node.size - sum(child.size for child in parts)
        parts = sorted((_inner(part) for part in parts), key=_order)
        large = [part for part in parts if part.size >= _LEAST_SHARE * whole]
        fits = len(done) + len(waiting) + len(large) + 1 <= room
        tells = 3 * sum(part.size for part in large) >= 2 * node.size
        # The first split always happens, whatever it leaves for "smaller".
        first = not (done or waiting)
        if not parts or own or not (first or (fits and tells)):
            done.append(node)
            continue
        for part in parts[:room]:
            heapq.heappush(waiting, (-part.size, part.path, next(seen), part))
        done += parts[room:]
    boxes = sorted([*done, *fixed], key=_order)
    small = [
        node for number, node in enumerate(boxes)
        if node.path not in _ALONE and (number >= MAX_BOXES - 1 or node.size < _LEAST_SHARE * whole)
    ]  # fmt: skip
    if len(small) > 1:
        kept = set(map(id, small))
        boxes = [node for node in boxes if id(node) not in kept]
        boxes.append(_merged(small))
    return sorted(boxes, key=_order)


def _merged(nodes: Sequence[_Node]) -> _Node:
    single = all(node.tensors and node.count == 1 for node in nodes)
    name = f"{len(nodes):,} small tensors" if single else f"{len(nodes):,} smaller"
    node = _Node(name, tensors=any(node.tensors for node in nodes))
    for part in nodes:
        node.add(part.size, part.delta, part.count if part.tensors else 0)
    return node


def _inner(node: _Node) -> _Node:
    """The node itself, or the only one below it."""
    while len(node.children) == 1:
        (child,) = node.children.values()
        if child.size != node.size:
            break
        node = child
    return node


def _order(node: _Node) -> tuple[int, str]:
    return -node.size, node.path


# -- the picture -------------------------------------------------------------------------------


def _scene(
    title: str, legend: str, boxes: Sequence[_Node], footer: str, *, changes: bool, less: str = ""
) -> Scene:
    """``less`` is what has no box because it is below zero, as the bytes that compression saves."""
    import squarify

    texts, y = scene.heading(title)
    room = WIDTH - 2 * MARGIN
    items: list[Box | Line | Text] = [*texts]
    items.append(Text(
        MARGIN, y + 18, scene.fit(legend, scene.NOTE_SIZE, room), scene.NOTE_SIZE, colour=FAINT
    ))  # fmt: skip
    top, bottom = y + 40, HEIGHT - MARGIN - 2 * scene.NOTE_SIZE * scene.LINE - 8
    whole = sum(node.size for node in boxes)
    unlabelled = []
    if boxes:
        sizes = squarify.normalize_sizes([node.size for node in boxes], room, bottom - top)
        for node, place in zip(boxes, squarify.squarify(sizes, MARGIN, top, room, bottom - top), strict=True):
            label = _labelled(place, node, whole, changes)
            items += [*_boxed(place, node, changes), *label]
            if not label:
                unlabelled.append(f"{node.path} {format_bytes(node.size)}")
    else:
        middle = (top + bottom) / 2
        items.append(Text(WIDTH / 2, middle, "nothing to show: 0 B", align="center", colour=FAINT))
    base = HEIGHT - MARGIN - scene.NOTE_SIZE / 2
    if unlabelled:
        line = scene.fit(f"Too small for a label: {', '.join(unlabelled)}", scene.NOTE_SIZE, room)
        items.append(Text(MARGIN, base - scene.NOTE_SIZE * scene.LINE, line, scene.NOTE_SIZE, colour=FAINT))
    sums = f"{footer} · the boxes sum to {format_bytes(whole)}{less}"
    items.append(Text(MARGIN, base, scene.fit(sums, scene.NOTE_SIZE, room), scene.NOTE_SIZE, colour=FAINT))
    words = [f"{node.path}: {format_bytes(node.size)}" for node in boxes]
    return Scene(title, visible("; ".join([legend, *words, sums])), tuple(items))


def _boxed(place: dict[str, float], node: _Node, changes: bool) -> list[Box | Line | Text]:
    """The box, and an edge that says what happened to it: stripes for growth, plain for shrinking."""
    # Where there is room, a gap; a box of a few pixels needs them all.
    gap = 1.0 if min(place["dx"], place["dy"]) > _EDGE else 0.0
    x, y = place["x"] + gap, place["y"] + gap
    width, height = place["dx"] - 2 * gap, place["dy"] - 2 * gap
    if node.path in _ALWAYS:
        fill, mark, striped = _LOST, scene.INK, True
    elif not changes or not node.delta:
        return [Box(x, y, width, height, _SAME if changes or node.tensors else _OTHER)]
    else:
        fill, mark = (_GREW, scene.GREW) if node.delta > 0 else (_SHRANK, scene.SHRANK)
        striped = node.delta > 0
    edge = Box(x, y, min(_EDGE, width), height, mark, "#FFFFFF" * (striped and gap > 0))
    return [Box(x, y, width, height, fill), edge]


def _labelled(place: dict[str, float], node: _Node, whole: int, changes: bool) -> list[Text]:
    """Name, bytes and change as far as they fit; nothing where not even the name does."""
    left, top = place["x"] + _EDGE + 8, place["y"] + 8
    width, height = place["dx"] - _EDGE - 16, place["dy"] - 14
    amount = format_bytes(node.size)
    change = [signed_bytes(node.delta)] if changes and node.delta else []
    said = node.path == f"{node.count:,} small tensors"
    many = [counted(node.count, "tensor")] if node.tensors and node.count > 1 and not said else []
    # The whole name with its bytes, else the whole name, else a part of it: large, then smaller.
    for whole_name, with_amount, size in itertools.product((True, False), (True, False), _SIZES):
        lines = int(height // (size * scene.LINE))
        name = _name(node.path, size, width, min(lines, _NAME_LINES), whole_name)
        share = f"{amount}  {percent(node.size, whole)}"
        first = share if scene.measure(share, size) <= width else amount
        fits = len(name) < lines and scene.measure(first, size) <= width
        if not name or (with_amount and not fits):
            continue
        rest = [text for text in (first, *change, *many) if scene.measure(text, size) <= width]
        step = size * scene.LINE
        return [
            Text(left, top + step * (number + 0.5), text, size, bold=number < len(name))
            for number, text in enumerate([*name, *(rest if fits else ())][:lines])
        ]
    return []


def _name(path: str, size: int, width: float, limit: int, whole: bool) -> list[str]:
    """The path in at most ``limit`` lines, broken behind separators; shortened in the middle where
    ``whole`` is not asked. Empty where it does not fit, or not with letters enough to recognise."""
    path = scene.drawable(path)
    lines = _broken(path, size, width)
    if len(lines) <= limit and all(scene.measure(line, size, bold=True) <= width for line in lines):
        return lines
    if whole or limit < 1 or width < _LEAST_WIDTH * size:
        return []
    # A name of one long part: over the lines there are, each as full as it gets.
    most = min(limit, 2)
    room = width * most
    short = scene.fit(path, size, room, bold=True)
    while len(short) >= _LEAST_LETTERS and len(lines := _filled(short, size, width)) > most:
        room -= size / 4
        short = scene.fit(path, size, room, bold=True)
    return lines if len(short) >= _LEAST_LETTERS else []


def _broken(text: str, size: int, width: float) -> list[str]:
    lines: list[str] = []
    for part in re.findall(r".+?(?:[. _/:-]+|$)", text):
        if lines and scene.measure(lines[-1] + part, size, bold=True) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return lines


def _filled(text: str, size: int, width: float) -> list[str]:
    lines = [""]
    for character in text:
        if lines[-1] and scene.measure(lines[-1] + character, size, bold=True) > width:
            lines.append("")
        lines[-1] += character
    return lines
