"""Max and average pooling, local or global.

Max pooling reads the halo, which holds the lowest value, so it checks no bounds. Average pooling
counts only what it may: where windows leave the image, each pixel is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
    view,
    when,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo, to_real
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import PoolKernel, Source
from gcompile.backends.tvm.kernels.window import Window, rows_of_task

_FLOAT_BITS = 32
_REGISTERS_AT_ONCE = 4
"""Vectors of channels pooled side by side: additions wait for each other within one of them."""

_UNROLLED = 16
"""Windows of up to so many pixels are written out; larger ones are loops."""


def emit(kernel: PoolKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: PoolKernel) -> Code:
    """Emit a pool. The function's arguments are x, the channel vectors, the sources, the output.

    Raises:
        CompileError: A max pool whose windows reach beyond the halo of x.
    """
    window = Window(kernel.contraction, kernel.x)
    if kernel.function == "max":
        window.check_halo()

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], kernel.x.shape)
        tasks(kernel.threads, _Pool(kernel, window, x, tensors).task)

    return kernel_code(kernel, [Argument.of_image("x", kernel.x)], body)


@dataclass(frozen=True, slots=True)
class _Pool:
    """One kernel while it is being emitted."""

    kernel: PoolKernel
    window: Window
    x: Buffer
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, sizes = self.kernel, self.kernel.contraction
        image = kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        widest = kernel.vector_bits // _FLOAT_BITS * _REGISTERS_AT_ONCE
        if sizes.batch * sizes.out_h >= kernel.threads:
            rows_of_task(
                *(sizes.batch, sizes.out_h, task, kernel.threads),
                lambda batch, y: self._row(batch, y, 0, sizes.out_c, widest),
            )
        else:
            self._channels_of_task(task, widest)

    def _channels_of_task(self, task: Expr, widest: int) -> None:
        """Few rows, as in global pooling: tasks share the channels, whole vectors each."""
        sizes = self.kernel.contraction
        blocks, rest = divmod(sizes.out_c, widest)

        def rows(first: Expr, channels: int) -> None:
            with T.serial(sizes.batch) as batch, T.serial(sizes.out_h) as y:
                self._row(batch, y, first, channels, widest)

        if blocks:
            start, stop = share(blocks, task, self.kernel.threads)
            loop(start, stop, lambda block: rows(block * widest, widest))
        if rest:
            when(task >= self.kernel.threads - 1, lambda: rows(blocks * widest, rest))

    def _row(self, batch: Expr, y: Expr, first: Expr, channels: int, widest: int) -> None:
        with T.serial(self.kernel.contraction.out_w) as x:

            def vector(offset: Expr, lanes: Lanes) -> None:
                position = Position(batch, y, x, first + offset)
                pooled = self._pooled(position, lanes)
                write(self.kernel, self.tensors, position, lanes, pooled)

            for_each_vector(channels, widest, vector)

    def _pooled(self, place: Position, lanes: Lanes) -> Expr:
        return self._maximum(place, lanes) if self._is_max else self._average(place, lanes)

    def _maximum(self, place: Position, lanes: Lanes) -> Expr:
        """The largest stored number, then what it means: the order is the same."""
        dtype = _accumulator_dtype(self.kernel)
        best = Register.of(dtype, lanes)
        best.set(lanes.splat(_lowest(dtype), dtype))

        def take(row: Expr, column: Expr) -> None:
            best.set(T.max(best.value, self._load(place, row, column, lanes)))

        self._for_each_pixel(place, take)
        if self._is_float:
            return best.value
        source = Source(self.kernel.x, self.kernel.x_scale, self.kernel.x_zero_point)
        return to_real(source, best.value, lanes)

    def _average(self, place: Position, lanes: Lanes) -> Expr:
        dtype = _accumulator_dtype(self.kernel)
        total = Register.of(dtype, lanes)
        total.set(lanes.splat(0, dtype) if dtype == "int32" else lanes.splat(0.0))
        image = self.kernel.x

        def take(row: Expr, column: Expr) -> None:
            total.set(total.value + self._load(place, row, column, lanes))

        def take_inside(row: Expr, column: Expr) -> None:
            tests = (
                _inside(row, image.height, self._leaves(0)),
                _inside(column, image.width, self._leaves(1)),
            )
            when(tests[0], lambda: when(tests[1], lambda: take(row, column)))

        self._for_each_pixel(place, take_inside)
        return self._mean(place, total.value, lanes)

    def _mean(self, place: Position, total: Expr, lanes: Lanes) -> Expr:
        """Divide by the number of pixels; padding that counts is the real number zero."""
        kernel = self.kernel
        counted = self._count(place, kernel.count_include_pad)
        if kernel.x_zero_point:
            inside = self._count(place, False)
            zeros = inside * kernel.x_zero_point
            total = total - lanes.splat(zeros, "int32")
        real = total if self._is_float else lanes.cast("float32", total)
        if isinstance(counted, int):
            return real * lanes.splat(kernel.x_scale / counted)
        factor = T.float32(kernel.x_scale) / T.Cast("float32", counted)
        return real * lanes.splat(bind(factor))

    def _count(self, place: Position, with_padding: bool) -> Expr | int:
        sizes, image = self.kernel.contraction, self.kernel.x
        pads = sizes.pads if with_padding else (0, 0, 0, 0)
        rows = _count_inside(
            self.window.row(place.y, 0),
            (-pads[0], image.height + pads[2]),
            (sizes.kernel_h, sizes.dilation_h),
            self._leaves(0),
        )
        columns = _count_inside(
            self.window.column(place.x, 0),
            (-pads[1], image.width + pads[3]),
            (sizes.kernel_w, sizes.dilation_w),
            self._leaves(1),
        )
        return rows * columns

    def _for_each_pixel(self, place: Position, take: Callable[[Expr, Expr], None]) -> None:
        """Call `take` with the image row and column of each pixel of the window."""
        sizes = self.kernel.contraction

        def at(row_step: Expr, column_step: Expr) -> None:
            take(self.window.row(place.y, row_step), self.window.column(place.x, column_step))

        if sizes.kernel_h * sizes.kernel_w <= _UNROLLED:
            for row_step in range(sizes.kernel_h):
                for column_step in range(sizes.kernel_w):
                    at(row_step, column_step)
        else:
            with T.serial(sizes.kernel_h) as row_step, T.serial(sizes.kernel_w) as column_step:
                at(row_step, column_step)

    def _load(self, place: Position, row: Expr, column: Expr, lanes: Lanes) -> Expr:
        """Numbers of the accumulator's type: floats as float32, integers as they are stored."""
        image = self.kernel.x
        top, left, _, _ = image.halo
        stored = self.x[place.batch, top + row, left + column, lanes.index(place.channel)]
        if self._is_float:
            return to_real(Source(image), stored, lanes)
        dtype = _accumulator_dtype(self.kernel)
        return stored if dtype == image.dtype else lanes.cast(dtype, stored)

    def _leaves(self, axis: int) -> bool:
        """Whether windows leave the image along rows (0) or columns (1)."""
        reach = self.window.reach
        return reach[axis] > 0 or reach[axis + 2] > 0

    @property
    def _is_float(self) -> bool:
        return "float" in self.kernel.x.dtype

    @property
    def _is_max(self) -> bool:
        return self.kernel.function == "max"


def _accumulator_dtype(kernel: PoolKernel) -> str:
    """Integers are compared as stored and added as int32; floats become float32."""
    if "float" in kernel.x.dtype:
        return "float32"
    return kernel.x.dtype if kernel.function == "max" else "int32"


def _lowest(dtype: str) -> float | int:
    return float("-inf") if dtype == "float32" else int(np.iinfo(dtype).min)


def _inside(index: Expr, size: int, may_leave: bool) -> Expr | bool:
    return T.And(index >= 0, index < size) if may_leave else True


def _count_inside(
    first: Expr, bounds: tuple[int, int], steps: tuple[int, int], may_leave: bool
) -> Expr | int:
    """How many of first, first + dilation, … lie in [low, high)."""
    (low, high), (count, dilation) = bounds, steps
    if not may_leave:
        return count
    below = T.max(0, (low - first + dilation - 1) // dilation)
    reaching = T.min(count, (high - first + dilation - 1) // dilation)
    return reaching - below
