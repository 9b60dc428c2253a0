"""Compute products on operands of 16-bit floats, with fp32 sums.

Values are cast where they are made and cast back where they are read; weights are stored as 16-bit
floats, those that are stored as integers are rounded where they are decoded. Matrix units multiply
pairs exactly and add in fp32: that is what casts say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gcompile import ir
from gcompile.passes.precision.plan_storage import plan_storage
from gcompile.passes.precision.store_narrow import NarrowWriter


def convert_to_half(
    model: ir.Model, chosen: Sequence[ir.Region], dtype: ir.DataType, pass_name: str
) -> int:
    """Convert the regions given, which must be able to; return how many there were.

    Args:
        model: The model, converted in place.
        chosen: Regions with products.
        dtype: BFLOAT16 or FLOAT16.
        pass_name: Who is recorded as the origin of the casts.
    """
    plan = plan_storage(model, chosen)
    writer = NarrowWriter(model, plan, dtype, pass_name)
    for value in list(plan.values):
        writer.store(value, _cast_to(dtype), _cast_to(ir.DataType.FLOAT))
    for region in chosen:
        if region.batched_product is None:
            _convert_weight(model, writer, region)
    ir.remove_unused(model)
    return len(chosen)


def _convert_weight(model: ir.Model, writer: NarrowWriter, region: ir.Region) -> None:
    node, dtype = region.anchor, writer.encode_dtype
    assert node is not None
    weight = node.inputs[1]
    if weight is not None and region.weight_decoder is not None:
        to_half, to_float = _cast_to(dtype), _cast_to(ir.DataType.FLOAT)
        writer.round_operand(weight, to_half, to_float, node)
        return
    array = ir.constant_array(weight)
    assert weight is not None
    assert array is not None
    rounded = np.asarray(array).astype(dtype.numpy())
    stored = ir.add_constant(model.graph, f"{weight.name}_stored", rounded)
    writer.decode_constant(_cast_to(ir.DataType.FLOAT)(stored), weight, node)


def _cast_to(dtype: ir.DataType) -> Callable[[ir.Value], ir.Node]:
    to = ir.Attr("to", ir.AttributeType.INT, int(dtype))
    return lambda value: ir.Node("", "Cast", [value], [to], num_outputs=1)
