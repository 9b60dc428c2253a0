"""What a block of queries keeps while the keys pass by: its scores, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import vector_math
from gcompile.backends.tvm.kernels.function import Tensors, loop, scratch, when
from gcompile.backends.tvm.kernels.image_access import (
    Position,
    from_real,
    load,
)
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector, pieces
from gcompile.backends.tvm.kernels.matrices import Matrices, Matrix
from gcompile.backends.tvm.kernels.rows import across, add
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.kernels.units import Unit

if TYPE_CHECKING:
    from gcompile.backends.tvm.kernels.attention import AttentionKernel

_LEAST_ALIGNED = 257
"""Fewer float32 than this live on the stack, which is not aligned to vectors."""

_INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Mask:
    """How one source changes scores.

    Attributes:
        hidden: What scores become where the source, a truth value, is `where`; None adds it.
    """

    hidden: float | None = None
    where: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The first query of a block."""

    batch: Expr
    head: Expr
    query: Expr


@dataclass(frozen=True, slots=True)
class BlockRows:
    """The rows of a block of queries.

    Attributes:
        pitch: Elements from one row of scores, or of weights, to the next.
        columns: Elements of a value.
        scores: Those of one block of keys.
        weights: Their exponentials in the unit's type; the memory of the scores where that is
            float32.
        before: The highest score of each query before a block of keys.
        highest: What is taken from its scores of that block.
        factor: What its sums before the block are multiplied by.
        total: The sums of its exponentials, one for each lane.
        weighted: The weighted values.
    """

    count: int
    pitch: int
    columns: int
    lanes: Lanes
    scores: Buffer
    weights: Buffer
    before: Buffer
    highest: Buffer
    factor: Buffer
    total: Buffer
    weighted: Buffer

    @classmethod
    def of(cls, block: tuple[int, int], columns: int, unit: Unit) -> BlockRows:
        """Take memory for blocks of so many queries and keys."""
        queries, keys = block
        pitch = keys + unit.lanes * unit.group  # Rows a power of two apart share the cache's sets.
        scores = scratch(max(queries * pitch, _LEAST_ALIGNED), "float32")
        weights = scores
        if unit.x_dtype != "float32":
            dtype = Image(1, 1, 1, 1, unit.x_dtype).storage_dtype
            weights = scratch(max(queries * pitch, 2 * _LEAST_ALIGNED), dtype)
        before, highest, factor = (
            scratch(max(queries, _LEAST_ALIGNED), "float32") for _ in range(3)
        )
        total = scratch(max(queries * unit.lanes, _LEAST_ALIGNED), "float32")
        weighted = scratch(max(queries * columns, _LEAST_ALIGNED), "float32")
        return cls(
            queries,
            pitch,
            columns,
            Lanes(unit.lanes),
            scores,
            weights,
            before,
            highest,
            factor,
            total,
            weighted,
        )

    def matrices(self, unit: Unit) -> Matrices:
        """The weights as the left operand of a product."""
        keys = self.pitch - unit.lanes * unit.group
        image = Image(1, 1, self.count, self.pitch, unit.x_dtype)
        return Matrices(image, self.count, keys, strides=(0, 0, self.pitch))

    def clear(self) -> None:
        """Begin with no keys."""
        self._fill(self.before, self.count, -_INFINITY)
        self._fill(self.total, self.count * self.lanes.count, 0.0)
        self._fill(self.weighted, self.count * self.columns, 0.0)

    def _fill(self, buffer: Buffer, count: int, value: float) -> None:
        def store(offset: Expr, lanes: Lanes) -> None:
            T.buffer_store(buffer, lanes.splat(value), [lanes.index(offset)])

        for_each_vector(count, self.lanes.count, store)

    def keep_score(self, position: Position, lanes: Lanes, score: Expr) -> None:
        """Take scores of a query as the product gives them."""
        index = lanes.index(position.x * self.pitch + position.channel)
        T.buffer_store(self.scores, score, [index])

    def add_weighted(self, position: Position, lanes: Lanes, values: Expr) -> None:
        """Take the weighted values of a block of keys."""
        index = lanes.index(position.x * self.columns + position.channel)
        factor = lanes.splat(self.factor[position.x])
        T.buffer_store(self.weighted, self.weighted[index] * factor + values, [index])

    def weigh(self, kernel: AttentionKernel, tensors: Tensors, place: Place, block: Expr) -> None:
        """Turn the scores of a block of keys into weights."""
        seen = _Seen(kernel, tensors, place, block, self)
        loop(0, self.count, seen.find_highest)
        for_each_vector(self.count, self.lanes.count, seen.find_factors)
        loop(0, self.count, seen.weigh)

    def write(self, kernel: AttentionKernel, written: Matrix, place: Place) -> None:
        """Divide the weighted values by the sum of the weights."""

        def row(index: Expr) -> None:
            sums = Register.of("float32", self.lanes)
            sums.set(self.total[self.lanes.index(index * self.lanes.count)])
            total = bind(across(sums, add))
            share = T.float32(1.0) / total
            if kernel.zero_if_hidden:
                share = T.Select(total == T.float32(0.0), T.float32(0.0), share)
            share = bind(share)
            start = T.Bind(written.start + (place.query + index) * written.pitch)

            def vector(offset: Expr, lanes: Lanes) -> None:
                value = self.weighted[lanes.index(index * self.columns + offset)]
                stored = from_real(kernel.output, bind(value * lanes.splat(share)), lanes)
                T.buffer_store(written.buffer, stored, [lanes.index(start + offset)])

            for_each_vector(self.columns, self.lanes.count, vector)

        loop(0, self.count, row)


@dataclass(frozen=True, slots=True)
class _Seen:
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
        lanes, keys = self.rows.lanes, self.kernel.block[1]
        if not self.kernel.causal and self.kernel.keys.rows % keys == 0:
            return

        def clear(vector: Expr) -> None:
            self._store(lanes.index(start + vector * lanes.count), lanes.splat(0.0), lanes)

        loop(vectors, keys // lanes.count, clear)

    def _store(self, index: Expr, weight: Expr, lanes: Lanes) -> None:
        if self.rows.weights.dtype == "uint16":
            weight = _narrowed(weight, lanes)
        elif self.rows.weights.dtype == "float16":
            weight = lanes.cast("float16", weight)
        T.buffer_store(self.rows.weights, weight, [index])


def _narrowed(weight: Expr, lanes: Lanes) -> Expr:
    """bfloat16 bits, rounded to nearest even. Of NaN, the sum of the weights will tell."""
    bits = bind(lanes.reinterpret("uint32", weight))
    sixteen = lanes.splat(16, "uint32")
    odd = (bits >> sixteen) & lanes.splat(1, "uint32")
    return lanes.cast("uint16", (bits + lanes.splat(0x7FFF, "uint32") + odd) >> sixteen)
