"""Which indices of which axes of which values stand or fall together.

Every index of every axis of every value is a vertex; operators tie vertices. `y = Conv(x, w)` ties
index c of the channels of x to index c of the input channels of w: one cannot be removed without
the other. Classes of tied vertices are found with a union-find over arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcompile import ir

Ids = NDArray[np.int64]

_FREE = np.iinfo(np.int64).max
_START = 1 << 12

LONE = "an axis of one element is the least there is"


class Indices:
    """Classes of indices that must be removed together, and why some must stay."""

    def __init__(self) -> None:
        """No index is known yet."""
        self._parent: Ids = np.arange(_START)
        self._lock: Ids = np.full(_START, _FREE)
        self._size = 0
        self._axes: dict[ir.Value, tuple[Ids, ...]] = {}
        self._reasons: list[str] = []

    @property
    def values(self) -> dict[ir.Value, tuple[Ids, ...]]:
        """The vertices of each value, axis by axis, in the order values were met."""
        return self._axes

    def __len__(self) -> int:
        return self._size

    def of(self, value: ir.Value | None) -> tuple[Ids, ...]:
        """The vertices of each axis; none for what is missing or has no static shape."""
        if value is None or value.shape is None or not value.shape.is_static():
            return ()
        if value not in self._axes:
            self._axes[value] = tuple(self._new(size) for size in ir.static_shape(value))
        return self._axes[value]

    def tie(self, left: Ids, right: Ids) -> None:
        """Let `left[i]` and `right[i]` be removed together.

        Raises:
            ValueError: There are not as many on both sides.
        """
        if left.shape != right.shape:
            raise ValueError(f"{left.shape} indices cannot be tied to {right.shape}")
        starts = np.concatenate([self.roots(left), self.roots(right)])
        while True:
            roots, others = self.roots(left), self.roots(right)
            apart = roots != others
            if not apart.any():
                break
            low = np.minimum(roots, others)[apart]
            high = np.maximum(roots, others)[apart]
            np.minimum.at(self._parent, high, low)
        np.minimum.at(self._lock, self.roots(starts), self._lock[starts])

    def lock(self, ids: Ids, reason: str) -> None:
        """Keep these indices, and all that are or will be tied to them."""
        if reason not in self._reasons:
            self._reasons.append(reason)
        np.minimum.at(self._lock, self.roots(ids), self._reasons.index(reason))

    def lock_value(self, value: ir.Value | None, reason: str) -> None:
        """Keep every axis of a value as it is."""
        for ids in self.of(value):
            self.lock(ids, reason)

    def is_locked(self, ids: Ids) -> bool:
        """Say whether all these indices must stay."""
        return bool((self._lock[self.roots(ids)] != _FREE).all())

    def reason(self, root: int) -> str | None:
        """Why the class must stay; None where it may be removed."""
        code = int(self._lock[root])
        return None if code == _FREE else self._reasons[code]

    def roots(self, ids: Ids) -> Ids:
        """The least vertex of the class of each index."""
        found = self._parent[ids]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                self._parent[ids] = found
                return found
            found = above

    def _new(self, size: int) -> Ids:
        start, end = self._size, self._size + size
        if end > len(self._parent):
            room = max(2 * len(self._parent), end)
            self._parent = np.concatenate(
                [self._parent, np.arange(len(self._parent), room, dtype=np.int64)]
            )
            self._lock = np.concatenate(
                [self._lock, np.full(room - len(self._lock), _FREE, dtype=np.int64)]
            )
        self._size = end
        ids = np.arange(start, end, dtype=np.int64)
        if size == 1:
            self.lock(ids, LONE)
        return ids
