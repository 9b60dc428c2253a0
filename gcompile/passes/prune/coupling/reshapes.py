"""Reshapes: which axis of several that are joined into one may lose indices.

    (N, C, H, W) → (N, C·H·W)        channel c owns H·W columns
    (B, S, H·D)  → (B, S, H, D)      head h owns D columns

The joined axis can follow one of its parts only. Parts that must keep their size anyway leave the
choice to the others; of several that could go, the outermost may: heads, not places in a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcompile import ir
from gcompile.passes.prune.coupling.indices import Ids, Indices

_OTHER = "a Reshape joins it with an axis that may be removed"
_ACROSS = "a Reshape cuts across its axes"


def reshape(indices: Indices, node: ir.Node) -> str | None:
    """Tie the axes before and after, block by block of equal size."""
    before, after = (
        [ids for ids in indices.of(value) if len(ids) != 1]
        for value in (node.inputs[0], node.outputs[0])
    )
    for left, right in _blocks(before, after):
        if len(left) == 1:
            _tie_parts(indices, left[0], right)
        elif len(right) == 1:
            _tie_parts(indices, right[0], left)
        else:
            for ids in (*left, *right):
                indices.lock(ids, _ACROSS)
    return None


def _blocks(
    before: Sequence[Ids], after: Sequence[Ids]
) -> list[tuple[Sequence[Ids], Sequence[Ids]]]:
    """Cut both lists of axes into the least blocks with equally many elements."""
    blocks: list[tuple[Sequence[Ids], Sequence[Ids]]] = []
    left, right = list(before), list(after)
    while left or right:
        i, j, size, other = 0, 0, 1, 1
        while size != other or not (i or j):
            if size <= other and i < len(left):
                size, i = size * len(left[i]), i + 1
            else:
                other, j = other * len(right[j]), j + 1
        blocks.append((left[:i], right[:j]))
        left, right = left[i:], right[j:]
    return blocks


def _tie_parts(indices: Indices, whole: Ids, parts: Sequence[Ids]) -> None:
    free = [index for index, ids in enumerate(parts) if not indices.is_locked(ids)]
    chosen = free[0] if free else 0
    if len(parts) > 1:
        for index, ids in enumerate(parts):
            if index != chosen:
                indices.lock(ids, _OTHER)
    place = np.indices([len(ids) for ids in parts])[chosen].reshape(-1)
    indices.tie(whole, parts[chosen][place])
