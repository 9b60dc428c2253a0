"""Look at a model's precisions without building an artefact: the front, and the sensitivities."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gcompile
from gcompile import ir
from gcompile.compiler.job import Job, Progress, prepare
from gcompile.compiler.native import Measurer
from gcompile.compiler.one_thread import blas_on_one_thread
from gcompile.compiler.prepare_integers import prepare_integers
from gcompile.compiler.remember import search_journal
from gcompile.compiler.spread import spread_sensitivities
from gcompile.compiler.stages import Realizer, Stage, apply_exact_passes
from gcompile.errors import UsageError
from gcompile.passes import Arrays
from gcompile.passes.precision import Preset
from gcompile.passes.precision.run_rows import batches
from gcompile.report import SensitivityReport, SweepReport
from gcompile.report.sweep import SensitivityLayer, SensitivityOption, SweepPoint
from gcompile.search import (
    POINTS,
    Fitter,
    Metric,
    Option,
    Point,
    Setting,
    front,
    measure_sensitivity,
    precision_counts,
)
from gcompile.search import sweep as search_sweep
from gcompile.targets import Target


@blas_on_one_thread()
def sweep(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    points: int = POINTS,
    search_time: float | str | None = None,
    metric: str | Metric = "top1",
    calib: Arrays | str | Path | None = None,
    evaluate: Arrays | str | Path | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    seed: int = 0,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    cache: bool | str | Path = True,
    prune: bool = False,
    workers: str | int | None = None,
) -> SweepReport:
    """Measure the front of accuracy, energy and latency in one run.

    A sweep that is killed goes on where it was when it is started again, unless `cache` is False.

    Args:
        model: An ONNX file, or a model in memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`.
        points: Most choices of precisions to measure.
        search_time: How long to go on measuring: seconds, or `90s`, `10m`, `2h`.
        metric: `top1`, `module:function`, or a function of (outputs by name, labels).
        calib: Rows for every input. Without them only float precisions are looked at.
        evaluate: Rows with `labels`: accuracy is that of compiled code on them. Without them the
            noise of the outputs on `calib` stands in.
        passes: A pipeline that replaces the exact passes.
        shapes: A static shape for each input with free dimensions.
        threads: Most threads a kernel is divided among.
        seed: Of every random choice.
        plugins: Modules that bring passes.
        progress: Told what is being done and the fraction done.
        cache: Whether kernels and measurements are kept for later runs, or the folder.
        prune: Let points have fewer channels, taps of kernels and residual blocks as well.
        workers: Who measures sensitivities: a number of processes, `ray`, or the address of a Ray
            cluster; by default this process.

    Raises:
        UsageError: An option, a shape or a data file cannot be used; or there are no rows at all.
        GcompileError: Anything else that went wrong, with the remedy.
    """
    if points < 1:
        raise UsageError(f"{points} points are too few: a sweep measures at least one.")
    if calib is None and evaluate is None:
        raise UsageError(
            "A sweep needs rows to judge points by: give calibration rows with --calib, rows "
            "with labels with --eval, or both."
        )
    job = prepare(
        model, target, budget=None, max_drop=0.01, metric=metric, calib=calib, evaluate=evaluate,
        precision=None, passes=passes, shapes=shapes, threads=threads, seed=seed, plugins=plugins,
        progress=progress, cache=cache, search_time=search_time, prune=prune,
        workers=workers,
    )  # fmt: skip
    start = _Start.of(job)
    measurer = Measurer(job, reference=start.given)
    plain = start.realizer.plain
    journal = search_journal(job, plain.model)
    reductions = None
    if job.prune:
        reductions = start.realizer.find_reductions(job.candidates[-1], journal)
    histograms = start.realizer.observed() if job.calibration else None
    spread_sensitivities(job, plain.model, _narrow(job), histograms, journal)
    found = search_sweep(
        plain.model,
        job.context,
        _narrow(job),
        start.realizer,
        measurer.accuracy if job.evaluation else None,
        points=points,
        deadline_s=time.monotonic() + job.search_s if job.search_s is not None else None,
        on_progress=job.progress,
        histograms=histograms,
        journal=journal,
        reductions=reductions,
        screen=measurer.screened_accuracy if job.evaluation else None,
        prepared=_prepared(job, start.exact),
    )
    best = {id(point) for point in front(found)}
    return SweepReport(
        gcompile_version=gcompile.__version__,
        model=job.model_name,
        target=job.context.target.name,
        metric=job.metric_name if job.evaluation else None,
        reference_accuracy=measurer.reference_accuracy() if job.evaluation else None,
        exact_j=start.exact.estimate.total.energy_j,
        points=[_row(point, on_front=id(point) in best) for point in found],
    )


@blas_on_one_thread()
def sensitivity(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    calib: Arrays | str | Path,
    rows: int | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    seed: int = 0,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    cache: bool | str | Path = True,
    workers: str | int | None = None,
) -> SensitivityReport:
    """Measure how much each region minds each format, beside what it costs in it.

    Args:
        model: An ONNX file, or a model in memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`.
        calib: Rows for every input.
        rows: How many of them errors are measured on; by default all.
        passes: A pipeline that replaces the exact passes.
        shapes: A static shape for each input with free dimensions.
        threads: Most threads a kernel is divided among.
        seed: Of every random choice.
        plugins: Modules that bring passes.
        progress: Told what is being done and the fraction done.
        cache: Whether measurements are kept for later runs, or the folder to keep them in.
        workers: As for `sweep`.

    Raises:
        UsageError: An option, a shape or a data file cannot be used.
        GcompileError: Anything else that went wrong, with the remedy.
    """
    if rows is not None and rows < 1:
        raise UsageError(f"{rows} rows are too few: errors are measured on at least one.")
    job = prepare(
        model, target, budget=None, max_drop=0.01, metric="top1", calib=calib, evaluate=None,
        precision=None, passes=passes, shapes=shapes, threads=threads, seed=seed, plugins=plugins,
        progress=progress, cache=cache, workers=workers,
    )  # fmt: skip
    assert job.calibration is not None
    start = _Start.of(job)
    plain = start.realizer.plain
    count = min(rows or job.calibration.count, job.calibration.count)
    measured_rows = next(batches(job.calibration.inputs, plain.model, count))
    histograms = start.realizer.observed()
    journal = search_journal(job, plain.model, f"{count} rows")
    spread_sensitivities(job, plain.model, _narrow(job), histograms, journal, measured_rows)
    measured = measure_sensitivity(
        plain.model,
        job.context,
        _narrow(job),
        histograms=histograms,
        on_progress=job.progress,
        rows=measured_rows,
        journal=journal,
    )
    space = Fitter.start(start.realizer, _narrow(job), measured).space
    totals: dict[Setting, float] = {
        p: sum(o.sensitivity for each in space.values() for o in each if o.setting is p)
        for p in ir.Precision
    }
    return SensitivityReport(
        gcompile_version=gcompile.__version__,
        model=job.model_name,
        target=job.context.target.name,
        rows=count,
        energy_j=plain.estimate.total.energy_j,
        layers=[
            _layer(region, space[region.name], plain.estimate.total.energy_j, totals)
            for region in ir.regions(plain.model.graph)
            if region.name in space
        ],
    )


@dataclass(frozen=True)
class _Start:
    """A job after its exact passes."""

    given: ir.Model
    exact: Stage
    realizer: Realizer

    @classmethod
    def of(cls, job: Job) -> _Start:
        given = job.model.clone()
        job.progress("exact passes", 0.0)
        exact = apply_exact_passes(job)
        return cls(given, exact, Realizer(job, exact))


def _prepared(job: Job, exact: Stage) -> Realizer | None:
    """Makes choices real from the model as the preset `best` rewrites it for integers, if at all.

    That is looked for where the points of the presets can be told apart by labels.
    """
    if job.evaluation is None or job.calibration is None:
        return None
    asked = replace(job, quantization=Preset.BEST, precision=ir.Precision.INT8)
    prepared = prepare_integers(asked, exact)
    return None if prepared is exact else Realizer(asked, prepared)


def _narrow(job: Job) -> tuple[ir.Precision, ...]:
    return tuple(p for p in job.candidates if p is not ir.Precision.FP32)


def _row(point: Point, *, on_front: bool) -> SweepPoint:
    total = point.estimate.total
    return SweepPoint(
        energy_j=total.energy_j,
        low_j=point.estimate.low_j,
        high_j=point.estimate.high_j,
        time_s=total.time_s,
        accuracy=point.accuracy,
        sqnr_db=-10 * math.log10(point.error) if point.error and point.error < math.inf else None,
        precisions={str(p): count for p, count in precision_counts(point.choice).items()},
        choice={name: str(each) for name, each in point.choice.items()},
        on_front=on_front,
    )


def _layer(
    region: ir.Region, options: Sequence[Option], total_j: float, errors: dict[Setting, float]
) -> SensitivityLayer:
    own_j = next(o.energy_j for o in options if o.setting is ir.Precision.FP32)
    return SensitivityLayer(
        name=region.name,
        op=region.op,
        energy_share=own_j / total_j,
        options=[
            SensitivityOption(
                precision=str(option.setting),
                energy_j=option.energy_j,
                error=option.sensitivity if math.isfinite(option.sensitivity) else None,
                error_share=option.sensitivity / errors[option.setting]
                if 0 < errors[option.setting] < math.inf
                else None,
            )
            for option in options
        ],
    )
