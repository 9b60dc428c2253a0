"""Products of few rows with weights of few bits: each weight is read and unpacked once.

    y[m, n] = sum over blocks b of s[b, n] · (P[m, b, n] - z[b, n] · X[m, b])

with P[m, b, n] the sum of x[m, k] · q[k, n] over the block, and X[m, b] that of x[m, k]. Integers
are summed unscaled within a block, so that a weight costs no multiplication of its own. Each task
widens the activations to float32 once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot import dot_of
from gcompile.backends.tvm.kernels.few_bits import EIGHT, Reader
from gcompile.backends.tvm.kernels.function import scratch
from gcompile.backends.tvm.kernels.image_access import to_real
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, for_each_vector
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.spec import Source
from gcompile.backends.tvm.kernels.vector_product import Ask, Block, VectorProduct, added

MOST_ROWS = 4
"""Rows whose sums fit the registers beside those of unpacking."""

_SUMS = 8
"""Accumulators of one block, which hide the latency of an addition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FewRows(VectorProduct):
    """Multiplies a part of at most `MOST_ROWS` rows.

    Attributes:
        sums: Accumulators within a block of depth, once for each set.
        totals: Accumulators over blocks.
        reader: The weights.
        rows: The activations as float32, row after row, zeros beyond the depth.
        row_sums: The sum of each row over each block of depth.
    """

    totals: Block
    reader: Reader
    rows: Buffer
    row_sums: Buffer

    @classmethod
    def reading(cls, shared: Multiplication, shape: Part, reader: Reader) -> FewRows:
        """Take registers and memory for a part of the shape of this one."""
        rows, lanes = shape.pixels.rows, reader.lanes
        columns = min(shared.tile.columns, -(-shape.channels // lanes.count), _SUMS // rows)
        sets = max(1, _SUMS // (rows * columns))
        sets = 1 << (sets.bit_length() - 1)

        def block() -> Block:
            return [[Register.of("float32", lanes) for _ in range(columns)] for _ in range(rows)]

        depth = -(-shape.depth.run // EIGHT) * EIGHT
        blocks = -(-depth // reader.stored.block)
        return cls(
            shared,
            dot_of(shared.unit),
            [block() for _ in range(sets)],
            totals=block(),
            reader=reader,
            rows=scratch(rows * depth, "float32"),
            row_sums=scratch(rows * blocks, "float32"),
        )

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part."""
        self._widen_rows(part)
        if self.reader.stored.has_zero_points:
            self._sum_rows(part)
        VectorProduct.multiply(self, part, task, threads)

    def _eights(self, part: Part) -> int:
        return -(-part.depth.run // EIGHT)

    def _widen_rows(self, part: Part) -> None:
        place = part.pixels.place(0)
        run, depth = part.depth.run, self._eights(part) * EIGHT
        x = Source(part.pixels.image)
        for row in range(part.pixels.rows):
            read = T.Bind(place.address + part.origin + row * part.pixels.step)
            write = row * depth

            def copy(offset: Expr, lanes: Lanes, read: Expr = read, write: int = write) -> None:
                stored = self.shared.x[lanes.index(read + offset)]
                real = to_real(x, stored, lanes)
                T.buffer_store(self.rows, real, [lanes.index(write + offset)])

            for_each_vector(run, self.lanes.count, copy)
            for beyond in range(run, depth):
                T.buffer_store(self.rows, T.float32(0), [write + beyond])

    def _sum_rows(self, part: Part) -> None:
        """Eight sums side by side, then their sum."""
        lanes, eights = Lanes(EIGHT), self._eights(part)
        each = self.reader.stored.block // EIGHT
        blocks = -(-eights // each)
        total = Register.of("float32", lanes)
        with T.serial(part.pixels.rows) as row, T.serial(blocks) as block:
            total.set(lanes.splat(0.0))
            with T.serial(T.min(each, eights - block * each)) as index:
                start = (row * eights + block * each + index) * EIGHT
                total.set(total.value + self.rows[lanes.index(start)])
            parts = [total.part(offset, Lanes(1)) for offset in range(EIGHT)]
            while len(parts) > 1:
                parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
            T.buffer_store(self.row_sums, parts[0], [row * blocks + block])

    def _block(self, part: Part, m: Expr, n: Expr, channels: int, ask: Ask | None) -> None:
        """All rows of a block of channels: block by block of depth."""
        first, columns = n * self.columns, -(-channels // self.lanes.count)
        sets = self.accumulators(channels)
        totals = [row[:columns] for row in self.totals]
        eights, each = self._eights(part), self.reader.stored.block // EIGHT
        blocks = -(-eights // each)
        _clear(totals)
        with T.serial(blocks) as block:
            for registers in sets:
                _clear(registers)
            count = each if eights % each == 0 else T.min(each, eights - block * each)
            with T.serial(count) as index:
                self._eight(sets, first, T.Bind(block * each + index), eights)
            self._scale(added(sets), totals, first, (block, blocks))
        self.write(part, totals, part.pixels.place(m), first, channels)

    def _eight(self, sets: list[Block], first: Expr, index: Expr, eights: int) -> None:
        """Multiply eight elements of depth of every row and column."""
        columns = [self.reader.eight(first + column, index) for column in range(len(sets[0][0]))]
        if self.shared.ahead:
            for column in range(len(columns)):
                self.reader.ask(first + column, index + self.shared.ahead)
        for offset in range(EIGHT):
            for row, registers in enumerate(sets[offset % len(sets)]):
                element = self.rows[row * eights * EIGHT + index * EIGHT + offset]
                x = T.Bind(self.lanes.splat(element))
                for register, weights in zip(registers, columns, strict=True):
                    register.set(register.value + x * weights[offset])

    def _scale(self, sums: Block, totals: Block, first: Expr, block: tuple[Expr, int]) -> None:
        index, blocks = block
        for column in range(len(totals[0])):
            scale = T.Bind(self.reader.scale(first + column, index))
            if self.reader.stored.has_zero_points:
                zero = T.Bind(self.reader.zero_point(first + column, index))
            for row, (kept, inner) in enumerate(zip(totals, sums, strict=True)):
                value = inner[column].value
                if self.reader.stored.has_zero_points:
                    value = value - zero * self.lanes.splat(self.row_sums[row * blocks + index])
                kept[column].set(kept[column].value + value * scale)


def _clear(block: Block) -> None:
    for register in itertools.chain.from_iterable(block):
        register.set(register.lanes.splat(0.0))
