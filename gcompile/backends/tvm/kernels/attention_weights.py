"""How the scores of a block of queries and a block of keys become weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import vector_math
from gcompile.backends.tvm.kernels.function import Tensors, loop, when
from gcompile.backends.tvm.kernels.image_access import Position, from_real, load
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, pieces
from gcompile.backends.tvm.kernels.rows import across, add
from gcompile.backends.tvm.kernels.spec import Output

if TYPE_CHECKING:
    from gcompile.backends.tvm.kernels.attention import AttentionKernel
    from gcompile.backends.tvm.kernels.attention_rows import BlockRows, Place

_INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class SeenKeys:
    """One block of keys before one block of queries."""

    kernel: AttentionKernel
    tensors: Tensors
    place: Place
    block: Expr
    rows: BlockRows

    def find_highest(self, row: Expr) -> None:
        """Scale and mask the scores of one query; note the highest so far."""
        rows, lanes = self.rows, self.rows.lanes
        seen, start = T.Bind(self._seen(row)), T.Bind(row * rows.pitch)
        highest = Register.of("float32", lanes)
        highest.set(lanes.splat(-_INFINITY))

        def scale(vector: Expr) -> None:
            offset = vector * lanes.count
            score = bind(self._score(row, start, offset, lanes))
            T.buffer_store(rows.scores, score, [lanes.index(start + offset)])
            highest.set(T.max(highest.value, score))

        loop(0, seen // lanes.count, scale)
        if self.kernel.causal or self.kernel.keys.rows % lanes.count:
            when(seen % lanes.count > 0, lambda: self._scale_last(row, start, seen, highest))
        T.buffer_store(rows.highest, T.max(rows.before[row], across(highest, T.max)), [row])

    def find_factors(self, row: Expr, lanes: Lanes) -> None:
        """What some queries' sums so far are multiplied by, now that a higher score is known."""
        rows, index = self.rows, lanes.index(row)
        highest = bind(rows.highest[index])
        # Where all is hidden so far, any finite number keeps the exponentials zero.
        hidden = highest == lanes.splat(-_INFINITY)
        base = bind(T.Select(hidden, lanes.splat(0.0), highest))
        factor = vector_math.exp_below_zero(rows.before[index] - base, lanes)
        T.buffer_store(rows.factor, factor, [index])
        T.buffer_store(rows.before, highest, [index])
        T.buffer_store(rows.highest, base, [index])

    def weigh(self, row: Expr) -> None:
        """Scores of one query become exponentials; what they add up to is kept."""
        rows, lanes = self.rows, self.rows.lanes
        seen, start = T.Bind(self._seen(row)), T.Bind(row * rows.pitch)
        base = lanes.splat(bind(rows.highest[row]))
        total = Register.of("float32", lanes)
        total_index = lanes.index(row * lanes.count)
        total.set(rows.total[total_index] * lanes.splat(rows.factor[row]))

        def power(vector: Expr) -> None:
            index = lanes.index(start + vector * lanes.count)
            weight = bind(vector_math.exp_below_zero(rows.scores[index] - base, lanes))
            total.set(total.value + weight)
            self._store(index, weight, lanes)

        vectors = T.Bind((seen + lanes.count - 1) // lanes.count)
        loop(0, vectors, power)
        self._hide_rest(start, vectors)
        T.buffer_store(rows.total, total.value, [total_index])

    def weigh_rounded(self, weights: Output, row: Expr) -> None:
        """Scores of one query become weights, rounded to bytes: the block has all its keys."""
        rows, lanes = self.rows, self.rows.lanes
        self.find_highest(row)
        highest = bind(rows.highest[row])
        hidden = highest == T.float32(-_INFINITY)
        base = lanes.splat(bind(T.Select(hidden, T.float32(0.0), highest)))
        start = T.Bind(row * rows.pitch)
        vectors = T.Bind((self._seen(row) + lanes.count - 1) // lanes.count)
        total = Register.of("float32", lanes)
        total.set(lanes.splat(0.0))

        def power(vector: Expr) -> None:
            index = lanes.index(start + vector * lanes.count)
            value = bind(vector_math.exp_below_zero(rows.scores[index] - base, lanes))
            total.set(total.value + value)
            T.buffer_store(rows.scores, value, [index])

        loop(0, vectors, power)
        share = lanes.splat(share_of(self.kernel, bind(across(total, add))))

        def stored(vector: Expr) -> None:
            index = lanes.index(start + vector * lanes.count)
            number = from_real(weights, bind(rows.scores[index] * share), lanes)
            T.buffer_store(rows.weights, number, [index])

        loop(0, vectors, stored)
        self._hide_rest(start, vectors)

    def _seen(self, row: Expr) -> Expr:
        """Keys of the block, from its first on, that the query may see."""
        kernel = self.kernel
        first, keys = self.block * kernel.block[1], kernel.keys.rows
        seen = T.min(kernel.block[1], keys - first)
        if kernel.causal:
            until = self.place.query + row + 1 + keys - kernel.queries.rows
            seen = T.min(seen, T.max(until - first, 0))
        return seen

    def _score(self, row: Expr, start: Expr, offset: Expr, lanes: Lanes) -> Expr:
        """Scaled and masked scores."""
        score = self.rows.scores[lanes.index(start + offset)]
        if self.kernel.scale != 1.0:
            score = score * lanes.splat(self.kernel.scale)
        place = self.place
        key = self.block * self.kernel.block[1] + offset
        position = Position(place.batch, place.head, place.query + row, key)
        for mask, source, buffer in zip(
            self.kernel.masks, self.kernel.sources, self.tensors.sources, strict=True
        ):
            number = load(source, buffer, position, lanes)
            if mask.hidden is None:
                score = score + number
                continue
            zero, hidden = lanes.splat(0.0), lanes.splat(mask.hidden)
            is_hidden = number != zero if mask.where else number == zero
            score = T.Select(is_hidden, hidden, score)
        return score

    def _scale_last(self, row: Expr, start: Expr, seen: Expr, highest: Register) -> None:
        """The vector in which keys end: masks have nothing there that could be read."""
        rows, lanes = self.rows, self.rows.lanes
        offset = T.Bind(seen // lanes.count * lanes.count)
        index = lanes.index(start + offset)
        if self.kernel.masks:
            for after, part in pieces(self.kernel.keys.rows % lanes.count, lanes.count):
                score = bind(self._score(row, start, offset + after, part))
                T.buffer_store(rows.scores, score, [part.index(start + offset + after)])
            score = rows.scores[index]
        else:
            score = self._score(row, start, offset, lanes)
        is_seen = lanes.index(offset) < lanes.splat(seen, "int32")
        score = bind(T.Select(is_seen, score, lanes.splat(-_INFINITY)))
        T.buffer_store(rows.scores, score, [index])
        highest.set(T.max(highest.value, score))

    def _hide_rest(self, start: Expr, vectors: Expr) -> None:
        """Keys beyond the last one that is seen weigh nothing."""
        rows, lanes, keys = self.rows, self.rows.lanes, self.kernel.block[1]
        if not self.kernel.causal and self.kernel.keys.rows % keys == 0:
            return

        def clear(vector: Expr) -> None:
            zero = lanes.splat(0, rows.weights.dtype)
            T.buffer_store(rows.weights, zero, [lanes.index(start + vector * lanes.count)])

        loop(vectors, keys // lanes.count, clear)

    def _store(self, index: Expr, weight: Expr, lanes: Lanes) -> None:
        if self.rows.weights.dtype == "uint16":
            weight = _narrowed(weight, lanes)
        elif self.rows.weights.dtype == "float16":
            weight = lanes.cast("float16", weight)
        T.buffer_store(self.rows.weights, weight, [index])


def share_of(kernel: AttentionKernel, total: Expr) -> Expr:
    """What exponentials are multiplied by that add up to this."""
    share = T.float32(1.0) / total
    if kernel.zero_if_hidden:
        share = T.Select(total == T.float32(0.0), T.float32(0.0), share)
    return bind(share)


def _narrowed(weight: Expr, lanes: Lanes) -> Expr:
    """bfloat16 bits, rounded to nearest even. Of NaN, the sum of the weights will tell."""
    bits = bind(lanes.reinterpret("uint32", weight))
    sixteen = lanes.splat(16, "uint32")
    odd = (bits >> sixteen) & lanes.splat(1, "uint32")
    return lanes.cast("uint16", (bits + lanes.splat(0x7FFF, "uint32") + odd) >> sixteen)
