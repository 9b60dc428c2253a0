"""Normalization to mean 0 and variance 1, or to mean square 1, over a part of each image.

    y = (x - mean) / √(variance + ε)        or        y = x / √(mean x² + ε)

Scale and bias are the expression's: `Accumulator · PerChannel + PerChannel`. The variance is taken
about a first estimate of the mean, and both are corrected for that estimate's own error (Chan,
Golub & LeVeque 1983, "the corrected two-pass algorithm"): large means cost no precision.

LayerNormalization works on the channels of one pixel, which stay in the first-level cache.
Instance and group normalization work on some channels of all pixels of an image.
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
    scratch,
    share,
    tasks,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.rows import Row, across, add, operand_of_row, pixels_of_task
from gcompile.backends.tvm.kernels.spec import Expression, Kernel, Load
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 4
"""Vectors of channels whose statistics are taken side by side while pixels pass."""


@dataclass(frozen=True, slots=True)
class NormalizeKernel(Kernel):
    """Normalize `operand`, then the expression, which sees the result as `Accumulator`.

    Attributes:
        operand: What is normalized, from the sources and channel vectors. Over images it is
            computed three times: once for each pass.
        groups: None normalizes the channels of each pixel (an (M, K) matrix is the image
            (1, 1, M, K)). A number normalizes each image in so many groups of channels:
            all channels apart is InstanceNormalization.
        epsilon: Added to the variance or the mean square.
        is_centered: The mean is subtracted; otherwise this is RMSNormalization.
    """

    operand: Expression = Load(0)
    groups: int | None = None
    epsilon: float = 1e-5
    is_centered: bool = True


def emit(kernel: NormalizeKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: NormalizeKernel) -> Code:
    """Emit a normalization. Its arguments are the channel vectors, the sources, the output.

    Raises:
        CompileError: The groups do not divide the channels.
    """
    channels = kernel.output.image.channels
    if kernel.groups is not None and channels % kernel.groups:
        raise CompileError(f"{channels} channels are not {kernel.groups} groups of equal size.")

    def body(_: list[Buffer], tensors: Tensors) -> None:
        task = (_Rows if kernel.groups is None else _Images)(kernel, tensors).task
        tasks(kernel.threads, task)

    return kernel_code(kernel, [], body)


def inverse_root(kernel: NormalizeKernel, square: Expr, lanes: Lanes) -> Expr:
    """1 / √(square + ε), where rounding has not made the square negative."""
    held = T.max(lanes.splat(0.0), square)
    return bind(lanes.splat(1.0) / T.sqrt(held + lanes.splat(kernel.epsilon)))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Normalization of the channels of every pixel."""

    kernel: NormalizeKernel
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        row = Row.of(image.channels, kernel.vector_bits)
        operand = operand_of_row(kernel, kernel.operand, self.tensors, row)
        pixels_of_task(
            image, task, kernel.threads, lambda place: self._pixel(place, row, operand(place))
        )

    def _pixel(self, place: Position, row: Row, operand: Callable[[Expr], Expr]) -> None:
        mean, factor, rest = (row.lanes.splat(x) for x in self._statistics(row, operand))

        def vector(offset: Expr) -> None:
            value = (operand(offset) - mean) * factor + rest
            write(self.kernel, self.tensors, place.moved(offset), row.lanes, value)

        row.for_each(vector)

    def _statistics(self, row: Row, operand: Callable[[Expr], Expr]) -> tuple[Expr, ...]:
        """What is subtracted, multiplied and added."""
        share = T.float32(1.0 / row.count)
        if not self.kernel.is_centered:
            total = row.fold(lambda offset: operand(offset) * operand(offset))
            zero = T.float32(0.0)
            return zero, inverse_root(self.kernel, total * share, Lanes(1)), zero
        total = row.fold(operand)
        estimate = bind(total * share)

        def moments(offset: Expr) -> tuple[Expr, ...]:
            distance = bind(operand(offset) - row.lanes.splat(estimate))
            return distance, distance * distance

        totals = [row.register(0.0), row.register(0.0)]
        row.fold_into(totals, moments)
        error, square = (bind(across(total, add) * share) for total in totals)
        factor = inverse_root(self.kernel, square - error * error, Lanes(1))
        return estimate, factor, bind(T.float32(0.0) - error * factor)


@dataclass(frozen=True, slots=True)
class _Images:
    """Normalization of groups of channels over all pixels of an image."""

    kernel: NormalizeKernel
    tensors: Tensors

    @property
    def _group(self) -> int:
        """Channels of one group."""
        return self.kernel.output.image.channels // (self.kernel.groups or 1)

    @property
    def _widest(self) -> int:
        return _VECTORS_AT_ONCE * self.kernel.vector_bits // _FLOAT_BITS

    @property
    def _run(self) -> int:
        """Channels taken together: whole groups that fill vectors, and all runs equal."""
        groups = self.kernel.groups or 1
        counts = (count for count in range(1, groups + 1) if groups % count == 0)
        return next(
            (count * self._group for count in counts if count * self._group >= self._widest),
            groups * self._group,
        )

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        runs = image.channels // self._run
        means, factors, errors = (scratch(self._run, "float32") for _ in range(3))

        def run(index: Expr) -> None:
            first = Position(index // runs, 0, 0, T.Bind(index % runs * self._run))
            if kernel.is_centered:
                self._centered(first, means, factors, errors)
            else:
                self._uncentered(first, factors)

        loop(*share(image.batch * runs, task, kernel.threads), run)

    def _centered(self, first: Position, means: Buffer, factors: Buffer, errors: Buffer) -> None:
        def distance(value: Expr, offset: Expr, lanes: Lanes) -> Expr:
            return bind(value - means[lanes.index(offset)])

        def moments(value: Expr, offset: Expr, lanes: Lanes) -> tuple[Expr, ...]:
            far = distance(value, offset, lanes)
            return far, far * far

        def correct(offset: Expr, lanes: Lanes) -> None:
            place = lanes.index(offset)
            error = bind(errors[place])
            factor = inverse_root(self.kernel, factors[place] - error * error, lanes)
            T.buffer_store(factors, factor, [place])
            T.buffer_store(errors, lanes.splat(0.0) - error * factor, [place])

        self._mean_over_groups(first, (means,), lambda value, *_: (value,))
        self._mean_over_groups(first, (errors, factors), moments)
        for_each_vector(self._run, self._widest, correct)
        self._write(
            first,
            lambda value, offset, lanes: (
                distance(value, offset, lanes) * factors[lanes.index(offset)]
                + errors[lanes.index(offset)]
            ),
        )

    def _uncentered(self, first: Position, factors: Buffer) -> None:
        def root(offset: Expr, lanes: Lanes) -> None:
            place = lanes.index(offset)
            factor = inverse_root(self.kernel, factors[place], lanes)
            T.buffer_store(factors, factor, [place])

        self._mean_over_groups(first, (factors,), lambda value, *_: (value * value,))
        for_each_vector(self._run, self._widest, root)
        self._write(first, lambda value, offset, lanes: value * factors[lanes.index(offset)])

    def _write(self, first: Position, normalized: Callable[[Expr, Expr, Lanes], Expr]) -> None:
        def vector(place: Position, offset: Expr, lanes: Lanes) -> None:
            value = normalized(self._operand(place, lanes), offset, lanes)
            write(self.kernel, self.tensors, place, lanes, value)

        image = self.kernel.output.image
        with T.grid(image.height, image.width) as (y, x):
            for_each_vector(
                self._run,
                self._widest,
                lambda offset, lanes: vector(
                    Position(first.batch, y, x, first.channel + offset), offset, lanes
                ),
            )

    def _mean_over_groups(
        self,
        first: Position,
        means: tuple[Buffer, ...],
        terms: Callable[[Expr, Expr, Lanes], tuple[Expr, ...]],
    ) -> None:
        """Put the mean of each term over a group's pixels and channels at all its channels."""
        image = self.kernel.output.image

        def sums(offset: Expr, lanes: Lanes) -> None:
            totals = [Register.of("float32", lanes) for _ in means]
            for total in totals:
                total.set(lanes.splat(0.0))
            with T.grid(image.height, image.width) as (y, x):
                place = Position(first.batch, y, x, first.channel + offset)
                values = terms(self._operand(place, lanes), offset, lanes)
                for total, value in zip(totals, values, strict=True):
                    total.set(total.value + value)
            for mean, total in zip(means, totals, strict=True):
                T.buffer_store(mean, total.value, [lanes.index(offset)])

        for_each_vector(self._run, self._widest, sums)
        for mean in means:
            self._share_among_group(mean, 1.0 / (image.height * image.width * self._group))

    def _share_among_group(self, sums: Buffer, factor: float) -> None:
        def scale(offset: Expr, lanes: Lanes) -> None:
            scaled = sums[lanes.index(offset)] * lanes.splat(factor)
            T.buffer_store(sums, scaled, [lanes.index(offset)])

        if self._group == 1:
            for_each_vector(self._run, self._widest, scale)
            return
        total = Register.of("float32", Lanes(1))
        with T.serial(self._run // self._group) as group:
            first = T.Bind(group * self._group)
            total.set(T.float32(0.0))
            with T.serial(self._group) as channel:
                total.set(total.value + sums[first + channel])
            mean = bind(total.value * T.float32(factor))
            for_each_vector(
                self._group,
                self._widest,
                lambda offset, lanes: T.buffer_store(
                    sums, lanes.splat(mean), [lanes.index(first + offset)]
                ),
            )

    def _operand(self, place: Position, lanes: Lanes) -> Expr:
        asked = replace(self.kernel, expression=self.kernel.operand)
        return bind(evaluate(asked, self.tensors, place, lanes))
