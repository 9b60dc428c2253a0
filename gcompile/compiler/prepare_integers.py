"""Rewrite a float model into one that loses less as integers, where such a rewrite is known."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.compiler.job import Job
from gcompile.compiler.stages import Stage, numerics_of
from gcompile.passes import Arrays, Pass, PassRecord
from gcompile.passes.precision import normalised_error, product_regions
from gcompile.passes.precision.run_rows import run_rows
from gcompile.search.judge import RANKING
from gcompile.search.sensitivity import sample


def prepare_integers(job: Job, exact: Stage) -> Stage:
    """Try what the preset names, and keep what makes the all-integer model err least.

    Nothing is tried where integers are not asked for, or there are no calibration rows.
    """
    if job.calibration is None or not job.may_use_integers or not job.quantization.preparations:
        return exact
    job.progress("scaling channels", 0.0)
    trials = _Trials.of(job, exact)
    best, least = exact, trials.error(exact.model)
    for passes in job.quantization.preparations:
        tried = _apply(job, exact, passes)
        error = trials.error(tried.model) if tried is not exact else least
        if error < least:
            best, least = tried, error
    return best


@dataclass(frozen=True)
class _Trials:
    """Quantizes models of the same outputs, and compares them on the same rows."""

    job: Job
    rows: Arrays
    expected: Arrays

    @classmethod
    def of(cls, job: Job, exact: Stage) -> _Trials:
        assert job.calibration is not None
        assert job.context.run is not None
        regions = len(product_regions(exact.model))
        rows = sample(exact.model, job.calibration.inputs, regions)
        return cls(job, rows, run_rows(exact.model, rows, job.context.run))

    def error(self, model: ir.Model) -> float:
        """Noise over signal with every region that can be in integers."""
        quantized, ctx = model.clone(), self.job.context
        assert ctx.run is not None
        RANKING.run(quantized, ctx)
        for key in [key for key in ctx.skipped if key[0] == RANKING.name]:
            ctx.skipped.pop(key)  # What is refused is reported with the model that is built.
        return normalised_error(self.expected, run_rows(quantized, self.rows, ctx.run))


def _apply(job: Job, exact: Stage, passes: tuple[Pass, ...]) -> Stage:
    model, records = exact.model.clone(), list[PassRecord]()
    for pass_ in passes:
        latest = records[-1].after if records else exact.estimate
        records.append(pass_.apply(model, job.context, latest))
    if not any(record.changed for record in records):
        return exact
    numerics = exact.numerics | numerics_of(tuple(records))
    everything = (*exact.records, *records)
    return Stage(model, exact.before, records[-1].after, everything, numerics)
