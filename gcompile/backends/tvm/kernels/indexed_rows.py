"""What kernels share that pick or place rows by numbers only known at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tvm import tirx
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import Argument, Tensors
from gcompile.backends.tvm.kernels.image_access import Position, load
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Kernel, Source
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class IndexedRowsKernel(Kernel):
    """Copies pixels within the lines of `x` and the output, which are as many and as deep.

    Attributes:
        done: What the kernel does to rows.
        index_dtype: `int32` or `int64`.
        index_shape: The shape under which Relax knows the numbers.
    """

    done: ClassVar[str]

    x: Source = Source(Image(1, 1, 1, 1))
    index_dtype: str = "int64"
    index_shape: tuple[int, ...] = (1,)

    def leading(self) -> list[Argument]:
        """The arguments before channel vectors, sources and output: x and the numbers.

        Raises:
            CompileError: The output has a halo, or other lines or channels than x.
        """
        image, output = self.x.image, self.output.image
        lines = (image.batch, image.height, image.channels)
        if lines != (output.batch, output.height, output.channels) or any(output.halo):
            raise CompileError(f"Only rows are {self.done}, of an image without a halo.")
        return [
            Argument.of_image("x", image),
            Argument("indices", self.index_shape, self.index_dtype),
        ]

    def from_start(self, index: Expr, rows: int) -> Expr:
        """The number of a row from the start; negative ones count from the end."""
        none = tirx.const(0, self.index_dtype)
        return T.Select(index < none, index + tirx.const(rows, self.index_dtype), index)

    def copy(self, x: Buffer, tensors: Tensors, source: Position, to: Position) -> None:
        """Write one pixel of x as the expression says, which sees it as `Accumulator`."""

        def vector(offset: Expr, lanes: Lanes) -> None:
            value = load(self.x, x, source.moved(offset), lanes)
            write(self, tensors, to.moved(offset), lanes, value)

        widest = _VECTORS_AT_ONCE * self.vector_bits // _FLOAT_BITS
        for_each_vector(self.output.image.channels, widest, vector)
