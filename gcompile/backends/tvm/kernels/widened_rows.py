"""Rows of float16 that are multiplied as float32: widened a piece of depth at a time.

A row is widened by whole vectors into memory that stays in the first-level cache, and broadcast
from there. Each element is used by all vectors of a block of channels, so that widening is one
instruction in as many as a block has multiplications of one row over a vector of depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import loop, scratch
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector

_PIECE = 256
"""Elements of depth: a kibibyte of each row."""

_PITCH = _PIECE + 16
"""Rows a power of two apart would share the cache's sets."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the pixels of a block lie: row `r` begins `pitch` elements after row `r - 1`."""

    buffer: Buffer
    address: Expr
    pitch: Expr


@dataclass(frozen=True, slots=True)
class WidenedRows:
    """Memory for a piece of the rows of one block.

    Attributes:
        count: How many rows.
        lanes: A vector of float32.
    """

    memory: Buffer
    count: int
    lanes: int

    @classmethod
    def of(cls, rows: int, lanes: int) -> WidenedRows:
        """Take memory for blocks of so many rows."""
        return cls(scratch(rows * _PITCH, "float32"), rows, lanes)

    def turns(
        self,
        rows: Rows,
        turns: Expr,
        at_once: int,
        body: Callable[[Rows, Expr, Expr], None],
    ) -> None:
        """Emit `body(widened rows, first turn, turns)` for every piece of the depth.

        Args:
            rows: What is widened, from the first element that is read on.
            turns: How many times `at_once` elements of depth are read.
            at_once: Elements of depth of one turn.
            body: Multiplies one piece.
        """
        most = _PIECE // at_once

        def piece(first: Expr, count: Expr) -> None:
            self._widen(rows, first * at_once, count * at_once)
            body(Rows(self.memory, 0, _PITCH), first, count)

        if not isinstance(turns, int):
            self._unequal(turns, most, piece)
        elif turns <= most:
            piece(0, turns)
        elif turns % most:
            self._unequal(turns, most, piece)
        else:
            loop(0, turns // most, lambda index: piece(T.Bind(index * most), most))

    def _unequal(self, turns: Expr, most: int, piece: Callable[[Expr, Expr], None]) -> None:
        with T.serial((turns + (most - 1)) // most) as index:
            first = T.Bind(index * most)
            piece(first, T.Bind(T.min(most, turns - first)))

    def _widen(self, rows: Rows, start: Expr, count: Expr) -> None:
        with T.serial(self.count) as row:
            read = T.Bind(rows.address + row * rows.pitch + start)

            def copy(offset: Expr, lanes: Lanes) -> None:
                real = lanes.cast("float32", rows.buffer[lanes.index(read + offset)])
                T.buffer_store(self.memory, real, [lanes.index(row * _PITCH + offset)])

            if isinstance(count, int):
                for_each_vector(count, self.lanes, copy)
                return
            vectors = T.Bind(count // self.lanes)
            loop(0, vectors, lambda vector: copy(vector * self.lanes, Lanes(self.lanes)))
            loop(vectors * self.lanes, count, lambda offset: copy(offset, Lanes(1)))
