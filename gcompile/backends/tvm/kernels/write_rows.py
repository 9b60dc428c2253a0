"""Rows of a tensor, replaced where they lie: the cache of a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import (
    Code,
    Tensors,
    kernel_code,
    loop,
    parallel,
    view,
    when,
)
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.indexed_rows import IndexedRowsKernel


@dataclass(frozen=True, slots=True)
class WriteRowsKernel(IndexedRowsKernel):
    """Write the pixels of each line of `x` over some of the output's pixels of that line.

    What is written is the expression, which sees a pixel of x as `Accumulator`. The numbers say
    where; negative ones count from the end. ONNX leaves others undefined; they write nothing.
    Where a number comes twice, the later pixel stays.
    """

    done: ClassVar[str] = "written"


def emit(kernel: WriteRowsKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: WriteRowsKernel) -> Code:
    """Emit the writes. Arguments are x, the numbers, channel vectors, sources and the output.

    Raises:
        CompileError: The output has a halo, or other lines or channels than x.
    """
    image, output = kernel.x.image, kernel.output.image

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x, indices = view(buffers[0], image.shape), view(buffers[1], (image.width,))

        def write_line(line: Expr) -> None:
            def write_pixel(place: Expr) -> None:
                rows, none = (tirx.const(n, kernel.index_dtype) for n in (output.width, 0))
                row = T.Bind(kernel.from_start(indices[place], output.width))
                source = Position(0, line, place, 0)
                to = Position(0, line, T.Cast("int32", row), 0)
                inside = tirx.all(row >= none, row < rows)
                when(inside, lambda: kernel.copy(x, tensors, source, to))

            loop(0, image.width, write_pixel)

        parallel(kernel.threads, image.height, write_line)

    return kernel_code(kernel, kernel.leading(), body)
