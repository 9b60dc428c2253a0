"""Guess how good a choice is before its accuracy is measured: its error on calibration rows."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import (
    Histogram,
    Preset,
    QuantizeStatic,
    RangeMethod,
    Rounding,
    normalised_error,
    product_regions,
)
from gcompile.passes.precision.run_rows import RowRunner, run_rows
from gcompile.runtime.threads import available_cpus
from gcompile.search.choice import Choice, precisions_of
from gcompile.search.journal import Journal, name_of
from gcompile.search.point import Point, Realize
from gcompile.search.reductions import Reductions
from gcompile.search.sensitivity import choice_error, sample

RANKING = QuantizeStatic(calibration=RangeMethod.MSE, bias_correction=False)
"""Quantizes well enough, and quickly, to tell which of several models bears it better."""


@dataclass
class Judge:
    """Measures errors of one model on a sample of the calibration rows; 0 where there are none."""

    model: ir.Model
    ctx: PassContext
    histograms: Mapping[str, Histogram] | None
    rows: Arrays = field(default_factory=dict)
    expected: Arrays = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    preset: Preset = Preset.BALANCED
    reductions: Reductions | None = None

    @classmethod
    def start(
        cls,
        model: ir.Model,
        ctx: PassContext,
        histograms: Mapping[str, Histogram] | None,
        regions: int,
        journal: Journal,
        preset: Preset = Preset.BALANCED,
        reductions: Reductions | None = None,
    ) -> Judge:
        """Run the float model on the sample."""
        if not ctx.calibration or ctx.run is None:
            return cls(model, ctx, histograms, journal=journal, preset=preset)
        rows = sample(model, ctx.calibration, regions)
        expected = run_rows(model, rows, ctx.run)
        return cls(model, ctx, histograms, rows, expected, journal, preset, reductions)

    def variants(self, point: Point, realize: Realize) -> list[Point]:
        """The same choice with each calibration, the one with the least error first."""
        is_integer = ir.Precision.INT8 in point.choice.values()
        if not self.rows or not (is_integer or self._is_pruned(point.choice)):
            return [point]
        calibrations = self.preset.calibrations
        tried = calibrations if is_integer else calibrations[:1]
        threads = len(available_cpus()) if isinstance(self.ctx.run, RowRunner) else 1
        with ThreadPoolExecutor(threads) as pool:
            made = sorted(pool.map(lambda o: self._variant(point, o, realize), tried), key=_error)
        if is_integer and self.preset.rounding is not Rounding.NEAREST:
            rounded = replace(made[0].options, rounding=self.preset.rounding)
            made.append(self._variant(point, rounded, realize))
        return sorted(made, key=_error)

    def with_error(self, point: Point) -> Point:
        """The point with the error of its outputs, where there are rows to measure it on."""
        if point.error is not None or not self.rows:
            return point
        return replace(point, error=self._error_of(point.model, point.choice, point.options))

    def gains(self, point: Point) -> dict[str, float]:
        """By how much the error falls when one narrow region alone goes back to fp32."""
        if not self.rows:
            return {}
        quick = replace(point.options, bias_correction=False)
        model, histograms = self.model, self.histograms
        if self.reductions is not None and self._is_pruned(point.choice):
            model, histograms = self.reductions.reduced(point.choice), None
        there = {region.name for region in product_regions(model)}
        precisions = {n: p for n, p in precisions_of(point.choice).items() if n in there}
        narrow = [name for name, p in precisions.items() if p is not ir.Precision.FP32]

        def error(choice: Mapping[str, ir.Precision]) -> float:
            return self.journal.get(
                f"error of the choice {name_of({**point.choice, **choice}, quick)}",
                lambda: choice_error(
                    model, choice, self.ctx, quick, histograms, self.rows, self.expected
                ),
            )

        whole = error(precisions)
        return {
            name: max(whole - error({**precisions, name: ir.Precision.FP32}), 0.0)
            for name in narrow
        }

    def _variant(self, point: Point, options: QuantizeStatic, realize: Realize) -> Point:
        made = realize(point.choice, options)
        error = self._error_of(made.model, point.choice, options)
        return replace(
            point, options=options, model=made.model, estimate=made.estimate, error=error
        )

    def _is_pruned(self, choice: Choice) -> bool:
        return self.reductions is not None and bool(self.reductions.pruned(choice))

    def _error_of(self, model: ir.Model, choice: Choice, options: QuantizeStatic) -> float:
        name = f"error of the model {name_of(choice, options)}"
        return self.journal.get(name, lambda: self.noise(model))

    def noise(self, model: ir.Model) -> float:
        """The error of a model's outputs on the sample."""
        if not self.rows:
            return 0.0
        assert self.ctx.run is not None
        return normalised_error(self.expected, run_rows(model, self.rows, self.ctx.run))


def _error(point: Point) -> float:
    return point.error or 0.0
