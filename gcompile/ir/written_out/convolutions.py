"""Convolutions in forms that kernels know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.constants import constant_array
from gcompile.ir.dynamic_convolution import dynamic_convolution
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


def deformed(writer: Writer) -> Results:
    """DeformConv: the image at the places that a window's elements moved to, and a product.

    Offsets move each element of a window by itself, (y, x) before (y, x), for each group of
    channels. Between pixels the image is interpolated, and outside it is zero, as GridSample does.
    """
    x, weight, moved = writer.shape(0), writer.shape(1), writer.shape(2)
    if x is None or weight is None or moved is None or len(x) != 4:
        return None
    (batch, channels, height, width), taps = x, weight[2] * weight[3]
    groups, out = writer.integer("offset_group", 1), list(moved[2:])
    window = _places_of_window(writer, weight[2:], out)
    offsets = writer.op(
        "Reshape", writer.input(2), writer.constant([batch * groups, taps, 2, *out])
    )
    places = writer.op("Add", offsets, writer.constant(window.astype(writer.dtype(0).numpy())))
    # GridSample counts in halves of the image, x before y: 2 · (place + 1/2) / size - 1.
    sizes = np.array([height, width], np.float64).reshape(2, 1, 1)
    slope, shift = (2 / sizes, 1 / sizes - 1)
    numbers = [n.astype(writer.dtype(0).numpy()) for n in (slope, shift)]
    scaled = writer.op("Mul", places, writer.constant(numbers[0]))
    grid = writer.op("Add", scaled, writer.constant(numbers[1]))
    grid = writer.op("Transpose", grid, perm=[0, 1, 3, 4, 2])
    grid = writer.op("Gather", grid, writer.constant([1, 0]), axis=4)
    grid = writer.op("Reshape", grid, writer.constant([batch * groups, taps * out[0], out[1], 2]))
    image = writer.op(
        "Reshape", writer.input(0),
        writer.constant([batch * groups, channels // groups, height, width]),
    )  # fmt: skip
    sampled = writer.op("GridSample", image, grid, align_corners=0, padding_mode="zeros")
    each = [batch, groups, channels // groups, taps, *out]
    sampled = writer.op("Reshape", sampled, writer.constant(each))
    if writer.has(4):
        share = writer.op(
            "Reshape", writer.input(4), writer.constant([batch, groups, 1, taps, *out])
        )
        sampled = writer.op("Mul", sampled, share)
    columns = writer.op("Reshape", sampled, writer.constant([batch, channels * taps, *out]))
    filters = writer.op(
        "Reshape", writer.input(1), writer.constant([weight[0], weight[1] * taps, 1, 1])
    )
    bias = writer.input(3) if writer.has(3) else None
    return [writer.op("Conv", columns, filters, bias, group=writer.integer("group", 1))]


def _places_of_window(
    writer: Writer, kernel: Sequence[int], out: Sequence[int]
) -> NDArray[np.float64]:
    """Where each element of a window stands for each output: (1, taps, 2, height, width)."""
    attributes = writer.node.attributes
    strides, dilations = (list(attributes.get_ints(n, [1, 1])) for n in ("strides", "dilations"))
    pads = list(attributes.get_ints("pads", [0] * 4))
    found = np.zeros((kernel[0], kernel[1], 2, *out))
    for axis in (0, 1):
        tap = np.arange(kernel[axis]) * dilations[axis] - pads[axis]
        place = np.arange(out[axis]) * strides[axis]
        shapes = ([-1 if i == axis else 1 for i in range(4)], [-1 if i == axis + 2 else 1
                                                              for i in range(4)])  # fmt: skip
        found[:, :, axis] = tap.reshape(shapes[0]) + place.reshape(shapes[1])
    return found.reshape(1, -1, 2, *out)


def of_integers(writer: Writer) -> Results:
    """ConvInteger: what is left without the zero points is convolved where sums are exact.

    Sums of more terms are those of as many channels as are exact, added as integers.
    """
    weight = writer.shape(1)
    if weight is None or dynamic_convolution(writer.node) is not None:
        return None  # The second has a form of its own: `lower-dynamic-convolutions`.
    channels, taps = weight[1], int(np.prod(weight[2:]))
    step = min(_EXACT_TERMS // taps, channels)
    is_split = 0 < step < channels and writer.integer("group", 1) == 1
    wide = _FLOAT if is_split or step == channels else _DOUBLE
    x, kernel = (
        _centred(writer, index, zero, wide, axis) for index, zero, axis in ((0, 2, 1), (1, 3, 0))
    )
    if not is_split:
        return [writer.cast(writer.same("Conv", x, kernel), _INT32)]
    sums = []
    for start in range(0, channels, step):
        bounds = [writer.constant([n]) for n in (start, min(start + step, channels), 1)]
        parts = [writer.op("Slice", operand, *bounds) for operand in (x, kernel)]
        sums.append(writer.cast(writer.same("Conv", *parts), _INT32))
    return [reduce(lambda total, part: writer.op("Add", total, part), sums)]


def _centred(
    writer: Writer, index: int, zero: int, wide: onnx_ir.DataType, axis: int
) -> onnx_ir.Value:
    known = constant_array(writer.input(index))
    offsets = constant_array(writer.input(zero)) if writer.has(zero) else np.zeros(())
    if known is not None and offsets is not None:
        spread = [-1 if i == axis and offsets.ndim else 1 for i in range(known.ndim)]
        centred = known.astype(np.int32) - offsets.reshape(spread).astype(np.int32)
        return writer.constant(centred.astype(wide.numpy()))
    x = writer.cast(writer.input(index), wide)
    if not writer.has(zero):
        return x
    offset, rank = writer.cast(writer.input(zero), wide), len(writer.shape(index) or ())
    if len(writer.shape(zero) or ()) == 1:
        sizes = np.ones(rank, np.int64)
        sizes[axis] = -1
        offset = writer.op("Reshape", offset, writer.constant(sizes))
    return writer.op("Sub", x, offset)


RULES = {"ConvTranspose": transposed_to_shape, "ConvInteger": of_integers, "DeformConv": deformed}
