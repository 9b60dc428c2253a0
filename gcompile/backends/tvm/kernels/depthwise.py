"""Convolutions of narrow groups: depthwise, with several outputs per channel, or a few by a few.

A strip of neighbouring outputs stays in registers, channels along the vector. Each input vector of
the strip's rows is loaded once and used by every window that covers it.

Where a group is more than one channel by one, the input is spread in registers: for every channel
of a group in turn, each lane gets that channel of its own group.

Integers are multiplied as float32: their products and sums are exact below 2^24, and the fused
multiply-add of floats is as fast as any integer instruction for this shape of work.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import size, write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo, to_real
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, pieces
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
    """Emit a convolution of narrow groups.

    The function's arguments are x, the weights in float32 (kernel_h · kernel_w, channels of a
    group, output channels; a depthwise convolution has no middle axis), the channel vectors, the
    sources and the output.

    Raises:
        CompileError: The groups do not divide the channels, x has padded channels, or its halo
            is too narrow.
    """
    contraction = kernel.contraction
    groups = contraction.groups
    if contraction.in_c % groups or contraction.out_c % groups:
        raise CompileError(f"{groups} groups do not divide the channels of this contraction.")
    if groups < contraction.in_c and kernel.x.channels != contraction.in_c:
        raise CompileError("The input of a grouped contraction cannot have padded channels.")
    Window(contraction, kernel.x).check_halo()
    weight_shape: tuple[int, ...] = (
        contraction.kernel_h * contraction.kernel_w,
        contraction.in_c // groups,
        contraction.out_c,
    )
    if contraction.in_c == groups:
        weight_shape = (weight_shape[0], weight_shape[2])
    leading = [
        Argument.of_image("x", kernel.x),
        Argument("weights", weight_shape, "float32"),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], kernel.x.shape)
        weights = view(buffers[1], (math.prod(weight_shape),))
        tasks(kernel.threads, _Depthwise(kernel, x, weights, tensors).task)

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
        """Every output channel of neighbouring pixels, in runs that hold whole groups."""
        run, channels = run_of_channels(self.kernel), self.kernel.contraction.out_c
        runs, rest = divmod(channels, run)

        def vectors(start: Expr, count: int) -> None:
            for offset, lanes in pieces(count, self.kernel.vector_bits // _FLOAT_BITS):
                self._vector(first.moved(start), offset, width, lanes)

        if runs == 1:
            vectors(0, run)
        elif runs:
            loop(0, runs, lambda index: vectors(T.Bind(index * run), run))
        vectors(runs * run, rest)

    def _vector(self, first: Position, offset: int, width: int, lanes: Lanes) -> None:
        """One vector of channels, `offset` after whole groups, of `width` neighbouring outputs."""
        sums = [Register.of("float32", lanes) for _ in range(width)]
        for register in sums:
            register.set(lanes.splat(0.0))
        for kernel_row in range(self.kernel.contraction.kernel_h):
            for column, uses in _uses_by_column(self.kernel, width).items():
                for depth, value in enumerate(
                    self._spread(first, offset, kernel_row, column, lanes)
                ):
                    for output, kernel_column in uses:
                        place = (kernel_row, kernel_column, depth)
                        weight = self._weight(place, first.channel + offset, lanes)
                        sums[output].set(sums[output].value + value * weight)
        for output, register in enumerate(sums):
            position = replace(first, x=first.x + output, channel=first.channel + offset)
            write(self.kernel, self.tensors, position, lanes, register.value)

    def _spread(
        self, first: Position, offset: int, kernel_row: int, column: int, lanes: Lanes
    ) -> list[Expr]:
        """For each channel of a group: what every lane reads of the input."""
        sizes = self.kernel.contraction
        ins, outs = sizes.in_c // sizes.groups, sizes.out_c // sizes.groups
        channel = first.channel if ins == outs else first.channel // outs * ins
        first_group = offset // outs
        groups = (offset + lanes.count - 1) // outs - first_group + 1
        read = Lanes(groups * ins)
        place = replace(first, channel=channel + first_group * ins)
        values = bind(self._load(place, kernel_row, column, read))
        if ins == outs == 1:
            return [values]
        groups_of_lanes = [(offset + lane) // outs - first_group for lane in range(lanes.count)]
        if read.count == 1:
            return [bind(lanes.splat(values))]
        copies = [values] * -(-lanes.count // read.count)  # A shuffle adds no lanes.
        return [
            bind(tirx.Shuffle(copies, [group * ins + depth for group in groups_of_lanes]))
            for depth in range(ins)
        ]

    def _load(self, first: Position, kernel_row: int, column: int, lanes: Lanes) -> Expr:
        sizes, (top, left, _, _) = self.kernel.contraction, self.kernel.x.halo
        row = top - sizes.pad_top + first.y * sizes.stride_h + kernel_row * sizes.dilation_h
        pixel = left - sizes.pad_left + first.x * sizes.stride_w + column
        stored = self.x[first.batch, row, pixel, lanes.index(first.channel)]
        return to_real(Source(self.kernel.x), stored, lanes)

    def _weight(self, place: tuple[int, int, int], channel: Expr, lanes: Lanes) -> Expr:
        sizes = self.kernel.contraction
        kernel_row, kernel_column, depth = place
        step = kernel_row * sizes.kernel_w + kernel_column
        row = step * (sizes.in_c // sizes.groups) + depth
        return self.weights[lanes.index(row * sizes.out_c + channel)]


def run_of_channels(kernel: DepthwiseKernel) -> int:
    """Output channels after which vectors and groups begin together again."""
    vector = kernel.vector_bits // _FLOAT_BITS
    return math.lcm(vector, kernel.contraction.out_c // kernel.contraction.groups)


def strip_width(kernel: DepthwiseKernel) -> int:
    """How many neighbouring outputs are computed at once: a divisor of the row if one is near."""
    sizes = kernel.contraction
    products = sizes.kernel_h * sizes.kernel_w * (sizes.in_c // sizes.groups)
    vectors = run_of_channels(kernel) * _FLOAT_BITS // kernel.vector_bits
    code = (products + size(kernel.expression)) * vectors
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
