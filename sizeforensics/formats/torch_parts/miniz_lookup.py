"""Which of several records of one name PyTorch reads: what miniz's search for a name meets first.

PyTorch asks ``mz_zip_reader_locate_file`` (``getRecordID``, caffe2/serialize/inline_container.cc),
which compares names without ASCII case and searches a copy of the directory that a heap sort has
put in order. Heap sort is not stable and the search stops at whatever equal name it meets, so it is
neither the first nor the last: the same two steps have to be taken.
"""

from __future__ import annotations

from collections.abc import Sequence


def find_records(names: Sequence[bytes]) -> tuple[dict[bytes, int], dict[bytes, list[int]]]:
    """(index of the record PyTorch would read, indices of all records) by name in lower case.

    The second holds only names that occur more than once.
    """
    folded = [name.lower() for name in names]
    found = dict(zip(folded, range(len(folded)), strict=True))
    if len(found) == len(folded):
        return found, {}
    several: dict[bytes, list[int]] = {}
    for index, name in enumerate(folded):
        if found[name] != index:
            several.setdefault(name, []).append(index)
    order = _heap_sorted(folded)
    for name, indices in several.items():
        indices.append(found[name])
        found[name] = _search(folded, order, name)
    return found, several


def _heap_sorted(names: list[bytes]) -> list[int]:
    """Indices in the order of their names, equal names as a binary heap leaves them."""
    order = list(range(len(names)))
    for root in range((len(order) - 2) // 2, -1, -1):
        _sift_down(names, order, root, len(order))
    for end in range(len(order) - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        _sift_down(names, order, 0, end)
    return order


def _sift_down(names: list[bytes], order: list[int], root: int, end: int) -> None:
    while (child := 2 * root + 1) < end:
        if child + 1 < end and names[order[child]] < names[order[child + 1]]:
            child += 1
        if names[order[root]] >= names[order[child]]:
            return
        order[root], order[child] = order[child], order[root]
        root = child


def _search(names: list[bytes], order: list[int], name: bytes) -> int:
    low, high = 0, len(order) - 1
    while low < high:
        middle = (low + high) // 2
        if names[order[middle]] == name:
            return order[middle]
        if names[order[middle]] < name:
            low = middle + 1
        else:
            high = middle - 1
    return order[low]
