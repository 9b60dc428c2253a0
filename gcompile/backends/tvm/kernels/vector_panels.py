"""Large matrix products on vector units, panel by panel.

Within a panel, the pixels of one row of blocks stay in the first-level cache while the weights of
the panel, which stay in the second, pass by. Sums wait in memory between one panel of depth and
the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.decoded_weights import DecodedWeights, whole_eights
from gcompile.backends.tvm.kernels.few_bits import Reader
from gcompile.backends.tvm.kernels.function import scratch, when
from gcompile.backends.tvm.kernels.lanes import Register
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.spec import Panel
from gcompile.backends.tvm.kernels.vector_product import Block, Range, VectorProduct, added


@dataclass(frozen=True, slots=True)
class VectorPanels:
    """Multiplies parts of one shape, whose depth is one run, panel by panel.

    Attributes:
        sizes: Blocks of pixels, blocks of channels and steps of depth of one panel.
        waiting: The sums of all blocks of a panel.
        decoded: A panel of weights that are stored in few bits; None for those that units read.
    """

    product: VectorProduct
    sizes: tuple[int, int, int]
    waiting: Buffer
    decoded: DecodedWeights | None = None

    @classmethod
    def of(
        cls, shared: Multiplication, shape: Part, panel: Panel, reader: Reader | None = None
    ) -> VectorPanels:
        """Take registers and memory for parts of the shape of this one.

        `reader` reads weights that are stored in few bits.
        """
        product = VectorProduct.of(shared, shape)
        m_size = max(1, panel.rows // shape.pixels.rows)
        n_size = max(1, panel.columns // product.block_channels)
        turns = max(1, panel.depth // shared.unit.group // product.at_once)
        size = m_size * len(product.sums[0]) * n_size * product.block_channels
        waiting = scratch(size, shared.unit.accumulator_dtype)
        steps = turns * product.at_once
        if reader is None:
            return cls(product, (m_size, n_size, steps), waiting)
        depth = whole_eights(steps, product.at_once, shared.unit.group)
        vectors = n_size * product.columns
        decoded = DecodedWeights.of(reader, shared.unit, vectors, depth)
        return cls(product, (m_size, n_size, depth // shared.unit.group), waiting, decoded)

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share: all panels of channels, of pixels and of depth, in this order."""
        m_range, n_range = self.product.ranges(part, task, threads)
        m_size, n_size, _ = self.sizes
        _over_panels(
            n_range,
            n_size,
            lambda ns: _over_panels(m_range, m_size, lambda ms: self._panel(part, ms, ns)),
        )

    def _panel(self, part: Part, m_range: Range, n_range: Range) -> None:
        (m_start, m_stop), (n_start, n_stop) = m_range, n_range
        _, n_size, steps = self.sizes
        panels = -(-part.depth.run // self.product.shared.unit.group // steps)
        with T.serial(panels) as depth:
            read, first = part, T.Bind(depth * steps)
            if self.decoded is not None:
                start, stop = (T.Bind(n * self.product.columns) for n in n_range)
                read, first = self.decoded.panel(part, start, stop, depth), 0
            with T.serial(m_start, m_stop) as m:

                def block(n: Expr, channels: int) -> None:
                    index = T.Bind((m - m_start) * n_size + (n - n_start))
                    self._block(read, (m, n, depth), channels, (first, index))

                self.product.for_channel_blocks(part, n_start, n_stop, block)

    def _block(
        self,
        part: Part,
        place: tuple[Expr, Expr, Expr],
        channels: int,
        firsts: tuple[Expr, Expr],
    ) -> None:
        """Add one panel of depth to a block, given its first step and where its sums wait."""
        (m, n, depth), product, steps = place, self.product, self.sizes[2]
        first_step, index = firsts
        total = part.depth.run // product.shared.unit.group
        last = -(-total // steps) - 1
        pixels, first_vector = part.pixels.place(m), n * product.columns
        sets = product.accumulators(channels)
        when(depth < 1, lambda: product.start(part, sets, first_vector))
        when(depth > 0, lambda: self._resume(sets, index))
        first = T.Bind(depth * steps)
        address = pixels.address + part.origin + first * product.shared.unit.group
        start = (T.Bind(address), first_step)
        turns = T.min(steps, total - first) // product.at_once
        product.turns(part, sets, first_vector, start, turns)
        stop = total - last * steps
        rest = range(stop - total % product.at_once, stop)
        when(depth >= last, lambda: product.steps(part, sets, first_vector, start, rest))
        sums = added(sets)
        when(depth < last, lambda: self._suspend(sums, index))
        when(depth >= last, lambda: product.write(part, sums, pixels, first_vector, channels))

    def _resume(self, sets: list[Block], index: Expr) -> None:
        lanes = self.product.lanes
        for offset, register in self._waiting(sets[0], index):
            register.set(self.waiting[lanes.index(offset)])
        for register in itertools.chain.from_iterable(itertools.chain(*sets[1:])):
            register.set(lanes.splat(0, self.product.shared.unit.accumulator_dtype))

    def _suspend(self, sums: Block, index: Expr) -> None:
        for offset, register in self._waiting(sums, index):
            T.buffer_store(self.waiting, register.value, [self.product.lanes.index(offset)])

    def _waiting(self, sums: Block, index: Expr) -> Iterator[tuple[Expr, Register]]:
        """Where each accumulator of a block waits."""
        first = index * (len(sums) * self.product.block_channels)
        for number, register in enumerate(itertools.chain.from_iterable(sums)):
            yield first + number * self.product.lanes.count, register


def _over_panels(blocks: Range, size: int, body: Callable[[Range], None]) -> None:
    start, stop = blocks
    with T.serial((stop - start + (size - 1)) // size) as index:
        first = T.Bind(start + index * size)
        body((first, T.Bind(T.min(first + size, stop))))
