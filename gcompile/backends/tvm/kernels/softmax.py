"""Softmax and its logarithm over the channels of every pixel, in one pass over memory.

    softmax(x)_i = e^(x_i - max x) / Σ_j e^(x_j - max x)

The operand is an expression of its own, so that the scale and mask of attention scores, or the
conversion of stored integers, cost no pass. A row is read once; its maximum, exponentials and
sum are found in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels import vector_math
from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import Code, Tensors, kernel_code, tasks
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.lanes import Lanes, bind
from gcompile.backends.tvm.kernels.rows import Row, add, operand_of_row, pixels_of_task
from gcompile.backends.tvm.kernels.spec import Expression, Kernel, Load


@dataclass(frozen=True, slots=True)
class SoftmaxKernel(Kernel):
    """Softmax of `operand` over the channels of each pixel, then the expression.

    An (M, K) matrix is the image (1, 1, M, K). Rows of nothing but -infinity become NaN.

    Attributes:
        operand: What softmax is taken of, from the sources and channel vectors.
        is_log: The logarithm of softmax instead, x - max - log Σ.
    """

    operand: Expression = Load(0)
    is_log: bool = False


def emit(kernel: SoftmaxKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: SoftmaxKernel) -> Code:
    """Emit softmax. The function's arguments are the channel vectors, the sources, the output."""

    def body(_: list[Buffer], tensors: Tensors) -> None:
        tasks(kernel.threads, _Softmax(kernel, tensors).task)

    return kernel_code(kernel, [], body)


Vector = Callable[[Expr], Expr]
"""The vector at an offset of a row."""

Pixel = Callable[[Position, Vector], None]
"""What is done to one pixel, given its operand."""


@dataclass(frozen=True, slots=True)
class _Softmax:
    """One kernel while it is being emitted."""

    kernel: SoftmaxKernel
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        row = Row.of(image.channels, kernel.vector_bits)
        operand = operand_of_row(kernel, kernel.operand, self.tensors, row)
        pixel = self._logarithms(row) if kernel.is_log else self._shares(row)
        pixels_of_task(image, task, kernel.threads, lambda place: pixel(place, operand(place)))

    def _shares(self, row: Row) -> Pixel:
        powers = row.memory()

        def pixel(place: Position, operand: Vector) -> None:
            highest = row.lanes.splat(row.fold(operand, float("-inf"), T.max))

            def power(offset: Expr) -> Expr:
                value = vector_math.exp_below_zero(operand(offset) - highest, row.lanes)
                T.buffer_store(powers, value, [row.lanes.index(offset)])
                return value

            factor = row.lanes.splat(bind(T.float32(1.0) / row.fold(power, 0.0, add)))
            self._write(row, place, lambda offset: powers[row.lanes.index(offset)] * factor)

        return pixel

    def _logarithms(self, row: Row) -> Pixel:
        def pixel(place: Position, operand: Vector) -> None:
            highest = row.lanes.splat(row.fold(operand, float("-inf"), T.max))

            def power(offset: Expr) -> Expr:
                return vector_math.exp_below_zero(operand(offset) - highest, row.lanes)

            total = row.lanes.splat(vector_math.log(row.fold(power, 0.0, add), Lanes(1)))
            self._write(row, place, lambda offset: (operand(offset) - highest) - total)

        return pixel

    def _write(self, row: Row, place: Position, value: Vector) -> None:
        def vector(offset: Expr) -> None:
            write(self.kernel, self.tensors, place.moved(offset), row.lanes, value(offset))

        row.for_each(vector)
