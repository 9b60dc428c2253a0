"""How much work a region of the graph does, whatever the hardware."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.precision import Precision
from gcompile.ir.recurrence import recurrence_of
from gcompile.ir.region import Region
from gcompile.ir.row_write import RowWrite, row_write_of
from gcompile.ir.shapes import static_shape
from gcompile.ir.stored_move import VIEWS, is_view

_VECTOR_OPS_PER_ELEMENT = {
    "Exp": 10, "Log": 12, "Tanh": 14, "Sigmoid": 14, "Erf": 14, "Gelu": 20, "Softplus": 20,
    "Mish": 30, "Softmax": 14, "LogSoftmax": 16, "Sqrt": 4, "Pow": 20, "Div": 2, "HardSwish": 4,
    "HardSigmoid": 3, "Elu": 12, "Selu": 13, "Celu": 13, "LayerNormalization": 8,
    "InstanceNormalization": 8, "GroupNormalization": 8, "BatchNormalization": 2,
    "QuantizeLinear": 4, "DequantizeLinear": 2, "LRN": 10,
}  # fmt: skip
_MOVES = frozenset(
    {"Transpose", "Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Tile", "Cast",
     "DepthToSpace", "SpaceToDepth", "Shape", "Constant"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """Operations done, and bytes that cross the region's border, each value once.

    Attributes:
        precision: The format of the products.
        product_ops: Operations (2 per multiply-accumulate) of dense products: a matrix unit can do
            them where the target has one.
        vector_ops: Operations that only a vector unit does: elementwise, reductions, depthwise.
        read_bytes: Activations read.
        weight_bytes: Constants read.
        write_bytes: Values written.
        is_view: The region only renames memory and costs nothing.
    """

    precision: Precision = Precision.FP32
    product_ops: int = 0
    vector_ops: int = 0
    read_bytes: int = 0
    weight_bytes: int = 0
    write_bytes: int = 0
    is_view: bool = False

    @property
    def moved_bytes(self) -> int:
        """All bytes that cross the border."""
        return self.read_bytes + self.weight_bytes + self.write_bytes


def work_of(region: Region) -> Work:
    """Count the work of one region.

    Raises:
        InvalidModelError: A shape is not known.
    """
    if is_view(region):
        return Work(precision=region.precision, is_view=True)
    product, vector = operations_of(region.nodes)
    return Work(
        precision=region.precision,
        product_ops=product,
        vector_ops=vector,
        read_bytes=sum(read_bytes(v, region) for v in region.inputs if v.const_value is None),
        weight_bytes=sum(value_bytes(v) for v in region.inputs if v.const_value is not None),
        write_bytes=sum(written_bytes(value, region) for value in region.outputs),
    )


def operations_of(nodes: Iterable[onnx_ir.Node]) -> tuple[int, int]:
    """Count the operations of dense products, and those that only a vector unit does.

    Raises:
        InvalidModelError: A shape is not known.
    """
    product, vector = 0, 0
    for node in nodes:
        node_product, node_vector = _operations(node)
        product, vector = product + node_product, vector + node_vector
    return product, vector


def value_bytes(value: onnx_ir.Value) -> int:
    """The bytes a value takes in memory."""
    dtype = value.dtype or onnx_ir.DataType.FLOAT
    if dtype is onnx_ir.DataType.STRING:
        return 16 * _size(value)
    return math.ceil(_size(value) * dtype.itemsize)


def read_bytes(value: onnx_ir.Value, region: Region) -> int:
    """The bytes of an input that a region reads.

    A gather or slice reads what it returns, not the whole table; rows that are replaced where they
    lie are not read at all.
    """
    node = region.nodes[0]
    if len(region.nodes) > 1 or value is not node.inputs[0]:
        return value_bytes(value)
    if node.op_type in ("Gather", "Slice", "GatherElements", "GatherND"):
        return min(value_bytes(value), sum(value_bytes(v) for v in node.outputs))
    return 0 if _replaced_in_place(node) else value_bytes(value)


def written_bytes(value: onnx_ir.Value, region: Region) -> int:
    """The bytes of an output that a region writes: rows in place, or all of it."""
    rows = _replaced_in_place(region.nodes[0])
    return value_bytes(value) if rows is None else value_bytes(rows.updates)


def _replaced_in_place(node: onnx_ir.Node) -> RowWrite | None:
    written = row_write_of(node)
    return written if written is not None and written.is_in_place else None


def _operations(node: onnx_ir.Node) -> tuple[int, int]:
    """Count (product operations, vector operations) of one node."""
    out = sum(_size(value) for value in node.outputs if value.name)
    match node.op_type:
        case "Conv":
            weight = static_shape(node.inputs[1])
            ops = 2 * out * math.prod(weight[1:])
            return (0, ops) if _is_depthwise(node, weight) else (ops, 0)
        case "ConvTranspose":
            weight = static_shape(node.inputs[1])
            return 2 * _size(node.inputs[0]) * math.prod(weight[1:]), 0
        case "MatMul" | "MatMulInteger":
            return 2 * out * static_shape(node.inputs[0])[-1], 0
        case "Gemm":
            a = static_shape(node.inputs[0])
            return 2 * out * a[0 if node.attributes.get_int("transA", 0) else 1], 0
        case "LSTM" | "GRU" | "RNN":
            net = recurrence_of(node)
            return (2 * net.projection.macs, net.step_ops) if net is not None else (0, 0)
        case "ScatterElements" | "ScatterND" if row_write_of(node) is not None:
            return 0, 0
        case "MaxPool" | "AveragePool" | "LpPool":
            return 0, out * math.prod(node.attributes.get_ints("kernel_shape", [1]))
        case name if name.startswith(("Reduce", "Global")) or name == "ArgMax":
            return 0, sum(_size(v) for v in node.inputs[:1])
        case name if name in VIEWS or name in _MOVES:
            return 0, 0
        case name:
            return 0, out * _VECTOR_OPS_PER_ELEMENT.get(name, 1)


def _is_depthwise(node: onnx_ir.Node, weight: tuple[int, ...]) -> bool:
    group = node.attributes.get_int("group", 1)
    return group > 1 and weight[1] == 1


def _size(value: onnx_ir.Value | None) -> int:
    return math.prod(static_shape(value))
