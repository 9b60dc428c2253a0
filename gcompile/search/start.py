"""What every search begins with, and how it measures a point."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from gcompile import ir
from gcompile.passes import PassContext
from gcompile.passes.precision import Histogram, Preset, observe_ranges
from gcompile.search.fit import Fitter
from gcompile.search.journal import Journal, name_of
from gcompile.search.judge import Judge
from gcompile.search.point import Evaluate, Point, Realize
from gcompile.search.reductions import Reductions
from gcompile.search.sensitivity import Progress, measure_sensitivity

PREPARED = 0.5
"""The fraction of the work told as done when sensitivities are known."""


def start(
    model: ir.Model,
    ctx: PassContext,
    precisions: tuple[ir.Precision, ...],
    realize: Realize,
    tell: Progress,
    histograms: Mapping[str, Histogram] | None,
    journal: Journal,
    preset: Preset = Preset.BALANCED,
    reductions: Reductions | None = None,
) -> tuple[Fitter, Judge]:
    """Measure sensitivities and price the uniform choices.

    int8 is left out where `ctx` has no calibration rows or no runner.
    """
    can_observe = bool(ctx.calibration) and ctx.run is not None
    wanted = tuple(p for p in precisions if can_observe or p is not ir.Precision.INT8)
    if histograms is None and ir.Precision.INT8 in wanted:
        tell("observing ranges", 0.0)
        histograms = observe_ranges(model, ctx)
    sensitivity = measure_sensitivity(
        model,
        ctx,
        wanted,
        histograms=histograms,
        on_progress=lambda stage, done: tell(stage, PREPARED * done),
        journal=journal,
    )
    fitter = Fitter.start(realize, wanted, sensitivity, reductions)
    judge = Judge.start(model, ctx, histograms, len(sensitivity), journal, preset, reductions)
    return fitter, judge


def measured(point: Point, evaluate: Evaluate, journal: Journal) -> Point:
    """The point with its accuracy, as it is known or as it is measured now."""
    name = f"accuracy {name_of(point.choice, point.options)}"
    return replace(point, accuracy=journal.get(name, lambda: evaluate(point.model)))


def is_over(deadline_s: float | None) -> bool:
    """Say whether the time for measuring is over."""
    return deadline_s is not None and time.monotonic() >= deadline_s


def silent(stage: str, done: float) -> None:
    """Report nothing."""
