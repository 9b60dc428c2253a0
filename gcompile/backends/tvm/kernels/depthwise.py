"""Depthwise convolutions: each channel is filtered on its own.

A strip of neighbouring outputs stays in registers, channels along the vector. Each input vector of
the strip's rows is loaded once and used by every window that covers it.

Integers are multiplied as float32: their products and sums are exact below 2^24, and the fused
multiply-add of floats is as fast as any integer instruction for this shape of work.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import size, write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo, to_real
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import DepthwiseKernel, Source
from gcompile.backends.tvm.kernels.window import Window, rows_of_task
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_WIDEST_STRIP = {512: 14, 256: 8, 128: 8}
"""Outputs held in registers, by vector width: AVX-512 has 32 registers, the others 16 or more."""

_MOST_CODE = 800
"""Expression nodes and multiply-adds of one strip, beyond which it is made narrower."""


def emit(kernel: DepthwiseKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: DepthwiseKernel) -> Code:
    """Emit a depthwise convolution.

    The function's arguments are x, the weights (kernel_h · kernel_w, channels) in float32, the
    channel vectors, the sources and the output.

    Raises:
        CompileError: The contraction is not depthwise, or the halo of x is too narrow.
    """
    contraction = kernel.contraction
    if not contraction.is_depthwise and contraction.in_c != 1:
        raise CompileError("A depthwise kernel needs one input channel per output channel.")
    Window(contraction, kernel.x).check_halo()
    weight_shape = (contraction.kernel_h * contraction.kernel_w, contraction.out_c)
    leading = [
        Argument.of_image("x", kernel.x),
        Argument("weights", weight_shape, "float32"),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], kernel.x.shape)
        tasks(kernel.threads, _Depthwise(kernel, x, buffers[1], tensors).task)

    return kernel_code(kernel, leading, body)


@dataclass(frozen=True, slots=True)
class _Depthwise:
    """One kernel while it is being emitted."""

    kernel: DepthwiseKernel
    x: Buffer
    weights: Buffer
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, sizes = self.kernel, self.kernel.contraction
        image = kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        rows_of_task(sizes.batch, sizes.out_h, task, kernel.threads, self._row)

    def _row(self, batch: Expr, y: Expr) -> None:
        width = strip_width(self.kernel)
        strips, rest = divmod(self.kernel.contraction.out_w, width)
        with T.serial(strips) as strip:
            self._strip(Position(batch, y, strip * width, 0), width)
        if rest:
            self._strip(Position(batch, y, strips * width, 0), rest)

    def _strip(self, first: Position, width: int) -> None:
        def vector(channel: Expr, lanes: Lanes) -> None:
            self._vector(Position(first.batch, first.y, first.x, channel), width, lanes)

        lanes = self.kernel.vector_bits // _FLOAT_BITS
        for_each_vector(self.kernel.contraction.out_c, lanes, vector)

    def _vector(self, first: Position, width: int, lanes: Lanes) -> None:
        """One vector of channels of `width` neighbouring outputs."""
        sums = [Register.of("float32", lanes) for _ in range(width)]
        for register in sums:
            register.set(lanes.splat(0.0))
        for kernel_row in range(self.kernel.contraction.kernel_h):
            for column, uses in _uses_by_column(self.kernel, width).items():
                value = bind(self._load(first, kernel_row, column, lanes))
                for output, kernel_column in uses:
                    weight = self._weight(kernel_row, kernel_column, first.channel, lanes)
                    sums[output].set(sums[output].value + value * weight)
        for output, register in enumerate(sums):
            position = Position(first.batch, first.y, first.x + output, first.channel)
            write(self.kernel, self.tensors, position, lanes, register.value)

    def _load(self, first: Position, kernel_row: int, column: int, lanes: Lanes) -> Expr:
        sizes, (top, left, _, _) = self.kernel.contraction, self.kernel.x.halo
        row = top - sizes.pad_top + first.y * sizes.stride_h + kernel_row * sizes.dilation_h
        pixel = left - sizes.pad_left + first.x * sizes.stride_w + column
        stored = self.x[first.batch, row, pixel, lanes.index(first.channel)]
        return to_real(Source(self.kernel.x), stored, lanes)

    def _weight(self, kernel_row: int, kernel_column: int, channel: Expr, lanes: Lanes) -> Expr:
        index = kernel_row * self.kernel.contraction.kernel_w + kernel_column
        return self.weights[index, lanes.index(channel)]


def strip_width(kernel: DepthwiseKernel) -> int:
    """How many neighbouring outputs are computed at once: a divisor of the row if one is near."""
    sizes = kernel.contraction
    code = sizes.kernel_h * sizes.kernel_w + size(kernel.expression)
    widest = max(1, min(_WIDEST_STRIP[kernel.vector_bits], _MOST_CODE // code, sizes.out_w))
    divisors = [width for width in range(1, widest + 1) if sizes.out_w % width == 0]
    return divisors[-1] if 2 * divisors[-1] > widest else widest


def _uses_by_column(kernel: DepthwiseKernel, width: int) -> dict[int, list[tuple[int, int]]]:
    """By input column, relative to the first: the (output, kernel column) pairs it serves."""
    sizes = kernel.contraction
    uses: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for output in range(width):
        for kernel_column in range(sizes.kernel_w):
            column = output * sizes.stride_w + kernel_column * sizes.dilation_w
            uses[column].append((output, kernel_column))
    return dict(sorted(uses.items()))
