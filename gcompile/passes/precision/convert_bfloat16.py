"""Compute products on bfloat16 operands with fp32 sums.

bfloat16 is fp32 without its lower 16 bits: the same range, 8 bits of precision, half the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.halves import convert_to_half
from gcompile.passes.precision.quantize_static import choose_regions


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
        return convert_to_half(model, chosen, ir.DataType.BFLOAT16, self.name)
