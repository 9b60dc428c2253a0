"""The classes of tied indices, each with the axes it lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.prune.coupling.indices import Ids, Indices


@dataclass(frozen=True)
class Member:
    """Where the channels of a group lie in one axis of one value.

    Attributes:
        value: The name of the value.
        extent: How many indices the axis has in all.
        places: Indices along the axis, one row per channel.
    """

    value: str
    axis: int
    extent: int
    places: NDArray[np.int64]


class Classes:
    """All classes of one model, found once."""

    def __init__(self, indices: Indices) -> None:
        """Sort every index by its class."""
        self._axes: list[tuple[ir.Value, int]] = []
        count = len(indices)
        self._axis_of: Ids = np.zeros(count, np.int64)
        self._place: Ids = np.zeros(count, np.int64)
        for value, axes in indices.values.items():
            for axis, ids in enumerate(axes):
                self._axis_of[ids] = len(self._axes)
                self._place[ids] = np.arange(len(ids))
                self._axes.append((value, axis))
        roots = indices.roots(np.arange(count, dtype=np.int64))
        self._order = np.lexsort((self._axis_of, roots))
        self._sorted = roots[self._order]
        pairs = np.stack([self._sorted, self._axis_of[self._order]], axis=1)
        self._pairs, self._counts = np.unique(pairs, axis=0, return_counts=True)

    def footprint(self, root: int) -> tuple[tuple[int, int], ...]:
        """How many indices of the class lie in which axis; equal footprints weigh alike."""
        start, end = np.searchsorted(self._pairs[:, 0], [root, root + 1])
        axes, counts = self._pairs[start:end, 1], self._counts[start:end]
        return tuple(zip(axes.tolist(), counts.tolist(), strict=True))

    def members(self, roots: Sequence[int]) -> tuple[Member, ...]:
        """The axes that classes of one footprint lie in, a row of places for each class."""
        found: dict[int, list[Ids]] = {}
        for root in roots:
            ids = self._indices(root)
            for axis, _ in self.footprint(root):
                found.setdefault(axis, []).append(self._place[ids[self._axis_of[ids] == axis]])
        return tuple(self._member(axis, np.stack(rows)) for axis, rows in found.items())

    def _member(self, number: int, places: Ids) -> Member:
        value, axis = self._axes[number]
        return Member(str(value.name), axis, ir.static_shape(value)[axis], places)

    def _indices(self, root: int) -> Ids:
        start, end = np.searchsorted(self._sorted, [root, root + 1])
        return self._order[start:end]
