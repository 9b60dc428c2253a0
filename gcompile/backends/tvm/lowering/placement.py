"""Where a value lies: which Relax variable holds it, and how its memory is laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Image

Halo = tuple[int, int, int, int]
NO_HALO: Halo = (0, 0, 0, 0)

DTYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT8: "int8",
    ir.DataType.INT32: "int32",
    ir.DataType.BOOL: "uint8",
}
"""The element types our kernels read and write; truth is a byte of 1."""


class Layout(Enum):
    """How the logical axes of a value map to memory."""

    ROWS = "axes in their logical order, the last one contiguous"
    GRID = "as ROWS; neighbouring axes along which operands are broadcast alike are one"
    MATRICES = "as ROWS; the last two axes are matrices, those before them batch and heads"
    CHANNELS_LAST = "axis 1 moved to the end: (N, C, H, W) lies as (N, H, W, C)"


@dataclass(frozen=True)
class Placement:
    """One place a value can be read from.

    Attributes:
        var: The Relax variable.
        shape: The shape Relax knows it under.
        image: The same memory as an image; `image.declared` is `shape` where they differ.
    """

    var: relax.Expr
    layout: Layout
    image: Image

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape under which Relax knows the variable."""
        return self.image.tensor_shape


def stored_channels(channels: int) -> int:
    """How many channels a channels-last image stores for `channels` logical ones.

    Byte dot products read four numbers at a time. All types are padded alike, so that a kernel can
    mix them in one region. Images of up to four channels, which are what networks begin with, are
    not padded: there the products pad the kernel's width instead, which reads less.
    """
    return channels if channels <= 4 else -(-channels // 4) * 4


def is_padded(shape: tuple[int, ...]) -> bool:
    """Say whether the channels-last image of a logical shape stores more channels than it has."""
    return len(shape) in (3, 4) and stored_channels(shape[1]) != shape[1]


def image_of(value: ir.Value, layout: Layout, *, halo: Halo = NO_HALO, fill: float = 0.0) -> Image:
    """The image a value of static shape and known type is, in the layout given."""
    dtype = DTYPES[value.dtype or ir.DataType.FLOAT]
    shape = ir.static_shape(value)
    batch, height, width, channels = logical_dims(shape, layout)
    if layout is Layout.CHANNELS_LAST:
        stored = stored_channels(channels)
        return Image(batch, height, width, stored, dtype, halo, fill)
    return rows_image(shape, dtype)


def rows_image(shape: tuple[int, ...], dtype: str) -> Image:
    """A tensor in logical order as the image of one row of pixels."""
    batch, height, width, channels = logical_dims(shape, Layout.ROWS)
    return Image(batch, height, width, channels, dtype, declared=shape)


def logical_dims(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int, int]:
    """(batch, height, width, channels) of a logical shape."""
    if layout is Layout.CHANNELS_LAST:
        if len(shape) == 4:
            return shape[0], shape[2], shape[3], shape[1]
        if len(shape) == 3:
            return shape[0], 1, shape[2], shape[1]
        raise ValueError(f"A tensor of rank {len(shape)} has no channels-last layout.")
    last = shape[-1] if shape else 1
    return 1, 1, math.prod(shape[:-1]), last


def is_same_memory(shape: tuple[int, ...]) -> bool:
    """Say whether channels-last and logical order are the same bytes for this shape."""
    if len(shape) not in (3, 4):
        return False
    return shape[1] == 1 or math.prod(shape[2:]) == 1
