"""Read a region's nodes as one expression over its sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Load,
    Unary,
)
from gcompile.backends.tvm.lowering.logic import LOGIC, differ, read_logic, truncated
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, is_padded
from gcompile.backends.tvm.lowering.region_expression import (
    CannotEmitError,
    FloatArray,
    RegionExpression,
    SourceValue,
)
from gcompile.backends.tvm.lowering.stored_numbers import dequantized, quantization, scalar

_UNARY = {
    "Abs": "abs", "Neg": "neg", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Relu": "relu",
    "Reciprocal": "reciprocal", "Sigmoid": "sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh",
    "Erf": "erf", "Softplus": "softplus", "Mish": "mish", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Sign": "sign",
}  # fmt: skip
_UNARY_WITH_ALPHA = {
    "LeakyRelu": ("leaky_relu", 0.01),
    "Elu": ("elu", 1.0),
}
_UNARY_WITH_BOTH = {
    "HardSigmoid": ("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "Selu": ("selu", ("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)),
}
_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Max": "max",
    "Min": "min",
}  # fmt: skip
_PARTIAL = frozenset({"Log", "Sqrt", "Reciprocal", "Div", "Pow"})
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_CAST_TO = (*_FLOATS, ir.DataType.BOOL, ir.DataType.INT32)


def read_region(
    region: ir.Region,
    layout: Layout,
    accumulated: ir.Value | None = None,
    accumulator: Expression | None = None,
    operand: ir.Value | None = None,
) -> RegionExpression:
    """Read the region's nodes after `accumulated` (all nodes when None) as one expression.

    The nodes that lead to `operand`, which has the output's shape, become the operand.

    Raises:
        CannotEmitError: An operator, a type or a broadcast is outside what kernels can do.
    """
    if len(region.outputs) != 1:
        raise CannotEmitError("the region has more than one output")
    output = region.outputs[0]
    result = RegionExpression(Accumulator(), output)
    reader = _Reader(region, layout, result)
    if accumulated is not None:
        reader.known[accumulated] = accumulator or Accumulator()
        if layout is Layout.MATRICES:  # Heads may be put side by side after the product.
            reader.shape = ir.static_shape(accumulated)
            reader.shapes.add(reader.shape)
    result.expression = reader.final(output)
    if operand is not None:
        result.operand = reader.read(operand)
    if output.dtype not in DTYPES:
        raise CannotEmitError(f"the output has type {output.dtype}")
    return result


def is_total(node: ir.Node) -> bool:
    """Say whether the node's result is finite whatever finite numbers it is given, overflow aside.

    Channels that only pad an image hold arbitrary numbers, and products multiply them by zero.
    That gives zero for every number but NaN and infinity, which must not arise there.
    """
    is_scaling = node.op_type == "Div" and ir.is_constant(node.inputs[1])
    return node.op_type not in _PARTIAL or is_scaling


@dataclass
class _Reader:
    region: ir.Region
    layout: Layout
    result: RegionExpression
    known: dict[ir.Value, Expression] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inside = set(self.region.nodes)
        self.shape = ir.static_shape(self.result.output)
        self.shapes = {self.shape}

    def final(self, output: ir.Value) -> Expression:
        """Peel the conversion that decides how the output is stored."""
        node = output.producer()
        if node is not None and node.op_type == "QuantizeLinear":
            self.result.out_scale, self.result.out_zero_point = quantization(node)
            return self.read(node.inputs[0])
        return self.read(output)

    def read(self, value: ir.Value | None) -> Expression:
        if value is None:
            raise CannotEmitError("an optional input is missing")
        if value not in self.known:
            self.known[value] = self._read(value)
        return self.known[value]

    def _read(self, value: ir.Value) -> Expression:
        node = value.producer()
        if ir.is_constant(value):
            return self._read_constant(value)
        if node is None or node not in self.inside:
            return self._source(value)
        if ir.static_shape(value) not in self.shapes:
            raise CannotEmitError("a value inside the region has another shape than its output")
        return self._node(node)

    def _read_constant(self, value: ir.Value) -> Expression:
        """A scalar, a vector of channels, or a tensor as large as the output: embeddings."""
        shape = ir.static_shape(value)
        aligned = (1,) * (len(self.shape) - len(shape)) + shape
        along = bool(shape) and shape[-1:] == self.shape[-1:]
        channels = not shape or (along and math.prod(shape) == self.shape[-1])
        if self.layout is Layout.ROWS and aligned == self.shape and not channels:
            return self._source(value)
        if self.layout is Layout.GRID and math.prod(shape) > 1:
            return self._source(value)
        if self.layout is Layout.MATRICES and not channels and math.prod(shape) > 1:
            return self._source(value)
        return self._constant(ir.constant_array(value))

    def _source(self, value: ir.Value, scale: float = 1.0, zero_point: int = 0) -> Load:
        if value.dtype not in DTYPES:
            raise CannotEmitError(f"an input has type {value.dtype}")
        is_number = value.dtype in _FLOATS or value.dtype is ir.DataType.BOOL
        if not is_number and scale == 1.0 and not self._is_cast(value):
            raise CannotEmitError(f"an input has type {value.dtype}")
        self._check_broadcast(ir.static_shape(value))
        found = SourceValue(value, scale, zero_point)
        if found not in self.result.sources:
            self.result.sources.append(found)
        return Load(self.result.sources.index(found))

    def _is_cast(self, value: ir.Value) -> bool:
        users = {use.node for use in value.uses() if use.node in self.inside}
        return all(user.op_type in ("Cast", "DequantizeLinear") for user in users)

    def _check_broadcast(self, shape: tuple[int, ...]) -> None:
        if shape == self.shape or math.prod(shape) == 1:
            return
        if self.layout is Layout.CHANNELS_LAST:
            fits = len(shape) == len(self.shape)
            fits = fits and all(a in (1, b) for a, b in zip(shape, self.shape, strict=True))
        elif self.layout in (Layout.MATRICES, Layout.GRID):
            aligned = (1,) * (len(self.shape) - len(shape)) + shape
            fits = len(aligned) == len(self.shape)
            fits = fits and all(a in (1, b) for a, b in zip(aligned, self.shape, strict=True))
        else:
            aligned = (1,) * (len(self.shape) - len(shape)) + shape
            fits = shape[-1] == self.shape[-1] and math.prod(shape[:-1]) == 1
            fits = fits or aligned == self.shape
        if fits:
            return
        raise CannotEmitError(f"an input of shape {shape} is broadcast to {self.shape}")

    def _constant(self, array: NDArray[np.generic] | None) -> Expression:
        if array is None:
            raise CannotEmitError("a constant has no data")
        numbers = np.asarray(array, dtype=np.float64)
        if numbers.size == 1:
            return Constant(float(numbers.reshape(())))
        if self.layout is Layout.GRID:
            raise CannotEmitError("a constant is quantized and neither a scalar nor per channel")
        return self.result.add_vector(self._per_channel(numbers))

    def _per_channel(self, array: NDArray[np.float64]) -> FloatArray:
        axis = 1 if self.layout is Layout.CHANNELS_LAST else len(self.shape) - 1
        aligned = array.reshape((1,) * (len(self.shape) - array.ndim) + array.shape)
        others = [size for i, size in enumerate(aligned.shape) if i != axis]
        if aligned.ndim != len(self.shape) or math.prod(others) != 1:
            raise CannotEmitError("a constant is neither a scalar nor per channel")
        return aligned.reshape(-1).astype(np.float32)

    def _node(self, node: ir.Node) -> Expression:
        op = node.op_type
        if self.layout is Layout.CHANNELS_LAST and is_padded(self.shape) and not is_total(node):
            raise CannotEmitError(f"{op} may give no number in channels that only pad")
        if op in _BINARY:
            return self._fold(_BINARY[op], node.inputs)
        if op in LOGIC:
            return read_logic(node, self.read)
        if op == "Sum":
            return self._fold("add", node.inputs)
        if op in _UNARY:
            return Unary(_UNARY[op], self.read(node.inputs[0]))
        if op in _UNARY_WITH_ALPHA:
            function, default = _UNARY_WITH_ALPHA[op]
            alpha = node.attributes.get_float("alpha", default)
            return Unary(function, self.read(node.inputs[0]), alpha)
        if op in _UNARY_WITH_BOTH:
            function, *defaults = _UNARY_WITH_BOTH[op]
            alpha, beta = (node.attributes.get_float(name, d) for name, d in defaults)
            return Unary(function, self.read(node.inputs[0]), alpha, beta)
        match op:
            case "Clip":
                return self._clip(node)
            case "Gelu":
                tanh = node.attributes.get_string("approximate", "none") == "tanh"
                return Unary("gelu_tanh" if tanh else "gelu", self.read(node.inputs[0]))
            case "PRelu":
                x, slope = self.read(node.inputs[0]), self.read(node.inputs[1])
                below = Binary("mul", slope, Binary("min", x, Constant(0.0)))
                return Binary("add", Unary("relu", x), below)
            case "DequantizeLinear":
                return self._dequantize(node)
            case "Transpose" if self.layout is Layout.MATRICES:
                return self.read(node.inputs[0])
            case "Cast":
                return self._cast(node)
            case "Identity":
                return self.read(node.inputs[0])
        raise CannotEmitError(f"{op} is not an elementwise operator kernels know")

    def _fold(self, function: str, inputs: Sequence[ir.Value | None]) -> Expression:
        first, *rest = [self.read(value) for value in inputs]
        for operand in rest:
            first = Binary(function, first, operand)
        return first

    def _clip(self, node: ir.Node) -> Expression:
        bounds = [*node.inputs[1:], None, None]
        low, high = scalar(bounds[0], -math.inf), scalar(bounds[1], math.inf)
        limit = float(np.finfo(np.float32).max)
        return Unary("clip", self.read(node.inputs[0]), max(low, -limit), min(high, limit))

    def _dequantize(self, node: ir.Node) -> Expression:
        source = node.inputs[0]
        if source is None or ir.is_constant(source):
            return self._constant(dequantized(node))
        if source.producer() in self.inside:
            raise CannotEmitError("a value is quantized and dequantized inside the region")
        return self._source(source, *quantization(node))

    def _cast(self, node: ir.Node) -> Expression:
        source, result = node.inputs[0], node.outputs[0]
        if source is None or source.dtype not in DTYPES or result.dtype not in _CAST_TO:
            raise CannotEmitError("a cast is not between types kernels know")
        if ir.is_constant(source):
            array = ir.constant_array(source)
            return self._constant(None if array is None else np.asarray(array, np.float32))
        inner = self.read(source)
        if result.dtype is ir.DataType.BOOL:
            return inner if source.dtype is ir.DataType.BOOL else differ(inner, Constant(0.0))
        if result.dtype is ir.DataType.INT32:
            return truncated(inner)
        is_last = result is self.result.output
        if result.dtype is ir.DataType.FLOAT or is_last:
            return inner
        if result.dtype is ir.DataType.BFLOAT16:
            return Unary("round_trip_bfloat16", inner)
        return Unary("round_trip_float16", inner)
