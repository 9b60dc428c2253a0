"""Resize in the forms for which there is no kernel, one axis after the other.

Nearest neighbours are picked; everything else is a product with a constant matrix, whose rows are
the weights of an output. Coordinates and weights are those of ONNX's definition of Resize.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.written_out.writer import Writer, is_small

Floats = NDArray[np.float64]
Results = Sequence[onnx_ir.Value | None] | None

_MOST_ELEMENTS = 1 << 22
"""Elements of a matrix of weights, or of a mask."""

_INTEGERS = (onnx_ir.DataType.UINT8, onnx_ir.DataType.INT8, onnx_ir.DataType.INT32)
_HAS_KERNEL = frozenset(
    {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"}
)
_ROUNDS_UP: dict[str, Callable[[float], bool]] = {
    "round_prefer_floor": lambda ratio: ratio > 0.5,
    "round_prefer_ceil": lambda ratio: ratio >= 0.5,
    "floor": lambda ratio: ratio == 1,
    "ceil": lambda ratio: True,
}


@dataclass(frozen=True)
class _Axis:
    """How one axis changes.

    Attributes:
        scale: Outputs for each input.
        roi: Where the region to resize begins and ends, as parts of the axis.
    """

    number: int
    size: int
    outputs: int
    scale: float
    roi: tuple[float, float]


def resize(writer: Writer) -> Results:
    """Resize that no kernel does."""
    shape = writer.shape(0)
    if shape is None or _has_kernel(writer, shape):
        return None
    axes = _axes(writer, shape)
    if axes is None:
        return None
    x, dtype = writer.input(0), writer.dtype(0)
    outside: list[tuple[int, NDArray[np.bool_]]] = []
    for axis in axes:
        if axis.size == axis.outputs and axis.scale == 1 and axis.roi == (0, 1):
            continue
        places = _coordinates(axis, writer.text("coordinate_transformation_mode", "half_pixel"))
        if writer.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            outside.append((axis.number, (places < 0) | (places > axis.size - 1)))
        if writer.text("mode", "nearest") == "nearest":
            x = writer.op("Gather", x, writer.constant(_nearest(writer, axis, places)),
                          axis=axis.number)  # fmt: skip
            continue
        if not is_small((axis.size, axis.outputs), _MOST_ELEMENTS) or dtype.numpy().kind != "f":
            return None
        matrix = _weights(writer, axis, places).T.astype(dtype.numpy())
        x = _multiplied(writer, x, axis.number, len(shape), matrix)
    return [_filled(writer, x, outside, axes, shape, dtype)]


def _has_kernel(writer: Writer, shape: tuple[int, ...]) -> bool:
    """Nearest and linear over height and width, by plain scales or sizes."""
    name = writer.text("coordinate_transformation_mode", "half_pixel")
    if writer.text("mode", "nearest") == "cubic" or name not in _HAS_KERNEL:
        return False
    if writer.integer("antialias", 0) or "axes" in writer.node.attributes:
        return False
    if writer.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    after = writer.node.outputs[0].shape
    if after is None or not after.is_static() or len(shape) not in (3, 4):
        return False
    if tuple(after.numpy())[:2] != shape[:2]:
        return False
    if name == "align_corners" and (scales := writer.known(2)) is not None and scales.size:
        lengths = np.asarray(scales, np.float64) * shape
        if not np.allclose(lengths, after.numpy(), atol=1e-4):
            return False
    is_nearest = writer.text("mode", "nearest") == "nearest"
    return writer.dtype(0).numpy().kind == "f" or (is_nearest and writer.dtype(0) in _INTEGERS)


def _axes(writer: Writer, shape: tuple[int, ...]) -> list[_Axis] | None:
    roi, scales, sizes = (writer.known(index) for index in (1, 2, 3))
    named = writer.node.attributes.get_ints("axes", range(len(shape)))
    numbers = [int(axis) % len(shape) for axis in named]
    parts = [(0.0, 1.0)] * len(numbers)
    is_cropped = writer.text("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if is_cropped and writer.has(1) and roi is None:
        return None
    if is_cropped and roi is not None and roi.size:
        starts, ends = np.asarray(roi, np.float64).reshape(2, -1)
        parts = [(float(start), float(end)) for start, end in zip(starts, ends, strict=True)]
    before = [shape[number] for number in numbers]
    if sizes is not None and sizes.size:
        wanted = [int(size) for size in sizes]
        ratios = [after / size for after, size in zip(wanted, before, strict=True)]
        policy = writer.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(ratios)
            wanted = [math.floor(ratio * size + 0.5) for size in before]
    elif scales is not None and scales.size:
        ratios = [float(scale) for scale in scales]
        wanted = [math.floor(size * ratio) for size, ratio in zip(before, ratios, strict=True)]
    else:
        return None
    return [
        _Axis(number, size, outputs, ratio, part)
        for number, size, outputs, ratio, part in zip(
            numbers, before, wanted, ratios, parts, strict=True
        )
    ]


def _coordinates(axis: _Axis, name: str) -> Floats:
    """Where in the input each output lies."""
    x, length = np.arange(axis.outputs, dtype=np.float64), axis.scale * axis.size
    start, end = axis.roi
    last = axis.size - 1
    match name:
        case "align_corners":
            return x * 0 if length == 1 else x * last / (length - 1)
        case "asymmetric":
            return x / axis.scale
        case "tf_crop_and_resize" if length == 1:
            return x * 0 + (end - start) * last / 2 + start * last
        case "tf_crop_and_resize":
            return x * (end - start) * last / (length - 1) + start * last
        case "pytorch_half_pixel" if length == 1:
            return x * 0 - 0.5
        case "half_pixel_symmetric":
            offset = axis.size / 2 * (1 - axis.outputs / length)
            return offset + (x + 0.5) / axis.scale - 0.5
    return (x + 0.5) / axis.scale - 0.5


def _below(place: float) -> tuple[int, float]:
    """The whole number below, and how far behind it: more than zero, and at most one."""
    below = math.ceil(place) - 1
    return below, place - below


def _nearest(writer: Writer, axis: _Axis, places: Floats) -> NDArray[np.int64]:
    is_up = _ROUNDS_UP[writer.text("nearest_mode", "round_prefer_floor")]
    picked = [below + is_up(ratio) for below, ratio in map(_below, places.tolist())]
    return np.clip(picked, 0, axis.size - 1).astype(np.int64)


def _weights(writer: Writer, axis: _Axis, places: Floats) -> Floats:
    """(outputs, inputs): what each output takes of each input."""
    scale = min(axis.scale, 1.0) if writer.integer("antialias", 0) else 1.0
    is_cubic = writer.text("mode", "nearest") == "cubic"
    kernel = _cubic(writer.real("cubic_coeff_a", -0.75)) if is_cubic else _linear
    reach = math.ceil((2 if is_cubic else 1) / scale)
    matrix = np.zeros((axis.outputs, axis.size))
    for row, (below, ratio) in zip(matrix, map(_below, places.tolist()), strict=True):
        offsets = np.arange(1 - reach, reach + 1)
        weights = kernel(np.abs(offsets - ratio) * scale)
        index = below + offsets
        if writer.integer("exclude_outside", 0):
            weights = np.where((index < 0) | (index >= axis.size), 0, weights)
        if scale < 1 or writer.integer("exclude_outside", 0):
            weights = weights / weights.sum()
        np.add.at(row, np.clip(index, 0, axis.size - 1), weights)
    return matrix


def _linear(distance: Floats) -> Floats:
    return np.clip(1 - distance, 0, 1)


def _cubic(a: float) -> Callable[[Floats], Floats]:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""

    def kernel(x: Floats) -> Floats:
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0))

    return kernel


def _multiplied(
    writer: Writer, x: onnx_ir.Value, axis: int, rank: int, matrix: NDArray[np.generic]
) -> onnx_ir.Value:
    """Multiply along an axis."""
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = x if axis == rank - 1 else writer.op("Transpose", x, perm=order)
    product = writer.op("MatMul", moved, writer.constant(matrix))
    back = [int(i) for i in np.argsort(order)]
    return product if axis == rank - 1 else writer.op("Transpose", product, perm=back)


def _filled(
    writer: Writer,
    x: onnx_ir.Value,
    outside: list[tuple[int, NDArray[np.bool_]]],
    axes: list[_Axis],
    shape: tuple[int, ...],
    dtype: onnx_ir.DataType,
) -> onnx_ir.Value:
    """Put the extrapolation value where an output lies outside of the input."""
    after = list(shape)
    for axis in axes:
        after[axis.number] = axis.outputs
    is_outside = np.zeros(after, bool)
    for number, flags in outside:
        is_outside |= flags.reshape([-1] + [1] * (len(shape) - 1 - number))
    if not is_outside.any():
        return writer.op("Identity", x)
    value = writer.number(writer.real("extrapolation_value", 0.0), dtype)
    return writer.op("Where", writer.constant(is_outside), value, x)


RULES = {"Resize": resize}
