"""Multiplication of parts on vector units.

A block of `rows` pixels by `columns` vectors of output channels stays in registers while the whole
depth passes by: each step loads the weights of the columns and broadcasts one group of each pixel
straight from the image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot import dot_of
from gcompile.backends.tvm.kernels.dot_arm import apart
from gcompile.backends.tvm.kernels.dot_groups import Dot
from gcompile.backends.tvm.kernels.expression import size
from gcompile.backends.tvm.kernels.function import here, loop, prefetch, scratch, share, when
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind
from gcompile.backends.tvm.kernels.next_weights import NextWeights
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Place
from gcompile.backends.tvm.kernels.widened_rows import Rows, WidenedRows
from gcompile.energy.blocking import accumulator_sets

_UNROLL = 2
"""Steps of depth per loop iteration. More would push accumulators out of sixteen registers."""

_LONG_EXPRESSION = 12
"""Nodes from which an expression is emitted once in a loop over pixels, to bound code size."""

Range = tuple[Expr, Expr]
Ask = Callable[[Expr], None]
Row = list[Register]
Block = list[Row]


@dataclass(frozen=True, slots=True)
class VectorProduct:
    """Multiplies parts of one shape on a vector unit.

    Attributes:
        sums: Accumulators of one block, once for each set: steps of depth take turns among sets.
        widened: Where pixels are widened before they are multiplied, on units that ask for it.
    """

    shared: Multiplication
    dot: Dot
    sums: list[Block]
    widened: WidenedRows | None = None

    @classmethod
    def of(cls, shared: Multiplication, shape: Part) -> VectorProduct:
        """Take registers for parts of the shape of this one."""
        unit = shared.unit
        rows = -(-shape.pixels.rows // unit.pixels) * unit.pixels
        columns = min(shared.tile.columns, -(-shape.channels // unit.lanes))
        room = unit.registers - (unit.registers_needed(rows, columns) - rows * columns)
        sets = accumulator_sets(rows * columns, room)

        def register() -> Register:
            return Register.of(unit.accumulator_dtype, Lanes(unit.lanes))

        sums = [[[register() for _ in range(columns)] for _ in range(rows)] for _ in range(sets)]
        widened = WidenedRows.of(rows, unit.lanes) if unit.widens_rows else None
        return cls(shared, dot_of(unit), sums, widened)

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part: a range of pixel blocks or of channel blocks."""
        tile = self.shared.tile
        m_range, n_range = self.ranges(part, task, threads)
        asked = self._asked(part, threads)

        def over_m(body: Callable[[Expr], None]) -> None:
            loop(*m_range, body)

        def over_n(body: Callable[[Expr, int], None]) -> None:
            self.for_channel_blocks(part, *n_range, body)

        def block(m: Expr, n: Expr, channels: int) -> None:
            ask = None if asked is None else self._ask(part, asked, m - m_range[0], n)
            self._block(part, m, n, channels, ask)

        if tile.outer == "n":
            over_n(lambda n, channels: over_m(lambda m: block(m, n, channels)))
        else:
            over_m(lambda m: over_n(lambda n, channels: block(m, n, channels)))

    def _asked(self, part: Part, threads: int) -> NextWeights | None:
        """What blocks of pixels ask for where all of them pass by one block of channels."""
        tile = self.shared.tile
        if tile.outer != "n" or not self.shared.asks_for_next:
            return None
        blocks = part.pixels.blocks // (threads if tile.split == "m" else 1)
        return NextWeights.of(part.weights, self.columns, blocks, self._turns(part))

    def _turns(self, part: Part) -> int:
        """Turns of the innermost loop in one block."""
        in_run = part.depth.run // self.shared.unit.group // self.at_once
        return in_run * part.depth.rows[0] * part.depth.columns[0]

    def _ask(self, part: Part, asked: NextWeights, m: Expr, n: Expr) -> Ask:
        first, following = T.Bind(asked.first_turn(m)), part.first_block + (n + 1) * self.columns
        return lambda turn: asked.ask(following, first + turn)

    def ranges(self, part: Part, task: Expr, threads: int) -> tuple[Range, Range]:
        """The blocks of pixels and the blocks of channels of a task."""
        m_blocks, n_blocks = part.pixels.blocks, -(-part.channels // self.block_channels)
        if self.shared.tile.split == "m":
            return share(m_blocks, task, threads), (0, n_blocks)
        return (0, m_blocks), share(n_blocks, task, threads)

    @property
    def lanes(self) -> Lanes:
        """One vector of sums."""
        return Lanes(self.shared.unit.lanes)

    @property
    def columns(self) -> int:
        """Vectors of channels in a block."""
        return len(self.sums[0][0])

    @property
    def block_channels(self) -> int:
        """Channels of a block."""
        return self.columns * self.shared.unit.lanes

    def for_channel_blocks(
        self, part: Part, start: Expr, stop: Expr, body: Callable[[Expr, int], None]
    ) -> None:
        """Call `body(block, channels)`; the last block may have fewer channels than the rest."""
        full, rest = divmod(part.channels, self.block_channels)
        if full:
            loop(start, T.min(stop, full), lambda n: body(n, self.block_channels))
        if rest:
            when(stop > full, lambda: body(full, rest))

    def accumulators(self, channels: int) -> list[Block]:
        """Those of a block of so many channels, once for each set."""
        columns = -(-channels // self.shared.unit.lanes)
        return [[row[:columns] for row in block] for block in self.sums]

    def _block(self, part: Part, m: Expr, n: Expr, channels: int, ask: Ask | None) -> None:
        """Compute one block of pixels and channels, and write it."""
        place, first_vector = part.pixels.place(m), n * self.columns
        if self.shared.tile.outer == "m":
            place = replace(place, address=bind(here(place.address)))
        sets = self.accumulators(channels)
        self.start(part, sets, first_vector)
        self._accumulate(part, sets, place, first_vector, ask)
        self.write(part, added(sets), place, first_vector, channels)

    def start(self, part: Part, sets: list[Block], first_vector: Expr) -> None:
        """Give accumulators their first values."""
        zero = self.lanes.splat(0, self.shared.unit.accumulator_dtype)
        for index, block in enumerate(sets):
            for row in block:
                for column, register in enumerate(row):
                    weights = part.first_block + first_vector + column
                    start = self.dot.start(part.weights, weights) if index == 0 else zero
                    register.set(start)

    def _accumulate(
        self, part: Part, sets: list[Block], place: Place, first_vector: Expr, ask: Ask | None
    ) -> None:
        """Pass over the whole depth, run by run."""
        steps = part.depth.run // self.shared.unit.group
        (rows, down), (runs, across) = part.depth.rows, part.depth.columns
        with T.serial(rows) as row, T.serial(runs) as run:
            address = T.Bind(place.address + part.origin + row * down + run * across)
            number = row * runs + run
            start = (address, T.Bind(number * steps))
            turns = steps // self.at_once
            moved = ask and (lambda turn: ask(number * turns + turn))
            self.turns(part, sets, first_vector, start, turns, moved)
            rest = range(steps - steps % self.at_once, steps)
            self.steps(part, sets, first_vector, start, rest)

    @property
    def at_once(self) -> int:
        """Steps of depth per loop iteration."""
        return max(_UNROLL, len(self.sums))

    def turns(
        self,
        part: Part,
        sets: list[Block],
        first_vector: Expr,
        start: Range,
        turns: Expr,
        ask: Ask | None = None,
    ) -> None:
        """Pass over a piece of the depth from `start` on, asking for something in every turn."""
        rows, step = Rows(self.shared.x, start[0], part.pixels.step), start[1]

        def multiply(rows: Rows, first: Expr, turns: Expr) -> None:
            with T.serial(turns) as turn:
                if ask is not None:
                    ask(first + turn)
                done = turn * self.at_once
                moved = replace(rows, address=rows.address + done * self.shared.unit.group)
                weights = step + first * self.at_once + done
                self._steps(part, sets, first_vector, moved, weights, range(self.at_once))

        if self.widened is None:
            multiply(rows, 0, turns)
        else:
            self.widened.turns(rows, turns, self.at_once, multiply)

    def steps(
        self, part: Part, sets: list[Block], first_vector: Expr, start: Range, offsets: range
    ) -> None:
        """Steps of depth at some distances from an address of the input and a step of weights."""
        rows = Rows(self.shared.x, start[0], part.pixels.step)
        self._steps(part, sets, first_vector, rows, start[1], offsets)

    def _steps(
        self,
        part: Part,
        sets: list[Block],
        first_vector: Expr,
        rows: Rows,
        step: Expr,
        offsets: range,
    ) -> None:
        for offset in offsets:
            group = replace(rows, address=rows.address + offset * self.shared.unit.group)
            self._step(part, sets[offset % len(sets)], group, first_vector, step + offset)

    def _step(self, part: Part, sums: Block, pixels: Rows, first_vector: Expr, step: Expr) -> None:
        """Multiply one group of every pixel with the weights of every channel."""
        first = part.first_block + first_vector
        weights = [
            self.dot.weights(part.weights, first + column, step) for column in range(len(sums[0]))
        ]
        if self.shared.ahead:
            for column in range(len(sums[0])):
                prefetch(part.weights, (first + column, step + self.shared.ahead, 0))
        at_once, last = self.shared.unit.pixels, part.pixels.rows - 1
        for first_row in range(0, len(sums), at_once):
            rows = range(first_row, first_row + at_once)
            # Where a row was added to fill an operand, the last pixel fills it again.
            addresses = [pixels.address + min(row, last) * pixels.pitch for row in rows]
            pixel = self.dot.pixel(pixels.buffer, *addresses)
            for index, row in enumerate(rows):
                for register, operand in zip(sums[row], weights, strict=True):
                    its = operand if at_once == 1 else operand[index : index + 1]
                    register.set(self.dot.add(register.value, pixel, its))

    def write(
        self, part: Part, sums: Block, place: Place, first_vector: Expr, channels: int
    ) -> None:
        """Evaluate the expression on every accumulator, and store it."""
        kernel, lanes = self.shared.kernel, self.shared.unit.lanes
        sums = self._pixel_by_pixel(sums)[: part.pixels.rows]

        def write_row(row: Expr, accumulator: Callable[[int, Lanes], Expr]) -> None:
            part.pixels.at(
                place,
                row,
                first_vector * lanes,
                lambda position: self.shared.write(part, position, (channels, lanes), accumulator),
            )

        if size(kernel.expression) < _LONG_EXPRESSION:
            for row, registers in enumerate(sums):
                write_row(row, functools.partial(_part_of, registers))
            return
        # A register cannot be indexed by a loop variable: put the accumulators into memory.
        width = len(sums[0]) * lanes
        spilled = scratch(len(sums) * width, self.shared.unit.accumulator_dtype)
        for index, register in enumerate(itertools.chain.from_iterable(sums)):
            T.buffer_store(spilled, register.value, [self.lanes.index(index * lanes)])
        with T.serial(part.pixels.rows) as row:
            write_row(row, lambda offset, part: spilled[part.index(row * width + offset)])

    def _pixel_by_pixel(self, sums: Block) -> Block:
        """Give each row of registers the sums of its own pixel."""
        if self.shared.unit.pixels == 1:
            return sums
        for first, second in zip(sums[::2], sums[1::2], strict=True):
            for one, other in zip(first, second, strict=True):
                # Both are computed before the first is overwritten.
                values = [bind(value) for value in apart(one.value, other.value)]
                one.set(values[0])
                other.set(values[1])
        return sums


def added(sets: list[Block]) -> Block:
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
