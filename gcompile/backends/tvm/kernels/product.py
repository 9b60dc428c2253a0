"""Convolutions and matrix products on vector units, as one implicit matrix product.

A block of `rows` pixels by `columns` vectors of output channels stays in registers while the whole
depth passes by: each step loads the weights of the columns and broadcasts one group of each pixel
straight from the image. In NHWC order the kernel columns and channels of a pixel are contiguous,
so depth is one run per kernel row, and neither an im2col copy nor a bounds check is needed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import amx
from gcompile.backends.tvm.kernels.dot import Dot, dot_of
from gcompile.backends.tvm.kernels.expression import size, write_channels
from gcompile.backends.tvm.kernels.function import (
    Code,
    Tensors,
    kernel_code,
    llvm_functions,
    loop,
    scratch,
    share,
    tasks,
    view,
    when,
)
from gcompile.backends.tvm.kernels.image_access import fill_halo
from gcompile.backends.tvm.kernels.lanes import Lanes, Register
from gcompile.backends.tvm.kernels.packing import (
    depth_run,
    depth_runs,
    leading_arguments,
    weight_shape,
)
from gcompile.backends.tvm.kernels.pixels import Pixels, Place
from gcompile.backends.tvm.kernels.spec import ProductKernel
from gcompile.backends.tvm.kernels.units import Unit, unit_named
from gcompile.errors import CompileError

_UNROLL = 2
"""Steps of depth per loop iteration. More would push accumulators out of sixteen registers."""

_LONG_EXPRESSION = 12
"""Nodes from which an expression is emitted once in a loop over pixels, to bound code size."""


def emit(kernel: ProductKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: ProductKernel) -> Code:
    """Emit a product for the unit its tile names.

    The function's arguments are x, the packed weights (see `packing`), the channel vectors, the
    sources and the output. The tile's own number of threads is used.

    Raises:
        CompileError: The unit cannot carry this product.
        UnknownNameError: There is no such unit.
    """
    unit = unit_named(kernel.tile.unit)
    _check(kernel, unit)
    if unit.is_tiled:
        return amx.code(kernel)

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x, weights = view(buffers[0], (kernel.x.size,)), buffers[1]
        _VectorProduct.of(kernel, unit, x, weights, tensors).emit()

    return kernel_code(kernel, leading_arguments(kernel), body)


def _check(kernel: ProductKernel, unit: Unit) -> None:
    contraction = kernel.contraction
    if contraction.groups != 1:
        raise CompileError("A grouped contraction is not one product; split it into its groups.")
    if kernel.x.dtype != unit.x_dtype:
        raise CompileError(
            f"Unit {unit.name!r} reads {unit.x_dtype}, but the input is {kernel.x.dtype}; "
            "choose a unit of the region's precision."
        )
    if depth_run(kernel) % unit.group:
        raise CompileError(
            f"Unit {unit.name!r} reads depth in groups of {unit.group}, but a run of the input "
            f"has {depth_run(kernel)} elements; store the input with padded channels."
        )


Row = list[Register]
Block = list[Row]


@dataclass(frozen=True, slots=True)
class _VectorProduct:
    """One kernel while it is being emitted."""

    kernel: ProductKernel
    unit: Unit
    pixels: Pixels
    dot: Dot
    x: Buffer
    weights: Buffer
    tensors: Tensors

    @classmethod
    def of(
        cls,
        kernel: ProductKernel,
        unit: Unit,
        x: Buffer,
        weights: Buffer,
        tensors: Tensors,
    ) -> _VectorProduct:
        pixels = Pixels.of(kernel, kernel.tile.rows)
        return cls(kernel, unit, pixels, dot_of(unit), x, weights, tensors)

    def emit(self) -> None:
        with llvm_functions(self.dot.llvm):
            tasks(self.kernel.tile.threads, self._task)

    @property
    def _lanes(self) -> Lanes:
        return Lanes(self.unit.lanes)

    @property
    def _columns(self) -> int:
        """Vectors of channels in a block."""
        vectors = weight_shape(self.kernel)[0]
        return min(self.kernel.tile.columns, vectors)

    def _task(self, task: Expr) -> None:
        """One thread's share: a range of pixel blocks or of channel blocks."""
        tile, image = self.kernel.tile, self.kernel.output.image
        fill_halo(image, self.tensors.output, self.unit.vector_bits, task, tile.threads)
        accumulators = [
            [Register.of(self.unit.accumulator_dtype, self._lanes) for _ in range(self._columns)]
            for _ in range(self.pixels.rows)
        ]
        channel_blocks = -(-self.kernel.contraction.out_c // self._block_channels)
        m_range, n_range = (0, self.pixels.blocks), (0, channel_blocks)
        if tile.split == "m":
            m_range = share(self.pixels.blocks, task, tile.threads)
        else:
            n_range = share(channel_blocks, task, tile.threads)

        def over_m(body: Callable[[Expr], None]) -> None:
            loop(*m_range, body)

        def over_n(body: Callable[[Expr, int], None]) -> None:
            self._for_channel_blocks(*n_range, body)

        def block(m: Expr, n: Expr, channels: int) -> None:
            self._block(accumulators, m, n, channels)

        if tile.outer == "n":
            over_n(lambda n, channels: over_m(lambda m: block(m, n, channels)))
        else:
            over_m(lambda m: over_n(lambda n, channels: block(m, n, channels)))

    @property
    def _block_channels(self) -> int:
        return self._columns * self.unit.lanes

    def _for_channel_blocks(
        self, start: Expr, stop: Expr, body: Callable[[Expr, int], None]
    ) -> None:
        """Call `body(block, channels)`; the last block may have fewer channels than the rest."""
        full, rest = divmod(self.kernel.contraction.out_c, self._block_channels)
        if full:
            loop(start, T.min(stop, full), lambda n: body(n, self._block_channels))
        if rest:
            when(stop > full, lambda: body(full, rest))

    def _block(self, accumulators: Block, m: Expr, n: Expr, channels: int) -> None:
        """Compute one block of pixels and channels, and write it."""
        place = self.pixels.place(m)
        columns = -(-channels // self.unit.lanes)
        first_vector = n * self._columns
        block = [row[:columns] for row in accumulators]
        for registers in block:
            for column, register in enumerate(registers):
                register.set(self.dot.start(self.weights, first_vector + column))
        self._accumulate(block, place, first_vector)
        self._write(block, place, first_vector, channels)

    def _accumulate(self, accumulators: Block, place: Place, first_vector: Expr) -> None:
        """Pass over the whole depth, kernel row by kernel row."""
        steps = depth_run(self.kernel) // self.unit.group
        (rows, down), (runs, across) = depth_runs(self.kernel)
        unrolled = steps // _UNROLL

        def one_step(address: Expr, step: Expr, offset: int) -> None:
            group = address + offset * self.unit.group
            self._step(accumulators, group, first_vector, step + offset)

        with T.serial(rows) as row, T.serial(runs) as run:
            address = T.Bind(place.address + row * down + run * across)
            first = T.Bind((row * runs + run) * steps)
            with T.serial(unrolled) as part:
                done = part * _UNROLL
                for offset in range(_UNROLL):
                    one_step(address + done * self.unit.group, first + done, offset)
            for offset in range(unrolled * _UNROLL, steps):
                one_step(address, first, offset)

    def _step(self, accumulators: Block, address: Expr, first_vector: Expr, step: Expr) -> None:
        """Multiply one group of every pixel with the weights of every channel."""
        weights = [
            self.dot.weights(self.weights, first_vector + column, step)
            for column in range(len(accumulators[0]))
        ]
        for row, registers in enumerate(accumulators):
            pixel = self.dot.pixel(self.x, address + row * self.pixels.step)
            for register, operand in zip(registers, weights, strict=True):
                register.set(self.dot.add(register.value, pixel, operand))

    def _write(self, accumulators: Block, place: Place, first_vector: Expr, channels: int) -> None:
        """Evaluate the expression on every accumulator, and store it."""
        lanes = self.unit.lanes

        def write_row(row: Expr, accumulator: Callable[[int, Lanes], Expr]) -> None:
            self.pixels.at(
                place,
                row,
                first_vector * lanes,
                lambda position: write_channels(
                    self.kernel, self.tensors, position, (channels, lanes), accumulator
                ),
            )

        if size(self.kernel.expression) < _LONG_EXPRESSION:
            for row, registers in enumerate(accumulators):
                write_row(row, functools.partial(_part_of, registers))
            return
        # A register cannot be indexed by a loop variable: put the accumulators into memory.
        width = len(accumulators[0]) * lanes
        spilled = scratch(len(accumulators) * width, self.unit.accumulator_dtype)
        for index, register in enumerate(itertools.chain.from_iterable(accumulators)):
            T.buffer_store(spilled, register.value, [self._lanes.index(index * lanes)])
        with T.serial(self.pixels.rows) as row:
            write_row(row, lambda offset, part: spilled[part.index(row * width + offset)])


def _part_of(registers: Row, offset: int, lanes: Lanes) -> Expr:
    column, lane = divmod(offset, registers[0].lanes.count)
    return registers[column].part(lane, lanes)
