"""Constant weights as kernels take them: output channel first, integers with their scales."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.stored_numbers import dequantized

Array = NDArray[np.generic]
Reals = NDArray[np.float64]


def constant_weights(value: ir.Value | None) -> tuple[Array, Reals]:
    """A constant weight as stored, output channel first, and the scale of each output channel."""
    stored, scales, axis = _stored_weights(value)
    if scales.size > 1 and axis != 0:
        raise CannotEmitError("the weight's scales do not run along its output channels")
    return stored, np.broadcast_to(scales, stored.shape[:1])


def matrix_weights(node: ir.Node) -> tuple[Array, Reals]:
    """The right operand as (N, K, 1, 1), with one scale per column N."""
    transposed = bool(node.attributes.get_int("transB", 0))
    stored, scales, axis = _stored_weights(node.inputs[1])
    if stored.ndim != 2:
        raise CannotEmitError("the right operand is not a constant matrix")
    if scales.size > 1 and axis != (0 if transposed else 1):
        raise CannotEmitError("the weight's scales run along its depth")
    matrix = stored if transposed else stored.T
    scales = np.broadcast_to(scales, matrix.shape[:1])
    return np.ascontiguousarray(matrix)[:, :, None, None], scales


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


def real_constant(value: ir.Value | None) -> Array:
    """A constant that is not quantized, as float32.

    Raises:
        CannotEmitError: It is quantized, or no constant.
    """
    stored, scales, _ = _stored_weights(value)
    if stored.dtype == np.int8 or scales.size > 1:
        raise CannotEmitError("the weight is quantized")
    return stored.astype(np.float32)


def pad_to(array: Array, shape: Sequence[int], fill: float = 0) -> Array:
    """Append `fill` until the array has the shape given."""
    padding = [(0, wanted - size) for size, wanted in zip(array.shape, shape, strict=True)]
    if not any(after for _, after in padding):
        return array
    return np.pad(array, padding, constant_values=fill)


def _stored_weights(value: ir.Value | None) -> tuple[Array, Reals, int]:
    """A constant weight as stored, its scales, and the axis they run along where it has several.

    The scale of a weight that is not quantized is 1.
    """
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
    return array, np.ones(1), 0


def _quantized_weights(node: ir.Node) -> tuple[Array, Reals, int]:
    stored, scale = ir.constant_array(node.inputs[0]), ir.constant_array(node.inputs[1])
    zero = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if stored is None or scale is None or stored.dtype != np.int8:
        raise CannotEmitError("the weight is not a constant of type int8")
    if zero is not None and zero.any():
        raise CannotEmitError("the weight has a zero point")
    if scale.ndim > 1:
        raise CannotEmitError("the weight is quantized in blocks")
    axis = node.attributes.get_int("axis", 1) % stored.ndim
    return stored, scale.astype(np.float64).reshape(-1), axis
