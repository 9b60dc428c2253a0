"""How much the outputs move when one region alone computes in a narrow format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
from gcompile.search.downstream import Downstream
from gcompile.search.journal import Journal

Progress = Callable[[str, float], None]
"""Told what is going on, and which fraction of it is done."""

Sensitivity = Mapping[str, Mapping[ir.Precision, float]]
"""Noise-to-signal ratio of the outputs, by region name and precision; fp32 is 0."""

ROUNDING_ERROR = {
    ir.Precision.FP16: 2.0**-24 / 3,
    ir.Precision.BF16: 2.0**-18 / 3,
    ir.Precision.INT8: 2.0**-16 / 3,
}
"""Noise-to-signal ratio of rounding alone, used where there are no rows to measure on: a relative
step of 2^-11 (fp16) or 2^-8 (bfloat16), or an absolute one of 2^-8 of the range (int8), uniformly
distributed."""

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
    rows: Arrays | None = None,
    journal: Journal | None = None,
    regions: Collection[str] | None = None,
    at_once: int | None = None,
) -> dict[str, dict[ir.Precision, float]]:
    """Convert each region alone to each precision and measure the outputs on calibration rows.

    Without calibration rows every region gets the rounding error of its format.

    Args:
        model: The float model with its regions fused.
        ctx: Calibration rows and a runner.
        precisions: The formats to try.
        options: How to quantize; biases are not corrected here.
        histograms: What `observe_ranges` returned for this model, to save observing again.
        on_progress: Told what is going on and the fraction that is done.
        rows: The rows to measure on; by default a sample of the calibration rows.
        journal: What is known already, for this model and these rows.
        regions: Measure only these; by default all.
        at_once: Trials that run at the same time; by default one on each CPU.
    """
    todo = [
        (name, p) for name, p in _trials(model, precisions) if regions is None or name in regions
    ]
    found = {
        region.name: {ir.Precision.FP32: 0.0}
        for region in product_regions(model)
        if regions is None or region.name in regions
    }
    if not ctx.calibration or ctx.run is None:
        for name, precision in todo:
            found[name][precision] = ROUNDING_ERROR[precision]
        return found
    journal = journal or Journal()
    rows = sample(model, ctx.calibration, len(todo)) if rows is None else rows
    quick = replace(options or QuantizeStatic(), bias_correction=False)
    names = {each: _entry(*each, quick) for each in todo}
    missing = [each for each in todo if names[each] not in journal.known]
    downstream = Downstream.of(model, rows, ctx.run)
    trials = []
    for name, precision in missing:
        narrow = model.clone()
        assign_precisions(narrow, {name: precision}, ctx, quick, histograms)
        trials.append(downstream.trial(narrow))
    known = len(todo) - len(missing)
    for done, (each, error) in enumerate(
        zip(missing, downstream.errors(trials, at_once), strict=True), 1
    ):
        journal.put(names[each], error)
        if on_progress:
            on_progress("measuring sensitivities", (known + done) / len(todo))
    for name, precision in todo:
        found[name][precision] = journal.known[names[name, precision]]
    return found


def unknown_regions(
    model: ir.Model, precisions: tuple[ir.Precision, ...], journal: Journal
) -> tuple[tuple[str, ...], int]:
    """The regions that `measure_sensitivity` has to measure, and how many trials all take."""
    quick = replace(QuantizeStatic(), bias_correction=False)
    trials = _trials(model, precisions)
    missing = {name: None for name, p in trials if _entry(name, p, quick) not in journal.known}
    return tuple(missing), len(trials)


def _trials(
    model: ir.Model, precisions: tuple[ir.Precision, ...]
) -> list[tuple[str, ir.Precision]]:
    """Each region that can be converted, with each format it can have."""
    return [
        (region.name, precision)
        for region in product_regions(model)
        for precision in candidates(region, precisions)
        if precision is not ir.Precision.FP32
    ]


def _entry(name: str, precision: ir.Precision, options: QuantizeStatic) -> str:
    """What the journal calls a sensitivity."""
    return f"sensitivity {name} {precision} {options}"


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
