"""What each node can be inside a region."""

from __future__ import annotations

import math
from enum import Enum, auto

from gcompile import ir
from gcompile.passes.channels import is_per_channel

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_ROWS = frozenset(
    {"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
     "GroupNormalization"}
)  # fmt: skip
COPIES = frozenset({"Concat", "Slice", "Pad", "Expand", "Tile"})
"""Moves that one kernel does as copies of boxes, converting numbers on the way."""

_MOVES = COPIES | {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth"
}  # fmt: skip
_UNARY = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu",
     "Softplus", "Mish", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Floor",
     "Ceil", "Round", "Sign", "Swish"}
)  # fmt: skip
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"})
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class Kind(Enum):
    """The part a node can play in a region."""

    PRODUCT = auto()
    """A convolution or matrix product: regions grow around it."""
    POOL = auto()
    """A maximum or mean over a window: regions grow around it too."""
    ROW = auto()
    """A softmax or normalization: sees a whole row, so that its region grows both ways."""
    MOVE = auto()
    """Elements change place, not value."""
    ELEMENTWISE = auto()
    """One output element from the elements at the same place."""
    DECODE = auto()
    """From the stored format to the computed one: only at the start of a region."""
    ENCODE = auto()
    """From the computed format to the stored one: only at the end of a region."""
    OTHER = auto()
    """A region of its own."""


def kind_of(node: ir.Node) -> Kind:
    """Classify a node by its operator, types and shapes."""
    if node.domain or any(value.uses() for value in node.outputs[1:]):
        return Kind.OTHER
    if ir.decodes_storage(node):
        is_known = _has_constant_parameters(node) or _feeds_product(node)
        return Kind.DECODE if is_known else Kind.OTHER
    if _encodes_storage(node):
        return Kind.ENCODE if _has_constant_parameters(node) else Kind.OTHER
    if node.op_type in _MOVES:
        return Kind.MOVE
    if node.outputs[0].dtype not in _FLOATS:
        return Kind.OTHER
    if node.op_type in _PRODUCTS:
        return Kind.PRODUCT
    if node.op_type in _POOLS or _is_spatial_mean(node):
        return Kind.POOL
    if node.op_type in _ROWS and _has_constant_parameters(node):
        return Kind.ROW
    return Kind.ELEMENTWISE if _is_elementwise(node) else Kind.OTHER


def channel_axis(anchor: ir.Node) -> int:
    """The axis of the anchor's output that counts channels."""
    if anchor.op_type in ("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"):
        return anchor.attributes.get_int("axis", -1)
    return -1 if anchor.op_type in ("Gemm", "MatMul") else 1


def fits_after(node: ir.Node, anchor: ir.Node, inside: set[ir.Node]) -> bool:
    """Say whether an elementwise node can follow the anchor in its region.

    Its other operands are constants (one number, or one per channel) or tensors of the very shape
    of the anchor's output, which the kernel reads as it writes.
    """
    shape = ir.static_shape(anchor.outputs[0])
    if ir.static_shape(node.outputs[0]) != shape:
        return False
    axis = channel_axis(anchor)
    return all(
        value is None
        or value.producer() in inside
        or (
            is_per_channel(ir.static_shape(value), shape, axis)
            if ir.is_constant(value)
            else ir.static_shape(value) == shape
        )
        for value in node.inputs
    )


def fits_after_batch(node: ir.Node, anchor: ir.Node, inside: set[ir.Node]) -> bool:
    """Say whether a node can follow a batch of products.

    An elementwise node's other operands are broadcast any way, as masks are. A transpose that puts
    the heads side by side ends the region: nothing but scalars may come before it.
    """
    shape = ir.static_shape(anchor.outputs[0])
    product = ir.batched_product(anchor, inside - {node})
    if product is None or product.mover is not None:
        return False
    if node.op_type == "Transpose":
        is_bare = all(
            ir.is_constant(value) and math.prod(ir.static_shape(value)) == 1
            for before in inside - {node, anchor}
            if before.op_type in _UNARY | _BINARY
            for value in before.inputs
            if value is not None and value.producer() not in inside
        )
        return is_bare and ir.puts_heads_side_by_side(node)
    if node.op_type not in _UNARY | _BINARY or node.outputs[0].dtype not in _FLOATS:
        return False
    if node.op_type in _UNARY and not _has_constant_parameters(node):
        return False
    return ir.static_shape(node.outputs[0]) == shape


def _encodes_storage(node: ir.Node) -> bool:
    if node.op_type == "QuantizeLinear":
        return True
    if node.op_type != "Cast":
        return False
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.dtype is not ir.DataType.FLOAT:
        return False
    if result.dtype is ir.DataType.FLOAT16:
        return not result.is_graph_output()
    return result.dtype is ir.DataType.BFLOAT16


def _feeds_product(decoder: ir.Node) -> bool:
    """Decode the left operand of a product, which takes a scale that is found at run time."""
    reader = ir.only_reader(decoder.outputs[0])
    if reader is None or ir.dynamic_quantizer(decoder) is None:
        return False
    if reader.op_type == "Conv":
        # What padding stands for is found at run time, too.
        return reader.inputs[0] is decoder.outputs[0] and not any(
            reader.attributes.get_ints("pads", [])
        )
    if reader.op_type not in ("MatMul", "Gemm") or reader.attributes.get_int("transA", False):
        return False
    return reader.inputs[0] is decoder.outputs[0]


def _has_constant_parameters(node: ir.Node) -> bool:
    return all(value is None or ir.is_constant(value) for value in node.inputs[1:])


def _is_spatial_mean(node: ir.Node) -> bool:
    """A ReduceMean over height and width is a global pool."""
    if node.op_type != "ReduceMean" or len(node.inputs) < 2:
        return False
    rank, axes = len(ir.static_shape(node.inputs[0])), ir.constant_array(node.inputs[1])
    return rank > 2 and axes is not None and {int(a) % rank for a in axes} == set(range(2, rank))


def _is_elementwise(node: ir.Node) -> bool:
    if node.op_type in _UNARY:
        return _has_constant_parameters(node)
    if node.op_type not in _BINARY or len(node.inputs) != 2:
        return False
    return all(_reads_in_place(value, node.outputs[0]) for value in node.inputs)


def _reads_in_place(value: ir.Value | None, output: ir.Value) -> bool:
    """Constants may broadcast any way; tensors only when they hold one number per channel."""
    if value is None or ir.is_constant(value):
        return True
    dims, shape = ir.static_shape(value), ir.static_shape(output)
    if dims == shape or all(d == 1 for d in dims):
        return True
    if is_per_channel(dims, shape, -1):
        return True
    batched = dims[:1] == shape[:1] and len(dims) == len(shape)
    return len(shape) > 3 and is_per_channel((1, *dims[1:]) if batched else dims, shape, 1)
