"""Resizing of the height and width of images."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.resize import COORDINATES, ResizeKernel, Taps, taps_along
from gcompile.backends.tvm.kernels.spec import Accumulator, Output, Source
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.windows import stored_input

_INTEGERS = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32)


def lower_resize(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one Resize."""
    (node,) = region.nodes
    stored, _, _ = stored_input(region, node.inputs[0])
    result = node.outputs[0]
    if result.dtype not in DTYPES:
        raise CannotEmitError(f"the output has type {result.dtype}")
    if stored.dtype in _INTEGERS and _mode(node) != "nearest":
        raise CannotEmitError("integers are interpolated")
    taps = _taps(node, ir.static_shape(stored), ir.static_shape(result))
    x, image = memory.image(stored), memory.new_image(result)
    kernel = ResizeKernel(
        output=Output(image),
        expression=Accumulator(),
        x=Source(x.image),
        taps=(len(taps[0].indices), len(taps[1].indices)),
        **memory.emission.shared(region.tile.threads if region.tile else 1),
    )
    tables = [array for axis in taps for array in (axis.indices, axis.weights)]
    operands = [x.var, *(memory.emission.constant(table) for table in tables)]
    var = memory.emission.call(kernel, operands, image)
    memory.put(result, Placement(var, Layout.CHANNELS_LAST, image))


def _taps(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[Taps, Taps]:
    """What rows and columns of the output read; a line is an image of one row."""
    if len(before) not in (3, 4):
        raise CannotEmitError("Resize is not of an image")
    attributes = node.attributes
    coordinates = attributes.get_string("coordinate_transformation_mode", "half_pixel")
    policy = attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if _mode(node) not in ("nearest", "linear") or attributes.get_int("antialias", False):
        raise CannotEmitError(f"Resize interpolates by the mode {_mode(node)!r} or antialiasing")
    if coordinates not in COORDINATES or policy != "stretch":
        raise CannotEmitError(f"Resize maps coordinates by {coordinates!r}, {policy!r}")
    scales = _scales(node, before, after)
    if scales[:2] != [1.0, 1.0] or before[:2] != after[:2]:
        raise CannotEmitError("Resize changes more than height and width")
    lengths = np.asarray(scales) * before
    if coordinates == "align_corners" and not np.allclose(lengths, after, atol=1e-4):
        raise CannotEmitError("Resize aligns corners of an image whose size is no whole number")
    rounding = attributes.get_string("nearest_mode", "round_prefer_floor")
    found = [
        taps_along(size, outputs, scale, _mode(node), coordinates, rounding)
        for size, outputs, scale in zip(before[2:], after[2:], scales[2:], strict=True)
    ]
    row = taps_along(1, 1, 1.0)
    return (row, found[0]) if len(found) == 1 else (found[0], found[1])


def _scales(node: ir.Node, before: tuple[int, ...], after: tuple[int, ...]) -> list[float]:
    """Outputs for each input along every axis: as given, or as the sizes have it."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None or not ir.static_shape(given)[0]:
        return [out / size for size, out in zip(before, after, strict=True)]
    array = ir.constant_array(given)
    if array is None:
        raise CannotEmitError("the scales of Resize are not constant")
    scales = [1.0] * len(before)
    axes = node.attributes.get_ints("axes", range(len(before)))
    for axis, scale in zip(axes, np.asarray(array).reshape(-1), strict=True):
        scales[axis % len(before)] = float(scale)
    return scales


def _mode(node: ir.Node) -> str:
    return node.attributes.get_string("mode", "nearest")
