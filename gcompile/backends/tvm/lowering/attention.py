"""Attention whose scores never are in memory."""

from __future__ import annotations

from dataclasses import replace

from gcompile import ir
from gcompile.backends.tvm.kernels.attention import AttentionKernel, block_steps
from gcompile.backends.tvm.kernels.attention_rows import Mask
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.energy.attention import attention_block
from gcompile.ir.attention import FoundAttention, Rows, Stored

_READABLE = {"uint8": ("uint8", "int8")}
"""What units of bytes read, that of others being their own type."""


def lower_attention(region: ir.Region, found: FoundAttention, memory: Memory) -> None:
    """Emit a region that is attention as a whole.

    Raises:
        CannotEmitError: The unit of its tile does not read what is stored.
    """
    if region.tile is None:
        raise CannotEmitError("the region has no tile")
    unit = unit_named(region.tile.unit).carrying(1)  # Packing at run time knows no wider groups.
    tile = replace(region.tile, unit=unit.name)
    queries, keys = found.sizes[3:5]
    placed = [memory.tensor(operand.value) for operand in found.operands]
    for placement in placed:
        if placement.image.dtype not in _READABLE.get(unit.x_dtype, (unit.x_dtype,)):
            raise CannotEmitError(f"unit {unit.name} does not multiply {placement.image.dtype}")
    masks = [_mask(memory, mask.value) for mask in found.masks]
    output, written = found.output.value, found.output.stored
    image = rows_image(ir.static_shape(output), DTYPES[output.dtype or ir.DataType.FLOAT])
    q, k, v = (
        _matrices(placement.image, operand.rows, found, count)
        for placement, operand, count in zip(
            placed, found.operands, (queries, keys, keys), strict=True
        )
    )
    stored = [operand.stored for operand in found.operands]
    kernel = AttentionKernel(
        Output(image, written.scale, written.zero_point),
        Accumulator(),
        tuple(Source(mask.image) for mask in masks),
        **memory.emission.shared(tile.threads),
        queries=q,
        keys=replace(k, heads=found.sizes[2]),
        values=replace(v, heads=found.sizes[2]),
        written=_matrices(image, found.output.rows, found, queries),
        scale=found.scale * stored[0].scale * stored[1].scale,
        zero_points=(stored[0].zero_point, stored[1].zero_point, stored[2].zero_point),
        weights=_rounded(found.weights),
        value_scale=stored[2].scale * found.weights.scale if found.weights is not None else 1.0,
        masks=tuple(Mask(mask.hidden, mask.where) for mask in found.masks),
        causal=found.causal,
        zero_if_hidden=found.zero_if_hidden,
        tile=tile,
        block=attention_block(
            queries, keys, *block_steps(tile, unit), has_all_keys=found.weights is not None
        ),
    )
    arguments = [placement.var for placement in (*placed, *masks)]
    var = memory.emission.call(kernel, arguments, image)
    memory.put(output, Placement(var, Layout.ROWS, image))


def _rounded(weights: Stored | None) -> Output | None:
    """Weights as the unit reads them: bytes without a sign, of which zero stands for zero."""
    return Output(Image(1, 1, 1, 1, "uint8"), weights.scale) if weights is not None else None


def _matrices(image: Image, rows: Rows, found: FoundAttention, count: int) -> Matrices:
    """The vectors of all heads of all sequences."""
    batch, heads, _, _, _, depth = found.sizes
    strides = (rows.batch_pitch, rows.head_pitch, rows.pitch)
    return Matrices(image, count, depth, batch, heads, strides, rows.offset)


def _mask(memory: Memory, value: ir.Value) -> Placement:
    """A mask as (batch, heads, queries, keys), where a size of one is broadcast."""
    placement, shape = memory.tensor(value), ir.static_shape(value)
    batch, heads, queries, keys = (1,) * (4 - len(shape)) + shape
    dtype = placement.image.dtype
    image = Image(batch, heads, queries, keys, dtype, declared=placement.shape)
    return replace(placement, image=image)
