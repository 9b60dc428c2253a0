"""Expressions on their own: chains of elementwise operators, quantization, casts.

Vectors run along the channels. Where nothing is broadcast and no image has a halo, the place of a
number does not matter, and the tensors are treated as one long line instead, whatever their shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import size, write
from gcompile.backends.tvm.kernels.function import (
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
    when,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.spec import ElementwiseKernel, Image
from gcompile.backends.tvm.kernels.window import rows_of_task

_FLOAT_BITS = 32
_SHORT_EXPRESSION = 8
"""Nodes up to which an expression is computed on two vectors at once, to hide latency."""


def emit(kernel: ElementwiseKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: ElementwiseKernel) -> Code:
    """Emit an expression.

    The function's arguments are the channel vectors, the sources and the output.
    """
    flat = flattened(kernel)

    def body(_: list[Buffer], tensors: Tensors) -> None:
        tasks(flat.threads, _Elementwise(flat, tensors).task)

    return kernel_code(flat, [], body)


def flattened(kernel: ElementwiseKernel) -> ElementwiseKernel:
    """The same computation on one line of pixels, where shapes allow it; else as it is."""
    image = kernel.output.image
    sources = [source.image for source in kernel.sources]
    aligned = all(source.size == 1 or source.shape == image.shape for source in sources)
    if kernel.channel_vectors or not aligned or any(any(i.halo) for i in [image, *sources]):
        return kernel
    return replace(
        kernel,
        output=replace(kernel.output, image=_line(image)),
        sources=tuple(replace(source, image=_line(source.image)) for source in kernel.sources),
    )


def _line(image: Image) -> Image:
    declared = image.tensor_shape
    line = Image(1, 1, 1, image.size, image.dtype, fill=image.fill, declared=declared)
    return image if image.shape == line.shape else line


@dataclass(frozen=True, slots=True)
class _Elementwise:
    """One kernel while it is being emitted."""

    kernel: ElementwiseKernel
    tensors: Tensors

    def task(self, task: Expr) -> None:
        image, threads = self.kernel.output.image, self.kernel.threads
        fill_halo(image, self.tensors.output, self.kernel.vector_bits, task, threads)
        if image.batch * image.height >= threads:
            rows_of_task(image.batch, image.height, task, threads, self._row)
        elif image.batch == image.height == 1 and image.width >= threads:
            loop(*share(image.width, task, threads), lambda x: self._pixel(0, 0, x))
        else:
            self._channels_of_task(task)

    def _row(self, batch: Expr, y: Expr) -> None:
        with T.serial(self.kernel.output.image.width) as x:
            self._pixel(batch, y, x)

    def _pixel(self, batch: Expr, y: Expr, x: Expr) -> None:
        self._vectors(Position(batch, y, x, 0), self.kernel.output.image.channels)

    def _vectors(self, first: Position, channels: int) -> None:
        def vector(offset: Expr, lanes: Lanes) -> None:
            place = Position(first.batch, first.y, first.x, first.channel + offset)
            write(self.kernel, self.tensors, place, lanes)

        for_each_vector(channels, self._width, vector)

    def _channels_of_task(self, task: Expr) -> None:
        """Fewer pixels than threads: the channels are shared out, whole vectors each."""
        image, threads = self.kernel.output.image, self.kernel.threads
        blocks, rest = divmod(image.channels, self._width)

        def pixels(first: Expr, channels: int) -> None:
            sizes = (image.batch, image.height, image.width)
            with T.grid(*sizes) as (n, y, x):
                self._vectors(Position(n, y, x, first), channels)

        if blocks:
            start, stop = share(blocks, task, threads)
            loop(start, stop, lambda block: pixels(block * self._width, self._width))
        if rest:
            when(task >= threads - 1, lambda: pixels(blocks * self._width, rest))

    @property
    def _width(self) -> int:
        vector = self.kernel.vector_bits // _FLOAT_BITS
        return 2 * vector if size(self.kernel.expression) <= _SHORT_EXPRESSION else vector
