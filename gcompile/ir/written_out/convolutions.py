"""Convolutions in forms that kernels know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from gcompile.ir.written_out.writer import Writer

_FLOAT, _DOUBLE, _INT32 = (
    onnx_ir.DataType.FLOAT, onnx_ir.DataType.DOUBLE, onnx_ir.DataType.INT32
)  # fmt: skip
_EXACT_TERMS = (1 << 24) // (255 * 255)
"""Products of bytes whose sum a float32 holds exactly, whatever the bytes."""

Results = Sequence[onnx_ir.Value | None] | None


def transposed_to_shape(writer: Writer) -> Results:
    """ConvTranspose with an output shape: the padding that leads to it.

    total[i] = stride[i] · (in[i] - 1) + output_padding[i] + (kernel[i] - 1) · dilation[i] + 1
    - output_shape[i], of which the smaller half is at the beginning if auto_pad is SAME_UPPER, and
    else at the end.
    """
    attributes = writer.node.attributes
    wanted = list(attributes.get_ints("output_shape", []))
    x, weight = writer.shape(0), writer.shape(1)
    if not wanted or x is None or weight is None:
        return None
    rank = len(x) - 2
    wanted = wanted[-rank:]
    kernel = list(attributes.get_ints("kernel_shape", weight[2:]))
    strides, dilations = (
        list(attributes.get_ints(name, [1] * rank)) for name in ("strides", "dilations")
    )
    extra = list(attributes.get_ints("output_padding", [0] * rank))
    is_upper = writer.text("auto_pad", "NOTSET") == "SAME_UPPER"
    begins, ends = [], []
    for i in range(rank):
        full = strides[i] * (x[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        total = full - wanted[i]
        if total < 0:
            extra[i] -= total
            total = 0
        halves = (total // 2, total - total // 2)
        begin, end = halves if is_upper else halves[::-1]
        begins.append(begin)
        ends.append(end)
    return [
        writer.op(
            "ConvTranspose",
            *writer.node.inputs,
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=writer.integer("group", 1),
            output_padding=extra,
            pads=[*begins, *ends],
        )
    ]


def of_integers(writer: Writer) -> Results:
    """ConvInteger: what is left without the zero points is convolved where sums are exact."""
    weight = writer.shape(1)
    if weight is None:
        return None
    terms = int(np.prod(weight[1:]))
    wide = _FLOAT if terms <= _EXACT_TERMS else _DOUBLE
    operands = [
        _centred(writer, index, zero, wide, axis) for index, zero, axis in ((0, 2, 1), (1, 3, 0))
    ]
    return [writer.cast(writer.same("Conv", *operands), _INT32)]


def _centred(
    writer: Writer, index: int, zero: int, wide: onnx_ir.DataType, axis: int
) -> onnx_ir.Value:
    x = writer.cast(writer.input(index), wide)
    if not writer.has(zero):
        return x
    offset, rank = writer.cast(writer.input(zero), wide), len(writer.shape(index) or ())
    if len(writer.shape(zero) or ()) == 1:
        sizes = np.ones(rank, np.int64)
        sizes[axis] = -1
        offset = writer.op("Reshape", offset, writer.constant(sizes))
    return writer.op("Sub", x, offset)


RULES = {"ConvTranspose": transposed_to_shape, "ConvInteger": of_integers}
