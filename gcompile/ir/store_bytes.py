"""Let bytes stand for the narrow types of a model, its border included.

Values of 8-bit and 4-bit floats become their codes (uint8), integers of two and four bits become
whole numbers in a byte, and what converts from and to them is written out in operators that every
backend knows. Operators that only move elements stay as they are.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from gcompile.errors import UnsupportedNode, UnsupportedOperatorsError
from gcompile.ir.constants import constant_array
from gcompile.ir.infer import infer_graph
from gcompile.ir.narrow_types import (
    INTEGER_BITS,
    NARROW,
    decoded,
    is_narrow_float,
    rounding_to,
    stored,
    stored_type,
)
from gcompile.ir.walk import all_graphs, all_nodes

_Type = onnx_ir.DataType
_MOVES = frozenset(
    {"Concat", "Constant", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements",
     "GatherND", "Identity", "If", "Reshape", "Shape", "Size", "Slice", "SpaceToDepth", "Split",
     "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
_WIDE = (_Type.DOUBLE, _Type.INT32, _Type.UINT32, _Type.INT64, _Type.UINT64)
"""Types whose numbers float32 does not hold."""


def store_bytes(model: onnx_ir.Model) -> bool:
    """Rewrite the model in place; return whether it has narrow types.

    Raises:
        UnsupportedOperatorsError: An operator computes in a narrow type.
    """
    if not _has_narrow(model):
        return False
    infer_graph(model.graph, model.opset_imports)
    types = {value: value.dtype for value in _values(model) if value.dtype in NARROW}
    for value, dtype in types.items():
        if (array := constant_array(value)) is not None:
            value.const_value = onnx_ir.tensor(stored(array, dtype), name=value.name)
        value.type = onnx_ir.TensorType(stored_type(dtype))
    for node in list(all_nodes(model)):
        _rewrite(node, types)
    return True


def _has_narrow(model: onnx_ir.Model) -> bool:
    return any(value.dtype in NARROW for value in _values(model)) or any(
        attr.type is onnx_ir.AttributeType.INT
        and attr.name in ("to", "output_dtype")
        and attr.as_int() in {int(dtype) for dtype in NARROW}
        for node in all_nodes(model)
        for attr in node.attributes.values()
    )


def _values(model: onnx_ir.Model) -> list[onnx_ir.Value]:
    found: dict[onnx_ir.Value, None] = {}
    for graph in all_graphs(model):
        found.update(dict.fromkeys((*graph.inputs, *graph.initializers.values())))
        found.update(dict.fromkeys(value for node in graph for value in node.outputs))
    return list(found)


def _rewrite(node: onnx_ir.Node, types: dict[onnx_ir.Value, _Type]) -> None:
    touched = [types.get(value) for value in (*node.inputs, *node.outputs) if value is not None]
    if not any(touched):
        return
    match node.op_type:
        case "Cast" | "CastLike":
            writer = _Writer(node, types)
            writer.replace(writer.cast(node.inputs[0], writer.result))
        case "DequantizeLinear":
            if is_narrow_float(touched[0]):
                writer = _Writer(node, types)
                writer.replace(writer.dequantized())
        case "QuantizeLinear":
            writer = _Writer(node, types)
            writer.replace(writer.quantized())
        case "Constant":
            _store_attribute(node)
        case operator if operator not in _MOVES:
            reason = "it computes in a number format of eight bits or fewer"
            remedy = "Cast its inputs to float32 and its outputs back"
            raise UnsupportedOperatorsError(
                [UnsupportedNode(str(node.name or node.op_type), operator, reason, remedy)]
            )


def _store_attribute(node: onnx_ir.Node) -> None:
    tensor = node.attributes["value"].as_tensor()
    array = onnx_ir.tensor(stored(tensor.numpy(), tensor.dtype))
    node.attributes["value"] = onnx_ir.AttrTensor("value", array)


class _Writer:
    """Writes what takes the place of one node."""

    def __init__(self, node: onnx_ir.Node, types: dict[onnx_ir.Value, _Type]) -> None:
        self.node, self.types, self.tape = node, types, Tape()
        output = node.outputs[0]
        self.result: _Type = types.get(output) or output.dtype or _Type.FLOAT

    def replace(self, value: onnx_ir.Value) -> None:
        """Insert the nodes written; the last one takes over the output's name."""
        graph, output = self.node.graph, self.node.outputs[0]
        assert graph is not None
        for index, made in enumerate(self.tape.nodes):
            made.name = f"{self.node.name or output.name}::{index}"
            made.metadata_props.update(self.node.metadata_props)
            for result in made.outputs:
                result.name = f"{output.name}::{index}"
        graph.insert_before(self.node, self.tape.nodes)
        value.shape, value.type = output.shape, output.type
        name, output.name = output.name, f"{output.name}::replaced"
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        value.name = name
        graph.remove(self.node, safe=True)

    def cast(
        self, value: onnx_ir.Value | None, to: _Type, own: _Type | None = None
    ) -> onnx_ir.Value:
        """The value as numbers of another type; `own` is the type of what is not in the graph."""
        assert value is not None
        source = own or self.types.get(value) or value.dtype or _Type.FLOAT
        if is_narrow_float(source):
            value, source = self._decode(value, source), _Type.FLOAT
        if is_narrow_float(to):
            wide = _Type.DOUBLE if source in _WIDE else _Type.FLOAT
            return self._encode(self._plain_cast(value, wide), to, wide)
        if to in INTEGER_BITS:
            return self._wrapped(self._plain_cast(value, _Type.INT32), to)
        return self._plain_cast(value, to)

    def dequantized(self) -> onnx_ir.Value:
        """(x - zero) * scale, where the zero of floats is zero."""
        x, scale = self.node.inputs[:2]
        product = self.op(
            "Mul", self.cast(x, _Type.FLOAT), self._spread(self.cast(scale, _Type.FLOAT))
        )
        return self._plain_cast(product, self.result)

    def quantized(self) -> onnx_ir.Value:
        """What is divided by the scale, rounded; integers go through those of a byte."""
        x, scale = self.node.inputs[:2]
        if is_narrow_float(self.result):
            quotient = self.op(
                "Div", self.cast(x, _Type.FLOAT), self._spread(self.cast(scale, _Type.FLOAT))
            )
            return self._encode(quotient, self.result, _Type.FLOAT)
        byte = stored_type(self.result)
        kept = {
            k: a for k, a in self.node.attributes.items() if k not in ("output_dtype", "precision")
        }
        attributes = {name: attr.value for name, attr in kept.items()}
        if len(self.node.inputs) < 3:
            attributes["output_dtype"] = int(byte)
        quantized = self.tape.op("QuantizeLinear", self.node.inputs, attributes)
        low, high = _limits(self.result)
        return self.op(
            "Clip", quantized, self.constant(np.array(low, byte.numpy())),
            self.constant(np.array(high, byte.numpy())),
        )  # fmt: skip

    def op(self, op_type: str, *inputs: onnx_ir.Value, **attributes: int) -> onnx_ir.Value:
        return self.tape.op(op_type, inputs, attributes or None)

    def constant(self, array: NDArray[np.generic]) -> onnx_ir.Value:
        return self.tape.op("Constant", (), {"value": onnx_ir.tensor(array)})

    def _plain_cast(self, value: onnx_ir.Value, to: _Type) -> onnx_ir.Value:
        return self.op("Cast", value, to=int(to))

    def _decode(self, codes: onnx_ir.Value, dtype: _Type) -> onnx_ir.Value:
        table = self.constant(decoded(dtype))
        return self.op("Gather", table, self._plain_cast(codes, _Type.INT32))

    def _encode(self, value: onnx_ir.Value, to: _Type, wide: _Type) -> onnx_ir.Value:
        """Count the boundaries each magnitude has reached."""
        mode = "up" if to is _Type.FLOAT8E8M0 else "nearest"
        rule = rounding_to(
            to,
            self.node.attributes.get_int("saturate", True) != 0,
            self.node.attributes.get_string("round_mode", mode),
        )
        zero, one = (self.constant(np.array(n, wide.numpy())) for n in (0, 1))
        last = self.constant(np.array([-1]))
        boundaries = self.constant(_not_below(rule.boundaries, wide))
        magnitude = self.op("Unsqueeze", self.op("Abs", value), last)
        reached = self._plain_cast(self.op("GreaterOrEqual", magnitude, boundaries), _Type.INT32)
        index = self.op("ReduceSum", reached, last, keepdims=0)
        is_negative = self.op(  # The reciprocal of -0 is negative.
            "Or", self.op("Less", value, zero), self.op("Less", self.op("Div", one, value), zero)
        )
        positive, negative = (
            self.op("Gather", self.constant(codes), index)
            for codes in (rule.positive, rule.negative)
        )
        code = self.op("Where", is_negative, negative, positive)
        nan = self.constant(np.array(rule.nan, np.int32))
        return self._plain_cast(self.op("Where", self.op("IsNaN", value), nan, code), _Type.UINT8)

    def _wrapped(self, value: onnx_ir.Value, to: _Type) -> onnx_ir.Value:
        """The lowest bits of a whole number, in two's complement where the type has a sign."""
        low, high = _limits(to)
        offset, count = (self.constant(np.array(n, np.int32)) for n in (-low, high - low + 1))
        wrapped = self.op("Mod", self.op("Add", value, offset), count)
        return self._plain_cast(self.op("Sub", wrapped, offset), stored_type(to))

    def _spread(self, scale: onnx_ir.Value) -> onnx_ir.Value:
        """A scale for each slice along an axis, so that it is broadcast."""
        shapes = [value.shape for value in self.node.inputs[:2] if value is not None]
        x, given = (None if shape is None else shape.dims for shape in shapes)
        if given is None or x is None or self.node.attributes.get_int("block_size", False):
            reason, remedy = "its scales are blocks or of unknown shape", "dequantize before it"
            raise UnsupportedOperatorsError(
                [UnsupportedNode(str(self.node.name), self.node.op_type, reason, remedy)]
            )
        if not given or given == (1,):
            return scale
        sizes = np.ones(len(x), np.int64)
        sizes[self.node.attributes.get_int("axis", 1)] = -1
        return self.op("Reshape", scale, self.constant(sizes))


def _limits(dtype: _Type) -> tuple[int, int]:
    bits = INTEGER_BITS[dtype]
    low = -(1 << bits - 1) if stored_type(dtype) is _Type.INT8 else 0
    return low, low + (1 << bits) - 1


def _not_below(boundaries: NDArray[np.float64], wide: _Type) -> NDArray[np.generic]:
    """The smallest numbers of the type that have reached the boundaries."""
    array = boundaries.astype(wide.numpy())
    too_low = array.astype(np.float64) < boundaries
    return np.where(too_low, np.nextafter(array, array.dtype.type(np.inf)), array)
