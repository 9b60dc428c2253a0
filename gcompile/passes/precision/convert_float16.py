"""Compute products on fp16 operands with fp32 sums.

fp16 has 11 bits of precision, eight times as fine as bfloat16, and ends at 65504: what exceeds
that becomes infinite. With calibration rows, regions that would store larger values keep fp32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.halves import convert_to_half
from gcompile.passes.precision.plan_storage import plan_storage
from gcompile.passes.precision.quantize_static import choose_regions, value_names
from gcompile.passes.precision.ranges import Histogram, largest_magnitudes

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class ConvertFloat16(Pass):
    """Store the operands of products in fp16, where their values fit.

    Attributes:
        regions: Names of the regions to convert; empty means every one that can be.
    """

    name: ClassVar[str] = "convert-float16"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    regions: tuple[str, ...] = ()

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        return self.convert(model, choose_regions(model, self, ir.Precision.FP16, ctx), ctx)

    def convert(
        self,
        model: ir.Model,
        chosen: Sequence[ir.Region],
        ctx: PassContext,
        histograms: Mapping[str, Histogram] | None = None,
    ) -> int:
        """Convert those of the regions given whose values fit; return how many there were.

        What activations reach is only known with calibration rows and a runner; `histograms`
        saves running the model again for the values that it knows.
        """
        fitting = self._with_fitting_weights(chosen, ctx)
        fitting = self._with_fitting_values(model, fitting, ctx, histograms or {})
        return convert_to_half(model, fitting, ir.DataType.FLOAT16, self.name)

    def _with_fitting_weights(
        self, chosen: Sequence[ir.Region], ctx: PassContext
    ) -> list[ir.Region]:
        fitting = []
        for region in chosen:
            array = ir.constant_array(region.anchor.inputs[1]) if region.anchor else None
            if array is not None and np.abs(array.astype(np.float64)).max(initial=0) > LARGEST:
                ctx.skipped[self.name, f"its weights exceed {LARGEST:g}, the largest fp16"] += 1
            else:
                fitting.append(region)
        return fitting

    def _with_fitting_values(
        self,
        model: ir.Model,
        chosen: list[ir.Region],
        ctx: PassContext,
        histograms: Mapping[str, Histogram],
    ) -> list[ir.Region]:
        """Leave out the regions for which a value would be stored that calibration saw exceed."""
        if not ctx.calibration or ctx.run is None or not chosen:
            return chosen
        plan = plan_storage(model, chosen)
        names = value_names(plan)
        seen = {name: _magnitude(histograms[name]) for name in names if name in histograms}
        if missing := [name for name in names if name not in seen]:
            seen |= largest_magnitudes(model, missing, ctx.calibration, ctx.run)
        large = {name for name, magnitude in seen.items() if magnitude > LARGEST}
        while large.intersection(str(value.name) for value in plan.values):
            kept = [region for region in chosen if not self._stores(model, region, large)]
            for _ in range(len(chosen) - len(kept)):
                ctx.skipped[self.name, f"its values exceed {LARGEST:g}, the largest fp16"] += 1
            if len(kept) == len(chosen):  # Only all of them together store it.
                kept = []
            chosen = kept
            plan = plan_storage(model, chosen)
        return chosen

    def _stores(self, model: ir.Model, region: ir.Region, names: set[str]) -> bool:
        """Say whether converting the region alone stores one of the values, or it adds one."""
        alone = {*plan_storage(model, [region]).values, *region.inputs}
        return any(str(value.name) in names for value in alone)


def _magnitude(histogram: Histogram) -> float:
    return max(abs(histogram.low), abs(histogram.high))
