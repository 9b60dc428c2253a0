"""RoiAlign: regions of images, resampled to one size by averages or maxima of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile import ir
from gcompile.backends.tvm.kernels.function import when
from gcompile.backends.tvm.plain.code import PlainCode, Tensors, dtype_of, number, store
from gcompile.backends.tvm.plain.counted import register


@dataclass(frozen=True)
class _Region:
    """One region along one axis.

    Attributes:
        start: Where it begins, in pixels.
        part: Pixels of one output.
        samples: Samples of one output.
    """

    start: Expr
    part: Expr
    samples: Expr | int

    def place(self, output: Expr, sample: Expr, dtype: str) -> Expr:
        """Where a sample lies: the middle of its share of the output's part."""
        share = (T.Cast(dtype, sample) + number(0.5, dtype)) / T.Cast(dtype, self.samples)
        return self.start + (T.Cast(dtype, output) + share) * self.part


def align(node: ir.Node) -> PlainCode | str:
    """Samples between pixels; those more than a pixel outside of the image are zero."""
    shape, (regions, channels, *after) = (
        ir.static_shape(value) for value in (node.inputs[0], node.outputs[0])
    )
    dtype = dtype_of(node.inputs[0])
    if dtype not in ("float32", "float64"):
        return "it samples numbers of 16 bits"
    is_average = node.attributes.get_string("mode", "avg") == "avg"

    def write(tensors: Tensors) -> None:
        x, y = tensors.input(0, shape), tensors.output(0, (regions, channels, *after))
        images, total = tensors.flat(2), register(dtype)
        with T.grid(regions, channels, *after) as (region, channel, row, column):
            lines, dots = (_region(node, tensors, region, axis, after[axis]) for axis in (0, 1))
            last = number(shape[0] - 1, "int64")
            image = T.Bind(T.max(T.min(images[region], last), number(0, "int64")))
            store(total, number(0 if is_average else -float("inf"), dtype), 0)
            with T.serial(0, lines.samples) as i, T.serial(0, dots.samples) as j:
                places = (lines.place(row, i, dtype), dots.place(column, j, dtype))
                _add_sample(x, (image, channel), places, total, is_average)
            count = T.Cast(dtype, lines.samples) * T.Cast(dtype, dots.samples)
            result = total[0] / count if is_average else total[0]
            store(y, result, region, channel, row, column)

    return PlainCode(node, write)


def _region(node: ir.Node, tensors: Tensors, region: Expr, axis: int, outputs: int) -> _Region:
    """A region's extent: rows of x1, y1, x2, y2 in pixels of a larger image."""
    regions, dtype = tensors.input(1), dtype_of(node.inputs[0])
    scale = number(node.attributes.get_float("spatial_scale", 1.0), dtype)
    is_half = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == (
        "half_pixel")  # fmt: skip
    shift = number(0.5 if is_half else 0.0, dtype)
    start, end = (regions[region, 1 - axis + 2 * side] * scale - shift for side in (0, 1))
    extent = end - start
    if not is_half:  # Regions are at least a pixel wide.
        extent = T.max(extent, number(1, dtype))
    part = T.Bind(extent / number(outputs, dtype))
    asked = node.attributes.get_int("sampling_ratio", 0)
    samples: Expr | int = asked
    if not asked:
        samples = T.Bind(T.max(T.Cast("int32", T.ceil(part)), number(1, "int32")))
    return _Region(T.Bind(start), part, samples)


def _add_sample(
    x: Buffer, leading: Sequence[Expr], places: Sequence[Expr], total: Buffer, is_average: bool
) -> None:
    """Interpolate between four pixels, and take the sample in."""
    dtype = x.dtype
    sizes = [int(size) for size in x.shape[2:]]
    one, zero = number(1, dtype), number(0, dtype)
    lows, highs, rests = [], [], []
    is_inside = T.bool(True)
    for place, size in zip(places, sizes, strict=True):
        is_inside = T.And(is_inside, T.And(place >= -one, place <= number(size, dtype)))
        kept = T.min(T.max(place, zero), number(size - 1, dtype))
        low = T.Bind(T.Cast("int32", T.floor(kept)))
        lows.append(low)
        highs.append(T.min(low + 1, size - 1))
        rests.append(T.Bind(kept - T.Cast(dtype, low)))

    def pixel(row: Expr, column: Expr) -> Expr:
        return x[(*leading, row, column)]

    corners = [
        (pixel(lows[0], lows[1]), (one - rests[0]) * (one - rests[1])),
        (pixel(lows[0], highs[1]), (one - rests[0]) * rests[1]),
        (pixel(highs[0], lows[1]), rests[0] * (one - rests[1])),
        (pixel(highs[0], highs[1]), rests[0] * rests[1]),
    ]
    weighted = [value * weight for value, weight in corners]

    def take() -> None:
        if is_average:
            store(total, total[0] + (weighted[0] + weighted[1] + weighted[2] + weighted[3]), 0)
        else:  # The maximum is that of weighted corners, as ONNX defines it.
            best = T.max(T.max(weighted[0], weighted[1]), T.max(weighted[2], weighted[3]))
            store(total, T.max(total[0], best), 0)

    when(is_inside, take)
    if not is_average:
        when(T.Not(is_inside), lambda: store(total, T.max(total[0], zero), 0))


CODES: dict[str, Callable[[ir.Node], PlainCode | str]] = {"RoiAlign": align}
