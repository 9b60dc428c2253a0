"""Softmax and normalizations: kernels that see all channels of a pixel before they write one."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.normalize import NormalizeKernel
from gcompile.backends.tvm.kernels.softmax import SoftmaxKernel
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary, Expression
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.operands import finish, output_image, substitute
from gcompile.backends.tvm.lowering.placement import Layout, Placement, is_padded
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression

ROW_OPERATORS = frozenset(
    {"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
     "GroupNormalization"}
)  # fmt: skip

_EPSILON = 1e-5


def lower_rows(region: ir.Region, node: ir.Node, memory: Memory) -> None:
    """Emit the region around one softmax or normalization."""
    layout = _layout(node)
    body = read_region(region, layout, node.outputs[0], operand=node.inputs[0])
    body.expression = substitute(body.expression, affine_of(node, layout, body))
    image = output_image(memory, body.output, layout)
    finished = finish(memory, body, image, layout)
    assert body.operand is not None
    shared = memory.emission.shared(region.tile.threads if region.tile else 1)
    kernel: SoftmaxKernel | NormalizeKernel
    if node.op_type in ("Softmax", "LogSoftmax"):
        kernel = SoftmaxKernel(
            **finished.kernel,
            **shared,
            operand=body.operand,
            is_log=node.op_type == "LogSoftmax",
        )
    else:
        kernel = NormalizeKernel(
            **finished.kernel,
            **shared,
            operand=body.operand,
            groups=_groups(node, image.channels),
            epsilon=node.attributes.get_float("epsilon", _EPSILON),
            is_centered=node.op_type != "RMSNormalization",
        )
    var = memory.emission.call(kernel, finished.operands, image)
    memory.put(body.output, Placement(var, layout, image))


def _layout(node: ir.Node) -> Layout:
    """Rows where the last axis is worked on; channels last where axis 1 of an image is."""
    shape = ir.static_shape(node.outputs[0])
    rank = len(shape)
    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        axis = 1
        if node.op_type == "GroupNormalization" and is_padded(shape):
            raise CannotEmitError("channels that only pad would join a group")
    else:
        axis = node.attributes.get_int("axis", -1) % max(rank, 1)
        if axis == rank - 1:
            return Layout.ROWS
        if node.op_type not in ("Softmax", "LogSoftmax") or is_padded(shape):
            raise CannotEmitError(f"{node.op_type} runs along axis {axis} of {rank}")
    if axis != 1 or rank not in (3, 4):
        raise CannotEmitError(f"{node.op_type} runs along axis {axis} of {rank}")
    return Layout.CHANNELS_LAST


def affine_of(node: ir.Node, layout: Layout, body: RegionExpression) -> Expression:
    """The scale and bias of a normalization, after it.

    Raises:
        CannotEmitError: They are not constants per channel.
    """
    if node.op_type in ("Softmax", "LogSoftmax"):
        return Accumulator()
    found: Expression = Accumulator()
    channels = ir.static_shape(node.outputs[0])[-1 if layout is Layout.ROWS else 1]
    for value, function in zip(node.inputs[1:3], ("mul", "add"), strict=False):
        if value is None:
            continue
        array = ir.constant_array(value)
        if array is None or array.size not in (1, channels):
            raise CannotEmitError("a scale or bias is not a constant per channel")
        numbers = np.broadcast_to(array.astype(np.float32).reshape(-1), (channels,))
        found = Binary(function, found, body.add_vector(numbers))
    return found


def _groups(node: ir.Node, channels: int) -> int | None:
    match node.op_type:
        case "InstanceNormalization":
            return channels
        case "GroupNormalization":
            return node.attributes.get_int("num_groups", 1)
    return None
