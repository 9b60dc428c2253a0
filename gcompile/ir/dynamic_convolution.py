"""Convolutions of integers whose scale and zero point are found when the model runs.

    q, s, z = DynamicQuantizeLinear(x)
    y = float(ConvInteger(q, w, z, z_w)) · (s · s_w)

That is what dynamic quantization writes for each convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.constants import constant_array
from gcompile.ir.rewire import only_reader

_RANK = 4
"""Axes of an image. Factors of fewer do not change its shape."""


@dataclass(frozen=True)
class DynamicConvolution:
    """One of them.

    Attributes:
        quantizer: The DynamicQuantizeLinear.
        scaled: The multiplication that gives the real result.
        weights: As stored.
        zeros: What stands for zero in them: one, or one for each output channel.
        scales: Of the weights, likewise.
    """

    quantizer: onnx_ir.Node
    scaled: onnx_ir.Node
    weights: NDArray[np.generic]
    zeros: NDArray[np.int64]
    scales: NDArray[np.float32]


def dynamic_convolution(node: onnx_ir.Node) -> DynamicConvolution | None:
    """Describe a ConvInteger with its constant weights, or None if it is used otherwise."""
    if node.op_type != "ConvInteger" or node.domain or len(node.inputs) < 3:
        return None
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    stored, zero = node.inputs[0], node.inputs[2]
    maker = stored.producer() if stored is not None else None
    if maker is None or maker.op_type != "DynamicQuantizeLinear" or maker.domain:
        return None
    if stored is not maker.outputs[0] or zero is not maker.outputs[2]:
        return None
    cast = only_reader(node.outputs[0])
    if cast is None or cast.op_type != "Cast" or cast.outputs[0].dtype != onnx_ir.DataType.FLOAT:
        return None
    scaled = only_reader(cast.outputs[0])
    weights = constant_array(node.inputs[1])
    if scaled is None or scaled.op_type != "Mul" or weights is None or weights.ndim != _RANK:
        return None
    zeros = constant_array(node.inputs[3]) if len(node.inputs) > 3 else np.zeros(1, np.int64)
    scales = _weight_scales(scaled, cast, maker, weights.shape[0])
    if zeros is None or scales is None or zeros.size not in (1, weights.shape[0]):
        return None
    found = zeros.astype(np.int64).reshape(-1)
    grouped = node.attributes.get_int("group", 1) != 1
    if grouped and not fits_signed_bytes(weights, found):
        return None
    return DynamicConvolution(maker, scaled, weights, found, scales)


def fits_signed_bytes(weights: NDArray[np.generic], zeros: NDArray[np.int64]) -> bool:
    """Say whether the differences of weights and their zero points are signed bytes."""
    differences = weights.astype(np.int64) - zeros.reshape(-1, 1, 1, 1)
    return bool(differences.min() >= -128 and differences.max() <= 127)


def _weight_scales(
    scaled: onnx_ir.Node, cast: onnx_ir.Node, maker: onnx_ir.Node, channels: int
) -> NDArray[np.float32] | None:
    """What the other factor multiplies with the scale of the image."""
    others = [value for value in scaled.inputs if value is not cast.outputs[0]]
    factor = others[0].producer() if len(others) == 1 and others[0] is not None else None
    if factor is None or factor.op_type != "Mul" or factor.domain:
        return None
    left = [value for value in factor.inputs if value is not maker.outputs[1]]
    array = constant_array(left[0]) if len(left) == 1 else None
    if array is None or array.ndim > _RANK:
        return None
    per_channel = array.ndim >= 3 and array.shape[-3] == channels == math.prod(array.shape)
    if array.size != 1 and not per_channel:
        return None
    return array.astype(np.float32).reshape(-1)
