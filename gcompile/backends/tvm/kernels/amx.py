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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx_tiles import Issue, TileLayout, depth_tile_bytes
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
    def of(
        cls,
        shared: Multiplication,
        shape: Part,
        issue: Issue,
        blocks: int = 1,
        layout: TileLayout | None = None,
    ) -> Self:
        """Take memory for parts of the shape of this one, and configure the tile registers.

        Args:
            shared: What all parts share.
            shape: A part of the shape of all.
            issue: Emits one tile instruction.
            blocks: How many blocks' sums memory must hold.
            layout: What tile registers are configured for already.
        """
        if layout is None:
            layout = layout_of(shared, [shape])
            configure(layout, issue)
        size = layout.rows * layout.pixels * layout.columns * _LANES
        sums = tile_memory(blocks * size, shared.unit.accumulator_dtype)
        return cls(shared, layout, sums, 4 // shared.unit.group, issue)

    def release(self) -> None:
        """Give the tile registers back."""
        self.issue("tilerelease")

    def multiply(self, part: Part, task: Expr = 0, threads: int = 1) -> None:
        """Emit the task's share of a part: a range of pixel blocks or of channel blocks."""
        for pixel_range, rows in self.pixel_ranges(part, task, threads):
            for channel_range, channels in self.channel_ranges(part, task, threads):
                self.region(part, pixel_range, rows, channel_range, channels)

    def pixel_ranges(self, part: Part, task: Expr, threads: int) -> list[tuple[BlockRange, int]]:
        """Blocks of as many tiles of pixels as the layout has, and the one that has fewer."""
        blocks = -(-part.pixels.blocks // self.layout.rows)
        full, rest = divmod(part.pixels.blocks, self.layout.rows)
        is_split = self.shared.tile.split == "m"
        start, stop = share(blocks, task, threads) if is_split else (0, blocks)
        return _full_and_rest(start, stop, full, (self.layout.rows, rest))

    def channel_ranges(self, part: Part, task: Expr, threads: int) -> list[tuple[BlockRange, int]]:
        """Blocks of as many channels as the layout has, and the one that has fewer."""
        width = self.layout.columns * _LANES
        blocks = -(-part.channels // width)
        full, rest = divmod(part.channels, width)
        is_split = self.shared.tile.split == "n"
        start, stop = share(blocks, task, threads) if is_split else (0, blocks)
        return _full_and_rest(start, stop, full, (width, rest))

    def region(
        self,
        part: Part,
        pixel_range: BlockRange,
        rows: int,
        channel_range: BlockRange,
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
            when(index > 0, lambda: self.write(part, *block(index - 1), rows, channels))
            when(index < blocks, lambda: self.move_sums("tilestored64", rows, columns))

    def _multiply_block(
        self, part: Part, first_tile: Expr, first_vector: Expr, rows: int, columns: int
    ) -> None:
        """Pass over the whole depth and leave the sums in the accumulator tiles."""
        places = [part.pixels.place(first_tile + row) for row in range(rows)]
        steps = self.steps(part)
        (kernel_rows, down), (runs, across) = part.depth.rows, part.depth.columns
        self.clear_sums(rows, columns)
        with T.serial(kernel_rows) as y, T.serial(runs) as run, T.serial(steps) as step:
            offset = T.Bind(y * down + run * across + step * self.step_elements)
            self.dot(
                (rows, columns),
                [self.shared.x[place.address + part.origin + offset] for place in places],
                part.pixels.step * self.element_bytes,
                self.weights(part, first_vector, T.Bind((y * runs + run) * steps + step)),
            )

    @property
    def step_elements(self) -> int:
        """Elements of depth of one tile."""
        return self.layout.depth_bytes // self.element_bytes

    def steps(self, part: Part) -> int:
        """Tiles that a run of depth fills."""
        return part.depth.run // self.step_elements

    def weights(self, part: Part, first_vector: Expr, step: Expr) -> Callable[[int], Expr]:
        """A function from a column of tiles to the first element of its weights at a step."""
        shape = [int(extent) for extent in part.weights.shape]
        flat = view(part.weights, (math.prod(shape),))
        first = (part.first_block + first_vector) * (shape[1] * shape[2])
        offset = step * (self.step_elements * _LANES)
        return lambda column: flat[first + column * (shape[1] * shape[2]) + offset]

    def dot(
        self,
        size: tuple[int, int],
        pixels: list[Expr],
        pixel_stride: int,
        weights: Callable[[int], Expr],
    ) -> None:
        """Multiply one step of depth of a block of tiles: the rows' pixels with the weights."""
        layout, (rows, columns) = self.layout, size

        def load_pixels(row: int) -> None:
            pointer = T.address_of(pixels[row])
            self.issue("tileloadd64", layout.pixel_tile(row), pointer, T.int64(pixel_stride))

        def load_weights(column: int) -> None:
            pointer = T.address_of(weights(column))
            self.issue("tileloadd64", layout.weight_tile(column), pointer, T.int64(64))

        def multiply(row: int, column: int) -> None:
            operands = layout.pixel_tile(row), layout.weight_tile(column)
            name = "tdpbusd" if self.element_bytes == 1 else "tdpbf16ps"
            self.issue(name, layout.sum_tile(row, column), *operands)

        if layout.holds_weights:
            for column in range(columns):
                load_weights(column)
            for row in range(rows):
                load_pixels(row)
                for column in range(columns):
                    multiply(row, column)
        else:
            for row in range(rows):
                load_pixels(row)
            for column in range(columns):
                load_weights(column)
                for row in range(rows):
                    multiply(row, column)

    def clear_sums(self, rows: int, columns: int) -> None:
        """Set the accumulator tiles of a block to zero."""
        for row in range(rows):
            for column in range(columns):
                self.issue("tilezero", self.layout.sum_tile(row, column))

    def move_sums(self, instruction: str, rows: int, columns: int, block: Expr = 0) -> None:
        """Load the accumulator tiles from memory, or store them."""
        for row in range(rows):
            for column in range(columns):
                place = self._sum_index(block, row, 0) + column * _LANES
                pointer = self.sums.access_ptr("rw", offset=place)
                stride = T.int64(self.layout.columns * _LANES * 4)
                self.issue(instruction, self.layout.sum_tile(row, column), pointer, stride)

    def _sum_index(self, block: Expr, tile: int, pixel: Expr) -> Expr:
        line = (block * self.layout.rows + tile) * self.layout.pixels + pixel
        return line * (self.layout.columns * _LANES)

    def write(
        self,
        part: Part,
        first_tile: Expr,
        first_vector: Expr,
        rows: int,
        channels: int,
        block: Expr = 0,
    ) -> None:
        """Evaluate the expression of a block whose sums are in memory."""
        for tile in range(rows):
            place = part.pixels.place(first_tile + tile)
            with T.serial(self.layout.pixels) as pixel:
                start = self._sum_index(block, tile, pixel)
                write = functools.partial(self._write_pixel, part, start, channels)
                part.pixels.at(place, pixel, first_vector * _LANES, write)

    def _write_pixel(self, part: Part, start: Expr, channels: int, position: Position) -> None:
        def total(offset: int, lanes: Lanes) -> Expr:
            return self.sums[lanes.index(start + offset)]

        self.shared.write(part, position, (channels, _LANES), total)


def layout_of(shared: Multiplication, shapes: Sequence[Part]) -> TileLayout:
    """The tile registers that multiply parts of all these shapes, in equal blocks of pixels."""
    run = math.gcd(*(shape.depth.run for shape in shapes))
    return TileLayout(
        rows=min(shared.tile.rows, max(shape.pixels.blocks for shape in shapes)),
        columns=min(shared.tile.columns, max(-(-shape.channels // _LANES) for shape in shapes)),
        pixels=shapes[0].pixels.rows,
        depth_bytes=depth_tile_bytes(run * 4 // shared.unit.group),
    )


def configure(layout: TileLayout, issue: Issue) -> None:
    """Give the tile registers their shapes."""
    configuration = tile_memory(16, "int32")
    for index, word in enumerate(layout.configuration()):
        T.buffer_store(configuration, T.int32(word), [index])
    issue("ldtilecfg", configuration.access_ptr("r"))


def tile_memory(size: int, dtype: str) -> Buffer:
    """Memory that tile instructions point into.

    Of scope "local", which memory planning neither shrinks to the elements it sees accessed nor
    shares with values of another type.
    """
    return T.alloc_buffer((size,), dtype, layout=None, scope="local")


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Consecutive blocks; the count may be zero."""

    start: Expr
    count: Expr


def _full_and_rest(
    start: Expr, stop: Expr, full: int, sizes: tuple[int, int]
) -> list[tuple[BlockRange, int]]:
    """Cut a range of blocks into the full ones and the last, smaller one, with their sizes."""
    full_size, rest = sizes
    cut: list[tuple[BlockRange, int]] = []
    if full:
        cut.append((BlockRange(start, T.max(T.min(stop, full) - start, 0)), full_size))
    if rest:
        cut.append((BlockRange(full, T.Select(stop > full, 1, 0)), rest))
    return cut
