"""Which regions may compute in a narrow format, and why the others may not."""

from __future__ import annotations

import math

from gcompile import ir

INT8_DEPTH_LIMIT = 2**31 // (255 * 127)
"""More products than this can overflow the 32-bit sum of u8 · s8."""

HALVES = (ir.Precision.BF16, ir.Precision.FP16)
_STORED_HALVES = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)

_TOGETHER = {ir.Precision.INT8: 4, ir.Precision.BF16: 2, ir.Precision.FP16: 2}
"""Inputs that units multiply and add at a time."""


def product_regions(model: ir.Model) -> list[ir.Region]:
    """The regions of the main graph that are built around a convolution or matrix product."""
    return [region for region in ir.regions(model.graph) if region.anchor is not None]


def why_not(region: ir.Region, precision: ir.Precision) -> str | None:
    """Say why the region cannot compute its products in `precision`; None when it can."""
    if precision is ir.Precision.FP32:
        return None
    if reason := _why_not_narrow(region, precision):
        return reason
    contraction = region.contraction
    if contraction is None:
        return "it is a convolution of three or more spatial dimensions"
    inputs, together = contraction.in_c // contraction.groups, _TOGETHER.get(precision, 1)
    if contraction.groups > 1 and not contraction.is_depthwise and inputs % together:
        return f"units multiply {together} inputs at a time, and its groups have {inputs}"
    if precision is ir.Precision.INT8 and contraction.k > INT8_DEPTH_LIMIT:
        return f"its {contraction.k} products per output can overflow a 32-bit sum"
    if precision in HALVES and contraction.is_depthwise:
        return "it is a depthwise convolution, which vector units compute in fp32"
    if precision not in (ir.Precision.INT8, *HALVES):
        return f"{precision} is not a format that passes convert to"
    return None


def candidates(
    region: ir.Region, precisions: tuple[ir.Precision, ...]
) -> tuple[ir.Precision, ...]:
    """The precisions among those given that the region may have; fp32 always is one."""
    fitting = (p for p in precisions if why_not(region, p) is None)
    return tuple(dict.fromkeys((ir.Precision.FP32, *fitting)))


def is_quantizable(value: ir.Value | None) -> bool:
    """Say whether the value is a computed fp32 tensor that is not stored narrow already."""
    if value is None or value.const_value is not None or value.dtype is not ir.DataType.FLOAT:
        return False
    return narrow_source(value) is None


def narrow_source(value: ir.Value | None) -> ir.Value | None:
    """The narrow value that `value` is converted from, or None."""
    producer = value.producer() if value is not None else None
    if producer is None or producer.domain:
        return None
    if producer.op_type == "DequantizeLinear":
        return producer.inputs[0]
    source = producer.inputs[0] if producer.op_type == "Cast" else None
    if source is None or source.dtype not in _STORED_HALVES:
        return None
    is_given = source.dtype is ir.DataType.FLOAT16 and source.is_graph_input()
    return None if is_given else source


def _why_not_narrow(region: ir.Region, precision: ir.Precision) -> str | None:
    node = region.anchor
    if node is None:
        return "it has no convolution or matrix product"
    if node.op_type == "ConvTranspose":
        return "transposed convolutions have no narrow kernel"
    x, weight = node.inputs[0], node.inputs[1]
    if ir.is_batched_product(node):
        return _why_not_batched(region)
    if x is None or weight is None:
        return "an operand is missing"
    is_decoded = precision in HALVES and region.weight_decoder is not None
    is_narrow = narrow_source(weight) is not None and not is_decoded
    if is_narrow or weight.dtype is ir.DataType.BFLOAT16:
        return "its weight is stored narrow already"
    if narrow_source(x) is not None and narrow_source(x) in region.inputs:
        return "its input is stored narrow already"
    if x.dtype is ir.DataType.FLOAT16:
        return "it computes in fp16: run widen-float16 before"
    if x.dtype is not ir.DataType.FLOAT:
        return f"it computes in {x.dtype.name if x.dtype else 'an unknown type'}, not fp32"
    if ir.is_constant(x):
        return "both operands are constant"
    return _why_not_plain(node, weight)


def _why_not_batched(region: ir.Region) -> str | None:
    product = region.batched_product
    if product is None:
        return "the rows of an operand's matrices are not contiguous"
    for operand in (product.left, product.right):
        if ir.is_constant(operand.stored):
            return "one of its operands is constant, the other no single matrix"
        if operand.decoder is not None:
            return "an operand is stored narrow already"
        if not is_quantizable(operand.stored):
            return "an operand is not computed in fp32"
    return None


def _why_not_plain(node: ir.Node, weight: ir.Value) -> str | None:
    if node.op_type == "MatMul" and len(ir.static_shape(weight)) != 2:
        return "its weight is not a matrix"
    if node.op_type == "Gemm":
        alpha = node.attributes.get_float("alpha", 1.0)
        beta = node.attributes.get_float("beta", 1.0)
        if node.attributes.get_int("transA", 0) or not math.isclose(alpha, 1.0):
            return "its first operand is scaled or transposed"
        if not math.isclose(beta, 1.0):
            return "its bias is scaled"
    return None
