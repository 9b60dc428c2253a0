"""Decide the precision of every region: as asked, or by a search under the budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.compiler.job import Job, Recipe
from gcompile.compiler.native import Measurer
from gcompile.compiler.remember import search_journal
from gcompile.compiler.spread import spread_sensitivities
from gcompile.compiler.stages import Realizer, Stage
from gcompile.passes.precision import Choice, QuantizeStatic, candidates, product_regions
from gcompile.report.quantity import format_energy
from gcompile.search import Goal, Journal, Point, SearchResult, Status, picked, search
from gcompile.search.judge import Judge


@dataclass(frozen=True)
class Decision:
    """What will be built.

    Attributes:
        reference_accuracy: Of the model as given, where it was measured on the way.
        errors: The output error each region causes, by name, where it was measured.
        recipe: How to make the same of the model at another size.
    """

    stage: Stage
    status: Status = Status.OK
    message: str = ""
    reference_accuracy: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)


def choose(
    job: Job, exact: Stage, prepared: Stage, measurer: Measurer, limit_j: float | None
) -> Decision:
    """Decide what to build from the exact model, or from what was prepared to become integers."""
    if job.recipe is not None:
        realizer = Realizer(job, exact, histograms=job.recipe.histograms)
        if not job.recipe.choice:
            return Decision(realizer.plain)
        return Decision(realizer.realize(job.recipe.choice, job.recipe.options))
    if job.precision is not None:
        return _uniform(job, prepared, limit_j)
    if limit_j is None or exact.estimate.total.energy_j <= limit_j:
        return Decision(Realizer(job, exact).plain)
    return _search(job, prepared, measurer, limit_j)


def _uniform(job: Job, exact: Stage, limit_j: float | None) -> Decision:
    """The one precision asked for, in every region that can have it."""
    assert job.precision is not None
    choice = {
        region.name: job.precision
        for region in product_regions(exact.model)
        if job.precision in candidates(region, (job.precision,))
    }
    realizer = Realizer(job, exact)
    stage, options = realizer.plain, QuantizeStatic()
    if job.precision is ir.Precision.FP32:
        choice = {}
    else:
        stage, options = _calibrated(job, realizer, choice)
    recipe = Recipe(choice, options, realizer.histograms)
    reached_j = stage.estimate.total.energy_j
    if limit_j is None or reached_j <= limit_j:
        return Decision(stage, recipe=recipe)
    return Decision(
        stage,
        Status.BUDGET_NOT_MET,
        f"The budget of {format_energy(limit_j)} binds: with precision {job.precision} wherever "
        f"it is possible the model takes {format_energy(reached_j)}. Allow that much, or leave "
        "the precision to a search.",
        recipe=recipe,
    )


def _calibrated(job: Job, realizer: Realizer, choice: Choice) -> tuple[Stage, QuantizeStatic]:
    """The choice with the calibration that moves the outputs least, and that calibration."""
    if job.precision is not ir.Precision.INT8 or not choice:
        return realizer.realize(choice, QuantizeStatic()), QuantizeStatic()
    job.progress("observing ranges", 0.0)
    plain, histograms = realizer.plain, realizer.observed()
    start = Point(choice, QuantizeStatic(), plain.model, plain.estimate)
    judge = Judge.start(
        plain.model, job.context, histograms, len(choice), Journal(), job.quantization
    )
    job.progress("comparing calibrations", 0.0)
    best = judge.variants(start, realizer)[0]
    return realizer.stages.get(best.model, plain), best.options


def _search(job: Job, exact: Stage, measurer: Measurer, limit_j: float) -> Decision:
    realizer = Realizer(job, exact)
    baseline = measurer.reference_accuracy() if job.evaluation else None
    goal = Goal(
        limit_j=limit_j,
        max_drop=job.max_drop if job.evaluation else None,
        baseline=baseline,
        precisions=tuple(p for p in job.candidates if p is not ir.Precision.FP32),
        evaluations=job.evaluations,
        preset=job.quantization,
        deadline_s=time.monotonic() + job.search_s if job.search_s is not None else None,
    )
    evaluate = measurer.accuracy if job.evaluation else None
    histograms = None
    if ir.Precision.INT8 in goal.precisions:
        job.progress("observing ranges", 0.0)
        histograms = realizer.observed()
    plain = realizer.plain
    journal = search_journal(job, plain.model)
    reductions = None
    if job.prune:
        reductions = realizer.find_reductions(job.candidates[-1], journal)
    spread_sensitivities(job, plain.model, goal.precisions, histograms, journal)
    result = search(
        plain.model, job.context, goal, realizer, evaluate, job.progress, histograms, journal,
        reductions, measurer.screened_accuracy if job.evaluation else None,
    )  # fmt: skip
    stage = realizer.stages.get(result.best.model, plain)
    recipe = Recipe(result.best.choice, result.best.options, realizer.histograms)
    return Decision(stage, result.status, result.explanation, baseline, _errors(result), recipe)


def _errors(result: SearchResult) -> dict[str, float]:
    taken = picked(result.space, result.best.choice)
    return {name: option.sensitivity for name, option in taken.items()}
