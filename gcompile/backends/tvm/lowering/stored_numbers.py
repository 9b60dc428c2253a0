"""Scales, zero points and other parameters that are constants, and the numbers they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError


def scalar(value: ir.Value | None, default: float | None = None) -> float:
    """The one number a constant holds."""
    if value is None and default is not None:
        return default
    array = ir.constant_array(value)
    if array is None or array.size != 1:
        raise CannotEmitError("a parameter is not a constant scalar")
    return float(array.reshape(()))


def quantization(node: ir.Node) -> tuple[float, int]:
    """(scale, zero point) of a per-tensor QuantizeLinear or DequantizeLinear."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return scalar(node.inputs[1]), int(scalar(zero, 0.0))


def dequantized(node: ir.Node) -> NDArray[np.float64] | None:
    """The real values of a DequantizeLinear whose input is constant."""
    stored, scale = ir.constant_array(node.inputs[0]), ir.constant_array(node.inputs[1])
    if stored is None or scale is None:
        return None
    zero = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    numbers = stored.astype(np.float64)
    offset = np.zeros(()) if zero is None else zero.astype(np.float64)
    offset, factor = (_spread(node, a, numbers.shape) for a in (offset, scale.astype(np.float64)))
    return (numbers - offset) * factor


def _spread(
    node: ir.Node, parameter: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """A scale or zero point so that it is broadcast: for a tensor, a slice or a block of one."""
    if parameter.size == 1:
        return parameter.reshape(())
    axis = node.attributes.get_int("axis", 1)
    if parameter.ndim == 1:
        sizes = [1] * len(shape)
        sizes[axis] = parameter.size
        return parameter.reshape(sizes)
    repeated = np.repeat(parameter, node.attributes.get_int("block_size", 0), axis)
    return repeated.take(range(shape[axis]), axis)
