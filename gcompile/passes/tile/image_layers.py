"""Regions of which some rows can be computed without the others."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.passes.fuse.operators import Kind, kind_of

_POOLS = ("MaxPool", "AveragePool")
_RANK = 4


@dataclass(frozen=True)
class ImageLayer:
    """A region that makes one image, (1, channels, height, width), row by row of those it reads.

    Attributes:
        reads: Every image that is read by rows, and through which window.
        whole: What is read whole in each pass, constants left out.
    """

    region: ir.Region
    output: ir.Value
    reads: tuple[tuple[ir.Value, ir.RowWindow], ...]
    whole: tuple[ir.Value, ...]

    @property
    def height(self) -> int:
        """Rows of the image."""
        return ir.static_shape(self.output)[2]

    @property
    def row_bytes(self) -> float:
        """Of one row of the image."""
        return ir.value_bytes(self.output) / self.height

    @property
    def least(self) -> int:
        """The fewest rows that can be computed at once."""
        tile = self.region.tile
        return max(tile.winograd, 1) if tile is not None else 1

    @property
    def weight_bytes(self) -> int:
        """Of all constants."""
        return sum(ir.value_bytes(v) for v in self.region.inputs if v.const_value is not None)


def image_layer(region: ir.Region) -> ImageLayer | None:
    """Read a region as an image layer; None where rows depend on more, or it is no image."""
    if len(region.outputs) != 1 or not _is_image(region.outputs[0]):
        return None
    kinds = {node: kind_of(node) for node in region.nodes}
    known = (Kind.PRODUCT, Kind.POOL, Kind.ELEMENTWISE, Kind.DECODE, Kind.ENCODE)
    if any(kind not in known for kind in kinds.values()):
        return None
    output = region.outputs[0]
    windowed = [n for n, kind in kinds.items() if kind in (Kind.PRODUCT, Kind.POOL)]
    window = _window(windowed[0]) if windowed else None
    if len(windowed) > 1 or (windowed and window is None):
        return None
    image = _stored(windowed[0].inputs[0], region) if windowed else None
    height = ir.static_shape(output)[2]
    reads, whole = [], []
    for value in region.inputs:
        if value.const_value is not None:
            continue
        if value is image and window is not None:
            reads.append((value, window))
        elif _is_image(value) and ir.static_shape(value)[2] == height:
            reads.append((value, ir.RowWindow()))
        else:
            whole.append(value)
    return ImageLayer(region, output, tuple(reads), tuple(whole))


def _is_image(value: ir.Value) -> bool:
    shape = ir.static_shape(value)
    return len(shape) == _RANK and shape[0] == 1 and shape[2] > 1


def _window(node: ir.Node) -> ir.RowWindow | None:
    """The rows that a convolution or pool reads; None where kernels are not emitted by rows."""
    if node.op_type == "Conv":
        sizes = ir.contraction_of(node)
    elif node.op_type in _POOLS:
        sizes = ir.sliding_window(node, node.attributes.get_ints("kernel_shape", []), 1)
    else:
        return None
    if sizes is None or ir.dynamic_convolution(node) is not None:
        return None
    window = ir.RowWindow.of(sizes)
    is_padded = sizes.pad_top > 0 or window.stop(sizes.out_h) > sizes.in_h
    if node.op_type == "AveragePool" and is_padded:  # Means count the rows inside the image.
        return None
    return window


def _stored(value: ir.Value | None, region: ir.Region) -> ir.Value | None:
    """Look through what decodes a value in the region."""
    producer = value.producer() if value is not None else None
    return producer.inputs[0] if producer is not None and producer in region.nodes else value
