"""The model at each stage of a compilation, with its price and the ledger that led there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

from gcompile import ir
from gcompile.backends.tvm.operators import refuse_unsupported
from gcompile.compiler.job import Job
from gcompile.energy import Estimate, estimate
from gcompile.passes import Numerics, PassRecord, Pipeline
from gcompile.passes.fuse.merge_launches import MergeLaunches
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision import (
    Choice,
    ConvertBfloat16,
    Histogram,
    QuantizeStatic,
    WidenFloat16,
    assign_precisions,
    observe_ranges,
)
from gcompile.passes.registry import find_pass, parse_pipeline
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.search import Realized

REGIONS = Pipeline("regions", (fuse_pipeline(), TileRegions(), MergeLaunches()))
"""Cut the model into regions and each region into tiles: whatever precedes, this follows."""

ALGORITHMS = Pipeline("algorithms", (ApplyWinograd(), MergeLaunches()))
"""Compute with fewer operations. Relative budgets count from direct sums: this follows them."""


@dataclass(frozen=True)
class Stage:
    """A model as passes left it.

    Attributes:
        before: What the model cost when this stage began.
        estimate: What it costs now.
        numerics: How far the outputs may have moved since the model as given.
    """

    model: ir.Model
    before: Estimate
    estimate: Estimate
    records: tuple[PassRecord, ...]
    numerics: frozenset[Numerics]


def apply_exact_passes(job: Job) -> Stage:
    """Rewrite without touching the real numbers: what relative budgets count from."""
    pipeline = parse_pipeline(job.passes) if job.passes else canonicalize_pipeline()
    pipeline = Pipeline("exact", (WidenFloat16(), pipeline))
    record = pipeline.apply(job.model, job.context)
    refuse_unsupported(job.model)  # Not before: folding removes shape arithmetic.
    tiled = REGIONS.apply(job.model, job.context, record.after)
    records = (*record.leaves, *tiled.leaves)
    numerics = frozenset(numerics_of(records))
    return Stage(job.model, record.before, tiled.after, records, numerics)


@dataclass
class Realizer:
    """Turns choices of precision into models: converted, fused, tiled and priced."""

    job: Job
    exact: Stage
    stages: dict[ir.Model, Stage] = field(default_factory=dict)
    histograms: dict[str, Histogram] | None = None

    def __call__(self, choice: Choice, options: QuantizeStatic) -> Realized:
        """Make a choice real in a copy of the exact model."""
        stage = self.realize(choice, options)
        self.stages[stage.model] = stage
        return Realized(stage.model, stage.estimate)

    def realize(self, choice: Choice, options: QuantizeStatic) -> Stage:
        """Convert, fuse and tile, with a ledger entry for each step."""
        model, ctx = self.exact.model.clone(), self.job.context
        start = time.perf_counter()
        integer = ir.Precision.INT8 in choice.values()
        histograms = self.observed() if integer else None
        changed = assign_precisions(model, choice, ctx, options, histograms)
        if not changed:
            return self.plain
        seconds = time.perf_counter() - start
        priced = estimate(model, ctx.target, ctx.energy, ctx.threads)
        pricing_s = time.perf_counter() - start - seconds
        names = [QuantizeStatic.name] if integer else []
        names += [ConvertBfloat16.name] if ir.Precision.BF16 in choice.values() else []
        skipped = {
            reason: ctx.skipped.pop((name, reason))
            for name, reason in list(ctx.skipped)
            if name in names
        }
        converted = PassRecord(
            ",".join(names),
            changed,
            seconds,
            self.exact.estimate,
            priced,
            skipped,
            pricing_s=pricing_s,
        )
        tiled = REGIONS.apply(model, ctx, priced)
        quick = ALGORITHMS.apply(model, ctx, tiled.after)
        records = (*self.exact.records, converted, *tiled.leaves, *quick.leaves)
        numerics = self.exact.numerics | {Numerics.LOSSY}
        return Stage(model, self.exact.before, quick.after, records, numerics)

    @cached_property
    def plain(self) -> Stage:
        """The exact model in its own precision, computed with as few operations as possible."""
        model = self.exact.model.clone()
        quick = ALGORITHMS.apply(model, self.job.context, self.exact.estimate)
        numerics = self.exact.numerics | numerics_of(quick.leaves)
        records = (*self.exact.records, *quick.leaves)
        return Stage(model, self.exact.before, quick.after, records, numerics)

    def observed(self) -> dict[str, Histogram]:
        """The ranges of all values that quantizing may need, observed once."""
        if self.histograms is None:
            self.histograms = observe_ranges(self.exact.model, self.job.context)
        return self.histograms


def numerics_of(records: tuple[PassRecord, ...]) -> set[Numerics]:
    """The numerics of the passes that changed something."""
    changed = {record.name for record in records if record.changed and record.kept}
    return {find_pass(name).numerics for name in changed}
