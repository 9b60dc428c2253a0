"""Products as one matrix product, Y = X · W: rows of inputs, columns of outputs.

A convolution reads one row of X per output pixel, the patch below its kernel; rows of W are input
channels times kernel pixels, in that order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.prune.products import Product

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating]
Picked = slice | NDArray[np.int64]
"""Rows of a matrix."""


def why_not_fitted(product: Product) -> str | None:
    """Say why the weights cannot be fitted to observations; None where they can."""
    node = product.node
    if product.node.inputs[1] is not product.weight:
        return "its weight is stored narrow"
    if product.weight.dtype is not ir.DataType.FLOAT:
        return "its weight is not fp32"
    if len(product.weight.uses()) > 1:
        return "its weight is shared"
    if node.op_type == "ConvTranspose":
        return "it is a transposed convolution"
    if product.sums is None:
        return "it is a grouped convolution"
    if node.op_type == "Conv" and ir.contraction_of(node) is None:
        return "it is a convolution of three or more spatial dimensions"
    if node.op_type == "Gemm" and _is_scaled(node):
        return "its operands are scaled or transposed"
    return None


def weight_matrix(product: Product) -> Matrix:
    """The weights as (K, N)."""
    array = ir.constant_array(product.weight)
    assert array is not None
    rows = np.moveaxis(array, product.makes, -1)
    return rows.reshape(-1, rows.shape[-1]).astype(np.float64)


def store_weights(product: Product, matrix: Matrix) -> None:
    """Put (K, N) back as the weights."""
    weight = product.weight
    shape = ir.static_shape(weight)
    moved = (*(s for axis, s in enumerate(shape) if axis != product.makes), matrix.shape[1])
    array = np.moveaxis(matrix.reshape(moved), -1, product.makes).astype(np.float32)
    weight.const_value = ir.tensor(np.ascontiguousarray(array), name=weight.name)


def blocks(product: Product, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of the weight matrix that belong to each channel.

    Args:
        product: A product.
        places: Where channels lie along the axis that is summed over, one row per channel.
    """
    assert product.sums is not None
    shape = ir.static_shape(product.weight)
    around = int(np.prod(shape)) // shape[product.makes] // shape[product.sums]
    return (places[:, :, None] * around + np.arange(around)).reshape(len(places), -1)


def input_rows(product: Product, x: Floats, picked: Picked = slice(None)) -> Floats:
    """The inputs of all products, or of those picked, as (M, K)."""
    if product.node.op_type != "Conv":
        return x.reshape(-1, x.shape[-1])[picked]
    shape = ir.contraction_of(product.node)
    assert shape is not None
    image = np.pad(
        x.reshape(*x.shape[:2], -1, x.shape[-1]),
        ((0, 0), (0, 0), (shape.pad_top, shape.pad_bottom), (shape.pad_left, shape.pad_right)),
    )
    reach = (
        (shape.kernel_h - 1) * shape.dilation_h + 1,
        (shape.kernel_w - 1) * shape.dilation_w + 1,
    )
    windows = np.lib.stride_tricks.sliding_window_view(image, reach, (2, 3))
    patches = windows[
        :, :, :: shape.stride_h, :: shape.stride_w, :: shape.dilation_h, :: shape.dilation_w
    ].transpose(0, 2, 3, 1, 4, 5)[:, : shape.out_h, : shape.out_w]
    places = np.unravel_index(np.arange(math.prod(patches.shape[:3]))[picked], patches.shape[:3])
    return patches[places].reshape(len(places[0]), -1)


def output_rows(product: Product, y: Floats) -> Floats:
    """What is computed of them, as (M, N)."""
    moved = np.moveaxis(y, product.channel, -1)
    return moved.reshape(-1, moved.shape[-1])


def _is_scaled(node: ir.Node) -> bool:
    return (
        node.attributes.get_float("alpha", 1.0) != 1.0
        or node.attributes.get_float("beta", 1.0) != 1.0
        or node.attributes.get_int("transA", 0) == 1
    )
