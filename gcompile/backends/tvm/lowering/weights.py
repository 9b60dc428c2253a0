"""Constant weights as kernels take them: output channel first, integers with their scales."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.tvm.lowering.expressions import CannotEmitError, dequantized

Array = NDArray[np.generic]
Reals = NDArray[np.float64]


def constant_weights(value: ir.Value | None) -> tuple[Array, Reals]:
    """A constant weight as stored, output channel first, and the scale of each output channel."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "DequantizeLinear":
        return _quantized_weights(node)
    if node is not None and node.op_type == "Cast":
        value = node.inputs[0]
    array = ir.constant_array(value)
    if array is None:
        raise CannotEmitError("the weight is not constant")
    if array.dtype == ml_dtypes.bfloat16:
        array = array.astype(np.float32)
    return array, np.ones(array.shape[0])


def matrix_weights(node: ir.Node) -> tuple[Array, Reals]:
    """The right operand as (N, K, 1, 1), with one scale per column N."""
    value = node.inputs[1]
    transposed = bool(node.attributes.get_int("transB", 0))
    producer = value.producer() if value is not None else None
    weights, scales = constant_weights(value)
    if weights.ndim != 2:
        raise CannotEmitError("the right operand is not a constant matrix")
    columns = weights.shape[0 if transposed else 1]
    if producer is not None and producer.op_type == "DequantizeLinear" and scales.size > 1:
        axis = producer.attributes.get_int("axis", 1) % 2
        if axis != (0 if transposed else 1):
            raise CannotEmitError("the weight's scales run along its depth")
    scales = np.broadcast_to(scales if scales.size in (1, columns) else np.ones(1), (columns,))
    matrix = weights if transposed else weights.T
    return np.ascontiguousarray(matrix)[:, :, None, None], scales.astype(np.float64)


def constant_bias(value: ir.Value | None, channels: int) -> Reals:
    """A bias per output channel, zeros where there is none."""
    if value is None:
        return np.zeros(channels)
    node = value.producer()
    is_quantized = node is not None and node.op_type == "DequantizeLinear"
    array = dequantized(node) if node is not None and is_quantized else ir.constant_array(value)
    if array is None or array.size not in (1, channels):
        raise CannotEmitError("the bias is not a constant per channel")
    numbers = np.asarray(array, dtype=np.float64).reshape(-1)
    return np.broadcast_to(numbers, (channels,)).copy()


def pad_to(array: Array, shape: Sequence[int]) -> Array:
    """Append zeros until the array has the shape given."""
    padding = [(0, wanted - size) for size, wanted in zip(array.shape, shape, strict=True)]
    return np.pad(array, padding) if any(after for _, after in padding) else array


def _quantized_weights(node: ir.Node) -> tuple[Array, Reals]:
    stored, scale = ir.constant_array(node.inputs[0]), ir.constant_array(node.inputs[1])
    zero = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if stored is None or scale is None or stored.dtype != np.int8:
        raise CannotEmitError("the weight is not a constant of type int8")
    if zero is not None and zero.any():
        raise CannotEmitError("the weight has a zero point")
    return stored, scale.astype(np.float64).reshape(-1)
