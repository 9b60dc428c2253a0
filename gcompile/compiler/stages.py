"""The model at each stage of a compilation, with its price and the ledger that led there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

from gcompile import ir
from gcompile.backends.tvm.operators import refuse_early, refuse_unsupported
from gcompile.compiler.job import Job
from gcompile.energy import Estimate, estimate
from gcompile.passes import Numerics, PassRecord, Pipeline
from gcompile.passes.fuse.fuse_attention import FuseAttention
from gcompile.passes.fuse.merge_launches import MergeLaunches
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision import (
    ConvertBfloat16,
    ConvertFloat16,
    Histogram,
    QuantizeStatic,
    Reference,
    WidenFloat16,
    assign_precisions,
    observe_ranges,
    observe_reference,
    product_regions,
)
from gcompile.passes.prune.prune_blocks import PruneBlocks
from gcompile.passes.prune.prune_channels import PruneChannels
from gcompile.passes.prune.prune_kernels import PruneKernels
from gcompile.passes.registry import find_pass, parse_pipeline
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.tile_depth_first import TileDepthFirst
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.search import (
    Choice,
    Journal,
    Realized,
    Reductions,
    Removal,
    precisions_of,
)

REGIONS = Pipeline("regions", (fuse_pipeline(), TileRegions(), MergeLaunches()))
"""Cut the model into regions and each region into tiles: whatever precedes, this follows."""

ALGORITHMS = Pipeline(
    "algorithms", (FuseAttention(), ApplyWinograd(), TileDepthFirst(), MergeLaunches())
)
"""Compute with fewer operations, and move less. Relative budgets count from direct sums and
scores in memory: this follows them."""


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
    refuse_early(job.model, job.context.target.kind)
    record = pipeline.apply(job.model, job.context)
    # Not before: folding removes shape arithmetic.
    refuse_unsupported(job.model, job.context.target.kind)
    tiled = REGIONS.apply(job.model, job.context, record.after)
    records = (*record.leaves, *tiled.leaves)
    numerics = frozenset(numerics_of(records))
    return Stage(job.model, record.before, tiled.after, records, numerics)


@dataclass
class Realizer:
    """Turns choices into models: pruned, converted, fused, tiled and priced.

    Several threads may ask at once; what choices share is found once.

    Attributes:
        reductions: What may be pruned; None prunes nothing.
    """

    job: Job
    exact: Stage
    stages: dict[ir.Model, Stage] = field(default_factory=dict)
    histograms: dict[str, Histogram] | None = None
    reductions: Reductions | None = None
    _shared: Reference | None = None
    _pruned_ranges: dict[tuple[tuple[str, int], ...], dict[str, Histogram]] = field(
        default_factory=dict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, choice: Choice, options: QuantizeStatic) -> Realized:
        """Make a choice real in a copy of the exact model."""
        stage = self.realize(choice, options)
        self.stages[stage.model] = stage
        return Realized(stage.model, stage.estimate)

    def realize(self, choice: Choice, options: QuantizeStatic) -> Stage:
        """Prune, convert, fuse and tile, with a ledger entry for each step."""
        ctx = replace(self.job.context, skipped=Counter())  # Others may realize at the same time.
        is_draft = not options.bias_correction
        with self._lock:
            base = self._pruned(choice, is_draft=is_draft)
        model = base.model.clone()
        start = time.perf_counter()
        there = {region.name for region in product_regions(model)}
        precisions = {n: p for n, p in precisions_of(choice).items() if n in there}
        integer = ir.Precision.INT8 in precisions.values()
        with self._lock:
            histograms = self._ranges(base, choice, is_draft=is_draft) if integer else None
            shared = base is self.exact and integer and not is_draft
            reference = self._reference() if shared else None
        changed = assign_precisions(model, precisions, ctx, options, histograms, reference)
        if not changed:
            return self._quick(base)
        seconds = time.perf_counter() - start
        priced = estimate(model, ctx.target, ctx.energy, ctx.threads)
        pricing_s = time.perf_counter() - start - seconds
        names = [QuantizeStatic.name] if integer else []
        names += [ConvertBfloat16.name] if ir.Precision.BF16 in precisions.values() else []
        names += [ConvertFloat16.name] if ir.Precision.FP16 in precisions.values() else []
        skipped = {reason: count for (_, reason), count in ctx.skipped.items()}
        converted = PassRecord(
            ",".join(names),
            changed,
            seconds,
            base.estimate,
            priced,
            skipped,
            pricing_s=pricing_s,
        )
        tiled = REGIONS.apply(model, ctx, priced)
        quick = ALGORITHMS.apply(model, ctx, tiled.after)
        records = (*base.records, converted, *tiled.leaves, *quick.leaves)
        numerics = base.numerics | {Numerics.LOSSY}
        return Stage(model, base.before, quick.after, records, numerics)

    @cached_property
    def plain(self) -> Stage:
        """The exact model in its own precision, computed with as few operations as possible."""
        return self._quick(self.exact)

    def observed(self) -> dict[str, Histogram]:
        """The ranges of all values that quantizing may need, observed once."""
        if self.histograms is None:
            self.histograms = observe_ranges(self.exact.model, self.job.context)
        return self.histograms

    def _reference(self) -> Reference:
        """What all ways to quantize the exact model ask of it."""
        if self._shared is None:
            # At another size only one way is tried, and other regions may be able to.
            tried = self.job.quantization.calibrations if self.job.recipe is None else ()
            self._shared = observe_reference(
                self.exact.model, self.job.context, self.observed(), tried
            )
        return self._shared

    def find_reductions(self, precision: ir.Precision, journal: Journal) -> Reductions | None:
        """Measure what may be pruned; `precision` is the narrowest that regions may have."""
        self.reductions = Reductions.find(
            self.exact.model,
            self.job.context,
            precision,
            lambda model: REGIONS.apply(model, self.job.context),
            self.job.progress,
            journal,
        )
        return self.reductions

    def _quick(self, base: Stage) -> Stage:
        """A stage in its own precision, computed with as few operations as possible."""
        model = base.model.clone()
        quick = ALGORITHMS.apply(model, self.job.context, base.estimate)
        numerics = base.numerics | numerics_of(quick.leaves)
        return Stage(model, base.before, quick.after, (*base.records, *quick.leaves), numerics)

    def _pruned(self, choice: Choice, *, is_draft: bool) -> Stage:
        """The exact model, pruned as the choice says."""
        found = self.reductions
        pruned = found.pruned(choice) if found is not None else {}
        if found is None or not pruned:
            return self.exact
        ctx, before = self.job.context, self.exact.estimate
        start = time.perf_counter()
        model = found.reduced(choice, is_draft=is_draft)
        seconds = time.perf_counter() - start
        after = estimate(model, ctx.target, ctx.energy, ctx.threads)
        removal = Removal.of(pruned)
        names = [PruneChannels.name] if removal.sizes else []
        names += [PruneKernels.name] if removal.taps else []
        names += [PruneBlocks.name] if removal.blocks else []
        record = PassRecord(",".join(names), removal.count, seconds, before, after)
        numerics = self.exact.numerics | {Numerics.LOSSY}
        return Stage(model, self.exact.before, after, (*self.exact.records, record), numerics)

    def _ranges(self, base: Stage, choice: Choice, *, is_draft: bool) -> dict[str, Histogram]:
        """The ranges of the model that is quantized; a draft makes do with those of the whole."""
        if is_draft or self.reductions is None or base is self.exact:
            return self.observed()
        key = tuple(sorted(self.reductions.pruned(choice).items()))
        if key not in self._pruned_ranges:
            self._pruned_ranges[key] = observe_ranges(base.model, self.job.context)
        return self._pruned_ranges[key]


def numerics_of(records: tuple[PassRecord, ...]) -> set[Numerics]:
    """The numerics of the passes that changed something."""
    changed = {record.name for record in records if record.changed and record.kept}
    return {find_pass(name).numerics for name in changed}
