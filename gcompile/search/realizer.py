"""Make choices real: convert a copy, fuse and tile it, price it."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile import ir
from gcompile.energy import estimate
from gcompile.passes import PassContext, Pipeline
from gcompile.passes.precision import Choice, Histogram, QuantizeStatic, assign_precisions
from gcompile.search.point import Realize, Realized


def realizer(
    model: ir.Model,
    ctx: PassContext,
    finish: Pipeline | None = None,
    histograms: Mapping[str, Histogram] | None = None,
) -> Realize:
    """Return a function that converts copies of `model`; `finish` fuses and tiles them.

    Args:
        model: The fused float model; never changed.
        ctx: As for passes.
        finish: The passes that follow conversion.
        histograms: What `observe_ranges` returned for the model, to save observing again.
    """

    def realize(choice: Choice, options: QuantizeStatic) -> Realized:
        copy = model.clone()
        assign_precisions(copy, choice, ctx, options, histograms)
        if finish is not None:
            finish.apply(copy, ctx)
        return Realized(copy, estimate(copy, ctx.target, ctx.energy, ctx.threads))

    return realize
