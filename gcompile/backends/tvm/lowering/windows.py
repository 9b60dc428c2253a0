"""Regions that slide a window over an image: convolutions and pools."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.lowering.placement import DTYPES, Halo
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.stored_numbers import quantization

_GROUP = {ir.DataType.UINT8: 4, ir.DataType.INT8: 4, ir.DataType.BFLOAT16: 2}

POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"})


@dataclass(frozen=True)
class Window:
    """How a region reads its main input.

    Attributes:
        node: The convolution or pool.
        stored: The value in memory: what the region dequantizes or casts, or the input itself.
        scale: The scale of a quantized input, else 1.
        fill: What padding must read, as stored.
        contraction: The geometry; for a pool `in_c` and `out_c` are its channels.
    """

    node: ir.Node
    stored: ir.Value
    scale: float
    zero_point: int
    fill: float
    contraction: ir.Contraction

    @property
    def halo(self) -> Halo:
        """The border the window really reaches into, as (top, left, bottom, right)."""
        c = self.contraction
        reach_h = (c.out_h - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1
        reach_w = (c.out_w - 1) * c.stride_w + (c.kernel_w - 1) * c.dilation_w + 1
        bottom, right = reach_h - c.in_h - c.pad_top, reach_w - c.in_w - c.pad_left
        return c.pad_top, c.pad_left, max(bottom, 0), max(right, 0)


def window_of(region: ir.Region) -> Window | None:
    """Describe the region's window over a channels-last image, or None when it has none."""
    node = next((n for n in region.nodes if n.op_type in POOLS or n.op_type == "Conv"), None)
    if node is None or node.domain:
        return None
    try:
        geometry = _geometry(node)
        if geometry is None:
            return None
        return _read_window(region, node, geometry)
    except CannotEmitError:
        return None


def stored_input(region: ir.Region, value: ir.Value | None) -> tuple[ir.Value, float, int]:
    """Look through a dequantize or cast inside the region: (value in memory, scale, zero point).

    Where these are found at run time, scale and zero point are 1 and 0.

    Raises:
        CannotEmitError: The type is not one kernels read.
    """
    if value is None:
        raise CannotEmitError("an input is missing")
    scale, zero_point = 1.0, 0
    producer = value.producer()
    if producer is not None and producer in region.nodes:
        if ir.dynamic_quantizer(producer) is not None:
            pass  # Whoever reads it finds both at run time.
        elif producer.op_type == "DequantizeLinear":
            scale, zero_point = quantization(producer)
        elif producer.op_type != "Cast":
            raise CannotEmitError(f"its input is computed by {producer.op_type} in the region")
        source = producer.inputs[0]
        if source is None or (source.producer() in region.nodes):
            raise CannotEmitError("its input is converted twice")
        value = source
    if value.dtype not in DTYPES:
        raise CannotEmitError(f"its input has type {value.dtype}")
    return value, scale, zero_point


def _read_window(region: ir.Region, node: ir.Node, geometry: ir.Contraction) -> Window:
    stored, scale, zero_point = stored_input(region, node.inputs[0])
    fill = _lowest(stored) if node.op_type == "MaxPool" else float(zero_point)
    if node.op_type == "Conv":
        geometry = geometry.widened(_GROUP.get(stored.dtype or ir.DataType.FLOAT, 1))
    return Window(node, stored, scale, zero_point, fill, geometry)


def _lowest(value: ir.Value) -> float:
    dtype = DTYPES[value.dtype or ir.DataType.FLOAT]
    if dtype in ("uint8", "int8"):
        return float(np.iinfo(dtype).min)
    return float(np.finfo(np.float32).min) if dtype != "float16" else -65504.0


def _geometry(node: ir.Node) -> ir.Contraction | None:
    if node.op_type == "Conv":
        return ir.contraction_of(node)
    shape = ir.static_shape(node.inputs[0])
    if len(shape) not in (3, 4):
        return None
    if node.op_type == "ReduceMean":
        return _spatial_mean(node, shape)
    if node.op_type.startswith("Global"):
        return _whole_image(shape)
    return _pool(node, shape)


def _whole_image(shape: tuple[int, ...]) -> ir.Contraction:
    height, width = (1, *shape[2:])[-2:]
    return ir.Contraction(
        batch=shape[0], in_h=height, in_w=width, in_c=shape[1], out_h=1, out_w=1, out_c=shape[1],
        kernel_h=height, kernel_w=width, groups=shape[1],
    )  # fmt: skip


def _spatial_mean(node: ir.Node, shape: tuple[int, ...]) -> ir.Contraction | None:
    axes = ir.constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        return None
    wanted = sorted(int(a) % len(shape) for a in np.asarray(axes).reshape(-1))
    return _whole_image(shape) if wanted == list(range(2, len(shape))) else None


def _pool(node: ir.Node, shape: tuple[int, ...]) -> ir.Contraction | None:
    if any(value.name and value.uses() for value in node.outputs[1:]):
        return None
    return ir.sliding_window(node, node.attributes.get_ints("kernel_shape"), shape[1])
