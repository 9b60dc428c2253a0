"""Where the rows of an implicit matrix product lie: output pixels, cut into blocks.

Consecutive pixels of a block are a fixed distance apart in the input image, so a block needs one
address. The last block of a line is moved back over its neighbour instead of being cut short:
pixels in the overlap are computed twice, and there is no code for remainders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import when
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.spec import Image, ProductKernel
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction


@dataclass(frozen=True, slots=True)
class Place:
    """Where one block is. In flat mode `x` counts pixels of the stored image, row after row."""

    batch: Expr
    y: Expr
    x: Expr
    address: Expr
    """Index of the first element that the block's first pixel reads."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """The output pixels of a contraction in blocks of `rows`."""

    contraction: Contraction
    image: Image
    rows: int
    flat: bool

    @classmethod
    def of(cls, kernel: ProductKernel, rows: int) -> Pixels:
        """Blocks of at most `rows` pixels, fewer where the image has no room for them.

        Raises:
            CompileError: The tile or the halo of the input does not fit the contraction.
        """
        contraction = kernel.contraction
        _check_halo(contraction, kernel.x)
        strides = (contraction.stride_h, contraction.stride_w)
        if kernel.tile.flat and (contraction.batch > 1 or strides != (1, 1)):
            raise CompileError("A flat tile needs stride 1 and batch 1; use flat=False.")
        whole = cls(contraction, kernel.x, 1, kernel.tile.flat)
        return cls(contraction, kernel.x, min(rows, whole.line), kernel.tile.flat)

    @property
    def pitch(self) -> int:
        """Pixels from one row of the stored input to the next."""
        return self.image.shape[2]

    @property
    def line(self) -> int:
        """Pixels that follow each other at a fixed distance: a row, or in flat mode all."""
        contraction = self.contraction
        if self.flat:
            return (contraction.out_h - 1) * self.pitch + contraction.out_w
        return contraction.out_w

    @property
    def blocks_per_line(self) -> int:
        """Blocks that cover a line."""
        return -(-self.line // self.rows)

    @property
    def blocks(self) -> int:
        """Blocks that cover the whole output."""
        lines = 1 if self.flat else self.contraction.batch * self.contraction.out_h
        return lines * self.blocks_per_line

    @property
    def step(self) -> int:
        """Elements of the input from one pixel of a block to the next."""
        return self.contraction.stride_w * self.image.channels

    def place(self, block: Expr) -> Place:
        """Find a block. Emits bindings."""
        contraction, image = self.contraction, self.image
        line, index = T.Bind(block // self.blocks_per_line), block % self.blocks_per_line
        x = T.Bind(T.min(index * self.rows, self.line - self.rows))
        batch, y = line // contraction.out_h, line % contraction.out_h
        if self.flat:
            batch, y = 0, 0
        top, left = image.halo[0] - contraction.pad_top, image.halo[1] - contraction.pad_left
        row = batch * image.shape[1] + y * contraction.stride_h + top
        pixel = row * self.pitch + x * contraction.stride_w + left
        return Place(batch, y, x, T.Bind(pixel * image.channels))

    def at(self, place: Place, row: Expr, channel: Expr, body: Callable[[Position], None]) -> None:
        """Run `body` for one pixel of a block, if it is one of the output's."""
        if not self.flat:
            body(Position(place.batch, place.y, place.x + row, channel))
            return
        pixel = T.Bind(place.x + row)
        y, x = T.Bind(pixel // self.pitch), T.Bind(pixel % self.pitch)
        out_w = self.contraction.out_w
        is_output = True if self.pitch == out_w else x < out_w
        when(is_output, lambda: body(Position(0, y, x, channel)))


def _check_halo(contraction: Contraction, image: Image) -> None:
    """Every pixel that a window touches must be stored."""
    window_h = (contraction.kernel_h - 1) * contraction.dilation_h + 1
    window_w = (contraction.kernel_w - 1) * contraction.dilation_w + 1
    reach_h = (contraction.out_h - 1) * contraction.stride_h + window_h - contraction.pad_top
    reach_w = (contraction.out_w - 1) * contraction.stride_w + window_w - contraction.pad_left
    needed = (
        contraction.pad_top,
        contraction.pad_left,
        reach_h - image.height,
        reach_w - image.width,
    )
    if any(stored < reached for stored, reached in zip(image.halo, needed, strict=True)):
        raise CompileError(
            f"The input image has a halo of {image.halo} (top, left, bottom, right), but its "
            f"contraction reads {needed}; store it with a wider halo."
        )
