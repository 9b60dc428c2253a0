"""3x3 convolutions of stride 1 with fewer multiplications: Winograd's F(2, 3) and F(4, 3).

Output tiles of m by m pixels are taken in blocks. The input patches of a block are transformed,
multiplied frequency by frequency with the transformed weights, and transformed back, before the
next block begins: what lies between never leaves the second-level cache. Tiles at the right and
lower edge are moved back over their neighbours instead of being cut short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.amx_tiles import issue_instruction
from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    loop,
    scratch,
    share,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import (
    Position,
    fill_halo,
    narrow_to_bfloat16,
    to_real,
)
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.multiply import multiplying, unit_functions
from gcompile.backends.tvm.kernels.parts import Depth, Multiplication, Part
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Kernel, Source
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.kernels.winograd_transforms import (
    INPUT,
    OUTPUT,
    transform_both_ways,
    transformed_weights,
)
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile

_FLOATS = ("float32", "bfloat16", "float16")
_AHEAD = 64
"""Steps of depth by which transformed weights are prefetched: 4 KiB. They are many, and used by no
more rows than a block has tiles."""


@dataclass(frozen=True, slots=True)
class WinogradKernel(Kernel):
    """A 3x3 convolution of stride 1, then the expression.

    Attributes:
        contraction: One group, no dilation; at least as many output pixels along each axis as
            a tile has.
        x: The input, with the halo that the contraction reads; float32, or half of its bits.
        tile: Register block of the products of one frequency; `winograd` is the side of an output
            tile, `block` the tiles of one block.
    """

    contraction: Contraction = Contraction.matmul(1, 1, 1)
    x: Image = Image(1, 1, 1, 1)
    tile: Tile = Tile("generic", 1, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles of one image."""
        side, sizes = self.tile.winograd, self.contraction
        return -(-sizes.out_h // side), -(-sizes.out_w // side)

    @property
    def tiles(self) -> int:
        """Tiles of all images."""
        rows, columns = self.grid
        return self.contraction.batch * rows * columns


def weight_shape(kernel: WinogradKernel) -> tuple[int, int, int]:
    """(frequencies · blocks of output channels, steps of input channels, lanes · group)."""
    unit = unit_named(kernel.tile.unit)
    blocks = -(-kernel.contraction.out_c // unit.lanes)
    frequencies = (kernel.tile.winograd + 2) ** 2
    return frequencies * blocks, kernel.x.channels // unit.group, unit.lanes * unit.group


def pack_weights(kernel: WinogradKernel, weights: NDArray[np.generic]) -> NDArray[np.generic]:
    """Transform (out, in, 3, 3) weights and bring them into the order the products read."""
    changed = transformed_weights(weights, kernel.tile.winograd)
    frequencies, outside, inside = changed.shape
    unit, channels = unit_named(kernel.tile.unit), kernel.x.channels
    lanes, group = unit.lanes, unit.group
    padded = np.zeros((frequencies, -(-outside // lanes) * lanes, channels), np.float32)
    padded[:, :outside, :inside] = changed
    grouped = padded.reshape(frequencies, -1, lanes, channels // group, group)
    packed = grouped.transpose(0, 1, 3, 2, 4).reshape(weight_shape(kernel))
    if unit.x_dtype == "bfloat16":
        return np.ascontiguousarray(packed.astype(ml_dtypes.bfloat16)).view(np.uint16)
    return np.ascontiguousarray(packed)


def emit(kernel: WinogradKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: WinogradKernel) -> Code:
    """Emit the convolution. Arguments: x, the packed weights, vectors, sources, the output.

    Raises:
        CompileError: The convolution or the unit is not one this algorithm serves.
    """
    _check(kernel)
    leading = [
        Argument.of_image("x", kernel.x),
        Argument("weights", weight_shape(kernel), unit_named(kernel.tile.unit).weight_dtype),
    ]

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        x = view(buffers[0], kernel.x.shape)
        with unit_functions(unit_named(kernel.tile.unit)):
            tasks(kernel.tile.threads, _Winograd(kernel, x, buffers[1], tensors).task)

    return kernel_code(kernel, leading, body)


def _check(kernel: WinogradKernel) -> None:
    sizes, side = kernel.contraction, kernel.tile.winograd
    unit = unit_named(kernel.tile.unit)
    strides = (sizes.stride_h, sizes.stride_w, sizes.dilation_h, sizes.dilation_w)
    if (sizes.kernel_h, sizes.kernel_w, *strides, sizes.groups) != (3, 3, 1, 1, 1, 1, 1):
        raise CompileError("Winograd needs a 3x3 kernel, stride 1, no dilation and one group.")
    if side not in INPUT or min(sizes.out_h, sizes.out_w) < side:
        raise CompileError(f"Output tiles of {side} by {side} pixels do not fit.")
    is_float = unit.x_dtype == "float32" and kernel.x.dtype in _FLOATS
    is_paired = unit.x_dtype == kernel.x.dtype == "bfloat16" and kernel.x.channels % 2 == 0
    if unit.is_tiled or not (is_float or (is_paired and side == 2)):
        raise CompileError(f"Winograd on {kernel.x.dtype} with unit {unit.name!r} is unknown.")
    if not 1 <= kernel.tile.block <= kernel.tiles:
        raise CompileError(f"A block of {kernel.tile.block} tiles of {kernel.tiles} is wrong.")


@dataclass(frozen=True, slots=True)
class _Winograd:
    """One kernel while it is being emitted."""

    kernel: WinogradKernel
    x: Buffer
    weights: Buffer
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, tile = self.kernel, self.kernel.tile
        fill_halo(kernel.output.image, self.tensors.output, kernel.vector_bits, task, tile.threads)
        patch, channels, outside = tile.winograd + 2, kernel.x.channels, kernel.contraction.out_c
        unit = unit_named(tile.unit)
        rows = Image(1, 1, tile.block, channels, unit.x_dtype)
        changed = scratch(patch * patch * tile.block * channels, rows.storage_dtype)
        products = scratch(patch * patch * tile.block * outside, "float32")
        blocks = -(-kernel.tiles // tile.block)

        plain = replace(kernel, expression=Accumulator(), sources=(), channel_vectors=0)
        shared = Multiplication(plain, tile, unit, changed, self.tensors, ahead=_AHEAD)
        pixels = Pixels(
            Contraction.matmul(tile.block, channels, outside), rows, min(tile.rows, tile.block),
            False,
        )  # fmt: skip
        shape = Part(pixels, Depth(channels), outside, self.weights)

        def block(index: Expr) -> None:
            first = T.Bind(T.min(index * tile.block, kernel.tiles - tile.block))
            loop(0, tile.block, lambda t: self._transform_input(first + t, t, changed))
            with T.serial(patch * patch) as frequency:
                part = replace(
                    shape,
                    first_block=T.Bind(frequency * (weight_shape(kernel)[0] // patch**2)),
                    origin=T.Bind(frequency * (tile.block * channels)),
                    kept=lambda place, lanes, real: T.buffer_store(
                        products,
                        real,
                        [
                            lanes.index(
                                (frequency * tile.block + place.x) * outside + place.channel
                            )
                        ],
                    ),
                )
                multiply(part)
            loop(0, tile.block, lambda t: self._transform_output(first + t, t, products))

        with multiplying(shared, shape, issue_instruction) as multiply:
            loop(*share(blocks, task, tile.threads), block)

    def _corner(self, tile: Expr) -> tuple[Expr, Expr, Expr]:
        """(batch, row, column) of a tile's first output pixel."""
        kernel, side = self.kernel, self.kernel.tile.winograd
        rows, columns = kernel.grid
        line, column = tile // columns, tile % columns
        batch = line // rows if kernel.contraction.batch > 1 else 0
        y = T.min((line % rows) * side, kernel.contraction.out_h - side)
        x = T.min(column * side, kernel.contraction.out_w - side)
        return batch, T.Bind(y), T.Bind(x)

    def _transform_input(self, tile: Expr, slot: Expr, changed: Buffer) -> None:
        kernel = self.kernel
        image, sizes, side = kernel.x, kernel.contraction, kernel.tile.winograd
        batch, y, x = self._corner(tile)
        top, left = image.halo[0] - sizes.pad_top, image.halo[1] - sizes.pad_left
        source, patch, channels = Source(image), side + 2, image.channels
        is_narrow = unit_named(kernel.tile.unit).x_dtype == "bfloat16"

        def vector(channel: Expr, lanes: Lanes) -> None:
            def value(row: int, column: int) -> Expr:
                place = (batch, y + (top + row), x + (left + column), lanes.index(channel))
                return to_real(source, self.x[place], lanes)

            for row, line in enumerate(transform_both_ways(INPUT[side], value, lanes)):
                for column, real in enumerate(line):
                    start = (row * patch + column) * kernel.tile.block * channels
                    stored = narrow_to_bfloat16(real, lanes) if is_narrow else real
                    index = lanes.index(start + slot * channels + channel)
                    T.buffer_store(changed, stored, [index])

        for_each_vector(channels, unit_named(kernel.tile.unit).lanes, vector)

    def _transform_output(self, tile: Expr, slot: Expr, products: Buffer) -> None:
        kernel = self.kernel
        side, outside = kernel.tile.winograd, kernel.contraction.out_c
        batch, y, x = self._corner(tile)

        def vector(channel: Expr, lanes: Lanes) -> None:
            def value(row: int, column: int) -> Expr:
                start = (row * (side + 2) + column) * kernel.tile.block * outside
                return products[lanes.index(start + slot * outside + channel)]

            for row, line in enumerate(transform_both_ways(OUTPUT[side], value, lanes)):
                for column, real in enumerate(line):
                    place = Position(batch, y + row, x + column, channel)
                    write(kernel, self.tensors, place, lanes, real)

        for_each_vector(outside, unit_named(kernel.tile.unit).lanes, vector)
