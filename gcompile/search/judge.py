"""Guess how good a choice is before its accuracy is measured: its error on calibration rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gcompile import ir
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import (
    Choice,
    Histogram,
    Preset,
    QuantizeStatic,
    RangeMethod,
    Rounding,
    normalised_error,
)
from gcompile.passes.precision.run_rows import run_rows
from gcompile.search.journal import Journal, name_of
from gcompile.search.point import Point, Realize
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

    @classmethod
    def start(
        cls,
        model: ir.Model,
        ctx: PassContext,
        histograms: Mapping[str, Histogram] | None,
        regions: int,
        journal: Journal,
        preset: Preset = Preset.BALANCED,
    ) -> Judge:
        """Run the float model on the sample."""
        if not ctx.calibration or ctx.run is None:
            return cls(model, ctx, histograms, journal=journal, preset=preset)
        rows = sample(model, ctx.calibration, regions)
        return cls(model, ctx, histograms, rows, run_rows(model, rows, ctx.run), journal, preset)

    def variants(self, point: Point, realize: Realize) -> list[Point]:
        """The same choice with each calibration, the one with the least error first."""
        if ir.Precision.INT8 not in point.choice.values() or not self.rows:
            return [point]
        tried = [self._variant(point, o, realize) for o in self.preset.calibrations]
        made = sorted(tried, key=_error)
        if self.preset.rounding is not Rounding.NEAREST:
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
        narrow = [name for name, p in point.choice.items() if p is not ir.Precision.FP32]
        quick = replace(point.options, bias_correction=False)

        def error(choice: Mapping[str, ir.Precision]) -> float:
            return self.journal.get(
                f"error of the choice {name_of(choice, quick)}",
                lambda: choice_error(
                    self.model, choice, self.ctx, quick, self.histograms, self.rows, self.expected
                ),
            )

        whole = error(point.choice)
        return {
            name: max(whole - error({**point.choice, name: ir.Precision.FP32}), 0.0)
            for name in narrow
        }

    def _variant(self, point: Point, options: QuantizeStatic, realize: Realize) -> Point:
        realized = realize(point.choice, options)
        error = self._error_of(realized.model, point.choice, options)
        return Point(point.choice, options, realized.model, realized.estimate, None, error)

    def _error_of(self, model: ir.Model, choice: Choice, options: QuantizeStatic) -> float:
        def error() -> float:
            assert self.ctx.run is not None
            return normalised_error(self.expected, run_rows(model, self.rows, self.ctx.run))

        return self.journal.get(f"error of the model {name_of(choice, options)}", error)


def _error(point: Point) -> float:
    return point.error or 0.0
