"""A kernel that computes some rows of what another one computes.

It reads as many rows of each operand as those need, all of them stored: padding above and below an
image is rows like others. At the sides an image keeps its halo.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gcompile.backends.tvm.kernels.spec import (
    AnyKernel,
    DepthwiseKernel,
    ElementwiseKernel,
    Image,
    Kernel,
    PoolKernel,
    ProductKernel,
)
from gcompile.backends.tvm.kernels.window import Window
from gcompile.backends.tvm.kernels.winograd import WinogradKernel
from gcompile.ir import RowWindow

WindowKernel = ProductKernel | DepthwiseKernel | PoolKernel | WinogradKernel
BandedKernel = WindowKernel | ElementwiseKernel

_SAME_ROW = RowWindow()


@dataclass(frozen=True, slots=True)
class ImageOperand:
    """One argument of a kernel that is an image of as many rows as its output has, or more.

    Attributes:
        index: Which argument it is.
        window: The rows that one row of the output reads.
    """

    index: int
    image: Image
    window: RowWindow


def is_banded(kernel: AnyKernel) -> bool:
    """Say whether rows of the kernel's output can be computed by themselves."""
    if not isinstance(kernel, BandedKernel):
        return False
    image = kernel.output.image
    if image.batch != 1 or image.height == 1:
        return False
    if isinstance(kernel, PoolKernel) and kernel.function == "average":
        top, _, bottom, _ = Window(kernel.contraction, kernel.x).reach
        if max(top, bottom) > 0:  # It counts the rows inside the image.
            return False
    if isinstance(kernel, WindowKernel) and kernel.contraction.out_h != image.height:
        return False
    return all(source.image.height in (1, image.height) for source in kernel.sources)


def least_rows(kernel: BandedKernel) -> int:
    """The fewest rows that can be computed at once."""
    return kernel.tile.winograd if isinstance(kernel, WinogradKernel) else 1


def image_operands(kernel: BandedKernel) -> tuple[ImageOperand, ...]:
    """The arguments of which each pass reads other rows, in the kernel's order."""
    leading = 0
    found = []
    if isinstance(kernel, WindowKernel):
        leading = 1 if isinstance(kernel, PoolKernel) else 2
        found.append(ImageOperand(0, kernel.x, RowWindow.of(kernel.contraction)))
    first = leading + kernel.channel_vectors
    found += [
        ImageOperand(first + index, source.image, _SAME_ROW)
        for index, source in enumerate(kernel.sources)
        if source.image.height > 1
    ]
    return tuple(found)


def rows_of(image: Image, rows: int) -> Image:
    """The image of some rows of another, with the halo at its sides."""
    _, left, _, right = image.halo
    return replace(image, height=rows, halo=(0, left, 0, right), declared=None)


def band_of(kernel: BandedKernel, rows: int) -> Kernel:
    """The kernel that computes `rows` consecutive rows; see `image_operands` for what it reads."""
    sources = tuple(
        replace(source, image=rows_of(source.image, rows)) if source.image.height > 1 else source
        for source in kernel.sources
    )
    output = replace(kernel.output, image=rows_of(kernel.output.image, rows))
    if not isinstance(kernel, WindowKernel):
        return replace(kernel, output=output, sources=sources)
    (x, *_) = image_operands(kernel)
    read = x.window.count(rows)
    sizes = replace(kernel.contraction, in_h=read, out_h=rows, pad_top=0, pad_bottom=0)
    band = replace(
        kernel, output=output, sources=sources, contraction=sizes, x=rows_of(x.image, read)
    )
    if isinstance(band, WinogradKernel):
        return replace(band, tile=replace(band.tile, block=min(band.tile.block, band.tiles)))
    return band
