"""Rows of a table, picked by numbers that are only known at run time: embeddings."""

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
    parallel,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.indexed_rows import IndexedRowsKernel


@dataclass(frozen=True, slots=True)
class GatherKernel(IndexedRowsKernel):
    """Pick from tables, then the expression, which sees what was picked as `Accumulator`.

    The tables are the lines of `x`, their rows its pixels. From each, the output's pixels of that
    line are picked: as many as there are numbers, the same for every table. Negative numbers count
    from the end. ONNX leaves others undefined; they read the nearest row there is, so that none
    reads outside the table.
    """

    done: ClassVar[str] = "picked"


def emit(kernel: GatherKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: GatherKernel) -> Code:
    """Emit a gather. Its arguments are x, the numbers, the channel vectors, sources and output.

    Raises:
        CompileError: The output has a halo, or other tables than x.
    """
    image, output = kernel.x.image, kernel.output.image

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x, indices = view(buffers[0], image.shape), view(buffers[1], (output.width,))

        def pick(place: Expr) -> None:
            row = _inside(kernel, indices[place])
            with T.grid(image.batch, image.height) as (batch, table):
                to = Position(batch, table, place, 0)
                kernel.copy(x, tensors, Position(batch, table, row, 0), to)

        parallel(kernel.threads, output.width, pick)

    return kernel_code(kernel, kernel.leading(), body)


def _inside(kernel: GatherKernel, index: Expr) -> Expr:
    """The row that a number means."""
    rows = kernel.x.image.width
    last, none = (tirx.const(n, kernel.index_dtype) for n in (rows - 1, 0))
    return T.Bind(T.Cast("int32", T.min(T.max(kernel.from_start(index, rows), none), last)))
