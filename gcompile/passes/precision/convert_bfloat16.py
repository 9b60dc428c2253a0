"""Compute products on bfloat16 operands with fp32 sums.

bfloat16 is fp32 without its lower 16 bits: the same range, 8 bits of precision, half the bytes.
Values are cast where they are made and cast back where they are read; weights are stored as
bfloat16, those that are stored as integers are rounded where they are decoded. Matrix units
multiply bfloat16 pairs exactly and add in fp32: that is what casts say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.plan_storage import plan_storage
from gcompile.passes.precision.quantize_static import choose_regions
from gcompile.passes.precision.store_narrow import NarrowWriter


@dataclass(frozen=True)
class ConvertBfloat16(Pass):
    """Store the operands of products in bfloat16.

    Attributes:
        regions: Names of the regions to convert; empty means every one that can be.
    """

    name: ClassVar[str] = "convert-bfloat16"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    regions: tuple[str, ...] = ()

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        return self.convert(model, choose_regions(model, self, ir.Precision.BF16, ctx))

    def convert(self, model: ir.Model, chosen: Sequence[ir.Region]) -> int:
        """Convert the regions given, which must be able to; return how many there were."""
        plan = plan_storage(model, chosen)
        writer = NarrowWriter(model, plan, ir.DataType.BFLOAT16, self.name)
        for value in list(plan.values):
            writer.store(value, _cast_to(ir.DataType.BFLOAT16), _cast_to(ir.DataType.FLOAT))
        for region in chosen:
            if region.batched_product is None:
                _convert_weight(model, writer, region)
        ir.remove_unused(model)
        return len(chosen)


def _convert_weight(model: ir.Model, writer: NarrowWriter, region: ir.Region) -> None:
    node = region.anchor
    assert node is not None
    weight = node.inputs[1]
    if weight is not None and region.weight_decoder is not None:
        to_bfloat16, to_float = (_cast_to(t) for t in (ir.DataType.BFLOAT16, ir.DataType.FLOAT))
        writer.round_operand(weight, to_bfloat16, to_float, node)
        return
    array = ir.constant_array(weight)
    assert weight is not None
    assert array is not None
    rounded = np.asarray(array).astype(ml_dtypes.bfloat16)
    stored = ir.add_constant(model.graph, f"{weight.name}_stored", rounded)
    writer.decode_constant(_cast_to(ir.DataType.FLOAT)(stored), weight, node)


def _cast_to(dtype: ir.DataType) -> Callable[[ir.Value], ir.Node]:
    to = ir.Attr("to", ir.AttributeType.INT, int(dtype))
    return lambda value: ir.Node("", "Cast", [value], [to], num_outputs=1)
