"""Give each region the precision a choice names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import PassContext
from gcompile.passes.precision.convert_bfloat16 import ConvertBfloat16
from gcompile.passes.precision.convert_float16 import ConvertFloat16
from gcompile.passes.precision.eligibility import product_regions, why_not
from gcompile.passes.precision.plan_storage import plan_storage
from gcompile.passes.precision.quantize_static import QuantizeStatic, value_names
from gcompile.passes.precision.ranges import Histogram, collect_histograms, needs_calibration
from gcompile.passes.precision.reference import Reference

Choice = Mapping[str, ir.Precision]
"""A precision for each region, by region name; regions left out stay as they are."""


def assign_precisions(
    model: ir.Model,
    choice: Choice,
    ctx: PassContext,
    options: QuantizeStatic | None = None,
    histograms: Mapping[str, Histogram] | None = None,
    reference: Reference | None = None,
) -> int:
    """Convert the model in place, int8 first; return how many regions changed.

    A region that cannot have the precision chosen for it keeps its own; `ctx.skipped` says why.

    Args:
        model: A model whose regions are fused.
        choice: The precision of each region.
        ctx: Calibration rows and a runner where int8 is chosen.
        options: How to quantize.
        histograms: What `observe_ranges` returned for this model, to save observing again.
        reference: What `observe_reference` returned for it, to save running it again.

    Raises:
        UsageError: The choice names a region the model does not have.
        PassError: int8 is chosen and calibration rows or a runner are missing.
    """
    options = options or QuantizeStatic()
    integer = _chosen(model, choice, ir.Precision.INT8, options.name, ctx)
    changed = options.quantize(model, ctx, integer, histograms, reference)
    narrow = ConvertBfloat16()
    bfloat16 = _chosen(model, choice, ir.Precision.BF16, narrow.name, ctx)
    changed += narrow.convert(model, bfloat16)
    half = ConvertFloat16()
    float16 = _chosen(model, choice, ir.Precision.FP16, half.name, ctx)
    return changed + half.convert(model, float16, ctx, histograms)


def observe_ranges(model: ir.Model, ctx: PassContext) -> dict[str, Histogram]:
    """Observe every value that quantizing any of the model's regions could need.

    Raises:
        PassError: Calibration rows or a runner are missing.
    """
    calibration, run = needs_calibration(QuantizeStatic.name, ctx)
    names = value_names(plan_storage(model, _able(model)))
    return collect_histograms(model, names, calibration, run)


def observe_reference(
    model: ir.Model,
    ctx: PassContext,
    histograms: Mapping[str, Histogram],
    tried: Sequence[QuantizeStatic],
) -> Reference:
    """Observe in one run what quantizing the model in each of several ways asks of it.

    Raises:
        PassError: Calibration rows or a runner are missing.
    """
    reference = Reference(model, *needs_calibration(QuantizeStatic.name, ctx))
    able = _able(model)
    reference.input_means(
        read
        for options in tried
        if options.bias_correction
        for read in options.reads(model, able, histograms)
    )
    return reference


def _able(model: ir.Model) -> list[ir.Region]:
    return [r for r in product_regions(model) if why_not(r, ir.Precision.INT8) is None]


def _chosen(
    model: ir.Model, choice: Choice, precision: ir.Precision, pass_name: str, ctx: PassContext
) -> list[ir.Region]:
    found = {region.name: region for region in product_regions(model)}
    if unknown := [name for name in choice if name not in found]:
        raise UsageError(
            f"The choice of precisions names regions the model does not have: "
            f"{', '.join(unknown)}. Its regions with products are: {', '.join(found)}."
        )
    chosen = []
    for name in (name for name, wanted in choice.items() if wanted is precision):
        if reason := why_not(found[name], precision):
            ctx.skipped[pass_name, reason] += 1
        else:
            chosen.append(found[name])
    return chosen
