"""NonMaxSuppression: of each class the best boxes, none of which overlaps a better one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import when
from gcompile.backends.tvm.plain.code import PlainCode, Tensors, number, store
from gcompile.backends.tvm.plain.counted import WHOLE, clear, register

_FLOAT = "float32"


def suppress(node: ir.Node) -> PlainCode | str:
    """Indices of batch, class and box; best scores first, equal ones in the order of boxes."""
    batches, classes, boxes = ir.static_shape(node.inputs[1])
    (bound,) = node.attributes.get_ints("bound")
    is_centred = bool(node.attributes.get_int("center_point_box", 0))

    def write(tensors: Tensors) -> None:
        scores = tensors.input(1, (batches, classes, boxes))
        corners = tensors.input(0, (batches, boxes, 4))
        picked = tensors.output(0, (bound, 3))
        clear(tensors.output(0, (bound * 3,)))
        count = register(WHOLE)
        limit, overlap, least = (tensors.flat(index) for index in (2, 3, 4))
        with T.grid(batches, classes) as (batch, which):
            left = _Candidates(boxes)
            left.take(scores, batch, which, least[0])
            with T.serial(0, bound // (batches * classes)) as turn:
                asked = T.Cast(WHOLE, turn) < limit[0]
                left.find(scores, batch, which)

                def keep() -> None:
                    row = (T.Cast(WHOLE, batch), T.Cast(WHOLE, which), left.best[0])
                    for column, index in enumerate(row):
                        store(picked, index, count[0], column)
                    store(count, count[0] + number(1, WHOLE), 0)
                    left.drop(corners, batch, overlap[0], is_centred)

                when(T.And(asked, left.best[0] >= number(0, WHOLE)), keep)
        store(tensors.output(1), count[0], 0)

    return PlainCode(node, write)


class _Candidates:
    """The boxes of one class that are left; the front of a row holds them in their order."""

    def __init__(self, boxes: int) -> None:
        self.row = T.alloc_buffer((boxes,), WHOLE, layout=None)
        self.count, self.kept = register(WHOLE), register(WHOLE)
        self.best = register(WHOLE, -1)
        self.score = register(_FLOAT)

    def take(self, scores: Buffer, batch: Expr, which: Expr, least: Expr) -> None:
        """All boxes above a threshold."""
        with T.serial(0, int(self.row.shape[0])) as box:
            above = scores[batch, which, box] > least
            when(above, lambda: self._append(self.count, T.Cast(WHOLE, box)))

    def find(self, scores: Buffer, batch: Expr, which: Expr) -> None:
        """Set `best` to the first box of the best score, or to -1."""
        store(self.best, number(-1, WHOLE), 0)
        with T.serial(0, self.count[0]) as place:
            box = self.row[place]
            score = scores[batch, which, box]

            def take() -> None:
                store(self.best, box, 0)
                store(self.score, score, 0)

            when(T.Or(self.best[0] < number(0, WHOLE), score > self.score[0]), take)

    def drop(self, corners: Buffer, batch: Expr, overlap: Expr, is_centred: bool) -> None:
        """Drop the best box, and all that overlap it by more than a share."""
        store(self.kept, number(0, WHOLE), 0)
        best = self.best[0]
        with T.serial(0, self.count[0]) as place:
            box = self.row[place]
            one, other = (
                _Box.of([corners[batch, b, i] for i in range(4)], is_centred) for b in (best, box)
            )
            stays = T.And(T.NE(box, best), T.Not(one.overlaps(other, overlap)))
            when(stays, lambda: self._append(self.kept, box))
        store(self.count, self.kept[0], 0)

    def _append(self, count: Buffer, box: Expr) -> None:
        store(self.row, box, count[0])
        store(count, count[0] + number(1, WHOLE), 0)


@dataclass(frozen=True)
class _Box:
    """The lower and upper end of a box along both axes."""

    low: Sequence[Expr]
    high: Sequence[Expr]

    @classmethod
    def of(cls, numbers: Sequence[Expr], is_centred: bool) -> _Box:
        """Read a centre with a size, or any two opposite corners."""
        if is_centred:
            halves = [size / number(2, _FLOAT) for size in numbers[2:]]
            return cls(
                [c - half for c, half in zip(numbers, halves, strict=False)],
                [c + half for c, half in zip(numbers, halves, strict=False)],
            )
        pairs = list(zip(numbers[:2], numbers[2:], strict=True))
        return cls([T.min(a, b) for a, b in pairs], [T.max(a, b) for a, b in pairs])

    def overlaps(self, other: _Box, share: Expr) -> Expr:
        """Whether what both cover is more than a share of what either covers."""
        lows = [T.max(a, b) for a, b in zip(self.low, other.low, strict=True)]
        highs = [T.min(a, b) for a, b in zip(self.high, other.high, strict=True)]
        zero = number(0, _FLOAT)
        inside = _area(lows, highs)
        mine, its = _area(self.low, self.high), _area(other.low, other.high)
        union = mine + its - inside
        meet = T.And(highs[0] > lows[0], highs[1] > lows[1])
        real = T.And(T.And(mine > zero, its > zero), T.And(union > zero, inside > zero))
        return T.And(T.And(meet, real), inside / union > share)


def _area(low: Sequence[Expr], high: Sequence[Expr]) -> Expr:
    return (high[0] - low[0]) * (high[1] - low[1])


CODES: dict[str, Callable[[ir.Node], PlainCode | str]] = {"NonMaxSuppression": suppress}
