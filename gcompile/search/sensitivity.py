"""How much the outputs move when one region alone computes in a narrow format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gcompile import ir
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import (
    Choice,
    Histogram,
    QuantizeStatic,
    assign_precisions,
    candidates,
    normalised_error,
    product_regions,
)
from gcompile.passes.precision.run_rows import batches, run_rows

Progress = Callable[[str, float], None]
"""Told what is going on, and which fraction of it is done."""

Sensitivity = Mapping[str, Mapping[ir.Precision, float]]
"""Noise-to-signal ratio of the outputs, by region name and precision; fp32 is 0."""

ROUNDING_ERROR = {ir.Precision.BF16: 2.0**-18 / 3, ir.Precision.INT8: 2.0**-16 / 3}
"""Noise-to-signal ratio of rounding alone, used where there are no rows to measure on: a relative
step of 2^-8 (bfloat16) or an absolute one of 2^-8 of the range (int8), uniformly distributed."""

_OPERATIONS = 6e11
_MOST_ROWS, _LEAST_ROWS = 64, 4


def measure_sensitivity(
    model: ir.Model,
    ctx: PassContext,
    precisions: tuple[ir.Precision, ...],
    *,
    options: QuantizeStatic | None = None,
    histograms: Mapping[str, Histogram] | None = None,
    on_progress: Progress | None = None,
) -> dict[str, dict[ir.Precision, float]]:
    """Convert each region alone to each precision and measure the outputs on calibration rows.

    Without calibration rows every region gets the rounding error of its format.
    """
    able = {region.name: candidates(region, precisions) for region in product_regions(model)}
    found = {name: {ir.Precision.FP32: 0.0} for name in able}
    todo = [(name, p) for name, ps in able.items() for p in ps if p is not ir.Precision.FP32]
    if not ctx.calibration or ctx.run is None:
        for name, precision in todo:
            found[name][precision] = ROUNDING_ERROR[precision]
        return found
    rows = sample(model, ctx.calibration, len(todo))
    expected = run_rows(model, rows, ctx.run)
    quick = replace(options or QuantizeStatic(), bias_correction=False)
    for index, (name, precision) in enumerate(todo):
        if on_progress:
            on_progress(f"sensitivity of {name}", index / len(todo))
        found[name][precision] = choice_error(
            model, {name: precision}, ctx, quick, histograms, rows, expected
        )
    return found


def choice_error(
    model: ir.Model,
    choice: Choice,
    ctx: PassContext,
    options: QuantizeStatic,
    histograms: Mapping[str, Histogram] | None,
    rows: Arrays,
    expected: Arrays,
) -> float:
    """The error of the outputs under a choice, on rows whose float outputs are `expected`."""
    if ctx.run is None:
        return 0.0
    narrow = model.clone()
    assign_precisions(narrow, choice, ctx, options, histograms)
    return normalised_error(expected, run_rows(narrow, rows, ctx.run))


def sample(model: ir.Model, calibration: Arrays, runs: int) -> Arrays:
    """As many rows as `runs` runs of the model can take in bounded work: 4 to 64 inferences."""
    operations = sum(ir.work_of(region).product_ops for region in ir.regions(model.graph))
    rows = int(_OPERATIONS / max(operations * max(runs, 1), 1))
    return next(batches(calibration, model, min(max(rows, _LEAST_ROWS), _MOST_ROWS)))
