"""The geometry of transposed convolutions, as their kernels take it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output
from gcompile.backends.tvm.kernels.transposed_convolution import TransposedKernel, needed_halo
from gcompile.backends.tvm.lowering.placement import DTYPES, Halo, stored_channels
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.windows import stored_input


@dataclass(frozen=True)
class TransposedWindow:
    """How a region reads the input of its transposed convolution.

    Attributes:
        stored: The value in memory: what the region casts, or the input itself.
        kernel: The kernel, but for its expression, its tile and how its output is stored.
    """

    node: ir.Node
    stored: ir.Value
    kernel: TransposedKernel

    @property
    def halo(self) -> Halo:
        """The border that the kernel reads, as (top, left, bottom, right)."""
        return needed_halo(self.kernel)


def transposed_window_of(region: ir.Region) -> TransposedWindow | None:
    """Describe the region's transposed convolution, or None when it has none that kernels know."""
    node = region.anchor
    if node is None or node.op_type != "ConvTranspose":
        return None
    try:
        stored, scale, zero_point = stored_input(region, node.inputs[0])
    except CannotEmitError:
        return None
    x, y = ir.static_shape(stored), ir.static_shape(node.outputs[0])
    if len(x) not in (3, 4) or (scale, zero_point) != (1.0, 0):
        return None
    return TransposedWindow(node, stored, _kernel(node, stored, x, y))


def _kernel(
    node: ir.Node, stored: ir.Value, x: tuple[int, ...], y: tuple[int, ...]
) -> TransposedKernel:
    """Lines are images of one row."""
    lift = (1,) * (4 - len(x))
    size = (*lift, *ir.static_shape(node.inputs[1])[2:])
    stride = (*lift, *_pair(node, "strides", len(x) - 2))
    dilation = (*lift, *_pair(node, "dilations", len(x) - 2))
    image, out = (*lift, *x[2:]), (*lift, *y[2:])
    dtype = DTYPES[stored.dtype or ir.DataType.FLOAT]
    kernel = TransposedKernel(
        output=Output(Image(x[0], out[0], out[1], y[1])),
        expression=Accumulator(),
        x=Image(x[0], image[0], image[1], stored_channels(x[1]), dtype),
        kernel_size=(size[0], size[1]),
        stride=(stride[0], stride[1]),
        dilation=(dilation[0], dilation[1]),
        groups=node.attributes.get_int("group", 1),
    )
    top, left = (_pads(node, kernel, axis, len(x) - 2) for axis in (0, 1))
    return replace(kernel, pads=(top, left))


def _pair(node: ir.Node, name: str, spatial: int) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints(name, [1] * spatial))


def _pads(node: ir.Node, kernel: TransposedKernel, axis: int, spatial: int) -> int:
    """Outputs cut off at the beginning of an axis: given, or half of what is too much."""
    place = axis - (2 - spatial)
    if place < 0:
        return 0
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    has_shape = "output_shape" in node.attributes
    if not has_shape and mode in ("NOTSET", "VALID"):
        return list(node.attributes.get_ints("pads", [0] * (2 * spatial)))[place]
    sizes = (kernel.x.height, kernel.x.width)
    outputs = (kernel.output.image.height, kernel.output.image.width)
    full = (sizes[axis] - 1) * kernel.stride[axis]
    full += (kernel.kernel_size[axis] - 1) * kernel.dilation[axis] + 1
    full += list(node.attributes.get_ints("output_padding", [0] * spatial))[place]
    total = max(0, full - outputs[axis])
    return total // 2 if mode == "SAME_UPPER" else total - total // 2
