"""Which part of an ONNX model is there for one tensor alone, and goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizeforensics.inventory import Nodes
from sizeforensics.layout import Messages
from sizeforensics.spans import Integers


def holders(
    nodes: Nodes, layout: Messages, heads_of: Sequence[int], constants: Sequence[bool]
) -> Integers:
    """The field of each tensor that begins at one of ``heads_of``; of ``constants`` their Constant node.

    Empty for what another operator has as an attribute, which does not work without.
    """
    heads, constant = np.array(heads_of, dtype=np.int64), np.array(constants, dtype=np.bool_)
    found = np.zeros((len(heads), 2), dtype=np.int64)
    if not len(heads):
        return found
    found[:, 0], found[:, 1] = heads, layout.ends[np.searchsorted(layout.heads, heads)]
    found[constant] = 0
    rows = np.flatnonzero(np.array(nodes.op_names, dtype=object)[nodes.ops] == "Constant")
    if len(rows):
        rows = rows[np.argsort(nodes.starts[rows])]
        at = np.searchsorted(nodes.starts[rows], heads, side="right") - 1
        node = rows[np.maximum(at, 0)]
        within = constant & (at >= 0) & (nodes.ends[node] > heads)
        found[within] = np.stack([nodes.starts[node], nodes.ends[node]], axis=1)[within]
    return found
