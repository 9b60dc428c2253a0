"""Sums, maxima, minima and products over any axes of an image.

Where channels are kept, vectors of channels stay in registers while all that is reduced passes by.
Where channels are reduced, lanes are partial results, combined at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import evaluate, write
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
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.rows import Row, across, add, pixels_of_task
from gcompile.backends.tvm.kernels.spec import Expression, Kernel, Load
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = {512: 8, 256: 8, 128: 8}
"""Vectors of channels in registers while rows pass: wide blocks make long runs of memory."""

_COMBINE: dict[str, tuple[float, Callable[[Expr, Expr], Expr]]] = {
    "sum": (0.0, add),
    "max": (float("-inf"), T.max),
    "min": (float("inf"), T.min),
    "product": (1.0, lambda left, right: left * right),
}


@dataclass(frozen=True, slots=True)
class ReduceKernel(Kernel):
    """Reduce `operand`, then the expression, which sees the result as `Accumulator`.

    The operand is computed over `extents` (batch, height, width, channels); axes along which the
    output image has size 1 are reduced, and the others are as long as the output's. Means, norms
    and sums of squares or magnitudes are sums between an operand and an expression of their own.
    Numbers are float32: sums of integers are exact below 2^24.

    Attributes:
        operand: What is reduced, from the sources.
        function: `sum`, `max`, `min` or `product`.
    """

    operand: Expression = Load(0)
    extents: tuple[int, int, int, int] = (1, 1, 1, 1)
    function: str = "sum"


def emit(kernel: ReduceKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: ReduceKernel) -> Code:
    """Emit a reduction. The function's arguments are the channel vectors, sources and output.

    Raises:
        CompileError: The output has neither the size of the operand nor 1 along some axis.
    """
    pairs = zip(_output_extents(kernel), kernel.extents, strict=True)
    if any(kept not in (1, extent) for kept, extent in pairs):
        raise CompileError(
            f"{kernel.extents} cannot be reduced to {_output_extents(kernel)}: each axis is "
            "either kept or becomes 1."
        )

    def body(_: list[Buffer], tensors: Tensors) -> None:
        tasks(kernel.threads, _Reduce(kernel, tensors).task)

    return kernel_code(kernel, [], body)


def _output_extents(kernel: ReduceKernel) -> tuple[int, int, int, int]:
    image = kernel.output.image
    return image.batch, image.height, image.width, image.channels


@dataclass(frozen=True, slots=True)
class _Reduce:
    """One kernel while it is being emitted."""

    kernel: ReduceKernel
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        if image.channels < kernel.extents[3]:
            pixels_of_task(image, task, kernel.threads, self._to_scalar)
        elif image.batch * image.height * image.width >= kernel.threads:
            pixels_of_task(image, task, kernel.threads, lambda place: self._vectors(place, None))
        else:
            pixels_of_task(image, 0, 1, lambda place: self._vectors(place, task))

    def _vectors(self, first: Position, task: Expr | None) -> None:
        """All vectors of channels of one pixel, or the task's share of them."""
        widest = _VECTORS_AT_ONCE[self.kernel.vector_bits] * self._vector
        channels, threads = self.kernel.output.image.channels, self.kernel.threads

        def vector(offset: Expr, lanes: Lanes) -> None:
            place = first.moved(offset)
            total = self._over_pixels(place, lanes)
            write(self.kernel, self.tensors, place, lanes, total.value)

        if task is None:
            for_each_vector(channels, widest, vector)
            return
        start, stop = share(channels // widest, task, threads)
        loop(start, stop, lambda block: vector(block * widest, Lanes(widest)))
        rest = channels % widest
        done = channels - rest
        when(
            task >= threads - 1,
            lambda: for_each_vector(
                rest, widest, lambda offset, lanes: vector(done + offset, lanes)
            ),
        )

    def _to_scalar(self, place: Position) -> None:
        row = Row.of(self.kernel.extents[3], self.kernel.vector_bits)
        start, combine = _COMBINE[self.kernel.function]
        total = row.register(start)

        def take(pixel: Position) -> None:
            def operand(offset: Expr) -> tuple[Expr]:
                return (self._operand(pixel.moved(offset), row.lanes),)

            row.fold_into([total], operand, start, combine)

        self._for_each_pixel(place, take)
        write(self.kernel, self.tensors, place, Lanes(1), bind(across(total, combine)))

    def _over_pixels(self, place: Position, lanes: Lanes) -> Register:
        start, combine = _COMBINE[self.kernel.function]
        total = Register.of("float32", lanes)
        total.set(lanes.splat(start))
        self._for_each_pixel(
            place, lambda pixel: total.set(combine(total.value, self._operand(pixel, lanes)))
        )
        return total

    def _for_each_pixel(self, place: Position, body: Callable[[Position], None]) -> None:
        """Call `body` for every pixel that is reduced into the output's at `place`."""
        kept, extents = _output_extents(self.kernel), self.kernel.extents
        counts = [
            extent if size < extent else 1
            for size, extent in zip(kept[:3], extents[:3], strict=True)
        ]
        with T.grid(*counts) as (batch, y, x):
            body(Position(place.batch + batch, place.y + y, place.x + x, place.channel))

    def _operand(self, place: Position, lanes: Lanes) -> Expr:
        asked = replace(self.kernel, expression=self.kernel.operand)
        return bind(evaluate(asked, self.tensors, place, lanes))

    @property
    def _vector(self) -> int:
        return self.kernel.vector_bits // _FLOAT_BITS
