"""Large matrix products on AMX, panel by panel.

Within a panel, the pixels of one row of blocks are copied into the order of tiles, where they stay
in the first-level cache while the weights of the panel, which stay in the second, pass by. Sums
wait in memory between one panel of depth and the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx import BlockRange, TileProduct, tile_memory
from gcompile.backends.tvm.kernels.amx_tiles import Issue
from gcompile.backends.tvm.kernels.decoded_weights import DecodedWeights, whole_eights
from gcompile.backends.tvm.kernels.few_bits import Reader
from gcompile.backends.tvm.kernels.function import loop, when
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.spec import Panel

_LANES = 16
_VECTOR_BYTES = 64


@dataclass(frozen=True, slots=True)
class TilePanels:
    """Multiplies parts of one shape, whose depth is one run, panel by panel.

    Attributes:
        product: The tile registers, and memory for the sums of all blocks of a panel.
        sizes: Blocks of pixels, blocks of channels and steps of depth of one panel.
        copied: The pixels of one row of blocks: (tile, step, pixel, elements of one step).
        decoded: A panel of weights that are stored in few bits; None for those that units read.
    """

    product: TileProduct
    sizes: tuple[int, int, int]
    copied: Buffer
    decoded: DecodedWeights | None = None

    @classmethod
    def of(
        cls,
        shared: Multiplication,
        shape: Part,
        issue: Issue,
        panel: Panel,
        reader: Reader | None = None,
    ) -> TilePanels:
        """Take memory for parts of the shape of this one.

        `reader` reads weights that are stored in few bits.
        """
        tile = shared.tile
        m_size = max(1, panel.rows // (tile.rows * shape.pixels.rows))
        n_size = max(1, panel.columns // (tile.columns * _LANES))
        product = TileProduct.of(shared, shape, issue, m_size * n_size)
        steps = min(product.steps(shape), max(1, panel.depth // product.step_elements))
        if reader is not None:
            depth = whole_eights(steps, product.step_elements, 1)
            steps = depth // product.step_elements
        size = product.layout.rows * steps * product.layout.pixels * product.step_elements
        copied = tile_memory(size, str(shared.x.dtype))
        decoded = None
        if reader is not None:
            vectors = n_size * product.layout.columns
            decoded = DecodedWeights.of(reader, shared.unit, vectors, depth)
        return cls(product, (m_size, n_size, steps), copied, decoded)

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part."""
        for pixels, rows in self.product.pixel_ranges(part, task, threads):
            for channels, count in self.product.channel_ranges(part, task, threads):
                self._region(part, (pixels, channels), (rows, count))

    def _region(
        self, part: Part, ranges: tuple[BlockRange, BlockRange], size: tuple[int, int]
    ) -> None:
        """Blocks of one size: all panels of channels, of pixels, and of depth, in this order."""
        (pixels, channels), (m_size, n_size, _) = ranges, self.sizes
        _over_panels(
            channels,
            n_size,
            lambda n_range: _over_panels(
                pixels, m_size, lambda m_range: self._panel(part, m_range, n_range, size)
            ),
        )

    def _panel(
        self, part: Part, m_range: BlockRange, n_range: BlockRange, size: tuple[int, int]
    ) -> None:
        (rows, channels), (_, n_size, steps) = size, self.sizes
        product, columns = self.product, -(-channels // _LANES)
        total = product.steps(part)
        last = -(-total // steps) - 1

        def tiles(m: Expr) -> Expr:
            return (m_range.start + m) * product.layout.rows

        def vectors(n: Expr) -> Expr:
            return (n_range.start + n) * product.layout.columns

        def row_of_blocks(depth: Expr, m: Expr, read: Part, first_weights: Expr) -> None:
            first_step = T.Bind(depth * steps)
            count = T.Bind(T.min(steps, total - first_step))
            first_tile = T.Bind(tiles(m))
            self._copy(part, first_tile, rows, first_step, count)

            def multiply(n: Expr) -> None:
                when(depth < 1, lambda: product.clear_sums(rows, columns))
                block = m * n_size + n
                when(depth > 0, lambda: product.move_sums("tileloadd64", rows, columns, block))
                with T.serial(count) as step:
                    product.dot(
                        (rows, columns),
                        [self.copied[self._copied_index(row, step, 0)] for row in range(rows)],
                        product.layout.depth_bytes,
                        product.weights(read, vectors(n), first_weights + step),
                    )

            def write(n: Expr) -> None:
                place = (first_tile, T.Bind(vectors(n)))
                product.write(part, *place, rows, channels, m * n_size + n)

            with T.serial(n_range.count + 1) as n:
                when(n < n_range.count, lambda: multiply(n))
                when(T.And(n > 0, depth >= last), lambda: write(n - 1))
                when(
                    n < n_range.count,
                    lambda: product.move_sums("tilestored64", rows, columns, m * n_size + n),
                )

        with T.serial(last + 1) as depth:
            read, first_weights = part, T.Bind(depth * steps)
            if self.decoded is not None:
                first = T.Bind(vectors(0))
                stop = first + n_range.count * product.layout.columns
                read, first_weights = self.decoded.panel(part, first, stop, depth), 0
            loop(0, m_range.count, lambda m: row_of_blocks(depth, m, read, first_weights))

    def _copy(
        self, part: Part, first_tile: Expr, rows: int, first_step: Expr, count: Expr
    ) -> None:
        """Bring the pixels of a row of blocks into the order of tiles, for a panel of depth."""
        product, x = self.product, self.product.shared.x
        elements = product.step_elements
        for row in range(rows):
            place = part.pixels.place(first_tile + row)
            with T.serial(product.layout.pixels) as pixel, T.serial(count) as step:
                read = place.address + part.origin + pixel * part.pixels.step
                read = T.Bind(read + (first_step + step) * elements)
                write = T.Bind(self._copied_index(row, step, pixel))

                def copy(offset: Expr, lanes: Lanes, to: Expr = write, from_: Expr = read) -> None:
                    numbers = x[lanes.index(from_ + offset)]
                    T.buffer_store(self.copied, numbers, [lanes.index(to + offset)])

                for_each_vector(elements, _VECTOR_BYTES // product.element_bytes, copy)

    def _copied_index(self, row: int, step: Expr, pixel: Expr) -> Expr:
        tile = row * self.sizes[2] + step
        return (tile * self.product.layout.pixels + pixel) * self.product.step_elements


def _over_panels(blocks: BlockRange, size: int, body: Callable[[BlockRange], None]) -> None:
    with T.serial((blocks.count + (size - 1)) // size) as index:
        done = T.Bind(index * size)
        count = T.Bind(T.min(size, blocks.count - done))
        body(BlockRange(T.Bind(blocks.start + done), count))
