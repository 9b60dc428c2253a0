"""Multiplication of parts on vector units.

A block of `rows` pixels by `columns` vectors of output channels stays in registers while the whole
depth passes by: each step loads the weights of the columns and broadcasts one group of each pixel
straight from the image.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot import Dot, dot_of
from gcompile.backends.tvm.kernels.expression import size, write_channels
from gcompile.backends.tvm.kernels.function import loop, scratch, share, when
from gcompile.backends.tvm.kernels.lanes import Lanes, Register
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Place
from gcompile.backends.tvm.kernels.spec import Panel

_UNROLL = 2
"""Steps of depth per loop iteration. More would push accumulators out of sixteen registers."""

_LONG_EXPRESSION = 12
"""Nodes from which an expression is emitted once in a loop over pixels, to bound code size."""

_FEWEST_SUMS = 8
"""Accumulators that hide the latency of an addition; smaller blocks have several sets of them."""

Range = tuple[Expr, Expr]
Row = list[Register]
Block = list[Row]


@dataclass(frozen=True, slots=True)
class VectorProduct:
    """Multiplies parts of one shape on a vector unit.

    Attributes:
        sums: Accumulators of one block, once for each set: steps of depth take turns among sets.
        waiting: The sums of all blocks of a panel, between one panel of depth and the next.
    """

    shared: Multiplication
    dot: Dot
    sums: list[Block]
    waiting: Buffer | None

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
        waiting = None
        if shared.panel is not None:
            row_blocks = max(1, shared.panel.rows // rows)
            column_blocks = max(1, shared.panel.columns // (columns * unit.lanes))
            size = row_blocks * rows * column_blocks * columns * unit.lanes
            waiting = scratch(size, unit.accumulator_dtype)
        return cls(shared, dot_of(unit), sums, waiting)

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part: a range of pixel blocks or of channel blocks."""
        tile = self.shared.tile
        channel_blocks = -(-part.channels // self._block_channels)
        m_range, n_range = (0, part.pixels.blocks), (0, channel_blocks)
        if tile.split == "m":
            m_range = share(part.pixels.blocks, task, threads)
        else:
            n_range = share(channel_blocks, task, threads)

        if self.waiting is not None and part.depth.rows[0] * part.depth.columns[0] == 1:
            self._panels(part, m_range, n_range)
            return

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

    def _panels(self, part: Part, m_range: Range, n_range: Range) -> None:
        """Go through the product panel by panel; the innermost loop is over columns."""
        panel, unit = self.shared.panel or Panel(1, 1, 1), self.shared.unit
        m_size = max(1, panel.rows // part.pixels.rows)
        n_size = max(1, panel.columns // self._block_channels)
        steps = max(self._at_once, panel.depth // unit.group // self._at_once * self._at_once)

        def over_panels(range_: Range, size: int, body: Callable[[Expr, Expr], None]) -> None:
            start, stop = range_
            with T.serial((stop - start + (size - 1)) // size) as index:
                first = T.Bind(start + index * size)
                body(first, T.Bind(T.min(first + size, stop)))

        def panel_of(m_start: Expr, m_stop: Expr, n_start: Expr, n_stop: Expr) -> None:
            def block(m: Expr, n: Expr, channels: int, depth: Expr) -> None:
                index = (m - m_start) * n_size + (n - n_start)
                self._panel_block(part, (m, n), channels, T.Bind(index), (depth, steps))

            with (
                T.serial(-(-part.depth.run // unit.group // steps)) as depth,
                T.serial(m_start, m_stop) as m,
            ):
                self._for_channel_blocks(
                    part, n_start, n_stop, lambda n, channels: block(m, n, channels, depth)
                )

        over_panels(
            n_range,
            n_size,
            lambda *ns: over_panels(m_range, m_size, lambda *ms: panel_of(*ms, *ns)),
        )

    def _panel_block(
        self,
        part: Part,
        block: tuple[Expr, Expr],
        channels: int,
        index: Expr,
        panel: tuple[Expr, int],
    ) -> None:
        """Add one panel of depth to a block whose sums wait at `index`."""
        (m, n), (depth, steps) = block, panel
        total = part.depth.run // self.shared.unit.group
        last = -(-total // steps) - 1
        place, first_vector = part.pixels.place(m), n * self._columns
        sets = self._sets(channels)
        when(depth < 1, lambda: self._start(part, sets, first_vector))
        when(depth > 0, lambda: self._resume(sets, index))
        first = T.Bind(depth * steps)
        address = T.Bind(place.address + part.origin + first * self.shared.unit.group)
        turns = T.min(steps, total - first) // self._at_once
        self._turns(part, sets, first_vector, (address, first), turns)
        rest = total % self._at_once
        when(
            depth >= last,
            lambda: self._steps(
                part,
                sets,
                first_vector,
                (address, first),
                range((total - last * steps) - rest, total - last * steps),
            ),
        )
        sums = _added(sets)
        when(depth < last, lambda: self._suspend(sums, index))
        when(depth >= last, lambda: self._write(part, sums, place, first_vector, channels))

    def _resume(self, sets: list[Block], index: Expr) -> None:
        for offset, register in self._waiting(sets[0], index):
            memory: Buffer = self.waiting
            register.set(memory[self._lanes.index(offset)])
        for register in itertools.chain.from_iterable(itertools.chain(*sets[1:])):
            register.set(self._lanes.splat(0, self.shared.unit.accumulator_dtype))

    def _suspend(self, sums: Block, index: Expr) -> None:
        for offset, register in self._waiting(sums, index):
            T.buffer_store(self.waiting, register.value, [self._lanes.index(offset)])

    def _waiting(self, sums: Block, index: Expr) -> Iterator[tuple[Expr, Register]]:
        """Where each accumulator of a block waits."""
        first = index * (len(sums) * self._block_channels)
        registers = itertools.chain.from_iterable(sums)
        for number, register in enumerate(registers):
            yield first + number * self.shared.unit.lanes, register

    def _sets(self, channels: int) -> list[Block]:
        columns = -(-channels // self.shared.unit.lanes)
        return [[row[:columns] for row in block] for block in self.sums]

    def _block(self, part: Part, m: Expr, n: Expr, channels: int) -> None:
        """Compute one block of pixels and channels, and write it."""
        place, first_vector = part.pixels.place(m), n * self._columns
        sets = self._sets(channels)
        self._start(part, sets, first_vector)
        self._accumulate(part, sets, place, first_vector)
        self._write(part, _added(sets), place, first_vector, channels)

    def _start(self, part: Part, sets: list[Block], first_vector: Expr) -> None:
        zero = self._lanes.splat(0, self.shared.unit.accumulator_dtype)
        for index, block in enumerate(sets):
            for row in block:
                for column, register in enumerate(row):
                    weights = part.first_block + first_vector + column
                    start = self.dot.start(part.weights, weights) if index == 0 else zero
                    register.set(start)

    def _accumulate(self, part: Part, sets: list[Block], place: Place, first_vector: Expr) -> None:
        """Pass over the whole depth, run by run."""
        steps = part.depth.run // self.shared.unit.group
        (rows, down), (runs, across) = part.depth.rows, part.depth.columns
        with T.serial(rows) as row, T.serial(runs) as run:
            address = T.Bind(place.address + part.origin + row * down + run * across)
            start = (address, T.Bind((row * runs + run) * steps))
            self._turns(part, sets, first_vector, start, steps // self._at_once)
            rest = range(steps - steps % self._at_once, steps)
            self._steps(part, sets, first_vector, start, rest)

    @property
    def _at_once(self) -> int:
        """Steps of depth per loop iteration."""
        return max(_UNROLL, len(self.sums))

    def _turns(
        self, part: Part, sets: list[Block], first_vector: Expr, start: Range, turns: Expr
    ) -> None:
        with T.serial(turns) as turn:
            done = turn * self._at_once
            moved = (start[0] + done * self.shared.unit.group, start[1] + done)
            self._steps(part, sets, first_vector, moved, range(self._at_once))

    def _steps(
        self, part: Part, sets: list[Block], first_vector: Expr, start: Range, offsets: range
    ) -> None:
        """Steps of depth at some distances from an address of the input and a step of weights."""
        address, step = start
        for offset in offsets:
            group = address + offset * self.shared.unit.group
            self._step(part, sets[offset % len(sets)], group, first_vector, step + offset)

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
