"""Products on AMX: two-dimensional tile registers of 16 rows by 64 bytes, multiplied as a whole.

Tiles of activations are loaded straight from the image: consecutive pixels are a fixed distance
apart, which is the row stride of the load. Depth is cut into tiles that divide a run of contiguous
elements, so nothing is padded and there are no remainders. While the tile unit works on one
block, the vector unit evaluates the expression of the block before: sums go through a small
scratch that stays in the first-level cache.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx_tiles import Issue, TileLayout, depth_tile_bytes
from gcompile.backends.tvm.kernels.expression import write_channels
from gcompile.backends.tvm.kernels.function import Argument, prim_func, share, view, when
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.packing import depth_of
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.spec import ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.ir.tile import Tile

_LANES = 16
"""Output channels of one tile."""

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def amx_permission(name: str) -> PrimFunc:
    """A function that asks Linux to let this process use AMX, to be called once after loading.

    It writes the system call's return value to its one int32 element: 0 means granted. Threads
    started later inherit the permission.
    """

    def body(buffers: list[Buffer]) -> None:
        numbers = (_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
        result = T.call_extern("int64", "syscall", *(T.int64(number) for number in numbers))
        T.buffer_store(buffers[0], T.Cast("int32", result), [0])

    return prim_func(name, [Argument("result", (1,), "int32")], body)


def supports(kernel: ProductKernel) -> str | None:
    """Why AMX cannot carry a product, or None if it can."""
    unit = unit_named(kernel.tile.unit)
    if kernel.x.dtype != unit.x_dtype:
        return f"{unit.name} reads {unit.x_dtype}, the input is {kernel.x.dtype}"
    if depth_of(kernel).run % unit.group:
        return "a run of the input is not a multiple of 4 bytes"
    return refuses_tile(kernel.tile)


def refuses_tile(tile: Tile) -> str | None:
    """Why AMX has no room for a tile, or None if it has."""
    unit = unit_named(tile.unit)
    needed = unit.registers_needed(tile.rows, tile.columns)
    if needed > unit.registers:
        return f"a block needs {needed} tile registers, there are {unit.registers}"
    return None


@dataclass(frozen=True, slots=True)
class TileProduct:
    """Multiplies parts of one shape on tile registers.

    Attributes:
        sums: Memory for the sums of one block.
        element_bytes: Size of one element of the operands.
    """

    shared: Multiplication
    layout: TileLayout
    sums: Buffer
    element_bytes: int
    issue: Issue

    @classmethod
    def of(cls, shared: Multiplication, shape: Part, issue: Issue) -> TileProduct:
        """Take memory for parts of the shape of this one, and configure the tile registers."""
        element_bytes = 4 // shared.unit.group
        layout = TileLayout(
            rows=min(shared.tile.rows, shape.pixels.blocks),
            columns=min(shared.tile.columns, -(-shape.channels // _LANES)),
            pixels=shape.pixels.rows,
            depth_bytes=depth_tile_bytes(shape.depth.run * element_bytes),
        )
        configuration = _memory(16, "int32")
        for index, word in enumerate(layout.configuration()):
            T.buffer_store(configuration, T.int32(word), [index])
        issue("ldtilecfg", configuration.access_ptr("r"))
        size = layout.rows * layout.pixels * layout.columns * _LANES
        sums = _memory(size, shared.unit.accumulator_dtype)
        return cls(shared, layout, sums, element_bytes, issue)

    def release(self) -> None:
        """Give the tile registers back."""
        self.issue("tilerelease")

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part: a range of pixel blocks or of channel blocks."""
        for pixel_range, rows in self._pixel_ranges(part, task, threads):
            for channel_range, channels in self._channel_ranges(part, task, threads):
                self._region(part, pixel_range, rows, channel_range, channels)

    def _pixel_ranges(self, part: Part, task: Expr, threads: int) -> list[tuple[_Range, int]]:
        """Blocks of as many tiles of pixels as the layout has, and the one that has fewer."""
        blocks = -(-part.pixels.blocks // self.layout.rows)
        full, rest = divmod(part.pixels.blocks, self.layout.rows)
        is_split = self.shared.tile.split == "m"
        start, stop = share(blocks, task, threads) if is_split else (0, blocks)
        return _full_and_rest(start, stop, full, (self.layout.rows, rest))

    def _channel_ranges(self, part: Part, task: Expr, threads: int) -> list[tuple[_Range, int]]:
        """Blocks of as many channels as the layout has, and the one that has fewer."""
        width = self.layout.columns * _LANES
        blocks = -(-part.channels // width)
        full, rest = divmod(part.channels, width)
        is_split = self.shared.tile.split == "n"
        start, stop = share(blocks, task, threads) if is_split else (0, blocks)
        return _full_and_rest(start, stop, full, (width, rest))

    def _region(
        self,
        part: Part,
        pixel_range: _Range,
        rows: int,
        channel_range: _Range,
        channels: int,
    ) -> None:
        """Compute blocks of one size; each is written while the next one is multiplied."""
        m_count, n_count = pixel_range.count, channel_range.count
        blocks = m_count * n_count
        columns = -(-channels // _LANES)

        def block(index: Expr) -> tuple[Expr, Expr]:
            if self.shared.tile.outer == "n":
                m, n = index % m_count, index // m_count
            else:
                m, n = index // n_count, index % n_count
            first_tile = T.Bind((pixel_range.start + m) * self.layout.rows)
            return first_tile, T.Bind((channel_range.start + n) * self.layout.columns)

        with T.serial(blocks + 1) as index:
            when(index < blocks, lambda: self._multiply_block(part, *block(index), rows, columns))
            when(index > 0, lambda: self._write(part, *block(index - 1), rows, channels))
            when(index < blocks, lambda: self._store_sums(rows, columns))

    def _multiply_block(
        self, part: Part, first_tile: Expr, first_vector: Expr, rows: int, columns: int
    ) -> None:
        """Pass over the whole depth and leave the sums in the accumulator tiles."""
        layout, size = self.layout, self.element_bytes
        places = [part.pixels.place(first_tile + row) for row in range(rows)]
        steps = part.depth.run * size // layout.depth_bytes
        (kernel_rows, down), (runs, across) = part.depth.rows, part.depth.columns
        weights = view(part.weights, (math.prod(int(extent) for extent in part.weights.shape),))
        tile_elements = layout.depth_bytes * _LANES // size
        vector_elements = kernel_rows * runs * steps * tile_elements

        def load_pixels(row: int, offset: Expr) -> None:
            pointer = T.address_of(self.shared.x[places[row].address + part.origin + offset])
            stride = T.int64(part.pixels.step * size)
            self.issue("tileloadd64", layout.pixel_tile(row), pointer, stride)

        def load_weights(column: int, offset: Expr) -> None:
            start = (part.first_block + first_vector + column) * vector_elements
            pointer = T.address_of(weights[start + offset])
            self.issue("tileloadd64", layout.weight_tile(column), pointer, T.int64(64))

        def dot(row: int, column: int) -> None:
            tiles = (
                layout.sum_tile(row, column),
                layout.pixel_tile(row),
                layout.weight_tile(column),
            )
            self.issue("tdpbusd" if size == 1 else "tdpbf16ps", *tiles)

        for row in range(rows):
            for column in range(columns):
                self.issue("tilezero", layout.sum_tile(row, column))
        with T.serial(kernel_rows) as y, T.serial(runs) as run, T.serial(steps) as step:
            pixel_offset = T.Bind(y * down + run * across + step * (layout.depth_bytes // size))
            weight_offset = T.Bind(((y * runs + run) * steps + step) * tile_elements)
            if layout.holds_weights:
                for column in range(columns):
                    load_weights(column, weight_offset)
                for row in range(rows):
                    load_pixels(row, pixel_offset)
                    for column in range(columns):
                        dot(row, column)
            else:
                for row in range(rows):
                    load_pixels(row, pixel_offset)
                for column in range(columns):
                    load_weights(column, weight_offset)
                    for row in range(rows):
                        dot(row, column)

    def _store_sums(self, rows: int, columns: int) -> None:
        for row in range(rows):
            for column in range(columns):
                pointer = self.sums.access_ptr(
                    "w", offset=self._sum_index(row, 0) + column * _LANES
                )
                stride = T.int64(self.layout.columns * _LANES * 4)
                self.issue("tilestored64", self.layout.sum_tile(row, column), pointer, stride)

    def _sum_index(self, tile: int, pixel: Expr) -> Expr:
        return (tile * self.layout.pixels + pixel) * (self.layout.columns * _LANES)

    def _write(
        self, part: Part, first_tile: Expr, first_vector: Expr, rows: int, channels: int
    ) -> None:
        """Evaluate the expression of a block whose sums are in the scratch."""
        for tile in range(rows):
            place = part.pixels.place(first_tile + tile)
            with T.serial(self.layout.pixels) as pixel:
                start = self._sum_index(tile, pixel)
                write = functools.partial(self._write_pixel, part, start, channels)
                part.pixels.at(place, pixel, first_vector * _LANES, write)

    def _write_pixel(self, part: Part, start: Expr, channels: int, position: Position) -> None:
        def total(offset: int, lanes: Lanes) -> Expr:
            return self.sums[lanes.index(start + offset)]

        kernel, tensors = self.shared.kernel, self.shared.tensors
        write_channels(kernel, tensors, part.placed(position), (channels, _LANES), total)


def _memory(size: int, dtype: str) -> Buffer:
    """Memory that tile instructions point into.

    Of scope "local", which memory planning neither shrinks to the elements it sees accessed nor
    shares with values of another type.
    """
    return T.alloc_buffer((size,), dtype, layout=None, scope="local")


@dataclass(frozen=True, slots=True)
class _Range:
    """Consecutive blocks; the count may be zero."""

    start: Expr
    count: Expr


def _full_and_rest(
    start: Expr, stop: Expr, full: int, sizes: tuple[int, int]
) -> list[tuple[_Range, int]]:
    """Cut a range of blocks into the full ones and the last, smaller one, with their sizes."""
    full_size, rest = sizes
    cut: list[tuple[_Range, int]] = []
    if full:
        cut.append((_Range(start, T.max(T.min(stop, full) - start, 0)), full_size))
    if rest:
        cut.append((_Range(full, T.Select(stop > full, 1, 0)), rest))
    return cut
