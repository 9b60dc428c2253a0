"""Scale the channels of a value by changing the constants it is made from."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.passes.canonicalize.affine import PRODUCTS, channel_axis, fold_affine
from gcompile.passes.channels import Vector, channel_vector


def why_not_absorbed(value: ir.Value, axis: int) -> str | None:
    """Say why the channels of a value cannot be scaled for free; None when they can."""
    node, shape = value.producer(), ir.static_shape(value)
    if node is None or node.domain:
        return "it is an input of the model"
    match node.op_type:
        case "Mul" | "Div" | "Add":
            operands = _constant_operand(node, shape, axis)
            if operands is None:
                return f"its {node.op_type} has no constant of one number per channel"
            x, _ = operands
            if node.op_type != "Add":
                return None
            if ir.only_reader(x) is not node or ir.static_shape(x) != shape:
                return "what is made before its bias has another reader"
            return why_not_absorbed(x, axis)
        case "LayerNormalization":
            gain = ir.constant_array(node.inputs[1])
            return None if gain is not None and axis == len(shape) - 1 and gain.ndim == 1 else (
                "its normalization scales no channels"
            )  # fmt: skip
        case op if op in PRODUCTS:
            if not ir.is_constant(node.inputs[1]) or channel_axis(node) % len(shape) != axis:
                return "its product has no weights of its channels"
            has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
            if has_bias and channel_vector(node.inputs[2], (1, shape[axis]), 1) is None:
                return "its bias is not one number per channel"
            return None
    return f"a {node.op_type} makes it"


def absorb(value: ir.Value, axis: int, factors: Vector, name: str) -> None:
    """Multiply the channels of a value that `why_not_absorbed` has nothing against."""
    node, shape = value.producer(), ir.static_shape(value)
    assert node is not None
    if node.op_type in PRODUCTS:
        reason = fold_affine(node, factors, None, name)
        assert reason is None, reason
        return
    if node.op_type == "LayerNormalization":
        for index in range(1, len(node.inputs)):
            old = ir.constant_array(node.inputs[index])
            if old is not None:
                _replace(node, index, old.astype(np.float64) * factors, name)
        return
    operands = _constant_operand(node, shape, axis)
    assert operands is not None
    x, vector = operands
    changed = vector / factors if node.op_type == "Div" else vector * factors
    trailing = (1,) * (len(shape) - 1 - axis)
    index = next(i for i, operand in enumerate(node.inputs) if operand is not x)
    _replace(node, index, changed.reshape(-1, *trailing), name)
    if node.op_type == "Add":
        absorb(x, axis, factors, name)


def _constant_operand(
    node: ir.Node, shape: tuple[int, ...], axis: int
) -> tuple[ir.Value, Vector] | None:
    """The computed operand, and the constant one as one number per channel."""
    left, right = node.inputs
    ordered = node.op_type == "Div"
    for x, constant in [(left, right)] if ordered else [(left, right), (right, left)]:
        if x is None or ir.is_constant(x):
            continue
        vector = channel_vector(constant, shape, axis)
        if vector is not None:
            return x, vector
    return None


def _replace(node: ir.Node, index: int, array: Vector, name: str) -> None:
    assert isinstance(node.graph, ir.Graph)
    constant = ir.add_constant(node.graph, name, array.astype(np.float32))
    node.replace_input_with(index, constant)
