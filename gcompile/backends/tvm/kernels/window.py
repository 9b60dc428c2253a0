"""Where the windows of a convolution or pool lie in a stored image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Expr

from gcompile.backends.tvm.kernels.function import loop, share
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction


@dataclass(frozen=True, slots=True)
class Window:
    """The windows of one contraction over one image."""

    contraction: Contraction
    image: Image

    def row(self, y: Expr, step: Expr) -> Expr:
        """The image row, halo excluded, that kernel row `step` reads for output row `y`."""
        sizes = self.contraction
        return y * sizes.stride_h + (step * sizes.dilation_h - sizes.pad_top)

    def column(self, x: Expr, step: Expr) -> Expr:
        """The image column, halo excluded, that kernel column `step` reads for column `x`."""
        sizes = self.contraction
        return x * sizes.stride_w + (step * sizes.dilation_w - sizes.pad_left)

    @property
    def reach(self) -> tuple[int, int, int, int]:
        """How far windows leave the image at (top, left, bottom, right); negative: not at all."""
        sizes = self.contraction
        last_row = self.row(sizes.out_h - 1, sizes.kernel_h - 1)
        last_column = self.column(sizes.out_w - 1, sizes.kernel_w - 1)
        return (
            sizes.pad_top,
            sizes.pad_left,
            last_row + 1 - self.image.height,
            last_column + 1 - self.image.width,
        )

    def check_halo(self) -> None:
        """Refuse an image that lacks pixels which windows read.

        Raises:
            CompileError: The halo is too narrow on some side.
        """
        sides = zip(self.image.halo, self.reach, strict=True)
        if any(stored < reached for stored, reached in sides):
            raise CompileError(
                f"The input image has a halo of {self.image.halo} (top, left, bottom, right), but "
                f"its windows reach {self.reach} beyond it; store it with a wider halo."
            )


def rows_of_task(
    batch: int, height: int, task: Expr, threads: int, body: Callable[[Expr, Expr], None]
) -> None:
    """Run `body(image, y)` for the task's share of the rows of all images."""
    start, stop = share(batch * height, task, threads)
    if batch == 1:
        loop(start, stop, lambda row: body(0, row))
    else:
        loop(start, stop, lambda row: body(row // height, row % height))
