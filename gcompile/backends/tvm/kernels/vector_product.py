"""Multiplication of parts on vector units.

A block of `rows` pixels by `columns` vectors of output channels stays in registers while the whole
depth passes by: each step loads the weights of the columns and broadcasts one group of each pixel
straight from the image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot import Dot, dot_of
from gcompile.backends.tvm.kernels.expression import size, write_channels
from gcompile.backends.tvm.kernels.function import loop, scratch, share, when
from gcompile.backends.tvm.kernels.lanes import Lanes, Register
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Place

_UNROLL = 2
"""Steps of depth per loop iteration. More would push accumulators out of sixteen registers."""

_LONG_EXPRESSION = 12
"""Nodes from which an expression is emitted once in a loop over pixels, to bound code size."""

_FEWEST_SUMS = 8
"""Accumulators that hide the latency of an addition; smaller blocks have several sets of them."""

Row = list[Register]
Block = list[Row]


@dataclass(frozen=True, slots=True)
class VectorProduct:
    """Multiplies parts of one shape on a vector unit.

    Attributes:
        sums: Accumulators of one block, once for each set: steps of depth take turns among sets.
    """

    shared: Multiplication
    dot: Dot
    sums: list[Block]

    @classmethod
    def of(cls, shared: Multiplication, shape: Part) -> VectorProduct:
        """Take registers for parts of the shape of this one."""
        unit = shared.unit
        rows = shape.pixels.rows
        columns = min(shared.tile.columns, -(-shape.channels // unit.lanes))
        sets = 1
        while (
            sets * rows * columns < _FEWEST_SUMS
            and unit.registers_needed(2 * sets * rows, columns) <= unit.registers
        ):
            sets *= 2

        def register() -> Register:
            return Register.of(unit.accumulator_dtype, Lanes(unit.lanes))

        sums = [[[register() for _ in range(columns)] for _ in range(rows)] for _ in range(sets)]
        return cls(shared, dot_of(unit), sums)

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part: a range of pixel blocks or of channel blocks."""
        tile = self.shared.tile
        channel_blocks = -(-part.channels // self._block_channels)
        m_range, n_range = (0, part.pixels.blocks), (0, channel_blocks)
        if tile.split == "m":
            m_range = share(part.pixels.blocks, task, threads)
        else:
            n_range = share(channel_blocks, task, threads)

        def over_m(body: Callable[[Expr], None]) -> None:
            loop(*m_range, body)

        def over_n(body: Callable[[Expr, int], None]) -> None:
            self._for_channel_blocks(part, *n_range, body)

        def block(m: Expr, n: Expr, channels: int) -> None:
            self._block(part, m, n, channels)

        if tile.outer == "n":
            over_n(lambda n, channels: over_m(lambda m: block(m, n, channels)))
        else:
            over_m(lambda m: over_n(lambda n, channels: block(m, n, channels)))

    @property
    def _lanes(self) -> Lanes:
        return Lanes(self.shared.unit.lanes)

    @property
    def _columns(self) -> int:
        """Vectors of channels in a block."""
        return len(self.sums[0][0])

    @property
    def _block_channels(self) -> int:
        return self._columns * self.shared.unit.lanes

    def _for_channel_blocks(
        self, part: Part, start: Expr, stop: Expr, body: Callable[[Expr, int], None]
    ) -> None:
        """Call `body(block, channels)`; the last block may have fewer channels than the rest."""
        full, rest = divmod(part.channels, self._block_channels)
        if full:
            loop(start, T.min(stop, full), lambda n: body(n, self._block_channels))
        if rest:
            when(stop > full, lambda: body(full, rest))

    def _block(self, part: Part, m: Expr, n: Expr, channels: int) -> None:
        """Compute one block of pixels and channels, and write it."""
        place = part.pixels.place(m)
        columns = -(-channels // self.shared.unit.lanes)
        first_vector = n * self._columns
        sets = [[row[:columns] for row in block] for block in self.sums]
        for index, row, column in itertools.product(
            range(len(sets)), range(part.pixels.rows), range(columns)
        ):
            block_of_weights = part.first_block + first_vector + column
            zero = self._lanes.splat(0, self.shared.unit.accumulator_dtype)
            start = self.dot.start(part.weights, block_of_weights) if index == 0 else zero
            sets[index][row][column].set(start)
        self._accumulate(part, sets, place, first_vector)
        self._write(part, _added(sets), place, first_vector, channels)

    def _accumulate(self, part: Part, sets: list[Block], place: Place, first_vector: Expr) -> None:
        """Pass over the whole depth, run by run."""
        group = self.shared.unit.group
        steps = part.depth.run // group
        (rows, down), (runs, across) = part.depth.rows, part.depth.columns
        at_once = max(_UNROLL, len(sets))
        unrolled = steps // at_once

        def one_step(address: Expr, step: Expr, offset: int) -> None:
            sums = sets[offset % len(sets)]
            self._step(part, sums, address + offset * group, first_vector, step + offset)

        with T.serial(rows) as row, T.serial(runs) as run:
            address = T.Bind(place.address + part.origin + row * down + run * across)
            first = T.Bind((row * runs + run) * steps)
            with T.serial(unrolled) as turn:
                done = turn * at_once
                for offset in range(at_once):
                    one_step(address + done * group, first + done, offset)
            for offset in range(unrolled * at_once, steps):
                one_step(address, first, offset)

    def _step(
        self, part: Part, sums: Block, address: Expr, first_vector: Expr, step: Expr
    ) -> None:
        """Multiply one group of every pixel with the weights of every channel."""
        first = part.first_block + first_vector
        weights = [
            self.dot.weights(part.weights, first + column, step) for column in range(len(sums[0]))
        ]
        for row, registers in enumerate(sums):
            pixel = self.dot.pixel(self.shared.x, address + row * part.pixels.step)
            for register, operand in zip(registers, weights, strict=True):
                register.set(self.dot.add(register.value, pixel, operand))

    def _write(
        self, part: Part, sums: Block, place: Place, first_vector: Expr, channels: int
    ) -> None:
        """Evaluate the expression on every accumulator, and store it."""
        kernel, lanes = self.shared.kernel, self.shared.unit.lanes

        def write_row(row: Expr, accumulator: Callable[[int, Lanes], Expr]) -> None:
            part.pixels.at(
                place,
                row,
                first_vector * lanes,
                lambda position: write_channels(
                    *(kernel, self.shared.tensors, part.placed(position)),
                    *((channels, lanes), accumulator),
                ),
            )

        if size(kernel.expression) < _LONG_EXPRESSION:
            for row, registers in enumerate(sums):
                write_row(row, functools.partial(_part_of, registers))
            return
        # A register cannot be indexed by a loop variable: put the accumulators into memory.
        width = len(sums[0]) * lanes
        spilled = scratch(len(sums) * width, self.shared.unit.accumulator_dtype)
        for index, register in enumerate(itertools.chain.from_iterable(sums)):
            T.buffer_store(spilled, register.value, [self._lanes.index(index * lanes)])
        with T.serial(part.pixels.rows) as row:
            write_row(row, lambda offset, part: spilled[part.index(row * width + offset)])


def _added(sets: list[Block]) -> Block:
    """All sets summed up in the first one."""
    while len(sets) > 1:
        half = len(sets) // 2
        for left, right in zip(sets[:half], sets[half:], strict=True):
            for kept, other in zip(itertools.chain(*left), itertools.chain(*right), strict=True):
                kept.set(kept.value + other.value)
        sets = sets[:half]
    return sets[0]


def _part_of(registers: Row, offset: int, lanes: Lanes) -> Expr:
    column, lane = divmod(offset, registers[0].lanes.count)
    return registers[column].part(lane, lanes)
