"""Move a scale and a shift per output channel into the product that comes before them.

(W · x + b) · scale + shift  =  (W · scale) · x + (b · scale + shift)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.channels import Vector, channel_vector

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def product_before(value: ir.Value | None) -> ir.Node | None:
    """Return the product that computes the value, if one does."""
    node = value.producer() if value is not None else None
    return node if node is not None and not node.domain and node.op_type in PRODUCTS else None


def product_and_constant(node: ir.Node) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """Find (product, its value, constant) among the inputs of Add, Sub, Mul or Div."""
    left, right = node.inputs
    ordered = node.op_type in ("Sub", "Div")
    for x, constant in [(left, right)] if ordered else [(left, right), (right, left)]:
        product = product_before(x)
        if product is None or x is None or constant is None:
            continue
        if ir.is_constant(constant):
            return product, x, constant
    return None


def channel_axis(product: ir.Node) -> int:
    """The axis of the product's output that counts output channels."""
    return 1 if product.op_type in ("Conv", "ConvTranspose") else -1


def fold_affine(
    product: ir.Node, scale: Vector | None, shift: Vector | None, name: str
) -> str | None:
    """Give the product new constants that apply the scale and the shift.

    Args:
        product: A Conv, ConvTranspose, Gemm or MatMul.
        scale: One factor per output channel; None leaves the weight as it is.
        shift: One summand per output channel; None leaves the bias as it is.
        name: What the new constants are called after.

    Returns:
        None when it is done, else why it cannot be. Other readers of the old constants keep them.
    """
    channels = ir.static_shape(product.outputs[0])[channel_axis(product)]
    if product.outputs[0].dtype not in _FLOATS:
        return "the product is not computed in floating point"
    weight = product.inputs[1]
    if scale is not None and not ir.is_constant(weight):
        return "the weight is not constant"
    bias = _bias(product, channels)
    if isinstance(bias, str):
        return bias
    if product.op_type == "MatMul" and shift is not None and _rank(product) != (2, 2):
        return "a MatMul of more than two dimensions takes no bias"

    new_weight = None if scale is None else _scaled(product, scale)
    new_bias = _new_bias(bias, scale, shift)
    if not _is_finite(new_weight) or not _is_finite(new_bias):
        return "the folded constants would overflow"
    _set_constants(product, new_weight, new_bias, name)
    return None


def _rank(product: ir.Node) -> tuple[int, ...]:
    return tuple(len(ir.static_shape(value)) for value in product.inputs[:2])


def _bias(product: ir.Node, channels: int) -> Vector | str | None:
    """The bias in double precision, None where there is none, or why it cannot change."""
    value = product.inputs[2] if len(product.inputs) > 2 else None
    if value is None:
        return None
    if not ir.is_constant(value):
        return "the bias is not constant"
    vector = channel_vector(value, (1, channels), 1)
    if vector is None:
        return "the bias is not one number per channel"
    beta = product.attributes.get_float("beta", 1.0) if product.op_type == "Gemm" else 1.0
    return vector * beta


def _new_bias(bias: Vector | None, scale: Vector | None, shift: Vector | None) -> Vector | None:
    if bias is not None and scale is not None:
        bias = bias * scale
    if shift is None:
        return bias
    return shift if bias is None else bias + shift


def _scaled(product: ir.Node, scale: Vector) -> NDArray[np.float64]:
    array = ir.constant_array(product.inputs[1])
    assert array is not None
    weight = array.astype(np.float64)
    match product.op_type:
        case "Conv":
            return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        case "ConvTranspose":
            # The weight is (inputs, outputs / groups, …): each group has its own outputs.
            groups = product.attributes.get_int("group", 1)
            split = weight.reshape(groups, -1, *weight.shape[1:])
            factors = scale.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
            return (split * factors).reshape(weight.shape)
        case "Gemm" if product.attributes.get_int("transB", 0):
            return weight * scale.reshape(-1, 1)
        case _:
            return weight * scale


def _is_finite(array: NDArray[np.float64] | None) -> bool:
    return array is None or bool(np.all(np.abs(array) < np.finfo(np.float32).max))


def _set_constants(
    product: ir.Node, weight: NDArray[np.float64] | None, bias: Vector | None, name: str
) -> None:
    graph, dtype = product.graph, product.outputs[0].dtype
    assert isinstance(graph, ir.Graph)
    assert dtype is not None
    if weight is not None:
        stored = weight.astype(dtype.numpy())
        product.replace_input_with(1, ir.add_constant(graph, f"{name}::weight", stored))
    if bias is None:
        return
    if product.op_type == "MatMul":
        product.op_type = "Gemm"
    if product.op_type == "Gemm":
        product.attributes.pop("beta", None)
    product.resize_inputs(3)
    stored = bias.astype(dtype.numpy())
    product.replace_input_with(2, ir.add_constant(graph, f"{name}::bias", stored))
