"""The operands all kernels share: the expression, its sources and its per-channel vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypedDict

from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Expression,
    Image,
    Output,
    Select,
    Source,
    Unary,
)
from gcompile.backends.tvm.lowering.grids import Grid
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import Layout, Placement, image_of, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.backends.tvm.lowering.weights import pad_to


class Fields(TypedDict):
    """The fields of a kernel that follow from its expression."""

    output: Output
    expression: Expression
    sources: tuple[Source, ...]
    channel_vectors: int


@dataclass(frozen=True)
class Finished:
    """The fields all kernels share, and the operands that go with them."""

    kernel: Fields
    operands: list[relax.Expr]


def finish(
    memory: Memory,
    body: RegionExpression,
    image: Image,
    layout: Layout,
    grid: Grid | None = None,
) -> Finished:
    """Scale the expression for a quantized output, and bring every source into the layout.

    `grid` is how the layout of that name joins axes.
    """
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    placements = [
        grid.operand(memory.tensor(s.value), ir.static_shape(s.value))
        if grid is not None
        else _operand(memory, s.value, layout, image)
        for s in body.sources
    ]
    sources = tuple(
        Source(placement.image, source.scale, source.zero_point)
        for placement, source in zip(placements, body.sources, strict=True)
    )
    # Ones: whatever divides by a vector must not divide by zero in channels that only pad.
    vectors = [pad_to(vector, (image.channels,), 1) for vector in body.vectors]
    operands = [memory.emission.constant(vector) for vector in vectors]
    operands += [placement.var for placement in placements]
    return Finished(
        {
            "output": Output(image, 1.0, body.out_zero_point),
            "expression": body.expression,
            "sources": sources,
            "channel_vectors": len(vectors),
        },
        operands,
    )


def output_image(memory: Memory, output: ir.Value, layout: Layout) -> Image:
    """The image a region writes its output to."""
    if layout is Layout.CHANNELS_LAST:
        return memory.new_image(output)
    return image_of(output, layout)


def batched_image(shape: tuple[int, ...], output: Image, dtype: str) -> Image:
    """A tensor that is broadcast to an output of matrices, as an image like the output's.

    Raises:
        CannotEmitError: It is broadcast along some of the axes that the output counts as one.
    """
    *leading, rows, columns = (1, 1, *shape)[-max(len(shape), 2) :]
    count = math.prod(leading)
    batch, heads = output.batch, output.height
    if count == 1:
        batch, heads = 1, 1
    elif count != batch * heads:
        batch, heads = (1, 1, *leading)[-2:]
    if count == batch * heads and batch in (1, output.batch) and heads in (1, output.height):
        return Image(batch, heads, rows, columns, dtype)
    raise CannotEmitError(f"an input of shape {shape} is broadcast to batches of matrices")


def substitute(node: Expression, accumulated: Expression) -> Expression:
    """Put the real product where the expression names the bare accumulator."""
    match node:
        case Accumulator():
            return accumulated
        case Binary(function, left, right):
            return Binary(function, substitute(left, accumulated), substitute(right, accumulated))
        case Select(condition, left, right):
            return Select(*(substitute(part, accumulated) for part in (condition, left, right)))
        case Unary():
            return replace(node, operand=substitute(node.operand, accumulated))
    return node


def _operand(memory: Memory, value: ir.Value, layout: Layout, image: Image) -> Placement:
    shape = ir.static_shape(value)
    if layout is Layout.CHANNELS_LAST and len(shape) in (3, 4):
        placement = memory.image(value)
        if placement.image.channels not in (1, image.channels):
            raise CannotEmitError("operands store different numbers of channels")
        return placement
    placement = memory.tensor(value)
    if layout is Layout.MATRICES:
        batched = batched_image(shape, image, placement.image.dtype)
        return replace(placement, image=replace(batched, declared=placement.shape))
    rows = rows_image(shape, placement.image.dtype)
    if image.batch > 1 and image.width == 1 and layout is Layout.ROWS:
        rows = Image(image.batch, 1, 1, image.channels, placement.image.dtype)
    return replace(placement, image=replace(rows, declared=placement.shape))
