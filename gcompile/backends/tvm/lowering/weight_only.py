"""Matrix products of float activations with weights that stay integers in memory."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.few_bits import EIGHT, Matrix
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary
from gcompile.backends.tvm.kernels.weight_only import (
    WeightOnlyKernel,
    decoded_panel,
    decoding_unit,
)
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image, substitute
from gcompile.backends.tvm.lowering.placement import Layout, Placement
from gcompile.backends.tvm.lowering.products import rows_of_pixels
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.weights import constant_bias
from gcompile.backends.tvm.lowering.windows import stored_input

_FLOATS = ("float32", "bfloat16", "float16")


def lower_weight_only(region: ir.Region, memory: Memory) -> None:
    """Emit the region.

    Raises:
        CannotEmitError: The blocks, the unit or the left operand are not ones kernels know.
    """
    node, decoder, tile = region.anchor, region.weight_decoder, region.tile
    assert node is not None
    assert decoder is not None
    stored, _, _ = stored_input(region, node.inputs[0])
    shape = ir.contraction_of(node)
    if shape is None or shape.batch != 1 or node.attributes.get_int("transA", False):
        raise CannotEmitError("the left operand is transposed or batched")
    if tile is None:
        raise CannotEmitError("the region has no tile")
    x, unit = rows_of_pixels(memory, stored, shape), decoding_unit(tile)
    if unit.x_dtype != x.image.dtype or x.image.dtype not in _FLOATS:
        raise CannotEmitError(
            f"unit {unit.name} does not multiply {x.image.dtype} with stored integers"
        )
    matrix = stored_matrix(node, decoder, x.image.channels)
    bias = np.zeros(shape.out_c)
    if node.op_type == "Gemm":
        addend = constant_bias(node.inputs[2] if len(node.inputs) > 2 else None, shape.out_c)
        bias = addend * node.attributes.get_float("beta", 1.0)
    body = read_region(region, Layout.ROWS, node.outputs[0])
    if bias.any():
        added = Binary("add", Accumulator(), body.add_vector(bias.astype(np.float32)))
        body.expression = substitute(body.expression, added)
    image = output_image(memory, body.output, Layout.ROWS)
    finished = finish(memory, body, image, Layout.ROWS)
    kernel = WeightOnlyKernel(
        **finished.kernel,
        **memory.emission.shared(tile.threads),
        contraction=ir.Contraction.matmul(shape.m, x.image.channels, image.channels),
        x=x.image,
        tile=tile,
        panel=decoded_panel(unit, memory.emission.cache_bytes),
        stored=matrix.stored,
    )
    packed = [memory.emission.constant(array) for array in matrix.packed(unit.lanes)]
    var = memory.emission.call(kernel, [x.var, *packed, *finished.operands], image)
    memory.put(body.output, Placement(var, Layout.ROWS, image))


def stored_matrix(node: ir.Node, decoder: ir.Node, depth: int) -> Matrix:
    """The right operand as (channels, depth), its numbers signed; `depth` may be padded."""
    arrays = [ir.constant_array(value) for value in decoder.inputs]
    stored, scales = arrays[0], arrays[1]
    if stored is None or scales is None or stored.ndim != 2:
        raise CannotEmitError("the right operand is not a constant matrix")
    zeros = arrays[2] if len(arrays) > 2 else None
    dtype = stored.dtype.name
    bits = 4 if dtype.endswith("4") else 8
    offset = 1 << (bits - 1) if dtype.startswith("u") else 0
    is_transposed = bool(node.attributes.get_int("transB", 0))
    depth_axis = 1 if is_transposed else 0
    block = _block(decoder, stored.shape, scales.ndim, depth_axis)
    numbers = stored.astype(np.int16) - offset
    points = np.zeros(scales.shape, np.int16) if zeros is None else zeros.astype(np.int16)
    rows = [numbers, *_per_block(stored.shape, (scales, points - offset), depth_axis)]
    if not is_transposed:
        rows = [array.T for array in rows]
    alpha = np.float32(node.attributes.get_float("alpha", 1.0) if node.op_type == "Gemm" else 1.0)
    padded = np.pad(rows[0], ((0, 0), (0, depth - rows[0].shape[1])))
    return Matrix(
        numbers=np.ascontiguousarray(padded, np.int8),
        scales=np.ascontiguousarray(rows[1], np.float32) * alpha,
        zero_points=np.ascontiguousarray(rows[2], np.int8),
        bits=bits,
        block=block,
    )


def _block(decoder: ir.Node, shape: tuple[int, ...], scale_rank: int, depth_axis: int) -> int:
    """Elements of depth that share a scale, a multiple of what kernels read at once."""
    whole = -(-shape[depth_axis] // EIGHT) * EIGHT
    axis = decoder.attributes.get_int("axis", 1) % 2
    block = decoder.attributes.get_int("block_size", 0)
    if scale_rank == 1 and axis == depth_axis and min(shape) > 1:
        raise CannotEmitError("each element of depth has a scale of its own")
    if not block:
        return whole
    if axis != depth_axis:
        raise CannotEmitError("the weight's blocks run along its output channels")
    block = min(block, whole)
    if block % EIGHT:
        raise CannotEmitError(f"blocks of {block} are no multiple of {EIGHT}")
    return block


def _per_block(
    shape: tuple[int, ...], parameters: tuple[ir.Array, ...], depth_axis: int
) -> list[ir.Array]:
    """Scales and zero points with the axes of the weight, the depth's counting blocks."""
    sizes = [1 if axis == depth_axis else size for axis, size in enumerate(shape)]
    return [
        array if array.ndim == 2 else np.broadcast_to(array.reshape(-1), max(sizes)).reshape(sizes)
        for array in parameters
    ]
