"""What a block of queries keeps while the keys pass by: its scores, and what they add up to."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.attention_weights import SeenKeys, share_of
from gcompile.backends.tvm.kernels.function import Tensors, loop, scratch
from gcompile.backends.tvm.kernels.image_access import (
    Position,
    from_real,
)
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
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
            weights = scratch(max(queries * pitch, 4 * _LEAST_ALIGNED), dtype)
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

    def keep_weighted(self, position: Position, lanes: Lanes, values: Expr) -> None:
        """Take the weighted values of all keys."""
        index = lanes.index(position.x * self.columns + position.channel)
        T.buffer_store(self.weighted, values, [index])

    def weigh(self, kernel: AttentionKernel, tensors: Tensors, place: Place, block: Expr) -> None:
        """Turn the scores of a block of keys into weights."""
        seen = SeenKeys(kernel, tensors, place, block, self)
        if kernel.weights is not None:
            loop(0, self.count, functools.partial(seen.weigh_rounded, kernel.weights))
            return
        loop(0, self.count, seen.find_highest)
        for_each_vector(self.count, self.lanes.count, seen.find_factors)
        loop(0, self.count, seen.weigh)

    def write(self, kernel: AttentionKernel, written: Matrix, place: Place) -> None:
        """Divide the weighted values by the sum of the weights, unless that was done."""

        def row(index: Expr) -> None:
            if kernel.weights is not None:
                share = T.float32(kernel.value_scale)
            else:
                sums = Register.of("float32", self.lanes)
                sums.set(self.total[self.lanes.index(index * self.lanes.count)])
                share = share_of(kernel, bind(across(sums, add)))
            start = T.Bind(written.start + (place.query + index) * written.pitch)

            def vector(offset: Expr, lanes: Lanes) -> None:
                value = self.weighted[lanes.index(index * self.columns + offset)]
                stored = from_real(kernel.output, bind(value * lanes.splat(share)), lanes)
                T.buffer_store(written.buffer, stored, [lanes.index(start + offset)])

            for_each_vector(self.columns, self.lanes.count, vector)

        loop(0, self.count, row)
