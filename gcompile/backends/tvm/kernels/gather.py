"""Rows of a table, picked by numbers that are only known at run time: embeddings."""

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
    parallel,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, load
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Kernel, Source
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class GatherKernel(Kernel):
    """Pick from tables, then the expression, which sees what was picked as `Accumulator`.

    The tables are the lines of `x`, their rows its pixels. From each, the output's pixels of that
    line are picked: as many as there are numbers, the same for every table. Negative numbers count
    from the end. ONNX leaves others undefined; they read the nearest row there is, so that none
    reads outside the table.

    Attributes:
        index_dtype: `int32` or `int64`.
        index_shape: The shape under which Relax knows the numbers.
    """

    x: Source = Source(Image(1, 1, 1, 1))
    index_dtype: str = "int64"
    index_shape: tuple[int, ...] = (1,)


def emit(kernel: GatherKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: GatherKernel) -> Code:
    """Emit a gather. Its arguments are x, the numbers, the channel vectors, sources and output.

    Raises:
        CompileError: The output has a halo, or other tables than x.
    """
    image, output = kernel.x.image, kernel.output.image
    tables = (image.batch, image.height, image.channels)
    if tables != (output.batch, output.height, output.channels) or any(output.halo):
        raise CompileError("Only rows are picked, of an image without a halo.")
    leading = [
        Argument.of_image("x", image),
        Argument("indices", kernel.index_shape, kernel.index_dtype),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x, indices = view(buffers[0], image.shape), view(buffers[1], (output.width,))

        def pick(place: Expr) -> None:
            row = _inside(indices[place], image.width, kernel.index_dtype)
            with T.grid(image.batch, image.height) as (batch, table):
                to = Position(batch, table, place, 0)
                _copy(kernel, x, tensors, Position(batch, table, row, 0), to)

        parallel(kernel.threads, output.width, pick)

    return kernel_code(kernel, leading, body)


def _inside(index: Expr, rows: int, dtype: str) -> Expr:
    """The row that a number means."""
    last, none = tirx.const(rows - 1, dtype), tirx.const(0, dtype)
    from_end = T.Select(index < none, index + tirx.const(rows, dtype), index)
    return T.Bind(T.Cast("int32", T.min(T.max(from_end, none), last)))


def _copy(
    kernel: GatherKernel, x: Buffer, tensors: Tensors, source: Position, to: Position
) -> None:
    def vector(offset: Expr, lanes: Lanes) -> None:
        value = load(kernel.x, x, source.moved(offset), lanes)
        write(kernel, tensors, to.moved(offset), lanes, value)

    widest = _VECTORS_AT_ONCE * kernel.vector_bits // _FLOAT_BITS
    for_each_vector(kernel.output.image.channels, widest, vector)
