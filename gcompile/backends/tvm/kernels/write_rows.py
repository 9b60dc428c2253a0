"""Rows of a tensor, replaced where they lie: the cache of a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    parallel,
    view,
    when,
)
from gcompile.backends.tvm.kernels.image_access import Position, load
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Kernel, Source
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class WriteRowsKernel(Kernel):
    """Write the pixels of each line of `x` over some of the output's pixels of that line.

    What is written is the expression, which sees a pixel of x as `Accumulator`. The numbers say
    where; negative ones count from the end. ONNX leaves others undefined; they write nothing.
    Where a number comes twice, the later pixel stays.

    Attributes:
        index_dtype: `int32` or `int64`.
        index_shape: The shape under which Relax knows the numbers.
    """

    x: Source = Source(Image(1, 1, 1, 1))
    index_dtype: str = "int64"
    index_shape: tuple[int, ...] = (1,)


def emit(kernel: WriteRowsKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: WriteRowsKernel) -> Code:
    """Emit the writes. Arguments are x, the numbers, channel vectors, sources and the output.

    Raises:
        CompileError: The output has a halo, or other lines or channels than x.
    """
    image, output = kernel.x.image, kernel.output.image
    lines = (image.batch, image.height, image.channels)
    if lines != (output.batch, output.height, output.channels) or any(output.halo):
        raise CompileError("Only rows are written, of an image without a halo.")
    leading = [
        Argument.of_image("x", image),
        Argument("indices", kernel.index_shape, kernel.index_dtype),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x, indices = view(buffers[0], image.shape), view(buffers[1], (image.width,))

        def write_line(line: Expr) -> None:
            def write_pixel(place: Expr) -> None:
                index, rows = indices[place], tirx.const(output.width, kernel.index_dtype)
                none = tirx.const(0, kernel.index_dtype)
                row = T.Bind(T.Select(index < none, index + rows, index))
                source = Position(0, line, place, 0)
                to = Position(0, line, T.Cast("int32", row), 0)
                inside = tirx.all(row >= none, row < rows)
                when(inside, lambda: _copy(kernel, x, tensors, source, to))

            loop(0, image.width, write_pixel)

        parallel(kernel.threads, image.height, write_line)

    return kernel_code(kernel, leading, body)


def _copy(
    kernel: WriteRowsKernel, x: Buffer, tensors: Tensors, source: Position, to: Position
) -> None:
    def vector(offset: Expr, lanes: Lanes) -> None:
        value = load(kernel.x, x, source.moved(offset), lanes)
        write(kernel, tensors, to.moved(offset), lanes, value)

    widest = _VECTORS_AT_ONCE * kernel.vector_bits // _FLOAT_BITS
    for_each_vector(kernel.output.image.channels, widest, vector)
