"""Describe a node as an implicit matrix product, where it is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import onnx_ir

from gcompile.ir.contraction import Contraction
from gcompile.ir.shapes import static_shape

PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})


def contraction_of(node: onnx_ir.Node) -> Contraction | None:
    """Return the node's implicit matrix product, or None when it has none.

    1-D convolutions become images of height 1. Convolutions of three and more spatial dimensions
    are not described.
    """
    if node.domain or node.op_type not in PRODUCTS:
        return None
    if node.op_type == "Conv":
        kernel = static_shape(node.inputs[1])[2:]
        return sliding_window(node, kernel, node.attributes.get_int("group", 1))
    if node.op_type == "Gemm":
        return _gemm(node)
    return _matmul(node)


def sliding_window(node: onnx_ir.Node, kernel: Sequence[int], groups: int) -> Contraction | None:
    """Describe a convolution or pool with a kernel of this size; None beyond two dimensions.

    A pool is seen as the depthwise convolution with the same window.
    """
    x, y = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    spatial = len(x) - 2
    if spatial not in (1, 2):
        return None
    lift = [1] * (2 - spatial)
    strides = lift + list(node.attributes.get_ints("strides", [1] * spatial))
    dilations = lift + list(node.attributes.get_ints("dilations", [1] * spatial))
    kernel = lift + list(kernel)
    image, out = lift + list(x[2:]), lift + list(y[2:])
    begin, end = _pads(node, image, out, kernel, strides, dilations, spatial)
    return Contraction(
        batch=x[0],
        in_h=image[0],
        in_w=image[1],
        in_c=x[1],
        out_h=out[0],
        out_w=out[1],
        out_c=y[1],
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=strides[0],
        stride_w=strides[1],
        dilation_h=dilations[0],
        dilation_w=dilations[1],
        pad_top=begin[0],
        pad_left=begin[1],
        pad_bottom=end[0],
        pad_right=end[1],
        groups=groups,
    )


def part_of(node: onnx_ir.Node) -> Contraction | None:
    """Return one of the equal products that a grouped or transposed convolution consists of.

    That is one group; of a transposed convolution, the outputs that are a whole number of strides
    apart, which use the same part of the kernel. None for what is a single product, for depthwise
    convolutions, and beyond two spatial dimensions.
    """
    if node.domain or node.op_type not in ("Conv", "ConvTranspose"):
        return None
    kernel, groups = static_shape(node.inputs[1])[2:], node.attributes.get_int("group", 1)
    whole = sliding_window(node, kernel, groups)
    if whole is None or (node.op_type == "Conv" and (groups == 1 or whole.is_depthwise)):
        return None
    one = replace(whole, in_c=whole.in_c // groups, out_c=whole.out_c // groups, groups=1)
    if node.op_type == "Conv":
        return one
    return replace(
        one,
        out_h=math.ceil(one.out_h / one.stride_h),
        out_w=math.ceil(one.out_w / one.stride_w),
        kernel_h=math.ceil(one.kernel_h / one.stride_h),
        kernel_w=math.ceil(one.kernel_w / one.stride_w),
    )


def _pads(
    node: onnx_ir.Node,
    image: list[int],
    out: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    spatial: int,
) -> tuple[list[int], list[int]]:
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        total = [
            max((o - 1) * s + r - i, 0)
            for o, s, r, i in zip(out, strides, reach, image, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    pads = list(node.attributes.get_ints("pads", [0] * (2 * spatial)))
    if mode == "VALID":
        pads = [0] * (2 * spatial)
    lift = [0] * (2 - spatial)
    return lift + pads[:spatial], lift + pads[spatial:]


def _gemm(node: onnx_ir.Node) -> Contraction:
    a, b = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    m, k = a[::-1] if node.attributes.get_int("transA", 0) else a
    n = b[0] if node.attributes.get_int("transB", 0) else b[1]
    return Contraction.matmul(m, k, n)


def _matmul(node: onnx_ir.Node) -> Contraction:
    a, b = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    k = a[-1]
    m, n = (1 if len(a) == 1 else a[-2]), (1 if len(b) == 1 else b[-1])
    batch = math.prod(static_shape(node.outputs[0])) // max(m * n, 1)
    if len(b) <= 2:
        return Contraction.matmul(batch * m, k, n)
    return Contraction(batch=batch, in_h=1, in_w=m, in_c=k, out_h=1, out_w=m, out_c=n)
