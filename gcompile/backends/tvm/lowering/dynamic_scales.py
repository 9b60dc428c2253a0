"""Integers whose scale and zero point are found when the model runs."""

from __future__ import annotations

from gcompile import ir
from gcompile.backends.tvm.kernels.spec import DynamicQuantizeKernel, Image
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import Layout, Placement, rows_image
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError


def lower_dynamic_quantize(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one DynamicQuantizeLinear.

    Raises:
        CannotEmitError: It reads another type, or nothing.
    """
    (node,) = region.nodes
    x = node.inputs[0]
    if x is None or x.dtype is not ir.DataType.FLOAT:
        raise CannotEmitError("what is quantized is not float32")
    source, shape = memory.tensor(x), ir.static_shape(x)
    kernel = DynamicQuantizeKernel(source.shape, shape, memory.emission.vector_bits)
    images = [
        rows_image(shape, "uint8"),
        Image(1, 1, 1, 1, "float32", declared=()),
        Image(1, 1, 1, 1, "uint8", declared=()),
    ]
    results = memory.emission.call_for_several(kernel, [source.var], images)
    for value, var, image in zip(node.outputs, results, images, strict=True):
        memory.put(value, Placement(var, Layout.ROWS, image))
