"""A region as kernels of ours: what it reads and writes, and what follows its sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import KernelSequence
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.tvm.kernels.spec import Image, Output, Source
from gcompile.backends.tvm.lowering.operands import batched_image
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression


@dataclass(frozen=True)
class Operand:
    """A value that a kernel reads.

    Attributes:
        channels: Stored for each pixel, those that only pad included, which are zeros.
        border: Pixels (top, left, bottom, right) put around each image beforehand.
        fill: What they hold.
    """

    value: ir.Value
    layout: Layout
    channels: int
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    fill: int = 0


@dataclass(frozen=True)
class Anchor:
    """A region as kernels.

    Attributes:
        x: The left operand; None where all that is read is a source.
        constants: The packed weights and what else is `stored`, then a vector for each of the
            epilogue's, and its numbers if it has any.
        sources: What the epilogue reads.
        output: The value it writes, laid out as `layout`.
        sequence: Its operands are `x`, what is stored, `vector0`, …, `numbers`, `source0`, … and
            `y`.
        stored: The names of the first constants.
        right: The right operand where it is computed, too: then none is stored.
        has_numbers: The last constant is the numbers.
    """

    x: Operand | None
    constants: tuple[NDArray[Any], ...]
    sources: tuple[Operand, ...]
    output: ir.Value
    layout: Layout
    sequence: KernelSequence
    stored: tuple[str, ...] = ("weights",)
    right: Operand | None = None
    has_numbers: bool = False

    @property
    def operands(self) -> tuple[str, ...]:
        """The names of what it reads and writes, in the order of a call."""
        numbers = ("numbers",) if self.has_numbers else ()
        rest = len(self.constants) - len(self.stored) - len(numbers)
        vectors = (f"vector{i}" for i in range(rest))
        sources = (f"source{i}" for i in range(len(self.sources)))
        right = () if self.right is None else ("weights",)
        left = () if self.x is None else ("x",)
        return (*left, *right, *self.stored, *vectors, *numbers, *sources, "y")


def epilogue_of(
    body: RegionExpression, image: Image, layout: Layout
) -> tuple[Epilogue, tuple[Operand, ...]]:
    """What follows the sums of a region, and the operands it reads.

    Args:
        body: The region's expression over its sums; its scale is folded in.
        image: The output.
        layout: How the output and what is read lie.

    Raises:
        CannotEmitError: An operand is broadcast in a way kernels do not know.
    """
    operands = tuple(_source(source.value, layout, image) for source in body.sources)
    epilogue = Epilogue(
        Output(image, 1.0, body.out_zero_point),
        body.expression,
        tuple(
            Source(found, source.scale, source.zero_point)
            for (_, found), source in zip(operands, body.sources, strict=True)
        ),
        len(body.vectors),
    )
    return epilogue, tuple(operand for operand, _ in operands)


def _source(value: ir.Value, layout: Layout, output: Image) -> tuple[Operand, Image]:
    shape, dtype = ir.static_shape(value), storage_of(value)
    if math.prod(shape) == 1:
        return Operand(value, Layout.ROWS, 1), Image(1, 1, 1, 1, dtype)
    if layout is Layout.MATRICES:
        return Operand(value, Layout.ROWS, shape[-1]), batched_image(shape, output, dtype)
    if layout is Layout.CHANNELS_LAST and len(shape) == 4:
        batch, channels, height, width = shape
        image = Image(batch, height, width, channels, dtype)
        return Operand(value, layout, channels), image
    if layout is Layout.ROWS:
        image = Image(1, 1, math.prod(shape[:-1]), shape[-1], dtype)
        if image.channels == output.channels and image.width in (1, output.width):
            return Operand(value, layout, shape[-1]), image
    raise CannotEmitError(f"an input of shape {shape} is broadcast in a way kernels do not know")


def storage_of(value: ir.Value) -> str:
    """How a value is stored, as kernels name it.

    Raises:
        CannotEmitError: No kernel stores it.
    """
    dtype = DTYPES.get(value.dtype or ir.DataType.FLOAT)
    if dtype is None:
        raise CannotEmitError(f"a value has type {value.dtype}")
    return dtype


def itemsize(dtype: str) -> int:
    """Bytes of one element of a type, as numpy or `ml_dtypes` name it."""
    return np.dtype(getattr(ml_dtypes, dtype, dtype)).itemsize
